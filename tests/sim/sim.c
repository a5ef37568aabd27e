/* See sim.h. */
#include "tests/sim/sim.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/le.h"
#include "base/now.h"
#include "proto/frame.h"
#include "tests/temp.h"

void sim_init(struct sim *s)
{
    *s = (struct sim){.ferryd = -1};
    signal(SIGPIPE, SIG_IGN);
    assert_true(temp_dir(s->dir, sizeof(s->dir)));
}

void sim_path(const struct sim *s, char *to, size_t size, const char *format, ...)
{
    va_list args;
    int n = snprintf(to, size, "%s/", s->dir);
    va_start(args, format);
    vsnprintf(to + n, size - (size_t)n, format, args);
    va_end(args);
}

static int listen_for_ready(const struct sim *s, struct sockaddr_un *at)
{
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    sim_path(s, at->sun_path, sizeof(at->sun_path), "notify");
    unlink(at->sun_path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)at, sizeof(*at)), 0);
    return fd;
}

static void run_ferryd(const struct sim *s, const char *notify)
{
    const char *build = getenv("FERRY_BUILD");
    char program[4096], worker[4096], root[300], run[300], log[300];
    snprintf(program, sizeof(program), "%s/bin/ferryd", build);
    snprintf(worker, sizeof(worker), "%s/tests/fake-worker", build);
    sim_path(s, root, sizeof(root), "root");
    sim_path(s, run, sizeof(run), "run");
    sim_path(s, log, sizeof(log), "ferryd.log");
    const char *argv[20] = {program, "--root", root,        "--run", run,    "--worker",
                            worker,  "--kvm",  "/dev/null", "--log", "debug"};
    for (size_t i = 0, n = 11; i < 6 && s->extra[i]; i++)
        argv[n++] = s->extra[i];
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    setenv("NOTIFY_SOCKET", notify, 1);
    if (fd >= 0 && dup2(fd, 2) == 2)
        execv(program, (char **)argv);
    _exit(127);
}

/* Ready, or gone: whichever comes. */
static bool await_ready(int notify, pid_t pid, int *status)
{
    char text[64] = "";
    for (uint64_t from = now_ns(); now_ns() - from < SIM_PATIENCE_MS * 1000000ull;) {
        struct pollfd p = {.fd = notify, .events = POLLIN};
        if (poll(&p, 1, 20) == 1 && recv(notify, text, sizeof(text) - 1, 0) > 0 &&
            strcmp(text, "READY=1") == 0)
            return true;
        if (waitpid(pid, status, WNOHANG) == pid)
            return false;
    }
    fail_msg("ferryd does not get ready");
    return false;
}

static bool start(struct sim *s, int *status)
{
    struct sockaddr_un at;
    assert_non_null(getenv("FERRY_BUILD"));
    CLEAN(clean_fd) int notify = listen_for_ready(s, &at);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_ferryd(s, at.sun_path);
    bool ready = await_ready(notify, pid, status);
    s->ferryd = ready ? pid : -1;
    unlink(at.sun_path);
    return ready;
}

static void print_log(const struct sim *s)
{
    char path[300], text[8192];
    sim_path(s, path, sizeof(path), "ferryd.log");
    CLEAN(clean_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : fs_read_tail(fd, text, sizeof(text) - 1);
    text[n > 0 ? n : 0] = '\0';
    print_message("%s\n", text);
}

void sim_start(struct sim *s)
{
    int status;
    if (start(s, &status))
        return;
    print_log(s);
    fail_msg("ferryd ended with status %d", WEXITSTATUS(status));
}

int sim_start_fails(struct sim *s, char *said, size_t size)
{
    int status;
    char path[300];
    pid_t other = s->ferryd;
    sim_path(s, path, sizeof(path), "ferryd.log");
    CLEAN(clean_fd) int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t from = lseek(fd, 0, SEEK_END);
    assert_false(start(s, &status));
    s->ferryd = other;
    ssize_t n = pread(fd, said, size - 1, from);
    said[n > 0 ? n : 0] = '\0';
    return WEXITSTATUS(status);
}

void sim_term(struct sim *s)
{
    int status;
    assert_int_equal(kill(s->ferryd, SIGTERM), 0);
    assert_int_equal(waitpid(s->ferryd, &status, 0), s->ferryd);
    s->ferryd = -1;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        print_log(s);
        fail_msg("ferryd ended with wait status %#x", (unsigned)status);
    }
}

