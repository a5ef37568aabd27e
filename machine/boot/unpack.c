/*
 * See unpack.h.
 *
 * gzip, xz and zstd are streams: each has one step that moves bytes between the two windows below,
 * and one loop drives them. lz4 has the old frame that the kernel's build makes ("lz4 -l"): a
 * magic number, then blocks of at most 8 MiB, each behind its packed size.
 */
#include "machine/boot/unpack.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "base/le.h"

#define CHUNK 65536u
#define TRAILER 4u
#define ZSTD_WINDOW_LOG_MAX 27       /* 128 MiB, what zstd's highest level uses */
#define XZ_MEMORY_MAX (160ull << 20) /* a dictionary of 128 MiB and the decoder */
#define LZ4_MAGIC 0x184c2102u
#define LZ4_BLOCK_MAX (8u << 20)
#define LZ4_PACKED_MAX ((uint32_t)LZ4_COMPRESSBOUND(LZ4_BLOCK_MAX))

/* A run in progress. */
struct run {
    const struct unpacker *unpacker;
    const struct input *in;
    const struct unpack_sink *sink;
    uint64_t taken;       /* bytes of `in` that were read */
    uint64_t given, size; /* bytes that the sink got, and all that it may get */
    uint8_t *next_in;     /* what was read and not yet used */
    size_t left_in;
    uint8_t *next_out; /* room for output */
    size_t left_out;
    uint8_t in_window[CHUNK], out_window[CHUNK];
};

struct unpacker {
    const char *name;
    uint8_t magic[UNPACK_MAGIC_MAX], magic_bytes;
    uint8_t trailer; /* bytes behind the packed data that are not a part of it */
    /* A stream: its state, and a step that says in *done when the stream ended. */
    void *(*start)(void);
    int (*step)(void *state, struct run *run, bool *done, struct err *err);
    void (*stop)(void *state);
    /* Or all at once. */
    int (*whole)(struct run *run, struct err *err);
};

static int damaged(const struct run *run, const char *why, struct err *err)
{
    return err_set(err, EBADMSG, "%s data is damaged: %s", run->unpacker->name, why);
}

static int give(struct run *run, const uint8_t *data, size_t len, struct err *err)
{
    if (len > run->size - run->given)
        return err_set(err, EBADMSG,
                       "%s data unpacks to more than the %" PRIu64 " bytes that its end declares",
                       run->unpacker->name, run->size);
    run->given += len;
    return len ? run->sink->take(run->sink->ctx, data, len, err) : 0;
}

static int read_packed(struct run *run, void *to, size_t len, struct err *err)
{
    int rc = input_read(run->in, run->taken, to, len, err);
    run->taken += len;
    return rc;
}

/* gzip */

static void *gzip_start(void)
{
    z_stream *z = calloc(1, sizeof(*z));
    if (z && inflateInit2(z, MAX_WBITS + 16) != Z_OK) {
        free(z);
        return NULL;
    }
    return z;
}

static int gzip_step(void *state, struct run *run, bool *done, struct err *err)
{
    z_stream *z = state;
    z->next_in = run->next_in;
    z->avail_in = (uInt)run->left_in;
    z->next_out = run->next_out;
    z->avail_out = (uInt)run->left_out;
    int rc = inflate(z, Z_NO_FLUSH);
    run->next_in = z->next_in;
    run->left_in = z->avail_in;
    run->next_out = z->next_out;
    run->left_out = z->avail_out;
    *done = rc == Z_STREAM_END;
    if (rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR)
        return 0;
    return rc == Z_MEM_ERROR ? err_set(err, ENOMEM, "out of memory")
                             : damaged(run, z->msg ? z->msg : zError(rc), err);
}

static void gzip_stop(void *state)
{
    inflateEnd(state);
    free(state);
}

/* xz */

static void *xz_start(void)
{
    lzma_stream *s = calloc(1, sizeof(*s));
    if (s && lzma_stream_decoder(s, XZ_MEMORY_MAX, 0) != LZMA_OK) {
        free(s);
        return NULL;
    }
    return s;
}

