/*
 * Packing: the raw file is read chunk by chunk, each chunk's data pages become one frame, and the
 * room of what has been read is given back as it goes. So memory stays small, and the disk needs
 * the raw size only for a moment. See image.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "snapshot/chunk.h"
#include "snapshot/image.h"
#include "vmstate/pack.h"

struct packing {
    struct image_writer *w; /* borrowed */
    struct packer packer;
    uint8_t *data, *frame, *index; /* owned */
    size_t frame_room;
    int fd; /* owned */
    uint64_t at;
};

static void clean_packing(struct packing *p)
{
    packer_fini(&p->packer);
    free(p->data);
    free(p->frame);
    free(p->index);
    clean_fd(&p->fd);
}

static int packing_init(struct packing *p, struct image_writer *w, struct err *err)
{
    *p = (struct packing){.w = w, .fd = -1};
    int rc = packer_init(&p->packer, w->options.pack_level, err);
    if (rc < 0)
        return rc;
    p->frame_room = packer_bound(SNAPSHOT_CHUNK_BYTES);
    p->data = malloc(SNAPSHOT_CHUNK_BYTES);
    p->frame = malloc(p->frame_room);
    p->index = calloc(w->nchunks, SNAPSHOT_INDEX_ENTRY);
    if (!p->data || !p->frame || !p->index)
        return err_set(err, ENOMEM, "no memory to pack with");
    p->fd = fileio_create(w->options.io, w->options.dirfd, "memory", err);
    return p->fd < 0 ? p->fd : 0;
}

static int pack_chunk(struct packing *p, uint64_t chunk, struct err *err)
{
    struct image_writer *w = p->w;
    const struct fileio *io = w->options.io;
    size_t len;
    int rc = chunk_read(w->raw_fd, &w->pages, w->pages.count, chunk, p->data, &len, err);
    if (rc < 0 || len == 0)
        return rc;
    w->chunks[chunk].crc = crc32c(0, p->data, len);
    ssize_t n = packer_pack(&p->packer, p->data, len, p->frame, p->frame_room, err);
    if (n < 0)
        return (int)n;
    rc = fileio_write(io, p->fd, "memory", p->frame, (size_t)n, p->at, err);
    le_put(p->index + SNAPSHOT_INDEX_ENTRY * chunk, (uint64_t)n, 4);
    le_put(p->index + SNAPSHOT_INDEX_ENTRY * chunk + 4, crc32c(0, p->frame, (size_t)n), 4);
    p->at += (uint64_t)n;
    /* Only to save room: a filesystem that cannot, cannot. */
    (void)io->punch(io->ctx, w->raw_fd, chunk * SNAPSHOT_CHUNK_BYTES, SNAPSHOT_CHUNK_BYTES);
    return rc;
}

static int write_index(struct packing *p, uint32_t **crc, struct err *err)
{
    const struct image_options *o = &p->w->options;
    size_t len = (size_t)p->w->nchunks * SNAPSHOT_INDEX_ENTRY;
    int fd = fileio_create(o->io, o->dirfd, "index", err);
    if (fd < 0)
        return fd;
    image_wrote(p->w, fd, "index");
    int rc = fileio_write(o->io, fd, "index", p->index, len, 0, err);
    *crc = rc == 0 ? image_crc_of(p->index, len) : NULL;
    return rc;
}

int image_pack(struct image_writer *w, uint32_t **index_crc, uint64_t *memory_bytes,
               struct err *err)
{
    const struct image_options *o = &w->options;
    CLEAN(clean_packing) struct packing p;
    int rc = packing_init(&p, w, err);
    for (uint64_t i = 0; rc == 0 && i < w->nchunks; i++)
        rc = pack_chunk(&p, i, err);
    if (rc == 0) {
        image_wrote(w, steal_fd(&p.fd), "memory");
        rc = write_index(&p, index_crc, err);
    }
    if (rc < 0)
        return rc;
    *memory_bytes = p.at;
    clean_fd(&w->raw_fd);
    rc = o->io->remove(o->io->ctx, o->dirfd, "memory.raw");
    return rc < 0 ? err_sys(err, -rc, "cannot remove 'memory.raw'") : 0;
}