void sim_kill9(struct sim *s)
{
    assert_int_equal(kill(s->ferryd, SIGKILL), 0);
    assert_int_equal(waitpid(s->ferryd, NULL, 0), s->ferryd);
    s->ferryd = -1;
}

static void remove_vms(const struct sim *s)
{
    struct peer_end c;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ListRequest list = FERRY__LIST_REQUEST__INIT;
    request.body_case = FERRY__REQUEST__BODY_LIST;
    request.list = &list;
    sim_connect(s, &c);
    Ferry__Reply *reply = sim_call(&c, &request);
    for (size_t i = 0; i < reply->list->n_vms; i++) {
        SIM_DO(&c, KILL, reply->list->vms[i]->name);
        assert_int_equal(SIM_DO(&c, REMOVE, reply->list->vms[i]->name), 0);
    }
    sim_free(reply);
    sim_close(&c);
}

/* Only what a ferryd without VMs has may be there. */
static void check_empty(const struct sim *s, const char *sub)
{
    char path[300];
    sim_path(s, path, sizeof(path), "%s", sub);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            fail_msg("%s/%s is left", sub, e->d_name);
    closedir(dir);
}

void sim_end(struct sim *s)
{
    struct err err;
    if (s->ferryd < 0)
        sim_start(s);
    remove_vms(s);
    sim_term(s);
    check_empty(s, "root/vms");
    check_empty(s, "run/vms");
    assert_int_equal(fs_remove_tree(AT_FDCWD, s->dir, &err), 0);
}

void sim_connect_raw(const struct sim *s, struct peer_end *c)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = SIM_PATIENCE_MS / 1000};
    sim_path(s, at.sun_path, sizeof(at.sun_path), "run/ferryd.sock");
    *c = (struct peer_end){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_true(c->fd >= 0);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(c->fd, (struct sockaddr *)&at, sizeof(at)), 0);
}

void sim_connect(const struct sim *s, struct peer_end *c)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__Hello hello = FERRY__HELLO__INIT;
    hello.min_version = hello.max_version = 1;
    request.body_case = FERRY__REQUEST__BODY_HELLO;
    request.hello = &hello;
    sim_connect_raw(s, c);
    Ferry__Reply *reply = sim_call(c, &request);
    assert_int_equal(reply->body_case, FERRY__REPLY__BODY_HELLO);
    sim_free(reply);
}

void sim_close(struct peer_end *c)
{
    clean_fd(&c->fd);
}

void sim_send_bytes(struct peer_end *c, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len) {
        ssize_t n = send(c->fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return; /* what ferryd said before it closed is still to be read */
        assert_true(n > 0);
        at += n;
        len -= (size_t)n;
    }
}

