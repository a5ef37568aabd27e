/* See fill.h. */
#include "machine/fill.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/cleanup.h"
#include "machine/uffd.h"

static uint64_t chunk_bytes(const struct fill *f, uint64_t chunk)
{
    uint64_t left = f->mem->size - chunk * FILL_CHUNK;
    return left < FILL_CHUNK ? left : FILL_CHUNK;
}

static int put(struct fill *f, uint64_t offset, uint64_t bytes, bool zero, struct err *err)
{
    uint8_t *to = f->mem->base + offset;
    if (f->uffd < 0)
        return 0; /* it was written in place, or is zero by itself */
    return zero ? uffd_zero(f->uffd, to, bytes, err)
                : uffd_copy(f->uffd, to, f->buffer, bytes, err);
}

/* The bit goes first or last alike: nobody else takes chunks. */
static int fill_chunk(struct fill *f, uint64_t chunk, struct err *err)
{
    const struct fill_source *source = &f->plan->source;
    uint64_t at = chunk * FILL_CHUNK, end = at + chunk_bytes(f, chunk), n;
    int rc = 0;
    for (bool zero; rc == 0 && at < end; at += n) {
        zero = false;
        uint8_t *to = f->uffd < 0 ? f->mem->base + at : f->buffer;
        rc = source->piece(source->ctx, at, end - at, to, &n, &zero, err);
        if (rc == 0)
            rc = put(f, at, n, zero, err);
    }
    bitmap_clear(f->plan->chunks, chunk);
    f->chunks++;
    return rc;
}

/* A page in a chunk that is filled has been given back since, or just been filled: the former reads
 * as zero, as it does without us. */
static int serve(struct fill *f, uint64_t address, uint64_t *walk, struct err *err)
{
    uint64_t offset = address - (uintptr_t)f->mem->base, chunk = offset / FILL_CHUNK;
    if (offset >= f->mem->size)
        return err_set(err, EFAULT, "userfaultfd asks for memory that is not the guest's");
    if (!bitmap_test(f->plan->chunks, chunk))
        return uffd_zero(f->uffd, f->mem->base + offset / MEM_PAGE * MEM_PAGE, MEM_PAGE, err);
    f->faults++;
    *walk = chunk + 1;
    return fill_chunk(f, chunk, err);
}

/* 1 when all is filled. */
static int walk_on(struct fill *f, uint64_t *walk, struct err *err)
{
    uint64_t chunk = bitmap_next(f->plan->chunks, *walk);
    if (chunk >= f->plan->chunks->bits)
        chunk = bitmap_next(f->plan->chunks, 0);
    if (chunk >= f->plan->chunks->bits)
        return 1;
    *walk = chunk + 1;
    return fill_chunk(f, chunk, err);
}

static bool is_stopped(const struct fill *f)
{
    struct pollfd p = {.fd = f->wake, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Faults first: somebody waits for them. 1 when all is there. */
static int fill_all(struct fill *f, struct err *err)
{
    uint64_t address, walk = 0;
    int rc = 0;
    while (rc == 0 && !is_stopped(f)) {
        rc = f->uffd < 0 ? 0 : uffd_next_fault(f->uffd, &address, err);
        if (rc == 1)
            rc = serve(f, address, &walk, err);
        else if (rc == 0)
            rc = walk_on(f, &walk, err);
    }
    return rc;
}

/* One range for each run of chunks: what is mapped from a file cannot be watched. */
static int register_runs(struct fill *f, const struct bitmap *chunks, struct err *err)
{
    int rc = 0;
    for (uint64_t first = bitmap_next(chunks, 0), end; rc == 0 && first < chunks->bits;
         first = bitmap_next(chunks, end)) {
        end = first + 1;
        while (bitmap_test(chunks, end))
            end++;
        uint64_t bytes = (end - first - 1) * FILL_CHUNK + chunk_bytes(f, end - 1);
        rc = uffd_register(f->uffd, f->mem->base + first * FILL_CHUNK, bytes, err);
    }
    return rc;
}

/* Closing lets go of all ranges; by then none has a page that is still to come. */
static void *fill_main(void *arg)
{
    struct fill *f = arg;
    const struct fill_source *source = &f->plan->source;
    struct err err = {0};
    pthread_setname_np(pthread_self(), "fill");
    int rc = fill_all(f, &err);
    if (rc < 0)
        source->failed(source->ctx, &err);
    if (rc <= 0)
        return NULL;
    clean_fd(&f->uffd);
    clean_free(&f->buffer);
    source->done(source->ctx, f);
    return NULL;
}

static int start_thread(struct fill *f, struct err *err)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are for the other threads */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int rc = pthread_create(&f->thread, NULL, fill_main, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    f->started = rc == 0;
    return rc ? err_sys(err, rc, "cannot start the thread that fills guest memory") : 0;
}

static int start_lazily(struct fill *f, struct err *err)
{
    f->buffer = malloc(FILL_CHUNK);
    f->wake = eventfd(0, EFD_CLOEXEC);
    if (!f->buffer || f->wake < 0)
        return err_set(err, ENOMEM, "no memory to fill guest memory with");
    int rc = register_runs(f, f->plan->chunks, err);
    return rc < 0 ? rc : start_thread(f, err);
}

int fill_start(struct fill *f, struct mem *mem, const struct fill_plan *plan, struct err *err)
{
    *f = (struct fill){.plan = plan, .mem = mem, .uffd = plan->uffd, .wake = -1};
    if (f->uffd >= 0)
        return start_lazily(f, err);
    int rc = fill_all(f, err);
    if (rc > 0)
        plan->source.done(plan->source.ctx, f);
    return rc < 0 ? rc : 0;
}

void fill_stop(struct fill *f)
{
    if (f->started) {
        eventfd_write(f->wake, 1);
        pthread_join(f->thread, NULL);
    }
    if (f->plan) {
        clean_fd(&f->uffd);
        clean_fd(&f->wake);
        clean_free(&f->buffer);
    }
    *f = (struct fill){0};
}
