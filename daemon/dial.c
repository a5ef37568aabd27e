/* See dial.h. */
#include "daemon/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "daemon/peer_line.h"
#include "proto/frame.h"

#define SLICE_MS 100
#define TCP_GIVE_UP_MS 5000u

void dial_prepare_socket(int fd)
{
    int on = 1;
    unsigned give_up = TCP_GIVE_UP_MS;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &give_up, sizeof(give_up));
}

static int wait_for(int fd, short events, uint64_t until_ns, const atomic_bool *cancel,
                    const char *what, struct err *err)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, SLICE_MS);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot wait");
        if (cancel && atomic_load(cancel))
            return err_set(err, ECANCELED, "cancelled");
        if (now_ns() >= until_ns)
            return err_set(err, ETIMEDOUT, "%s within %d s", what, DIAL_MS / 1000);
    }
}

static uint64_t limit(void)
{
    return now_ns() + DIAL_MS * 1000000ull;
}

static int connect_one(const struct addrinfo *a, const atomic_bool *cancel, struct err *err)
{
    int failed = 0;
    socklen_t len = sizeof(failed);
    CLEAN(clean_fd)
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0)
        return err_sys(err, errno, "cannot make a socket");
    dial_prepare_socket(fd);
    if (connect(fd, a->ai_addr, a->ai_addrlen) < 0 && errno != EINPROGRESS)
        return err_sys(err, errno, "cannot connect");
    int rc = wait_for(fd, POLLOUT, limit(), cancel, "no ferryd answers there", err);
    if (rc < 0)
        return rc;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len) < 0 || failed)
        return err_sys(err, failed ? failed : errno, "cannot connect");
    return steal_fd(&fd);
}

static int connect_any(const struct peer_address *to, const atomic_bool *cancel, struct err *err)
{
    struct addrinfo *list = NULL;
    int rc = peer_address_resolve(to, false, &list, err);
    if (rc < 0)
        return rc;
    rc = -ECONNREFUSED;
    for (const struct addrinfo *a = list; a && rc < 0 && rc != -ECANCELED; a = a->ai_next)
        rc = connect_one(a, cancel, err);
    freeaddrinfo(list);
    return rc;
}

