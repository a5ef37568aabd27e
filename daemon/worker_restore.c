/* See worker_restore.h. */
#include "daemon/worker_restore.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "machine/state.h"

static int read_state(struct restore *r, int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the saved state");
    if (st.st_size <= 0 || st.st_size > (off_t)STATE_BYTES_MAX)
        return err_set(err, EBADMSG, "the saved state has %lld bytes, at most %u are possible",
                       (long long)st.st_size, STATE_BYTES_MAX);
    uint8_t *to = buf_reserve(&r->state, (size_t)st.st_size);
    if (!to)
        return err_set(err, ENOMEM, "no memory for the saved state");
    if (pread(fd, to, (size_t)st.st_size, 0) != st.st_size)
        return err_set(err, EIO, "cannot read the saved state");
    r->state.len = (size_t)st.st_size;
    return 0;
}

static int take_extents(struct restore *r, const Ferry__WorkerRestore *ask, const struct fds *fds,
                        unsigned at, struct err *err)
{
    r->extents = calloc(ask->n_extents ? ask->n_extents : 1, sizeof(*r->extents));
    if (!r->extents)
        return err_set(err, ENOMEM, "no memory for %zu pieces of memory", ask->n_extents);
    for (size_t i = 0; i < ask->n_extents; i++) {
        const Ferry__WorkerExtent *e = ask->extents[i];
        if (e->file >= ask->files)
            return err_set(err, EBADMSG, "a piece of memory is in file %u of %u", e->file,
                           ask->files);
        r->extents[i] = (struct mem_extent){
            .offset = e->offset, .bytes = e->bytes, .fd = fds->fd[at + e->file], .at = e->at};
    }
    return 0;
}

int worker_restore_open(struct restore *r, const Ferry__WorkerRestore *ask, const struct fds *fds,
                        unsigned at, struct err *err)
{
    *r = (struct restore){0};
    buf_init(&r->state, STATE_BYTES_MAX);
    if (ask->files > FDS_MAX || fds->count < at + 1 + ask->files)
        return err_set(err, EINVAL, "the start request came with too few memory files");
    int rc = read_state(r, fds->fd[at], err);
    if (rc == 0)
        rc = take_extents(r, ask, fds, at + 1, err);
    r->saved = (struct machine_saved){
        .extents = r->extents,
        .count = ask->n_extents,
        .state = {.at = r->state.data, .left = r->state.len},
        .clock = ask->freeze_clock ? CLOCK_FREEZE : CLOCK_ADVANCE,
    };
    return rc;
}

void worker_restore_close(struct restore *r)
{
    free(r->extents);
    buf_fini(&r->state);
}
