/*
 * A URL as the other end of a transfer: ferry-store (snapshot/store.h) on a socketpair, with the
 * messages of proto/store.proto. It lies beside vmctl, or where it is installed.
 *
 * It leads a process group of its own: Ctrl-C is for vmctl, which closes the socket and waits until
 * the helper has tidied up in the store.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/text.h"
#include "cli/transfer.h"
#include "proto/frame.h"
#include "proto/store.pb-c.h"

#define PROGRAM "ferry-store"
/* For what is to be removed from the store, over a bad connection too. */
#define TIDY_MS 60000

bool transfer_is_url(const char *text)
{
    return strstr(text, "://") != NULL;
}

static struct transfer_store *of(struct transfer_end *end)
{
    return (struct transfer_store *)end;
}

static int vanished(struct err *err)
{
    return err_set(err, EPIPE, PROGRAM " ended before its work");
}

/* Waits until one of `events` can be done; a signal ends it. *is has which. */
static int await(const struct transfer_end *end, short events, short *is, struct err *err)
{
    struct pollfd fds[] = {{.fd = end->fd, .events = events},
                           {.fd = end->interrupt ? end->interrupt->fd : -1, .events = POLLIN}};
    int n;
    do
        n = poll(fds, 2, -1);
    while (n < 0 && errno == EINTR && !(end->interrupt && interrupt_came(end->interrupt)));
    if (end->interrupt && interrupt_came(end->interrupt))
        return err_set(err, ECANCELED, "cancelled");
    if (n < 0)
        return err_sys(err, errno, "cannot wait for " PROGRAM);
    *is = fds[0].revents;
    return 0;
}