static int greet(const struct peer_line *l, const atomic_bool *cancel, struct err *err)
{
    short want;
    uint64_t until = limit();
    int rc;
    while ((rc = tls_session_greet(l->tls, &want, err)) == -EAGAIN) {
        rc = wait_for(l->fd, want, until, cancel, "it does not go on with the TLS handshake", err);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int send_hello(const struct peer_line *l, const Ferry__PeerHello *hello,
                      const atomic_bool *cancel, struct err *err)
{
    struct buf out;
    short want;
    uint64_t until = limit();
    buf_init(&out, FRAME_HEAD_BYTES + PEER_BODY_MAX);
    int rc = frame_pack(&hello->base, &out, err);
    while (rc == 0 && out.len) {
        ssize_t n = peer_line_send(l, out.data, out.len, &want, err);
        if (n > 0)
            buf_consume(&out, (size_t)n);
        else if (n == -EAGAIN)
            rc = wait_for(l->fd, want, until, cancel, "it does not take the hello", err);
        else
            rc = (int)n;
    }
    buf_fini(&out);
    return rc;
}

static int receive_bytes(const struct peer_line *l, uint8_t *to, size_t bytes, uint64_t until,
                         const atomic_bool *cancel, struct err *err)
{
    short want;
    int rc = 0;
    for (size_t done = 0; rc == 0 && done < bytes;) {
        ssize_t n = peer_line_recv(l, to + done, bytes - done, &want, err);
        if (n > 0)
            done += (size_t)n;
        else if (n == 0)
            rc = err_set(err, ECONNRESET, "it closed the connection instead of answering");
        else if (n == -EAGAIN)
            rc = wait_for(l->fd, want, until, cancel, "it does not answer", err);
        else
            rc = (int)n;
    }
    return rc;
}

/* No byte more than the answer: what follows is for the worker. */
static Ferry__PeerAnswer *receive_answer(const struct peer_line *l, const atomic_bool *cancel,
                                         struct err *err)
{
    uint8_t head[FRAME_HEAD_BYTES];
    uint64_t until = limit();
    if (receive_bytes(l, head, sizeof(head), until, cancel, err) < 0)
        return NULL;
    ssize_t bytes = frame_body_size(head, err);
    if (bytes < 0)
        return NULL;
    if (bytes > (ssize_t)PEER_BODY_MAX) {
        err_set(err, EMSGSIZE, "its answer has %zd bytes", bytes);
        return NULL;
    }
    CLEAN(clean_free) uint8_t *body = malloc((size_t)bytes);
    if (!body) {
        err_set(err, ENOMEM, "no memory for its answer");
        return NULL;
    }
    if (receive_bytes(l, body, (size_t)bytes, until, cancel, err) < 0)
        return NULL;
    return (Ferry__PeerAnswer *)frame_unpack(&ferry__peer_answer__descriptor, body, (size_t)bytes,
                                             err);
}

/* One that refuses us may have closed before it has read all of our hello: its word counts. */
static int exchange(const struct peer_line *l, const Ferry__PeerHello *hello,
                    const atomic_bool *cancel, struct dialed *out, struct err *err)
{
    struct err unsaid = {0};
    int rc = l->tls ? greet(l, cancel, err) : 0;
    if (rc < 0)
        return rc;
    rc = send_hello(l, hello, cancel, &unsaid);
    if (rc == -ECANCELED || rc == -ETIMEDOUT) {
        *err = unsaid;
        return rc;
    }
    out->answer = receive_answer(l, cancel, err);
    return out->answer ? 0 : -err->code;
}

static int converse(const struct peer_line *l, Ferry__PeerHello *hello, const atomic_bool *cancel,
                    struct dialed *out, struct err *err)
{
    hello->min_version = hello->max_version = PEER_PROTOCOL;
    hello->release = (char *)(uintptr_t)FERRY_VERSION;
    int rc = exchange(l, hello, cancel, out, err);
    if (rc < 0)
        return rc;
    if (out->answer->n_reasons)
        return 0;
    if (out->answer->version == PEER_PROTOCOL)
        return l->tls ? tls_session_export(l->tls, &out->key, err) : 0;
    rc = err_set(err, EPROTONOSUPPORT, "it speaks version %u of the protocol, not %u",
                 out->answer->version, PEER_PROTOCOL);
    frame_free(&out->answer->base);
    out->answer = NULL;
    return rc;
}

static int converse_over(const struct tls_identity *identity, int fd, const char *host,
                         Ferry__PeerHello *hello, const atomic_bool *cancel, struct dialed *out,
                         struct err *err)
{
    struct peer_line line = {.fd = fd};
    line.tls = identity ? tls_session_new(identity, fd, host, err) : NULL;
    if (identity && !line.tls)
        return -err->code;
    int rc = converse(&line, hello, cancel, out, err);
    if (line.tls)
        out->problems = line.tls->problems;
    tls_session_free(line.tls);
    return rc;
}

int dial(const struct tls_identity *identity, const struct peer_address *to,
         Ferry__PeerHello *hello, const atomic_bool *cancel, struct dialed *out, struct err *err)
{
    char name[PEER_ADDRESS_MAX];
    *out = (struct dialed){0};
    CLEAN(clean_fd) int fd = connect_any(to, cancel, err);
    int rc = fd < 0 ? fd : converse_over(identity, fd, to->host, hello, cancel, out, err);
    if (rc == 0)
        return steal_fd(&fd);
    peer_address_format(to, name, sizeof(name));
    return rc == -ECANCELED ? rc : err_wrap(err, "the ferryd at %s", name);
}
