/*
 * A worker without a guest, for tests of ferryd. It speaks worker.proto as ferry-vm does; what it
 * is to do wrong stands in the VM's command line, and later in what is typed on its console.
 *
 * Words of the command line:   fail-start die-start mute old-version ignore-power ignore-quit
 *                              ignore-pause ignore-input mute-later break-at-once say=TEXT
 * Lines typed on the console:  say TEXT | flood BYTES | reset N | break | shutdown | exit STATUS
 *                              signal N | garbage | close | huge
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/le.h"
#include "base/now.h"
#include "base/scroll.h"
#include "daemon/record.h"
#include "proto/frame.h"

#define SESSIONS 8
#define FILES_MAX 8
#define CONSOLE_BYTES (1u << 20)

struct session {
    int fd; /* -1 for none */
    struct buf in;
    bool watching;
    uint32_t watch_id;
    uint64_t watch_from;
};

static struct {
    struct session sessions[SESSIONS];
    int listener, record;
    Ferry__MachineConfig *config;
    Ferry__WorkerState state;
    struct scroll console;
    uint64_t seq;
    uint32_t resets;
    bool pressed; /* the power button, while it was paused */
    char line[256];
} w;

static void die(const char *what)
{
    fprintf(stderr, "fake worker: %s\n", what);
    exit(9);
}

static bool has(const char *word)
{
    return w.config && strstr(w.config->cmdline, word);
}

static void send_to(struct session *s, Ferry__WorkerReply *reply)
{
    struct err err;
    struct buf out;
    buf_init(&out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    if (frame_pack(&reply->base, &out, &err) < 0)
        die(err.text);
    for (size_t done = 0; done < out.len;) {
        ssize_t n = send(s->fd, out.data + done, out.len - done, MSG_NOSIGNAL);
        if (n <= 0)
            break; /* it left; the reading end will see */
        done += (size_t)n;
    }
    buf_fini(&out);
}

static void answer(struct session *s, uint32_t id, int code, const char *error)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    reply.id = id;
    reply.code = (uint32_t)code;
    reply.error = (char *)error;
    send_to(s, &reply);
}

static void fill_status(Ferry__WorkerStatus *status, Ferry__Ending *ending)
{
    ferry__worker_status__init(status);
    ferry__ending__init(ending);
    status->state = w.state;
    status->resets = w.resets;
    status->boot_wall_ns = now_wall_ns();
    status->pid = (uint32_t)getpid();
    if (w.state == FERRY__WORKER_STATE__WORKER_FAILED) {
        ending->kind = FERRY__END_KIND__END_TRIPLE_FAULT;
        ending->text = "triple fault on CPU 0";
        status->ending = ending;
    } else if (w.state == FERRY__WORKER_STATE__WORKER_ENDED) {
        ending->kind = FERRY__END_KIND__END_SHUTDOWN;
        status->ending = ending;
    }
}

static void enter(Ferry__WorkerState state)
{
    struct err err;
    Ferry__Ending ending;
    Ferry__WorkerStatus status;
    Ferry__WorkerReply news = FERRY__WORKER_REPLY__INIT;
    w.state = state;
    fill_status(&status, &ending);
    if (record_write(w.record, ++w.seq, &status, &err) < 0)
        die(err.text);
    news.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
    news.status = &status;
    for (unsigned i = 0; i < SESSIONS; i++)
        if (w.sessions[i].fd >= 0)
            send_to(&w.sessions[i], &news);
}

static void wake_watches(void)
{
    for (unsigned i = 0; i < SESSIONS; i++) {
        struct session *s = &w.sessions[i];
        Ferry__WorkerConsoleData data = FERRY__WORKER_CONSOLE_DATA__INIT;
        Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
        if (s->fd < 0 || !s->watching || scroll_end(&w.console) <= s->watch_from)
            continue;
        s->watching = false;
        data.offset = data.end = scroll_end(&w.console);
        reply.id = s->watch_id;
        reply.body_case = FERRY__WORKER_REPLY__BODY_CONSOLE;
        reply.console = &data;
        send_to(s, &reply);
    }
}

static void say(const char *text, size_t len)
{
    scroll_append(&w.console, text, len);
    wake_watches();
}

