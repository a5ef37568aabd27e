/* See worker_restore.h. */
#include "daemon/worker_restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/worker.h"
#include "machine/state.h"
#include "machine/uffd.h"
#include "machine/vm.h"
#include "vmstate/pages.h"

/* filling ------------------------------------------------------------------------------ [fill] */

static int next_piece(void *ctx, uint64_t offset, uint64_t most, uint8_t *to, uint64_t *bytes,
                      bool *zero, struct err *err)
{
    struct restored *r = ctx;
    struct reader_extent e;
    if (!reader_extent_before(&r->reader, offset, offset + most, &e))
        return err_set(err, EINVAL, "RAM offset 0x%llx is behind the snapshot's RAM",
                       (unsigned long long)offset);
    *bytes = e.length;
    *zero = e.layer == READER_ZERO;
    return *zero ? 0 : reader_read(&r->reader, offset, to, e.length, err);
}

static void on_failed(void *ctx, const struct err *err)
{
    struct restored *r = ctx;
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof(text), "the guest's memory cannot be read from its snapshot: %.400s",
             err->text);
    worker_die(r->worker, text);
}

static void on_filled(void *ctx, const struct fill *f)
{
    struct restored *r = ctx;
    reader_rest(&r->reader);
    log_info("all memory is there: %llu MiB filled in %.1f ms, %llu of them on demand",
             (unsigned long long)f->chunks, (double)(now_ns() - r->begin_ns) / 1e6,
             (unsigned long long)f->faults);
}

/* opening ------------------------------------------------------------------------------- [loop] */

static int take_extents(struct restored *r, struct err *err)
{
    const struct mapping *m = &r->mapping;
    r->extents = calloc(m->count + 1, sizeof(*r->extents));
    if (!r->extents)
        return err_set(err, ENOMEM, "no memory for %zu pieces of memory", m->count);
    for (size_t i = 0; i < m->count; i++) {
        const struct mapping_piece *p = &m->pieces[i];
        r->extents[i] = (struct mem_extent){
            .offset = p->offset,
            .bytes = p->bytes,
            .fd = p->layer == READER_ZERO ? MEM_EXTENT_ZERO : r->reader.layers[p->layer].memory_fd,
            .at = p->offset,
        };
    }
    r->saved.extents = r->extents;
    r->saved.count = m->count;
    return 0;
}

/* Without userfaultfd the guest starts later, but it starts. */
static void take_fill(struct restored *r, int device)
{
    struct err err;
    if (bitmap_next(&r->mapping.fill, 0) == r->mapping.fill.bits)
        return;
    r->fill = (struct fill_plan){
        .chunks = &r->mapping.fill,
        .uffd = uffd_open(device, &err),
        .source = {.piece = next_piece, .failed = on_failed, .done = on_filled, .ctx = r},
    };
    r->saved.fill = &r->fill;
    if (r->fill.uffd < 0)
        log_warn("%s: all memory is filled before the guest goes on", err.text);
}

static int open_layers(struct restored *r, const struct fds *fds, unsigned at, unsigned layers,
                       struct err *err)
{
    int rc = reader_open_dirs(&r->reader, fds->fd + at, layers, err);
    if (rc == 0)
        rc = reader_state(&r->reader, fds->fd[at + layers - 1], &r->state, err);
    if (rc == 0 && r->reader.ram_bytes != r->worker->config->memory_bytes)
        rc = err_set(err, EINVAL, "the snapshot has %llu bytes of RAM, the machine %llu",
                     (unsigned long long)r->reader.ram_bytes,
                     (unsigned long long)r->worker->config->memory_bytes);
    return rc;
}

static int open_all(struct restored *r, const Ferry__WorkerRestore *ask, const struct fds *fds,
                    unsigned at, struct err *err)
{
    unsigned dirs = at + (ask->userfaultfd ? 1 : 0);
    if (ask->layers == 0 || ask->layers > SNAPSHOT_CHAIN_MAX || fds->count < dirs + ask->layers)
        return err_set(err, EINVAL, "the start request came with too few directories of snapshots");
    int rc = open_layers(r, fds, dirs, ask->layers, err);
    if (rc == 0)
        rc = mapping_plan(&r->mapping, &r->reader, err);
    if (rc == 0)
        rc = take_extents(r, err);
    if (rc == 0)
        take_fill(r, ask->userfaultfd ? fds->fd[at] : -1);
    r->saved.state = (struct span){.at = r->state.data, .left = r->state.len};
    r->saved.loaded = &r->loaded;
    r->saved.clock = ask->freeze_clock ? CLOCK_FREEZE : CLOCK_ADVANCE;
    return rc;
}

struct restored *worker_restore_open(struct worker *w, const Ferry__WorkerRestore *ask,
                                     const struct fds *fds, unsigned at, struct err *err)
{
    struct restored *r = calloc(1, sizeof(*r));
    if (!r) {
        err_set(err, ENOMEM, "no memory to restore with");
        return NULL;
    }
    r->worker = w;
    r->begin_ns = now_ns();
    r->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    buf_init(&r->state, STATE_BYTES_MAX);
    if (open_all(r, ask, fds, at, err) < 0) {
        worker_restore_free(r);
        return NULL;
    }
    r->read_ns = now_ns() - r->begin_ns;
    return r;
}

/* In its log: what this host made of the saved state. */
static void tell_loaded(const struct machine_loaded *l)
{
    const struct section_report *passed = &l->sections;
    log_info("the saved state is loaded; TSC: %s", clock_tsc_text(l->tsc));
    if (passed->sections_skipped || passed->fields_skipped)
        log_warn("of the saved state %u sections%s%s and %u fields are unknown here, and were left "
                 "out",
                 passed->sections_skipped, passed->sections_skipped ? ", first " : "",
                 passed->sections_skipped ? passed->first_skipped : "", passed->fields_skipped);
}

/* KVM's part grows with RAM on hosts with shadow paging, so it stands by itself. */
static void tell_times(const struct restored *r, const struct vm *vm)
{
    log_info("restored in %.1f ms: reading the snapshot %.1f, memory slots %.1f, the rest %.1f",
             (double)(now_ns() - r->begin_ns) / 1e6, (double)r->read_ns / 1e6,
             (double)vm->slots_ns / 1e6,
             (double)(now_ns() - r->begin_ns - r->read_ns - vm->slots_ns) / 1e6);
}

void worker_restore_built(struct restored *r)
{
    tell_loaded(&r->loaded);
    tell_times(r, machine_vm(r->worker->machine));
    clean_free(&r->extents);
    buf_fini(&r->state);
    buf_init(&r->state, 0);
    mapping_drop_pieces(&r->mapping);
}

void worker_restore_free(struct restored *r)
{
    if (!r)
        return;
    reader_close(&r->reader);
    mapping_fini(&r->mapping);
    clean_fd(&r->pagemap_fd);
    buf_fini(&r->state);
    free(r->extents);
    free(r);
}

/* saving ---------------------------------------------------------------------------------- [job]
 */

static void image_next(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end)
{
    const struct restored *r = ctx;
    reader_next_data(&r->reader, from, limit, begin, end);
}

int worker_restore_next(struct restored *r, const struct guest *g, size_t from, size_t limit,
                        size_t *begin, size_t *end, struct err *err)
{
    const struct pages_image image = {.next = image_next, .ctx = r};
    int rc = pages_next_private(g, &image, r->pagemap_fd, from, limit, begin, end, err);
    return rc < 0 || *begin == from ? rc : reader_check_whole(&r->reader, err);
}