static int xz_refuse(const struct run *run, lzma_ret rc, struct err *err)
{
    switch (rc) {
    case LZMA_MEM_ERROR:
        return err_set(err, ENOMEM, "out of memory");
    case LZMA_MEMLIMIT_ERROR:
        return err_set(err, E2BIG, "xz data needs a dictionary of more than %llu MiB to unpack",
                       XZ_MEMORY_MAX >> 20);
    case LZMA_OPTIONS_ERROR:
        return damaged(run, "it uses unknown options", err);
    case LZMA_FORMAT_ERROR:
        return damaged(run, "wrong header", err);
    default:
        return damaged(run, "wrong contents or checksum", err);
    }
}

static int xz_step(void *state, struct run *run, bool *done, struct err *err)
{
    lzma_stream *s = state;
    s->next_in = run->next_in;
    s->avail_in = run->left_in;
    s->next_out = run->next_out;
    s->avail_out = run->left_out;
    lzma_ret rc = lzma_code(s, LZMA_RUN);
    run->next_in += run->left_in - s->avail_in;
    run->left_in = s->avail_in;
    run->next_out = s->next_out;
    run->left_out = s->avail_out;
    *done = rc == LZMA_STREAM_END;
    return rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR ? 0
                                                                          : xz_refuse(run, rc, err);
}

static void xz_stop(void *state)
{
    lzma_end(state);
    free(state);
}

/* zstd */

static void *zstd_start(void)
{
    ZSTD_DCtx *d = ZSTD_createDCtx();
    if (d && ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX))) {
        ZSTD_freeDCtx(d);
        return NULL;
    }
    return d;
}

static int zstd_step(void *state, struct run *run, bool *done, struct err *err)
{
    ZSTD_inBuffer in = {.src = run->next_in, .size = run->left_in};
    ZSTD_outBuffer out = {.dst = run->next_out, .size = run->left_out};
    size_t rc = ZSTD_decompressStream(state, &out, &in);
    run->next_in += in.pos;
    run->left_in -= in.pos;
    run->next_out += out.pos;
    run->left_out -= out.pos;
    *done = rc == 0;
    return ZSTD_isError(rc) ? damaged(run, ZSTD_getErrorName(rc), err) : 0;
}

static void zstd_stop(void *state)
{
    ZSTD_freeDCtx(state);
}

/* Every pass either moves bytes, or ends in an error or at the end. */
static int run_stream(struct run *run, void *state, struct err *err)
{
    bool done = false;
    while (!done) {
        if (run->left_in == 0 && run->taken < run->in->bytes) {
            uint64_t left = run->in->bytes - run->taken;
            run->next_in = run->in_window;
            run->left_in = left < CHUNK ? left : CHUNK;
            int rc = read_packed(run, run->next_in, run->left_in, err);
            if (rc < 0)
                return rc;
        }
        size_t before = run->left_in;
        run->next_out = run->out_window;
        run->left_out = CHUNK;
        int rc = run->unpacker->step(state, run, &done, err);
        if (rc == 0)
            rc = give(run, run->out_window, CHUNK - run->left_out, err);
        if (rc < 0)
            return rc;
        if (!done && run->left_in == before && run->left_out == CHUNK)
            return damaged(run, "it ends early", err);
    }
    return 0;
}

static int lz4_block(struct run *run, uint32_t packed_bytes, uint8_t *packed, uint8_t *block,
                     struct err *err)
{
    if (packed_bytes == 0 || packed_bytes > LZ4_PACKED_MAX)
        return err_set(err, EBADMSG, "lz4 data is damaged: a block has %" PRIu32 " packed bytes",
                       packed_bytes);
    if (packed_bytes > run->in->bytes - run->taken)
        return damaged(run, "it ends early", err);
    int rc = read_packed(run, packed, packed_bytes, err);
    if (rc < 0)
        return rc;
    int n = LZ4_decompress_safe((const char *)packed, (char *)block, (int)packed_bytes,
                                (int)LZ4_BLOCK_MAX);
    return n < 0 ? damaged(run, "wrong contents", err) : give(run, block, (size_t)n, err);
}

