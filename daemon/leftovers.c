/* See leftovers.h. */
#include "daemon/leftovers.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "snapshot/catalogue.h"

struct leftovers {
    int fd; /* owned: the catalogue's directory, which ferryd may close before the thread ends */
    struct catalogue_busy busy;
};

static void leftovers_free(struct leftovers *l)
{
    while (l->busy.count)
        clean_fd(&l->busy.fds[--l->busy.count]);
    clean_fd(&l->fd);
    free(l);
}

static void *await(void *arg)
{
    struct leftovers *l = arg;
    const struct catalogue c = {.fd = l->fd, .io = &fileio_system};
    struct err err;
    if (catalogue_clean_busy(&c, &l->busy, &err) < 0)
        log_warn("%s", err.text);
    leftovers_free(l);
    return NULL;
}

/* Detached: it may wait as long as a worker hangs, and must not keep ferryd from ending. */
static int start_waiting(struct leftovers *l, const struct root *root)
{
    pthread_t thread;
    l->fd = fcntl(root->snapshots_fd, F_DUPFD_CLOEXEC, 0);
    if (l->fd < 0 || pthread_create(&thread, NULL, await, l) != 0)
        return -EAGAIN;
    return -pthread_detach(thread);
}

void leftovers_clean(const struct root *root)
{
    const struct catalogue c = {.fd = root->snapshots_fd, .io = &fileio_system};
    struct leftovers *l = calloc(1, sizeof(*l));
    struct err err = {0};
    unsigned removed = 0, busy;
    if (!l)
        return;
    l->fd = -1;
    if (catalogue_clean(&c, &removed, &l->busy, &err) < 0)
        log_warn("%s", err.text);
    if (removed)
        log_info("removed %u unfinished snapshot%s", removed, removed == 1 ? "" : "s");
    busy = l->busy.count;
    if (busy && start_waiting(l, root) == 0) {
        log_info("%u unfinished snapshot%s still written: removed when that ends", busy,
                 busy == 1 ? " is" : "s are");
        return;
    }
    leftovers_free(l);
}
