/* See server.h. */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/client.h"

#define SERVER_BACKLOG 128

TAILQ_HEAD(client_list, client);

struct server {
    uv_pipe_t listener;
    struct daemon *daemon; /* borrowed */
    struct client_list clients;
    unsigned count;
};

static void on_client_gone(struct client *c)
{
    struct server *s = c->daemon->server;
    TAILQ_REMOVE(&s->clients, c, all);
    s->count--;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct server *s = listener->data;
    struct err err = {0};
    if (status < 0)
        return;
    struct client *c = client_accept(s->daemon, listener, on_client_gone, &err);
    if (!c) {
        log_warn("a client was not let in: %s", err.text);
        return;
    }
    TAILQ_INSERT_TAIL(&s->clients, c, all);
    if (++s->count > SERVER_CLIENTS_MAX)
        client_refuse(c, EUSERS, "too many clients are connected: try again later");
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* What the mode does not say, the peer's credentials decide. */
static unsigned socket_mode(const struct peer_rules *rules)
{
    if (rules->open_reads)
        return 0666;
    return rules->has_group ? 0660 : 0600;
}

static int listen_for_clients(struct daemon *d, struct err *err)
{
    int run = d->root.run_fd;
    CLEAN(clean_fd)
    int fd = root_listen(run, ROOT_CLIENT_SOCKET, socket_mode(&d->rules), SERVER_BACKLOG, err);
    if (fd < 0)
        return fd;
    if (d->rules.has_group &&
        fchownat(run, ROOT_CLIENT_SOCKET, (uid_t)-1, d->rules.group, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "cannot give the socket to the group %s", d->options.group);
    return steal_fd(&fd);
}

int server_open(struct daemon *d, struct err *err)
{
    int fd = listen_for_clients(d, err);
    if (fd < 0)
        return fd;
    struct server *s = calloc(1, sizeof(*s));
    if (!s) {
        close(fd);
        return err_set(err, ENOMEM, "no memory for the server");
    }
    s->daemon = d;
    s->listener.data = s;
    TAILQ_INIT(&s->clients);
    uv_pipe_init(&d->loop, &s->listener, 0);
    d->server = s;
    int rc = uv_pipe_open(&s->listener, fd);
    if (rc < 0)
        close(fd);
    else
        rc = uv_listen((uv_stream_t *)&s->listener, SERVER_BACKLOG, on_connection);
    if (rc == 0)
        return 0;
    server_close(d);
    return err_sys(err, -rc, "cannot listen for clients");
}

void server_close(struct daemon *d)
{
    struct client *c;
    struct server *s = d->server;
    if (!s)
        return;
    while ((c = TAILQ_FIRST(&s->clients)))
        client_close(c);
    d->server = NULL;
    unlinkat(d->root.run_fd, ROOT_CLIENT_SOCKET, 0);
    uv_close((uv_handle_t *)&s->listener, on_closed);
}