/* The kernel's own unpacker takes a magic number in place of a block's size; so do we. */
static int lz4_whole(struct run *run, struct err *err)
{
    uint64_t most = run->in->bytes < LZ4_PACKED_MAX ? run->in->bytes : LZ4_PACKED_MAX;
    CLEAN(clean_free) uint8_t *packed = malloc(most + 1);
    CLEAN(clean_free) uint8_t *block = malloc(LZ4_BLOCK_MAX);
    if (!packed || !block)
        return err_set(err, ENOMEM, "out of memory");
    while (run->in->bytes - run->taken >= 4) {
        uint8_t number[4];
        int rc = read_packed(run, number, sizeof(number), err);
        uint32_t value = (uint32_t)le_get(number, 4);
        if (rc == 0 && value != LZ4_MAGIC)
            rc = lz4_block(run, value, packed, block, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* clang-format off */
static const struct unpacker unpackers[] = {
    {.name = "gzip", .magic = {0x1f, 0x8b}, .magic_bytes = 2,
     .start = gzip_start, .step = gzip_step, .stop = gzip_stop},
    {.name = "xz", .magic = {0xfd, '7', 'z', 'X', 'Z', 0}, .magic_bytes = 6, .trailer = TRAILER,
     .start = xz_start, .step = xz_step, .stop = xz_stop},
    {.name = "zstd", .magic = {0x28, 0xb5, 0x2f, 0xfd}, .magic_bytes = 4, .trailer = TRAILER,
     .start = zstd_start, .step = zstd_step, .stop = zstd_stop},
    {.name = "lz4", .magic = {0x02, 0x21, 0x4c, 0x18}, .magic_bytes = 4, .trailer = TRAILER,
     .whole = lz4_whole},
};
/* clang-format on */

const struct unpacker *unpack_find(const uint8_t magic[UNPACK_MAGIC_MAX])
{
    for (size_t i = 0; i < sizeof(unpackers) / sizeof(unpackers[0]); i++)
        if (memcmp(magic, unpackers[i].magic, unpackers[i].magic_bytes) == 0)
            return &unpackers[i];
    return NULL;
}

const char *unpack_name(const struct unpacker *unpacker)
{
    return unpacker->name;
}

int unpack_size(const struct input *in, uint64_t max, uint64_t *size, struct err *err)
{
    uint8_t trailer[TRAILER];
    if (in->bytes < TRAILER)
        return err_set(err, ENODATA, "truncated: %" PRIu64 " bytes of packed kernel", in->bytes);
    int rc = input_read(in, in->bytes - TRAILER, trailer, TRAILER, err);
    if (rc < 0)
        return rc;
    *size = le_get(trailer, TRAILER);
    if (*size > max)
        return err_set(err, ENOSPC,
                       "unpacks to %" PRIu64 " bytes, more than the guest's %" PRIu64 " MiB of RAM",
                       *size, max >> 20);
    return 0;
}

static int run_any(struct run *run, struct err *err)
{
    const struct unpacker *u = run->unpacker;
    if (u->whole)
        return u->whole(run, err);
    void *state = u->start();
    if (!state)
        return err_set(err, ENOMEM, "out of memory");
    int rc = run_stream(run, state, err);
    u->stop(state);
    return rc;
}

int unpack_run(const struct unpacker *unpacker, const struct input *in, uint64_t size,
               const struct unpack_sink *sink, struct err *err)
{
    struct input packed;
    int rc = input_part(in, 0, in->bytes < unpacker->trailer ? 0 : in->bytes - unpacker->trailer,
                        unpacker->name, &packed, err);
    if (rc < 0)
        return rc;
    CLEAN(clean_free) struct run *run = calloc(1, sizeof(*run));
    if (!run)
        return err_set(err, ENOMEM, "out of memory");
    run->unpacker = unpacker;
    run->in = &packed;
    run->sink = sink;
    run->size = size;
    run->next_in = run->in_window;
    rc = run_any(run, err);
    if (rc < 0)
        return rc;
    uint64_t behind = run->left_in + (packed.bytes - run->taken);
    if (behind)
        return err_set(err, EBADMSG, "%" PRIu64 " bytes follow its %s data", behind,
                       unpacker->name);
    if (run->given != size)
        return err_set(err, EBADMSG,
                       "%s data unpacks to %" PRIu64 " bytes, its end declares %" PRIu64,
                       unpacker->name, run->given, size);
    return 0;
}
