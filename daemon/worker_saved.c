/* See worker_saved.h. */
#include "daemon/worker_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "machine/mem.h"

void worker_saved_init(struct worker_saved *s)
{
    *s = (struct worker_saved){.pagemap_fd = -1};
}

int worker_saved_keep(struct worker_saved *s, const struct restore *r, unsigned files,
                      struct fds *fds, unsigned at, struct err *err)
{
    const struct machine_saved *saved = &r->saved;
    s->pieces = calloc(saved->count + 1, sizeof(*s->pieces));
    if (!s->pieces)
        return err_set(err, ENOMEM, "no memory for %zu pieces of memory", saved->count);
    for (size_t i = 0; i < saved->count; i++) {
        const struct mem_extent *e = &saved->extents[i];
        s->pieces[i] = (struct pages_piece){.first = (size_t)(e->offset / MEM_PAGE),
                                            .count = (size_t)(e->bytes / MEM_PAGE),
                                            .fd = e->fd,
                                            .at = (size_t)(e->at / MEM_PAGE)};
    }
    s->count = saved->count;
    for (unsigned i = 0; i < files; i++)
        s->files[s->nfiles++] = fds_take(fds, at + i);
    s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return 0;
}

void worker_saved_fini(struct worker_saved *s)
{
    for (unsigned i = 0; i < s->nfiles; i++)
        clean_fd(&s->files[i]);
    if (s->pagemap_fd > 0) /* 0 in a worker that was never begun */
        close(s->pagemap_fd);
    clean_free(&s->pieces);
    worker_saved_init(s);
}