uint32_t sim_send(struct peer_end *c, Ferry__Request *request)
{
    struct buf out;
    struct err err;
    buf_init(&out, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    request->id = ++c->id;
    assert_int_equal(frame_pack(&request->base, &out, &err), 0);
    sim_send_bytes(c, out.data, out.len);
    buf_fini(&out);
    return c->id;
}

static bool recv_all(struct peer_end *c, void *to, size_t len)
{
    uint8_t *at = to;
    while (len) {
        ssize_t n = recv(c->fd, at, len, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            fail_msg("ferryd does not answer");
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

Ferry__Reply *sim_recv(struct peer_end *c)
{
    struct err err;
    uint8_t head[FRAME_HEAD_BYTES];
    if (!recv_all(c, head, sizeof(head)))
        return NULL;
    size_t len = le_get(head, sizeof(head));
    assert_true(len > 0 && len <= FRAME_BODY_MAX);
    CLEAN(clean_free) uint8_t *body = malloc(len);
    assert_non_null(body);
    if (!recv_all(c, body, len))
        return NULL;
    Ferry__Reply *reply = (Ferry__Reply *)frame_unpack(&ferry__reply__descriptor, body, len, &err);
    assert_non_null(reply);
    if (reply->code)
        snprintf(c->error, sizeof(c->error), "%s", reply->error);
    return reply;
}

void sim_free(Ferry__Reply *reply)
{
    frame_free((ProtobufCMessage *)reply);
}

Ferry__Reply *sim_call(struct peer_end *c, Ferry__Request *request)
{
    c->error[0] = '\0';
    uint32_t id = sim_send(c, request);
    for (;;) {
        Ferry__Reply *reply = sim_recv(c);
        assert_non_null(reply);
        if (reply->last && reply->id == id)
            return reply;
        sim_free(reply);
    }
}

static int call_code(struct peer_end *c, Ferry__Request *request)
{
    Ferry__Reply *reply = sim_call(c, request);
    int code = (int)reply->code;
    sim_free(reply);
    return code;
}

/* All of these messages have the name as their first field, and nothing else that matters. */
int sim_do(struct peer_end *c, Ferry__Request__BodyCase what, const char *name)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__KillRequest kill_request = FERRY__KILL_REQUEST__INIT;
    Ferry__PauseRequest pause_request = FERRY__PAUSE_REQUEST__INIT;
    Ferry__ResumeRequest resume = FERRY__RESUME_REQUEST__INIT;
    Ferry__ResetRequest reset = FERRY__RESET_REQUEST__INIT;
    Ferry__RemoveRequest rm = FERRY__REMOVE_REQUEST__INIT;
    Ferry__ShowRequest show = FERRY__SHOW_REQUEST__INIT;
    Ferry__StatsRequest stats = FERRY__STATS_REQUEST__INIT;
    kill_request.name = pause_request.name = resume.name = reset.name = (char *)name;
    rm.name = show.name = stats.name = (char *)name;
    request.body_case = what;
    switch (what) {
    case FERRY__REQUEST__BODY_KILL:
        request.kill = &kill_request;
        break;
    case FERRY__REQUEST__BODY_PAUSE:
        request.pause = &pause_request;
        break;
    case FERRY__REQUEST__BODY_RESUME:
        request.resume = &resume;
        break;
    case FERRY__REQUEST__BODY_RESET:
        request.reset = &reset;
        break;
    case FERRY__REQUEST__BODY_REMOVE:
        request.remove = &rm;
        break;
    case FERRY__REQUEST__BODY_SHOW:
        request.show = &show;
        break;
    case FERRY__REQUEST__BODY_STATS:
        request.stats = &stats;
        break;
    default:
        fail_msg("not a request of a name only");
    }
    return call_code(c, &request);
}

uint32_t sim_send_start(struct peer_end *c, const char *name, const char *cmdline)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StartRequest start_request = FERRY__START_REQUEST__INIT;
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    config.name = (char *)name;
    if (cmdline) {
        config.kernel = "/bin/sh";
        config.cmdline = (char *)cmdline;
    }
    start_request.config = &config;
    request.body_case = FERRY__REQUEST__BODY_START;
    request.start = &start_request;
    c->error[0] = '\0';
    return sim_send(c, &request);
}

static int start_code(struct peer_end *c, const char *name, const char *cmdline)
{
    uint32_t id = sim_send_start(c, name, cmdline);
    Ferry__Reply *reply = sim_recv(c);
    assert_non_null(reply);
    assert_int_equal(reply->id, id);
    assert_true(reply->last);
    int code = (int)reply->code;
    sim_free(reply);
    return code;
}

int sim_start_vm(struct peer_end *c, const char *name, const char *cmdline)
{
    return start_code(c, name, cmdline);
}

int sim_start_again(struct peer_end *c, const char *name)
{
    return start_code(c, name, NULL);
}

int sim_stop_vm(struct peer_end *c, const char *name, uint64_t timeout_ms)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StopRequest stop = FERRY__STOP_REQUEST__INIT;
    stop.name = (char *)name;
    stop.timeout_ms = timeout_ms;
    request.body_case = FERRY__REQUEST__BODY_STOP;
    request.stop = &stop;
    return call_code(c, &request);
}

void sim_type(const struct sim *s, const char *name, const char *line)
{
    struct peer_end c;
    char text[300];
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleInput input = FERRY__CONSOLE_INPUT__INIT;
    input.name = (char *)name;
    input.data.data = (uint8_t *)text;
    input.data.len = (size_t)snprintf(text, sizeof(text), "%s\n", line);
    request.body_case = FERRY__REQUEST__BODY_CONSOLE_INPUT;
    request.console_input = &input;
    sim_connect(s, &c);
    assert_int_equal(call_code(&c, &request), 0);
    sim_close(&c);
}

size_t sim_console(struct peer_end *c, const char *name, char *to, size_t size)
{
    size_t len = 0;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleRequest console = FERRY__CONSOLE_REQUEST__INIT;
    console.name = (char *)name;
    request.body_case = FERRY__REQUEST__BODY_CONSOLE;
    request.console = &console;
    sim_send(c, &request);
    for (bool last = false; !last;) {
        Ferry__Reply *reply = sim_recv(c);
        assert_non_null(reply);
        assert_int_equal(reply->code, 0);
        last = reply->last;
        if (reply->body_case == FERRY__REPLY__BODY_CONSOLE) {
            size_t n = reply->console->data.len;
            assert_true(len + n < size);
            memcpy(to + len, reply->console->data.data, n);
            len += n;
        }
        sim_free(reply);
    }
    to[len] = '\0';
    return len;
}

Ferry__Reply *sim_show(struct peer_end *c, const char *name)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ShowRequest show = FERRY__SHOW_REQUEST__INIT;
    show.name = (char *)name;
    request.body_case = FERRY__REQUEST__BODY_SHOW;
    request.show = &show;
    return sim_call(c, &request);
}