static void flood(size_t bytes)
{
    char block[1024];
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = (char)('a' + i % 26);
    for (; bytes; bytes -= bytes < sizeof(block) ? bytes : sizeof(block))
        scroll_append(&w.console, block, bytes < sizeof(block) ? bytes : sizeof(block));
    wake_watches();
}

static void end(void)
{
    enter(FERRY__WORKER_STATE__WORKER_ENDED);
    _exit(0);
}

static void tell_resets(unsigned count)
{
    Ferry__WorkerGuestReset reset = FERRY__WORKER_GUEST_RESET__INIT;
    Ferry__WorkerReply news = FERRY__WORKER_REPLY__INIT;
    reset.by = "the keyboard controller";
    news.body_case = FERRY__WORKER_REPLY__BODY_GUEST_RESET;
    news.guest_reset = &reset;
    while (count--) {
        reset.resets = ++w.resets;
        for (unsigned i = 0; i < SESSIONS; i++)
            if (w.sessions[i].fd >= 0)
                send_to(&w.sessions[i], &news);
    }
}

/* A length over the limit, or a frame that is no message. */
static void talk_nonsense(bool huge)
{
    static const uint8_t garbage[] = {4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t too_long[] = {0xff, 0xff, 0xff, 0x7f};
    for (unsigned i = 0; i < SESSIONS; i++)
        if (w.sessions[i].fd >= 0 &&
            send(w.sessions[i].fd, huge ? too_long : garbage, huge ? 4 : 8, MSG_NOSIGNAL) < 0)
            die("cannot talk nonsense");
}

static void obey(const char *line)
{
    unsigned n = 0;
    if (strncmp(line, "say ", 4) == 0)
        say(line + 4, strlen(line + 4));
    else if (sscanf(line, "flood %u", &n) == 1)
        flood(n);
    else if (sscanf(line, "reset %u", &n) == 1)
        tell_resets(n);
    else if (sscanf(line, "exit %u", &n) == 1)
        _exit((int)n);
    else if (sscanf(line, "signal %u", &n) == 1)
        raise((int)n);
    else if (strcmp(line, "break") == 0)
        enter(FERRY__WORKER_STATE__WORKER_FAILED);
    else if (strcmp(line, "shutdown") == 0)
        end();
    else if (strcmp(line, "garbage") == 0 || strcmp(line, "huge") == 0)
        talk_nonsense(line[0] == 'h');
    else if (strcmp(line, "close") == 0)
        shutdown(w.sessions[0].fd, SHUT_RDWR);
}

static void type(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t at = strlen(w.line);
        if (data[i] != '\n' && at + 1 < sizeof(w.line)) {
            w.line[at] = (char)data[i];
            w.line[at + 1] = '\0';
        } else if (data[i] == '\n') {
            char line[sizeof(w.line)];
            memcpy(line, w.line, sizeof(line));
            w.line[0] = '\0';
            obey(line);
        }
    }
}

static void console_read_to(struct session *s, const Ferry__WorkerRequest *r)
{
    uint8_t space[65536];
    uint64_t missed, offset = r->console_read->offset;
    size_t max =
        r->console_read->max_bytes < sizeof(space) ? r->console_read->max_bytes : sizeof(space);
    Ferry__WorkerConsoleData data = FERRY__WORKER_CONSOLE_DATA__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    size_t n = scroll_read(&w.console, &offset, space, max, &missed);
    data.offset = offset - n;
    data.data = (ProtobufCBinaryData){.data = space, .len = n};
    data.end = scroll_end(&w.console);
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_CONSOLE;
    reply.console = &data;
    send_to(s, &reply);
}

static void console_write(struct session *s, const Ferry__WorkerRequest *r)
{
    Ferry__WorkerConsoleWritten written = FERRY__WORKER_CONSOLE_WRITTEN__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    if (has("ignore-input"))
        return;
    written.bytes = r->console_write->data.len;
    reply.id = r->id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_WRITTEN;
    reply.written = &written;
    send_to(s, &reply);
    type(r->console_write->data.data, r->console_write->data.len);
}

static void hello(struct session *s, uint32_t id)
{
    Ferry__WorkerHello ours = FERRY__WORKER_HELLO__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    ours.min_version = ours.max_version = has("old-version") ? 99 : 1;
    ours.release = "fake";
    ours.vm_name = w.config->name;
    ours.pid = (uint32_t)getpid();
    reply.id = id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_HELLO;
    reply.hello = &ours;
    send_to(s, &reply);
}

