/* See import.h. */
#include "snapshot/import.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/transfer.h"

#define RECORD_MAX (TRANSFER_RECORD_BYTES + MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX)

int import_init(struct import *im, const struct catalogue *c, const char *name, uint64_t max_bytes,
                struct err *err)
{
    *im = (struct import){.catalogue = c, .max_bytes = max_bytes, .fd = -1};
    buf_init(&im->head, TRANSFER_HEAD_BYTES);
    buf_init(&im->record, RECORD_MAX);
    if (name) {
        int rc = name_check(name, "the snapshot's name", err);
        if (rc < 0)
            return rc;
        snprintf(im->name, sizeof(im->name), "%s", name);
    }
    im->items = calloc(SNAPSHOT_CHAIN_MAX, sizeof(*im->items));
    if (!im->items)
        return err_set(err, ENOMEM, "no memory to import with");
    return unpack_stream_init(&im->stream, err);
}

void import_fini(struct import *im)
{
    struct err unused;
    clean_fd(&im->fd);
    for (unsigned i = 0; i < im->count; i++) {
        struct import_item *item = &im->items[i];
        if (item->dirfd >= 0 && !item->published)
            (void)catalogue_abandon(im->catalogue, &item->uuid, &unused);
        clean_fd(&item->dirfd);
        manifest_free(item->manifest);
    }
    clean_free(&im->items);
    im->count = 0;
    buf_fini(&im->head);
    buf_fini(&im->record);
    unpack_stream_fini(&im->stream);
}

static struct import_item *current(struct import *im)
{
    return im->count ? &im->items[im->count - 1] : NULL;
}

/* The file that was written is whole; its data is synced before the manifest is written. */
static int close_file(struct import *im, struct err *err)
{
    int rc = 0;
    if (im->in_file && im->fd >= 0)
        rc = fileio_sync(im->catalogue->io, im->fd,
                         current(im)->manifest->files[im->file - 1]->name, err);
    clean_fd(&im->fd);
    im->in_file = false;
    return rc;
}

/* No more comes of the last snapshot. */
static int close_snapshot(struct import *im, struct err *err)
{
    const struct import_item *item = current(im);
    int rc = close_file(im, err);
    if (rc == 0 && item && im->file != item->manifest->n_files)
        rc = err_set(err, EBADMSG, "the stream lacks '%s' of snapshot '%s'",
                     item->manifest->files[im->file]->name, item->manifest->name);
    return rc;
}

static int on_snapshot(struct import *im, const uint8_t *payload, size_t len, struct err *err)
{
    struct catalogue_list list;
    int rc = close_snapshot(im, err);
    if (rc < 0)
        return rc;
    if (im->count == SNAPSHOT_CHAIN_MAX)
        return err_set(err, EBADMSG, "the stream has more than %u snapshots", SNAPSHOT_CHAIN_MAX);
    Ferry__SnapshotManifest *m = manifest_unpack(payload, len, err);
    if (!m)
        return -err->code;
    struct import_item *item = &im->items[im->count++];
    *item = (struct import_item){.manifest = m, .dirfd = -1};
    manifest_uuid(&m->uuid, &item->uuid);
    im->file = 0;
    for (unsigned i = 0; i + 1 < im->count; i++)
        if (memcmp(&im->items[i].uuid, &item->uuid, sizeof(item->uuid)) == 0)
            return err_set(err, EBADMSG, "the stream has snapshot '%s' twice", m->name);
    rc = catalogue_list(im->catalogue, &list, err);
    if (rc < 0)
        return rc;
    bool here = catalogue_find_uuid(&list, &item->uuid) != NULL;
    catalogue_list_fini(&list);
    if (here)
        return 0;
    rc = item->dirfd = catalogue_begin(im->catalogue, &item->uuid, err);
    return rc < 0 ? rc : 0;
}

static int on_file(struct import *im, const uint8_t *payload, size_t len, struct err *err)
{
    const struct import_item *item = current(im);
    const struct fileio *io = im->catalogue->io;
    int rc = close_file(im, err);
    if (rc < 0)
        return rc;
    if (!item || im->file == item->manifest->n_files)
        return err_set(err, EBADMSG, "the stream has a file that no manifest names");
    const Ferry__SnapshotFile *f = item->manifest->files[im->file];
    if (len != strlen(f->name) || memcmp(payload, f->name, len) != 0)
        return err_set(err, EBADMSG, "the stream has another file than '%s' of snapshot '%s'",
                       f->name, item->manifest->name);
    im->file++;
    im->in_file = true;
    im->at = 0;
    im->length = f->length;
    if (item->dirfd < 0)
        return 0;
    im->fd = fileio_create(io, item->dirfd, f->name, err);
    if (im->fd < 0)
        return im->fd;
    rc = io->truncate(io->ctx, im->fd, f->length);
    return rc < 0 ? err_sys(err, -rc, "cannot size '%s'", f->name) : 0;
}