int sim_state(struct peer_end *c, const char *name)
{
    Ferry__Reply *reply = sim_show(c, name);
    int state = reply->code ? -1 : (int)reply->vm->summary->state;
    sim_free(reply);
    return state;
}

int sim_pid(struct peer_end *c, const char *name)
{
    Ferry__Reply *reply = sim_show(c, name);
    assert_int_equal(reply->code, 0);
    int pid = (int)reply->vm->summary->pid;
    assert_true(pid > 1); /* kill() takes 0 for the whole group */
    sim_free(reply);
    return pid;
}

/* Looks again with each event. */
void sim_await_state(const struct sim *s, const char *name, Ferry__VmState state)
{
    struct peer_end c, events;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest follow = FERRY__EVENTS_REQUEST__INIT;
    follow.follow = true;
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &follow;
    sim_connect(s, &c);
    sim_connect(s, &events);
    sim_send(&events, &request);
    while (sim_state(&c, name) != (int)state) {
        Ferry__Reply *reply = sim_recv(&events);
        assert_non_null(reply);
        sim_free(reply);
    }
    sim_close(&c);
    sim_close(&events);
}

void sim_said(const struct peer_end *c, const char *text)
{
    if (!strstr(c->error, text))
        fail_msg("'%s' is not in: %s", text, c->error);
}

unsigned sim_count_fds(pid_t pid)
{
    char path[40];
    unsigned count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        count += e->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* Closing takes a turn of ferryd's loop. */
void sim_await_fds(pid_t pid, unsigned count)
{
    struct timespec turn = {.tv_nsec = 5000000};
    for (uint64_t from = now_ns(); now_ns() - from < SIM_PATIENCE_MS * 1000000ull;) {
        if (sim_count_fds(pid) <= count)
            return;
        nanosleep(&turn, NULL);
    }
    fail_msg("ferryd has %u descriptors open, not %u", sim_count_fds(pid), count);
}

bool sim_process_is_gone(pid_t pid)
{
    return kill(pid, 0) < 0 && errno == ESRCH;
}