static void status_to(struct session *s, uint32_t id)
{
    Ferry__Ending ending;
    Ferry__WorkerStatus status;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    fill_status(&status, &ending);
    reply.id = id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_STATUS;
    reply.status = &status;
    send_to(s, &reply);
}

static void stats_to(struct session *s, uint32_t id)
{
    Ferry__Counter counter = FERRY__COUNTER__INIT, *list = &counter;
    Ferry__WorkerStats stats = FERRY__WORKER_STATS__INIT;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    counter.name = "fake_exits";
    counter.value = 42;
    stats.n_counters = 1;
    stats.counters = &list;
    reply.id = id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_STATS;
    reply.stats = &stats;
    send_to(s, &reply);
}

static void change(struct session *s, uint32_t id, Ferry__WorkerState from, Ferry__WorkerState to)
{
    if (w.state != from) {
        answer(s, id, EPERM, "not in this state");
        return;
    }
    enter(to);
    answer(s, id, 0, "");
}

static void serve(struct session *s, const Ferry__WorkerRequest *r)
{
    switch (r->body_case) {
    case FERRY__WORKER_REQUEST__BODY_HELLO:
        if (!has("mute-later"))
            hello(s, r->id);
        break;
    case FERRY__WORKER_REQUEST__BODY_PAUSE:
        if (!has("ignore-pause"))
            change(s, r->id, FERRY__WORKER_STATE__WORKER_RUNNING,
                   FERRY__WORKER_STATE__WORKER_PAUSED);
        break;
    case FERRY__WORKER_REQUEST__BODY_RESUME:
        change(s, r->id, FERRY__WORKER_STATE__WORKER_PAUSED, FERRY__WORKER_STATE__WORKER_RUNNING);
        if (w.pressed && w.state == FERRY__WORKER_STATE__WORKER_RUNNING)
            end();
        break;
    case FERRY__WORKER_REQUEST__BODY_RESET:
        tell_resets(1);
        if (w.state != FERRY__WORKER_STATE__WORKER_RUNNING)
            enter(FERRY__WORKER_STATE__WORKER_RUNNING);
        answer(s, r->id, 0, "");
        break;
    case FERRY__WORKER_REQUEST__BODY_POWER_BUTTON:
        answer(s, r->id, 0, "");
        w.pressed = !has("ignore-power");
        if (w.pressed && w.state == FERRY__WORKER_STATE__WORKER_RUNNING)
            end();
        break;
    case FERRY__WORKER_REQUEST__BODY_QUIT:
        if (!has("ignore-quit"))
            end();
        break;
    case FERRY__WORKER_REQUEST__BODY_STATUS:
        status_to(s, r->id);
        break;
    case FERRY__WORKER_REQUEST__BODY_STATS:
        stats_to(s, r->id);
        break;
    case FERRY__WORKER_REQUEST__BODY_CONSOLE_READ:
        console_read_to(s, r);
        break;
    case FERRY__WORKER_REQUEST__BODY_CONSOLE_WATCH:
        if (s->watching) {
            answer(s, r->id, EBUSY, "a watch is open already");
            break;
        }
        s->watching = true;
        s->watch_id = r->id;
        s->watch_from = r->console_watch->offset;
        wake_watches();
        break;
    case FERRY__WORKER_REQUEST__BODY_CONSOLE_WRITE:
        console_write(s, r);
        break;
    default:
        answer(s, r->id, ENOSYS, "the fake worker knows no such request");
    }
}

