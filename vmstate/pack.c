/* See pack.h. */
#include "vmstate/pack.h"

#include <errno.h>
#include <stdbool.h>
#include <zstd.h>

#define FRAME_SINGLE_SEGMENT 0x20u /* the window is the content */
#define FRAME_DICTIONARY 0x03u

int packer_init(struct packer *p, int level, struct err *err)
{
    if (level < 0 || level > PACK_LEVEL_MAX)
        return err_set(err, EINVAL, "the level of packing is %d, not 0 to %d", level,
                       PACK_LEVEL_MAX);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    p->context = c;
    if (!c || ZSTD_isError(
                  ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level ? level : PACK_LEVEL)))
        return err_set(err, ENOMEM, "no memory to pack with");
    return 0;
}

void packer_fini(struct packer *p)
{
    ZSTD_freeCCtx(p->context);
    p->context = NULL;
}

size_t packer_bound(size_t len)
{
    return ZSTD_compressBound(len);
}

ssize_t packer_pack(struct packer *p, const void *from, size_t len, void *to, size_t room,
                    struct err *err)
{
    size_t n = ZSTD_compress2(p->context, to, room, from, len);
    if (ZSTD_isError(n))
        return err_set(err, ENOMEM, "cannot pack %zu bytes: %s", len, ZSTD_getErrorName(n));
    return (ssize_t)n;
}

int unpacker_init(struct unpacker *u, struct err *err)
{
    u->context = ZSTD_createDCtx();
    return u->context ? 0 : err_set(err, ENOMEM, "no memory to unpack with");
}

void unpacker_fini(struct unpacker *u)
{
    ZSTD_freeDCtx(u->context);
    u->context = NULL;
}

/* What a frame's head asks for. The first byte behind the magic describes it; without a single
 * segment the next one is the window: 5 bits of exponent over 1 KiB, 3 of eighths. */
static int check_head(const uint8_t *from, size_t len, size_t size, struct err *err)
{
    if (len < 6 || from[0] != 0x28 || from[1] != 0xb5 || from[2] != 0x2f || from[3] != 0xfd)
        return err_set(err, EBADMSG, "a packed frame does not begin as one");
    if (from[4] & FRAME_DICTIONARY)
        return err_set(err, EBADMSG, "a packed frame asks for a dictionary");
    if (!(from[4] & FRAME_SINGLE_SEGMENT)) {
        uint64_t window = 1ull << (10 + (from[5] >> 3));
        window += window / 8 * (from[5] & 7);
        if (window > PACK_WINDOW_MAX)
            return err_set(err, EBADMSG, "a packed frame has a window of %llu bytes, at most %u",
                           (unsigned long long)window, PACK_WINDOW_MAX);
    }
    unsigned long long content = ZSTD_getFrameContentSize(from, len);
    if (content != size)
        return err_set(err, EBADMSG, "a packed frame does not say that it has %zu bytes", size);
    return 0;
}

int unpacker_unpack(struct unpacker *u, const void *from, size_t len, void *to, size_t size,
                    struct err *err)
{
    int rc = check_head(from, len, size, err);
    if (rc < 0)
        return rc;
    if (ZSTD_findFrameCompressedSize(from, len) != len)
        return err_set(err, EBADMSG, "a packed frame does not have the %zu bytes of its place",
                       len);
    size_t n = ZSTD_decompressDCtx(u->context, to, size, from, len);
    if (ZSTD_isError(n))
        return err_set(err, EBADMSG, "a packed frame is damaged: %s", ZSTD_getErrorName(n));
    if (n != size)
        return err_set(err, EBADMSG, "a packed frame gives %zu bytes, not %zu", n, size);
    return 0;
}
