/* See worker_guest.h. */
#include "daemon/worker_guest.h"

#include "daemon/worker.h"
#include "daemon/worker_restore.h"
#include "machine/state.h"
#include "vmstate/pages.h"

static int pause_guest(void *ctx, struct err *err)
{
    struct worker_guest *g = ctx;
    return job_call_loop(g->job, worker_hold, err);
}

static int resume_guest(void *ctx, struct err *err)
{
    struct worker_guest *g = ctx;
    return job_call_loop(g->job, worker_release, err);
}

static int save_state(void *ctx, struct buf *out, struct err *err)
{
    struct worker_guest *g = ctx;
    return state_save(g->machine, out, err);
}

static int dirty_on(void *ctx, struct bitmap **pages, struct err *err)
{
    struct worker_guest *g = ctx;
    int rc = dirty_attach(machine_dirty(g->machine), &g->consumer, err);
    *pages = &g->consumer.pages;
    return rc;
}

static void dirty_off(void *ctx, struct bitmap *pages)
{
    struct worker_guest *g = ctx;
    dirty_detach(machine_dirty(g->machine), &g->consumer);
}

static int collect(void *ctx, struct err *err)
{
    struct worker_guest *g = ctx;
    return dirty_collect(machine_dirty(g->machine), err);
}

static int rearm(void *ctx, size_t first, size_t count, struct err *err)
{
    struct worker_guest *g = ctx;
    return dirty_rearm(machine_dirty(g->machine), first, count, err);
}

/* Of a guest that was restored: what its snapshot holds, and what it wrote since. */
static int next_of_restored(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end,
                            struct err *err)
{
    struct worker_guest *g = ctx;
    return worker_restore_next(g->job->worker->restored, &g->guest, from, limit, begin, end, err);
}

static int next_changed(void *ctx, size_t from, size_t limit, size_t *begin, size_t *end,
                        struct err *err)
{
    struct worker_guest *g = ctx;
    int pagemap_fd = g->job->worker->restored->pagemap_fd;
    return pages_next_own(&g->guest, pagemap_fd, from, limit, begin, end, err);
}

#define COMMON_OPS                                                                                 \
    .pause = pause_guest, .resume = resume_guest, .save_state = save_state,                        \
    .dirty_attach = dirty_on, .dirty_collect = collect, .dirty_rearm = rearm,                      \
    .dirty_detach = dirty_off

static const struct guest_ops ops = {COMMON_OPS};
static const struct guest_ops clone_ops = {COMMON_OPS, .ram_next = next_of_restored};
static const struct guest_ops changed_ops = {COMMON_OPS, .ram_next = next_changed};

bool worker_guest_is_clone(const struct job *job, struct machine *machine)
{
    const struct restored *r = job->worker->restored;
    return machine_mem(machine)->fd < 0 && r && r->pagemap_fd >= 0;
}

void worker_guest_init(struct worker_guest *g, struct job *job, struct machine *machine)
{
    struct mem *mem = machine_mem(machine);
    *g = (struct worker_guest){
        .guest = {.ops = worker_guest_is_clone(job, machine) ? &clone_ops : &ops,
                  .ctx = g,
                  .ram = mem->base,
                  .ram_bytes = mem->size,
                  .ram_fd = mem->fd},
        .job = job,
        .machine = machine,
    };
}

void worker_guest_only_changed(struct worker_guest *g)
{
    g->guest.ops = &changed_ops;
}
