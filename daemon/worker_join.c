/* See worker_join.h. */
#include "daemon/worker_join.h"

#include <errno.h>

#include "base/cleanup.h"
#include "daemon/worker.h"
#include "daemon/worker_receive.h"

void arrival_lanes_init(struct arrival_lanes *a)
{
    pthread_mutex_init(&a->lock, NULL);
    for (unsigned i = 0; i < LANES_MAX; i++)
        a->sockets[i] = -1;
}

void arrival_lanes_close(struct arrival_lanes *a)
{
    pthread_mutex_lock(&a->lock);
    a->closed = true;
    for (unsigned i = 0; i < LANES_MAX; i++) {
        if (a->sockets[i] >= 0)
            peer_stream_fini(&a->peers[i]);
        clean_fd(&a->sockets[i]);
    }
    pthread_mutex_unlock(&a->lock);
}

unsigned arrival_lanes_get(struct arrival_lanes *a, const struct stream **to)
{
    unsigned n = 0;
    pthread_mutex_lock(&a->lock);
    for (; n < LANES_MAX && a->sockets[n] >= 0; n++)
        to[n] = a->peers[n].stream;
    pthread_mutex_unlock(&a->lock);
    return n;
}

/* Locked. */
static int put(struct arrival_lanes *a, const Ferry__WorkerJoin *ask, int *socket, struct err *err)
{
    struct tls_key key;
    unsigned at = ask->number - 1; /* 0 becomes too large */
    if (at >= LANES_MAX || a->sockets[at] >= 0)
        return err_set(err, EINVAL, "connection %u does not fit", ask->number);
    if (a->closed)
        return err_set(err, ECANCELED, "the guest is not waited for any more");
    int rc = tls_key_take(&key, ask->tls_key.data, ask->tls_key.len, err);
    if (rc == 0)
        rc = peer_stream_init(&a->peers[at], *socket, STREAM_TLS_ANSWERS, &key, err);
    tls_key_forget(&key);
    if (rc == 0)
        a->sockets[at] = steal_fd(socket);
    return rc;
}

int worker_join(struct job *job, const Ferry__WorkerJoin *ask, struct fds *fds, struct err *err)
{
    struct arrival *arrival = job->worker->arrival; /* there from before the first job */
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    CLEAN(clean_fd) int socket = fds_take(fds, 0);
    if (!arrival || socket < 0)
        return err_set(err, EINVAL, "no guest is to come here");
    pthread_mutex_lock(&arrival->lanes.lock);
    int rc = put(&arrival->lanes, ask, &socket, err);
    pthread_mutex_unlock(&arrival->lanes.lock);
    return rc == 0 ? job_reply(job, &reply, err) : rc;
}