static void session_close(struct session *s)
{
    close(s->fd);
    buf_fini(&s->in);
    *s = (struct session){.fd = -1};
    buf_init(&s->in, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
}

static Ferry__WorkerRequest *next_request(struct session *s)
{
    struct err err;
    ssize_t n = frame_peek(s->in.data, s->in.len, &err);
    if (n <= 0)
        return NULL;
    Ferry__WorkerRequest *r = (Ferry__WorkerRequest *)frame_unpack(
        &ferry__worker_request__descriptor, s->in.data + FRAME_HEAD_BYTES,
        (size_t)n - FRAME_HEAD_BYTES, &err);
    if (!r)
        die(err.text);
    buf_consume(&s->in, (size_t)n);
    return r;
}

static void session_read(struct session *s)
{
    Ferry__WorkerRequest *r;
    uint8_t *to = buf_reserve(&s->in, 65536);
    ssize_t n = to ? recv(s->fd, to, 65536, 0) : -1;
    if (n <= 0) {
        session_close(s);
        return;
    }
    s->in.len += (size_t)n;
    while (s->fd >= 0 && (r = next_request(s))) {
        serve(s, r);
        frame_free(&r->base);
    }
}

/* The first two frames, and the descriptors in the order of worker.proto. */
static Ferry__WorkerRequest *receive_start(int fd, int *fds, size_t *nfds)
{
    struct session *s = &w.sessions[0];
    Ferry__WorkerRequest *r;
    s->fd = fd;
    for (;;) {
        union {
            struct cmsghdr head;
            char space[CMSG_SPACE(sizeof(int) * FILES_MAX)];
        } control;
        uint8_t *to = buf_reserve(&s->in, 65536);
        struct iovec iov = {.iov_base = to, .iov_len = to ? 65536 : 0};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
        ssize_t n = recvmsg(fd, &msg, 0);
        if (n <= 0)
            die("no start came");
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c && c->cmsg_type == SCM_RIGHTS) {
            *nfds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(c), *nfds * sizeof(int));
        }
        s->in.len += (size_t)n;
        while ((r = next_request(s))) {
            if (r->body_case == FERRY__WORKER_REQUEST__BODY_START)
                return r;
            frame_free(&r->base);
        }
    }
}

static void start(void)
{
    struct err err;
    int fds[FILES_MAX];
    size_t n = 0;
    Ferry__WorkerRequest *r = receive_start(3, fds, &n);
    w.config = r->start->config;
    size_t want = w.config->initrd[0] ? 7 : 6;
    if (n != want)
        die("the wrong number of descriptors came");
    w.listener = fds[n - 4];
    w.record = fds[n - 3];
    if (scroll_init_file(&w.console, fds[n - 2], CONSOLE_BYTES, &err) < 0)
        die(err.text);
    if (has("mute "))
        pause();
    hello(&w.sessions[0], 1);
    if (has("die-start"))
        die("I was told to die");
    if (has("fail-start")) {
        answer(&w.sessions[0], r->id, EINVAL, "the kernel is not to the fake worker's taste");
        exit(1);
    }
    const char *text = strstr(w.config->cmdline, "say=");
    if (text)
        say(text + 4, strlen(text + 4));
    answer(&w.sessions[0], r->id, 0, "");
    enter(r->start->paused ? FERRY__WORKER_STATE__WORKER_PAUSED
                           : FERRY__WORKER_STATE__WORKER_RUNNING);
    if (has("break-at-once"))
        enter(FERRY__WORKER_STATE__WORKER_FAILED);
}

static void accept_session(void)
{
    int fd = accept(w.listener, NULL, NULL);
    for (unsigned i = 0; i < SESSIONS; i++) {
        if (w.sessions[i].fd < 0 && fd >= 0) {
            w.sessions[i].fd = fd;
            return;
        }
    }
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < SESSIONS; i++) {
        w.sessions[i].fd = -1;
        buf_init(&w.sessions[i].in, FRAME_HEAD_BYTES + FRAME_BODY_MAX + 65536);
    }
    if (argc != 7 || strcmp(argv[1], "--fd") != 0 || strcmp(argv[2], "3") != 0)
        die("started with other arguments than a worker gets");
    start();
    for (;;) {
        struct pollfd polls[SESSIONS + 1];
        for (unsigned i = 0; i < SESSIONS; i++)
            polls[i] = (struct pollfd){.fd = w.sessions[i].fd, .events = POLLIN};
        polls[SESSIONS] = (struct pollfd){.fd = w.listener, .events = POLLIN};
        if (poll(polls, SESSIONS + 1, -1) < 0)
            die("cannot poll");
        for (unsigned i = 0; i < SESSIONS; i++)
            if (polls[i].revents)
                session_read(&w.sessions[i]);
        if (polls[SESSIONS].revents)
            accept_session();
    }
}
