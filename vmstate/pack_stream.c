/* Streams of zstd, both ways. See pack.h. */
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "vmstate/pack.h"

#define WINDOW_LOG 21 /* of PACK_WINDOW_MAX */

int pack_stream_init(struct pack_stream *s, int level, struct err *err)
{
    *s = (struct pack_stream){.size = ZSTD_CStreamOutSize()};
    if (level < 0 || level > PACK_LEVEL_MAX)
        return err_set(err, EINVAL, "the level of packing is %d, not 0 to %d", level,
                       PACK_LEVEL_MAX);
    ZSTD_CCtx *c = ZSTD_createCCtx();
    s->context = c;
    s->room = malloc(s->size);
    if (!c || !s->room ||
        ZSTD_isError(
            ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level ? level : PACK_LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, WINDOW_LOG)))
        return err_set(err, ENOMEM, "no memory to pack with");
    return 0;
}

void pack_stream_fini(struct pack_stream *s)
{
    ZSTD_freeCCtx(s->context);
    free(s->room);
    *s = (struct pack_stream){0};
}

int pack_stream_push(struct pack_stream *s, const void *data, size_t len, bool end, pack_out *out,
                     void *ctx, struct err *err)
{
    ZSTD_inBuffer in = {.src = data, .size = len};
    const ZSTD_EndDirective mode = end ? ZSTD_e_end : ZSTD_e_continue;
    for (bool more = true; more;) {
        ZSTD_outBuffer to = {.dst = s->room, .size = s->size};
        size_t left = ZSTD_compressStream2(s->context, &to, &in, mode);
        if (ZSTD_isError(left))
            return err_set(err, ENOMEM, "cannot pack: %s", ZSTD_getErrorName(left));
        int rc = to.pos ? out(ctx, s->room, to.pos, err) : 0;
        if (rc < 0)
            return rc;
        more = end ? left != 0 : in.pos < in.size;
    }
    return 0;
}

int unpack_stream_init(struct unpack_stream *s, struct err *err)
{
    *s = (struct unpack_stream){.size = ZSTD_DStreamOutSize()};
    ZSTD_DCtx *d = ZSTD_createDCtx();
    s->context = d;
    s->room = malloc(s->size);
    if (!d || !s->room || ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, WINDOW_LOG)))
        return err_set(err, ENOMEM, "no memory to unpack with");
    return 0;
}

void unpack_stream_fini(struct unpack_stream *s)
{
    ZSTD_freeDCtx(s->context);
    free(s->room);
    *s = (struct unpack_stream){0};
}

int unpack_stream_push(struct unpack_stream *s, const void *data, size_t len, pack_out *out,
                       void *ctx, struct err *err)
{
    ZSTD_inBuffer in = {.src = data, .size = len};
    size_t filled = s->size;
    while (in.pos < in.size || filled == s->size) {
        ZSTD_outBuffer to = {.dst = s->room, .size = s->size};
        size_t before = in.pos, left = ZSTD_decompressStream(s->context, &to, &in);
        if (ZSTD_isError(left))
            return err_set(err, EBADMSG, "the packed stream is damaged: %s",
                           ZSTD_getErrorName(left));
        if (in.pos != before || to.pos)
            s->whole = left == 0;
        int rc = to.pos ? out(ctx, s->room, to.pos, err) : 0;
        if (rc < 0)
            return rc;
        filled = to.pos;
    }
    return 0;
}