static int receive_bytes(const struct transfer_end *end, void *to, size_t len, struct err *err)
{
    uint8_t *at = to;
    short is;
    while (len) {
        int rc = await(end, POLLIN, &is, err);
        ssize_t n = rc < 0 ? 0 : recv(end->fd, at, len, MSG_DONTWAIT);
        if (rc < 0)
            return rc;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return vanished(err);
        at += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* One message, freed by the caller. */
static Ferry__StoreMessage *receive(const struct transfer_end *end, struct err *err)
{
    uint8_t head[FRAME_HEAD_BYTES];
    if (receive_bytes(end, head, sizeof(head), err) < 0)
        return NULL;
    ssize_t size = frame_body_size(head, err);
    CLEAN(clean_free) uint8_t *body = size > 0 ? malloc((size_t)size) : NULL;
    if (size > 0 && !body)
        err_set(err, ENOMEM, "no memory for a message");
    if (!body || receive_bytes(end, body, (size_t)size, err) < 0)
        return NULL;
    return (Ferry__StoreMessage *)frame_unpack(&ferry__store_message__descriptor, body,
                                               (size_t)size, err);
}

static int take_result(struct transfer_store *s, const Ferry__StoreResult *r, struct err *err)
{
    s->over = true;
    if (r->code == 0)
        return 0;
    return err_set(err, r->code <= 4095 ? (int)r->code : EPROTO, "%s", r->error);
}

static void take_news(struct transfer_end *end, const Ferry__StoreNews *news)
{
    if (news->total_bytes)
        end->total = news->total_bytes;
    if (*news->note && end->progress)
        progress_end(end->progress);
    if (*news->note)
        text_note("%s", news->note);
}

static int send_message(struct transfer_end *end, const Ferry__StoreMessage *m, struct err *err);

/* What may come while bytes go out: 0, or TRANSFER_AGAIN. */
static int take_message(struct transfer_end *end, struct err *err)
{
    Ferry__StoreMessage again = FERRY__STORE_MESSAGE__INIT, *m = receive(end, err);
    int rc = 0;
    if (!m)
        return -err->code;
    if (m->body_case == FERRY__STORE_MESSAGE__BODY_NEWS) {
        take_news(end, m->news);
    } else if (m->body_case == FERRY__STORE_MESSAGE__BODY_RESULT) {
        rc = take_result(of(end), m->result, err);
    } else if (m->body_case == FERRY__STORE_MESSAGE__BODY_AGAIN) {
        again.body_case = FERRY__STORE_MESSAGE__BODY_AGAIN;
        again.again = true;
        rc = send_message(end, &again, err);
        rc = rc < 0 ? rc : TRANSFER_AGAIN;
    } else {
        rc = err_set(err, EPROTO, PROGRAM " says what was not asked");
    }
    frame_free(&m->base);
    return rc;
}

/* Whole messages only: the helper reads them even when it is going to want all of it again. */
static int send_message(struct transfer_end *end, const Ferry__StoreMessage *m, struct err *err)
{
    struct buf out;
    short is;
    buf_init(&out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    int rc = frame_pack(&m->base, &out, err);
    for (size_t at = 0; rc == 0 && at < out.len;) {
        rc = await(end, POLLOUT, &is, err);
        ssize_t n =
            rc < 0 ? 0 : send(end->fd, out.data + at, out.len - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            rc = vanished(err);
        at += n > 0 ? (size_t)n : 0;
    }
    buf_fini(&out);
    return rc;
}

/* What the helper has said, without waiting for it. */
static int listen_to(struct transfer_end *end, struct err *err)
{
    struct pollfd p = {.fd = end->fd, .events = POLLIN};
    int rc = 0;
    while (rc == 0 && !of(end)->over && poll(&p, 1, 0) > 0)
        rc = take_message(end, err);
    return rc;
}

static int write_store(struct transfer_end *end, const void *data, size_t len, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    m.body_case = FERRY__STORE_MESSAGE__BODY_DATA;
    m.data = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)data, .len = len};
    int rc = listen_to(end, err);
    if (rc == 0)
        rc = send_message(end, &m, err);
    struct err why;
    if (rc == -EPIPE && listen_to(end, &why) < 0 && why.code != EPIPE) { /* its last words */
        *err = why;
        rc = -why.code;
    }
    return rc;
}

static ssize_t read_store(struct transfer_end *end, void *to, size_t max, struct err *err)
{
    Ferry__StoreMessage *m = receive(end, err);
    ssize_t rc = -EAGAIN;
    if (!m)
        return -err->code;
    if (m->body_case == FERRY__STORE_MESSAGE__BODY_DATA && m->data.len && m->data.len <= max) {
        memcpy(to, m->data.data, m->data.len);
        rc = (ssize_t)m->data.len;
    } else if (m->body_case == FERRY__STORE_MESSAGE__BODY_NEWS) {
        take_news(end, m->news);
    } else if (m->body_case == FERRY__STORE_MESSAGE__BODY_END) {
        rc = 0;
    } else if (m->body_case != FERRY__STORE_MESSAGE__BODY_RESULT ||
               take_result(of(end), m->result, err) == 0) {
        rc = err_set(err, EPROTO, PROGRAM " says what was not asked");
    } else {
        rc = -err->code;
    }
    frame_free(&m->base);
    return rc;
}

static int finish(struct transfer_end *end, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    m.body_case = FERRY__STORE_MESSAGE__BODY_END;
    m.end = true;
    int rc = send_message(end, &m, err);
    while (rc == 0 && !of(end)->over)
        rc = take_message(end, err);
    return rc;
}

static void reap(struct transfer_store *s)
{
    struct pollfd p = {.fd = s->pidfd, .events = POLLIN};
    if (s->pidfd < 0 || poll(&p, 1, TIDY_MS) != 0)
        while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    else
        text_note("warning: " PROGRAM " still tidies up in the store");
    clean_fd(&s->pidfd);
}

static int close_store(struct transfer_end *end, bool whole, struct err *err)
{
    int rc = whole ? finish(end, err) : 0;
    if (rc == TRANSFER_AGAIN || end->fd < 0)
        return rc;
    clean_fd(&end->fd);
    reap(of(end));
    return rc;
}

static void exec_helper(int fd)
{
    char path[PATH_MAX];
    const char *const places[] = {PROGRAM, "../libexec/ferry/" PROGRAM};
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 64);
    char *slash = n > 0 ? memrchr(path, '/', (size_t)n) : NULL;
    setpgid(0, 0);
    if (dup2(fd, STDIN_FILENO) < 0 || !slash)
        _exit(127);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(slash + 1, (size_t)(path + sizeof(path) - slash - 1), "%s", places[i]);
        execl(path, PROGRAM, (char *)NULL);
    }
    text_note("cannot run " PROGRAM ": %s", strerror(errno));
    _exit(127);
}

static int start(struct transfer_store *s, struct err *err)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_sys(err, errno, "cannot make a socket");
    s->pid = fork();
    if (s->pid == 0)
        exec_helper(fds[1]);
    close(fds[1]);
    s->end.fd = fds[0];
    if (s->pid < 0)
        return err_sys(err, errno, "cannot start " PROGRAM);
    s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    return 0;
}

int transfer_store_open(struct transfer_store *s, const char *url, bool put, struct err *err)
{
    Ferry__StoreMessage m = FERRY__STORE_MESSAGE__INIT;
    Ferry__StoreBegin begin = FERRY__STORE_BEGIN__INIT;
    struct err ignored;
    *s = (struct transfer_store){.put = put, .pidfd = -1};
    s->end = (struct transfer_end){
        .write = write_store, .read = read_store, .close = close_store, .fd = -1};
    begin.put = put;
    begin.url = (char *)(uintptr_t)url;
    m.body_case = FERRY__STORE_MESSAGE__BODY_BEGIN;
    m.begin = &begin;
    int rc = start(s, err);
    if (rc == 0)
        rc = send_message(&s->end, &m, err);
    if (rc < 0 && s->pid > 0)
        (void)close_store(&s->end, false, &ignored);
    return rc;
}
