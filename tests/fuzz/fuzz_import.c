/*
 * An import stream. The first byte decides whether the rest is the stream itself or a row of
 * records in short (kind, offset / 256, length, bytes), which get their heads, checksums and
 * packing here. Whatever comes, the catalogue has whole snapshots and no leftovers.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fs.h"
#include "base/le.h"
#include "snapshot/import.h"
#include "snapshot/transfer.h"
#include "tests/temp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fileio io; /* of the system, but that nothing waits for the disk */

static int no_sync(void *ctx, int fd)
{
    return 0;
}

static char root[64];
static int dir = -1;

static void remove_root(void)
{
    struct err err;
    close(dir);
    (void)fs_remove_tree(AT_FDCWD, root, &err);
}

static void make_root(void)
{
    if (!temp_dir(root, sizeof(root)) || (dir = open(root, O_RDONLY | O_DIRECTORY)) < 0)
        exit(1);
    atexit(remove_root);
    io = fileio_system;
    io.sync = no_sync;
}

static int to_buf(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    return buf_append(ctx, data, len) < 0 ? err_set(err, ENOSPC, "full") : 0;
}

/* u8 kind | u8 offset / 256 | u16 length | bytes; a manifest gets the head that fits it. */
static void put_record(struct pack_stream *s, struct span *in, struct buf *out)
{
    uint8_t head[TRANSFER_RECORD_BYTES + MANIFEST_HEAD_BYTES], *more = head + TRANSFER_RECORD_BYTES;
    uint64_t kind = 0, offset = 0, len = 0;
    struct err err;
    (void)(span_le(in, 1, &kind) && span_le(in, 1, &offset) && span_le(in, 2, &len));
    size_t n = len < in->left ? len : in->left;
    const uint8_t *bytes = span_take(in, n);
    size_t extra = kind == TRANSFER_SNAPSHOT ? MANIFEST_HEAD_BYTES : 0;
    le_put(more, MANIFEST_MAGIC, 4);
    le_put(more + 4, MANIFEST_LAYOUT, 4);
    le_put(more + 8, n, 4);
    le_put(more + 12, crc32c(0, bytes, n), 4);
    le_put(head, kind, 4);
    le_put(head + 4, n + extra, 4);
    le_put(head + 8, kind == TRANSFER_END ? offset : offset * 256, 8);
    le_put(head + 16, crc32c(crc32c(crc32c(0, head, 16), more, extra), bytes, n), 4);
    (void)pack_stream_push(s, head, TRANSFER_RECORD_BYTES + extra, false, to_buf, out, &err);
    (void)pack_stream_push(s, bytes, n, false, to_buf, out, &err);
}

static void make_stream(const uint8_t *data, size_t size, struct buf *out)
{
    struct span in = {.at = data, .left = size};
    struct pack_stream s;
    struct err err;
    if (pack_stream_init(&s, 0, &err) < 0)
        exit(1);
    buf_append_le(out, TRANSFER_MAGIC, 4);
    buf_append_le(out, TRANSFER_VERSION, 4);
    while (in.left)
        put_record(&s, &in, out);
    (void)pack_stream_push(&s, "", 0, true, to_buf, out, &err);
    pack_stream_fini(&s);
}

/* Names are whole snapshots; then the directory is as empty as before. */
static void check_catalogue(const struct catalogue *c)
{
    struct catalogue_list list;
    struct err err;
    if (catalogue_list(c, &list, &err) < 0)
        __builtin_trap();
    for (size_t i = 0; i < list.count; i++)
        if (list.entries[i].problem ||
            (catalogue_rm(c, list.entries[i].name, true, NULL, &err) < 0 && err.code != ENOENT))
            __builtin_trap(); /* not there: it went with its parent */
    catalogue_list_fini(&list);
    DIR *d = opendir(root);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            __builtin_trap();
    closedir(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[NAME_MAX_CHARS + 1];
    struct import im;
    struct buf in;
    struct err err;
    if (size < 1 || size > 1 << 20)
        return 0;
    if (dir < 0)
        make_root();
    const struct catalogue c = {.fd = dir, .io = &io};
    buf_init(&in, 8 << 20);
    if (data[0])
        make_stream(data + 1, size - 1, &in);
    else
        buf_append(&in, data + 1, size - 1);
    if (import_init(&im, &c, NULL, 64 << 20, &err) == 0 &&
        import_push(&im, in.data, in.len, &err) == 0)
        (void)import_finish(&im, name, &err);
    import_fini(&im);
    check_catalogue(&c);
    buf_fini(&in);
    return 0;
}
