/* See client.h. */
#include "cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "cli/deadline.h"
#include "proto/frame.h"

#define SOCKET_NAME "ferryd.sock"
#define READ_BYTES (64u << 10)
#define IN_MAX (FRAME_HEAD_BYTES + FRAME_BODY_MAX + READ_BYTES)
#define OUT_MAX (2u * FRAME_BODY_MAX)

static int lost(struct client *c, int rc)
{
    c->lost = true;
    return rc;
}

/* A path too long for sun_path is reached through a descriptor of its directory. */
static int make_address(const char *run, struct sockaddr_un *address, int *dir, struct err *err)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t room = sizeof(address->sun_path);
    int n = snprintf(address->sun_path, room, "%s/" SOCKET_NAME, run);
    if (n >= 0 && (size_t)n < room)
        return 0;
    *dir = open(run, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir < 0)
        return err_sys(err, errno, "cannot open the run directory '%s'", run);
    snprintf(address->sun_path, room, "/proc/self/fd/%d/" SOCKET_NAME, *dir);
    return 0;
}

static int explain_connect(struct client *c, const char *run, int code, struct err *err)
{
    if (code == EACCES || code == EPERM)
        return err_set(err, code,
                       "you may not talk to the ferryd at '%s': become root or a member of its "
                       "group (ferryd --group)",
                       run);
    if (code == ENOENT || code == ECONNREFUSED || code == ENOTDIR)
        return lost(c, err_set(err, code,
                               "no ferryd answers at '%s': start one ('systemctl start ferryd', or "
                               "'ferryd --root DIR --run %s'), or name another with --run",
                               run, run));
    if (code == EAGAIN)
        return lost(c, err_set(err, code, "the ferryd at '%s' does not accept connections", run));
    return err_sys(err, code, "cannot connect to the ferryd at '%s'", run);
}