static int on_data(struct import *im, uint64_t offset, const uint8_t *payload, size_t len,
                   struct err *err)
{
    if (!im->in_file)
        return err_set(err, EBADMSG, "the stream has data outside of a file");
    const char *name = current(im)->manifest->files[im->file - 1]->name;
    if (len == 0 || len > TRANSFER_DATA_MAX)
        return err_set(err, EBADMSG, "the stream has a piece of %zu bytes of '%s'", len, name);
    if (offset < im->at || offset > im->length || len > im->length - offset)
        return err_set(err, EBADMSG, "the stream has bytes of '%s' at offset %llu out of place",
                       name, (unsigned long long)offset);
    im->bytes += len;
    if (im->max_bytes && im->bytes > im->max_bytes)
        return err_set(err, EFBIG, "the stream has more than %llu bytes of data",
                       (unsigned long long)im->max_bytes);
    im->at = offset + len;
    return im->fd < 0 ? 0
                      : fileio_write(im->catalogue->io, im->fd, name, payload, len, offset, err);
}

static int on_end(struct import *im, uint64_t count, size_t len, struct err *err)
{
    int rc = close_snapshot(im, err);
    if (rc == 0 && (im->count == 0 || count != im->count || len))
        rc = err_set(err, EBADMSG, "the stream ends with %llu snapshots, but had %u",
                     (unsigned long long)count, im->count);
    im->ended = rc == 0;
    return rc;
}

static int on_record(struct import *im, const uint8_t *head, const uint8_t *payload, size_t len,
                     struct err *err)
{
    uint64_t offset = le_get(head + 8, 8);
    if (le_get(head + 16, 4) != crc32c(crc32c(0, head, 16), payload, len))
        return err_set(err, EBADMSG, "the stream has a record with a wrong checksum");
    if (im->ended)
        return err_set(err, EBADMSG, "the stream goes on after its end");
    switch (le_get(head, 4)) {
    case TRANSFER_SNAPSHOT:
        return on_snapshot(im, payload, len, err);
    case TRANSFER_FILE:
        return on_file(im, payload, len, err);
    case TRANSFER_DATA:
        return on_data(im, offset, payload, len, err);
    case TRANSFER_END:
        return on_end(im, offset, len, err);
    }
    return err_set(err, EPROTONOSUPPORT, "the stream has a record of the unknown kind %u",
                   (unsigned)le_get(head, 4));
}

/* The size of the record that begins here, as far as it is known; what is no such size fails. */
static int record_size(const struct import *im, size_t *size, struct err *err)
{
    *size = TRANSFER_RECORD_BYTES;
    if (im->record.len < TRANSFER_RECORD_BYTES)
        return 0;
    uint64_t kind = le_get(im->record.data, 4), len = le_get(im->record.data + 4, 4);
    uint64_t max =
        kind == TRANSFER_SNAPSHOT ? MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX : TRANSFER_DATA_MAX;
    if (len > max)
        return err_set(err, EBADMSG, "the stream has a record of %llu bytes, at most %llu",
                       (unsigned long long)len, (unsigned long long)max);
    *size += (size_t)len;
    return 0;
}