/* Waits only while the listener's queue is full, and not for ever. */
static int connect_to(struct client *c, const char *run, struct err *err)
{
    struct timeval patience = {.tv_sec = CLIENT_HELLO_MS / 1000};
    CLEAN(clean_fd) int dir = -1;
    struct sockaddr_un address;
    int rc = make_address(run, &address, &dir, err);
    if (rc < 0)
        return err->code == ENOENT || err->code == ENOTDIR ? explain_connect(c, run, err->code, err)
                                                           : rc;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
        return err_sys(err, errno, "cannot make a socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return explain_connect(c, run, errno, err);
    return 0;
}

int client_connect(struct client *c, const char *run, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__Hello hello = FERRY__HELLO__INIT;
    *c = (struct client)CLIENT_NONE;
    buf_init(&c->in, IN_MAX);
    buf_init(&c->out, OUT_MAX);
    c->hello_until_ns = now_ns() + CLIENT_HELLO_MS * DEADLINE_MS;
    hello.min_version = CLIENT_VERSION_MIN;
    hello.max_version = CLIENT_VERSION_MAX;
    hello.release = (char *)FERRY_VERSION;
    request.body_case = FERRY__REQUEST__BODY_HELLO;
    request.hello = &hello;
    int rc = connect_to(c, run, err);
    if (rc == 0)
        rc = client_post(c, &request, err);
    c->may_leave = c->out.len;
    if (rc < 0)
        client_close(c);
    return rc;
}

void client_close(struct client *c)
{
    bool was_lost = c->lost;
    clean_fd(&c->fd);
    buf_fini(&c->in);
    buf_fini(&c->out);
    *c = (struct client)CLIENT_NONE;
    c->lost = was_lost;
}

int client_post(struct client *c, Ferry__Request *request, struct err *err)
{
    for (unsigned i = 0; i < CLIENT_OPEN_MAX; i++)
        if (c->open[i] == 0) {
            request->id = ++c->last_id;
            int rc = frame_pack(&request->base, &c->out, err);
            c->open[i] = rc == 0 ? request->id : 0;
            return rc;
        }
    return err_set(err, EBUSY, "more than %d requests are open at once", CLIENT_OPEN_MAX);
}

static size_t sendable(const struct client *c)
{
    return c->ready ? c->out.len : c->may_leave;
}

short client_interest(const struct client *c)
{
    return (short)(c->fd < 0 ? 0 : POLLIN | (sendable(c) ? POLLOUT : 0));
}

int client_timeout_ms(const struct client *c)
{
    return c->fd < 0 || c->ready ? -1 : deadline_left_ms(c->hello_until_ns);
}

/* A peer that is gone is noticed by reading, which also finds what it said last. */
static void pump_out(struct client *c)
{
    ssize_t n = send(c->fd, c->out.data, sendable(c), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0)
        n = (ssize_t)c->out.len;
    buf_consume(&c->out, (size_t)n);
    c->may_leave -= c->may_leave < (size_t)n ? c->may_leave : (size_t)n;
}

int client_pump(struct client *c, short revents, struct err *err)
{
    if ((revents & POLLOUT) && sendable(c))
        pump_out(c);
    if (!(revents & (POLLIN | POLLHUP | POLLERR)))
        return 0;
    uint8_t *to = buf_reserve(&c->in, READ_BYTES);
    if (!to)
        return err_set(err, ENOMEM, "no memory for what ferryd answers");
    ssize_t n = recv(c->fd, to, READ_BYTES, MSG_DONTWAIT);
    if (n > 0)
        c->in.len += (size_t)n;
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return 0;
    return lost(c, err_set(err, ECONNRESET,
                           "ferryd closed the connection before it answered; its log tells why"));
}

static bool close_id(struct client *c, uint32_t id, bool last)
{
    for (unsigned i = 0; i < CLIENT_OPEN_MAX; i++)
        if (id && c->open[i] == id) {
            c->open[i] = last ? 0 : id;
            return true;
        }
    return false;
}

int client_check(const Ferry__Reply *reply, struct err *err)
{
    if (reply->code == 0)
        return 0;
    int code = reply->code <= 4095 ? (int)reply->code : EPROTO;
    if (*reply->error)
        return err_set(err, code, "%s", reply->error);
    return err_sys(err, code, "ferryd refused without a reason");
}

/* The first reply: the protocol version, or why there will be no second one. */
static int greet(struct client *c, const Ferry__Reply *reply, struct err *err)
{
    const Ferry__Hello *hello = reply->body_case == FERRY__REPLY__BODY_HELLO ? reply->hello : NULL;
    if (reply->code == EPROTONOSUPPORT && hello)
        return err_set(err, EPROTONOSUPPORT,
                       "ferryd speaks protocol %u to %u, this vmctl %d to %d: use the vmctl of "
                       "ferryd's release",
                       hello->min_version, hello->max_version, CLIENT_VERSION_MIN,
                       CLIENT_VERSION_MAX);
    if (client_check(reply, err) < 0)
        return -err->code;
    if (!hello || !reply->last || hello->min_version != hello->max_version ||
        hello->min_version < CLIENT_VERSION_MIN || hello->min_version > CLIENT_VERSION_MAX)
        return err_set(err, EPROTO,
                       "ferryd did not answer the hello with a version of the "
                       "protocol; is it a ferryd?");
    c->version = hello->min_version;
    c->ready = true;
    return 0;
}

/* One frame off the front of `in`: 1 with it, 0 when it is not all there. */
static int take_frame(struct client *c, Ferry__Reply **reply, struct err *err)
{
    ssize_t n = frame_peek(c->in.data, c->in.len, err);
    if (n <= 0)
        return n < 0 ? err_wrap(err, "ferryd answered nonsense") : 0;
    *reply = (Ferry__Reply *)frame_unpack(&ferry__reply__descriptor, c->in.data + FRAME_HEAD_BYTES,
                                          (size_t)n - FRAME_HEAD_BYTES, err);
    buf_consume(&c->in, (size_t)n);
    return *reply ? 1 : err_wrap(err, "ferryd answered nonsense");
}

int client_take(struct client *c, Ferry__Reply **reply, struct err *err)
{
    for (;;) {
        CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
        int rc = take_frame(c, &got, err);
        if (rc == 0 && !c->ready && now_ns() >= c->hello_until_ns)
            return lost(c, err_set(err, ETIMEDOUT,
                                   "ferryd does not answer within %d s; is it "
                                   "stopped or overloaded?",
                                   CLIENT_HELLO_MS / 1000));
        if (rc <= 0)
            return rc;
        bool refused_all = got->id == 0 && got->code != 0;
        if (!refused_all && !close_id(c, got->id, got->last))
            return err_set(err, EPROTO, "ferryd answered a request that was not asked (id %u)",
                           got->id);
        if (refused_all)
            return client_check(got, err);
        if (c->ready) {
            *reply = steal_ptr(&got);
            return 1;
        }
        if (greet(c, got, err) < 0)
            return -err->code;
    }
}

int client_wait(struct client *c, int also_fd, int timeout_ms, Ferry__Reply **reply,
                struct err *err)
{
    uint64_t until_ns = now_ns() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * DEADLINE_MS;
    for (;;) {
        int rc = client_take(c, reply, err);
        int left_ms = timeout_ms < 0 ? -1 : deadline_left_ms(until_ns);
        if (rc != 0 || left_ms == 0)
            return rc;
        struct pollfd fds[] = {{.fd = c->fd, .events = client_interest(c)},
                               {.fd = also_fd, .events = POLLIN}};
        if (poll(fds, 2, deadline_sooner(left_ms, client_timeout_ms(c))) < 0 && errno != EINTR)
            return err_sys(err, errno, "cannot wait for ferryd");
        if (fds[1].revents)
            return 0;
        if (fds[0].revents && (rc = client_pump(c, fds[0].revents, err)) < 0)
            return rc;
    }
}

int client_call(struct client *c, Ferry__Request *request, int timeout_ms, Ferry__Reply **reply,
                struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
    int rc = client_post(c, request, err);
    if (rc == 0)
        rc = client_wait(c, -1, timeout_ms, &got, err);
    if (rc < 0)
        return rc;
    if (!got)
        return err_set(err, ETIMEDOUT,
                       "ferryd has not answered within %d s; is it stopped or "
                       "overloaded?",
                       timeout_ms / 1000);
    if (!got->last)
        return err_set(err, EPROTO, "ferryd answered in parts where one was asked");
    rc = client_check(got, err);
    if (rc == 0)
        *reply = steal_ptr(&got);
    return rc;
}

int client_ask(const char *run, Ferry__Request *request, Ferry__Reply__BodyCase body,
               Ferry__Reply **reply, struct err *err)
{
    CLEAN(client_clean) struct client c = CLIENT_NONE;
    CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
    int rc = client_connect(&c, run, err);
    if (rc == 0)
        rc = client_call(&c, request, CLIENT_QUICK_MS, &got, err);
    if (rc < 0)
        return rc;
    if (got->body_case != body)
        return err_set(err, EPROTO, "ferryd answered something else than what was asked");
    *reply = steal_ptr(&got);
    return 0;
}

void client_clean(struct client *c)
{
    client_close(c);
}

void client_clean_reply(Ferry__Reply **reply)
{
    frame_free(*reply ? &(*reply)->base : NULL);
    *reply = NULL;
}