/* Plain bytes of the stream: cut into records. */
static int take_plain(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    struct import *im = ctx;
    while (len) {
        size_t size;
        int rc = record_size(im, &size, err);
        if (rc < 0)
            return rc;
        size_t n = size - im->record.len < len ? size - im->record.len : len;
        if (buf_append(&im->record, data, n) < 0)
            return err_set(err, ENOMEM, "no memory for a record of %zu bytes", size);
        data += n;
        len -= n;
        rc = record_size(im, &size, err);
        if (rc == 0 && im->record.len >= TRANSFER_RECORD_BYTES && im->record.len == size) {
            rc = on_record(im, im->record.data, im->record.data + TRANSFER_RECORD_BYTES,
                           size - TRANSFER_RECORD_BYTES, err);
            im->record.len = 0;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* The 8 bytes before the packed part; how many of `len` they took. */
static int take_head(struct import *im, const uint8_t *data, size_t len, size_t *took,
                     struct err *err)
{
    size_t need = TRANSFER_HEAD_BYTES - im->head.len;
    *took = need < len ? need : len;
    if (need == 0)
        return 0;
    if (buf_append(&im->head, data, *took) < 0)
        return err_set(err, ENOMEM, "no memory to import with");
    if (im->head.len < TRANSFER_HEAD_BYTES)
        return 0;
    if (le_get(im->head.data, 4) != TRANSFER_MAGIC)
        return err_set(err, EBADMSG, "this is not an exported snapshot");
    unsigned version = (unsigned)le_get(im->head.data + 4, 4);
    if (version != TRANSFER_VERSION)
        return err_set(err, EPROTONOSUPPORT, "the stream has version %u, known is %u", version,
                       TRANSFER_VERSION);
    return 0;
}

int import_push(struct import *im, const void *data, size_t len, struct err *err)
{
    size_t took = 0;
    int rc = -im->failed.code;
    if (rc < 0) {
        *err = im->failed;
        return rc;
    }
    rc = take_head(im, data, len, &took, err);
    if (rc == 0 && len > took)
        rc = unpack_stream_push(&im->stream, (const uint8_t *)data + took, len - took, take_plain,
                                im, err);
    if (rc < 0)
        im->failed = *err;
    return rc;
}

/* The name that a snapshot gets: one of the chain gives way when another has its name. */
static int choose_name(struct import *im, unsigned i, char name[NAME_MAX_CHARS + 1],
                       struct err *err)
{
    const struct import_item *item = &im->items[i];
    struct catalogue_list list;
    bool top = i + 1 == im->count;
    snprintf(name, NAME_MAX_CHARS + 1, "%s", top && im->name[0] ? im->name : item->manifest->name);
    if (top)
        return 0;
    int rc = catalogue_list(im->catalogue, &list, err);
    if (rc < 0)
        return rc;
    if (catalogue_find(&list, name)) {
        char text[UUID_TEXT_SIZE];
        uuid_format(&item->uuid, text);
        snprintf(name, NAME_MAX_CHARS + 1, "%.*s-%.8s", NAME_MAX_CHARS - 9, item->manifest->name,
                 text);
    }
    catalogue_list_fini(&list);
    return 0;
}

/* Everything but the name: nobody sees it yet. */
static int prepare_item(struct import *im, unsigned i, char name[NAME_MAX_CHARS + 1],
                        struct err *err)
{
    struct import_item *item = &im->items[i];
    struct verify_result result;
    int rc = choose_name(im, i, name, err);
    if (rc < 0 || item->dirfd < 0)
        return rc;
    Ferry__SnapshotManifest renamed = *item->manifest;
    renamed.name = name;
    rc = manifest_write(im->catalogue->io, item->dirfd, &renamed, err);
    return rc < 0 ? rc : verify_snapshot(item->dirfd, im->watch, &result, err);
}

static int publish_item(struct import *im, unsigned i, const char *name, struct err *err)
{
    struct import_item *item = &im->items[i];
    int rc = item->dirfd < 0 ? 0 : catalogue_publish(im->catalogue, &item->uuid, name, err);
    item->published = rc == 0 && item->dirfd >= 0;
    return rc;
}

/* Takes back what this import published, the top first. */
static void withdraw(struct import *im, char names[][NAME_MAX_CHARS + 1])
{
    struct err unused;
    for (unsigned i = im->count; i-- > 0;)
        if (im->items[i].published)
            (void)catalogue_rm(im->catalogue, names[i], false, NULL, &unused);
}

static int check_complete(const struct import *im, struct err *err)
{
    if (im->failed.code) {
        *err = im->failed;
        return -err->code;
    }
    if (!im->ended || !im->stream.whole || im->record.len)
        return err_set(err, EBADMSG, "the stream ends too early");
    if (im->items[im->count - 1].dirfd < 0)
        return err_set(err, EEXIST, "snapshot '%s' is here already",
                       im->items[im->count - 1].manifest->name);
    return 0;
}

int import_finish(struct import *im, char *name, struct err *err)
{
    int rc = check_complete(im, err);
    if (rc < 0)
        return rc;
    char(*names)[NAME_MAX_CHARS + 1] = calloc(im->count, sizeof(*names));
    if (!names)
        return err_set(err, ENOMEM, "no memory to import with");
    for (unsigned i = 0; rc == 0 && i < im->count; i++)
        rc = prepare_item(im, i, names[i], err);
    if (rc == 0 && im->commit)
        rc = im->commit(im->ctx, err);
    for (unsigned i = 0; rc == 0 && i < im->count; i++)
        rc = publish_item(im, i, names[i], err);
    if (rc < 0)
        withdraw(im, names);
    else
        snprintf(name, NAME_MAX_CHARS + 1, "%s", names[im->count - 1]);
    free(names);
    return rc;
}
