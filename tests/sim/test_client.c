/* Clients of every kind: wrong, slow, gone, many, and those who may not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/le.h"
#include "proto/frame.h"
#include "tests/sim/sim.h"

#define NOBODY 65534
#define ODD_GROUP 54321

static struct sim sim;

static int setup(void **state)
{
    sim_init(&sim);
    sim_start(&sim);
    return 0;
}

static int teardown(void **state)
{
    sim_end(&sim);
    return 0;
}

/* ferryd answers with that code, under id 0, and closes. */
static void expect_cut(struct peer_end *c, int code, const char *text)
{
    Ferry__Reply *reply = sim_recv(c);
    assert_non_null(reply);
    assert_int_equal(reply->id, 0);
    assert_true(reply->last);
    assert_int_equal(reply->code, code);
    sim_said(c, text);
    sim_free(reply);
    assert_null(sim_recv(c));
    sim_close(c);
}

static void send_bare(struct peer_end *c, Ferry__Request__BodyCase what)
{
    static Ferry__ListRequest list = FERRY__LIST_REQUEST__INIT;
    static Ferry__Hello hello = FERRY__HELLO__INIT;
    Ferry__Request request = FERRY__REQUEST__INIT;
    hello.min_version = hello.max_version = 1;
    request.body_case = what;
    if (what == FERRY__REQUEST__BODY_LIST)
        request.list = &list;
    else if (what == FERRY__REQUEST__BODY_HELLO)
        request.hello = &hello;
    sim_send(c, &request);
}

static void expect_alive(void)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_state(&c, "no such"), -1);
    sim_close(&c);
}

static void test_lengths(void **state)
{
    static const uint32_t lengths[] = {FRAME_BODY_MAX + 1, 0x7fffffff, 0x80000000, 0xffffffff};
    struct peer_end c;
    uint8_t head[4] = {0};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        le_put(head, lengths[i], 4);
        sim_connect(&sim, &c);
        sim_send_bytes(&c, head, sizeof(head));
        expect_cut(&c, EMSGSIZE, "over the limit");
    }
    le_put(head, 0, 4);
    sim_connect_raw(&sim, &c);
    sim_send_bytes(&c, head, sizeof(head));
    expect_cut(&c, EBADMSG, "frame length is 0");
}

static void send_body(struct peer_end *c, const void *body, size_t len)
{
    uint8_t head[4];
    le_put(head, len, 4);
    sim_send_bytes(c, head, sizeof(head));
    sim_send_bytes(c, body, len);
}

static void test_bodies(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\xff", 1},                                              /* a tag cut short */
        {"\x22\x7f", 2},                                          /* longer than it is */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12}, /* a varint without end */
        {"\x2a\x80\x80\x80\x80\x08", 6},                          /* a length of 2 GiB */
        {"\x08\x01\x32\x04\x0a\x02\xc3\x28", 8},                  /* a name that is not UTF-8 */
        {"\x08\x01\x32\x04\x0a\x02\x1b[", 8}, /* a name with a control character */
    };
    struct peer_end c;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sim_connect(&sim, &c);
        send_body(&c, bad[i].bytes, bad[i].len);
        expect_cut(&c, EBADMSG, "");
    }
}

/* A million unknown fields, and groups within groups: refused or ignored, but survived. */
static void test_protobuf_floods(void **state)
{
    struct peer_end c;
    static uint8_t flood[FRAME_BODY_MAX];
    for (size_t i = 0; i + 3 <= sizeof(flood); i += 3)
        memcpy(flood + i, "\xf8\x3f\x01", 3); /* field 1023 = 1 */
    sim_connect(&sim, &c);
    send_body(&c, flood, sizeof(flood) - sizeof(flood) % 3);
    expect_cut(&c, EMSGSIZE, "");
    memset(flood, 0x0b, sizeof(flood)); /* start of a group */
    sim_connect(&sim, &c);
    send_body(&c, flood, sizeof(flood));
    expect_cut(&c, EBADMSG, "");
    memset(flood, 0x22, sizeof(flood)); /* each field says that a body of 34 bytes follows */
    sim_connect(&sim, &c);
    send_body(&c, flood, sizeof(flood));
    expect_cut(&c, EBADMSG, "");
    expect_alive();
}

static void test_order(void **state)
{
    struct peer_end c;
    sim_connect_raw(&sim, &c);
    send_bare(&c, FERRY__REQUEST__BODY_LIST);
    expect_cut(&c, EPROTO, "the first request must be a hello");
    sim_connect(&sim, &c);
    send_bare(&c, FERRY__REQUEST__BODY_HELLO);
    expect_cut(&c, EPROTO, "a second hello");
    sim_connect(&sim, &c);
    c.id = UINT32_MAX; /* the next is 0 */
    send_bare(&c, FERRY__REQUEST__BODY_LIST);
    expect_cut(&c, EPROTO, "request id 0 is 0 or still open");
}

static void test_unknown_request(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    send_body(&c, "\x08\x09", 2); /* an id and nothing else */
    Ferry__Reply *reply = sim_recv(&c);
    assert_int_equal(reply->id, 9);
    assert_int_equal(reply->code, ENOSYS);
    sim_free(reply);
    send_body(&c, "\x08\x0a\xf2\x3f\x00", 5); /* of a later version */
    reply = sim_recv(&c);
    assert_int_equal(reply->id, 10);
    assert_int_equal(reply->code, ENOSYS);
    sim_free(reply);
    sim_close(&c);
}

static void test_versions(void **state)
{
    struct peer_end c;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__Hello hello = FERRY__HELLO__INIT;
    request.body_case = FERRY__REQUEST__BODY_HELLO;
    request.hello = &hello;
    hello.min_version = 2;
    hello.max_version = 7;
    sim_connect_raw(&sim, &c);
    sim_send(&c, &request);
    expect_cut(&c, EPROTONOSUPPORT, "speaks version 1 of the protocol, not 2 to 7");
    hello.min_version = 0;
    sim_connect_raw(&sim, &c);
    Ferry__Reply *reply = sim_call(&c, &request);
    assert_int_equal(reply->hello->min_version, 1);
    assert_int_equal(reply->hello->max_version, 1);
    sim_free(reply);
    sim_close(&c);
}

/* One byte a segment is a request like any other; saying nothing is not. */
static void test_slow_loris(void **state)
{
    struct peer_end mute, slow;
    static const uint8_t hello[] = {6, 0, 0, 0, 0x08, 1, 0x12, 2, 0x10, 1};
    sim_connect_raw(&sim, &mute);
    sim_connect_raw(&sim, &slow);
    for (size_t i = 0; i < sizeof(hello); i++)
        sim_send_bytes(&slow, hello + i, 1);
    Ferry__Reply *reply = sim_recv(&slow);
    assert_int_equal(reply->body_case, FERRY__REPLY__BODY_HELLO);
    sim_free(reply);
    sim_close(&slow);
    sim_send_bytes(&mute, hello, sizeof(hello) - 1);
    expect_cut(&mute, ETIMEDOUT, "no hello came within 5 s");
}

static uint32_t send_console(struct peer_end *c, const char *name, bool follow, uint64_t tail)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleRequest console = FERRY__CONSOLE_REQUEST__INIT;
    console.name = (char *)name;
    console.follow = follow;
    console.tail_bytes = tail;
    request.body_case = FERRY__REQUEST__BODY_CONSOLE;
    request.console = &console;
    return sim_send(c, &request);
}

/* The byte that the fake guest's flood has at that offset. */
static uint8_t flood_byte(uint64_t offset)
{
    return (uint8_t)('a' + offset % 1024 % 26);
}

/* Reads to `until`; returns the offset of the first byte. */
static uint64_t read_flood(struct peer_end *c, uint64_t until)
{
    uint64_t first = UINT64_MAX, at = 0;
    while (at < until) {
        Ferry__Reply *reply = sim_recv(c);
        assert_non_null(reply);
        assert_int_equal(reply->code, 0);
        assert_int_equal(reply->body_case, FERRY__REPLY__BODY_CONSOLE);
        if (first == UINT64_MAX)
            first = reply->console->offset;
        else
            assert_true(reply->console->offset >= at);
        for (size_t i = 0; i < reply->console->data.len; i += 97)
            assert_int_equal(reply->console->data.data[i], flood_byte(reply->console->offset + i));
        at = reply->console->offset + reply->console->data.len;
        sim_free(reply);
    }
    return first;
}

/* Many readers at their own pace; one that does not read loses the oldest, and disturbs nobody. */
static void test_console_readers(void **state)
{
    struct peer_end c, asleep, awake[4];
    sim_connect(&sim, &c);
    sim_connect(&sim, &asleep);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    send_console(&asleep, "web", true, 0);
    for (int i = 0; i < 4; i++) {
        sim_connect(&sim, &awake[i]);
        send_console(&awake[i], "web", true, 0);
    }
    uint64_t total = 0;
    for (int round = 0; round < 16; round++) {
        sim_type(&sim, "web", "flood 524288");
        total += 524288;
        for (int i = 0; i < 4; i++)
            read_flood(&awake[i], total);
    }
    read_flood(&asleep, total);
    sim_type(&sim, "web", "shutdown");
    for (int i = 0; i < 4; i++) {
        Ferry__Reply *reply = sim_recv(&awake[i]);
        assert_true(reply->last);
        assert_int_equal(reply->code, 0);
        sim_free(reply);
        sim_close(&awake[i]);
    }
    send_console(&c, "web", false, 1000);
    assert_int_equal(read_flood(&c, total), total - 1000);
    sim_free(sim_recv(&c));
    sim_close(&asleep);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* The last reader leaves while the worker watches for it; the next one is woken all the same. */
static void test_reader_after_reader(void **state)
{
    struct peer_end c, reader;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    uint64_t total = 0;
    for (int i = 0; i < 20; i++) {
        sim_connect(&sim, &reader);
        send_console(&reader, "web", true, 0);
        sim_type(&sim, "web", "flood 1024");
        total += 1024;
        read_flood(&reader, total);
        sim_close(&reader);
    }
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* In the middle of a stream, of a stop, of typing: what they held is free again. */
static void test_leaving_in_the_middle(void **state)
{
    struct peer_end c, gone;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    Ferry__ConsoleInput input = FERRY__CONSOLE_INPUT__INIT;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "ignore-input"), 0);
    unsigned before = sim_count_fds(sim.ferryd);
    events.follow = true;
    input.name = "web";
    input.data = (ProtobufCBinaryData){.data = (uint8_t *)"x", .len = 1};
    for (int i = 0; i < 40; i++) {
        sim_connect(&sim, &gone);
        send_console(&gone, "web", true, 0);
        request.body_case = FERRY__REQUEST__BODY_EVENTS;
        request.events = &events;
        sim_send(&gone, &request);
        request.body_case = FERRY__REQUEST__BODY_CONSOLE_INPUT;
        request.console_input = &input;
        sim_send(&gone, &request);
        sim_close(&gone);
    }
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), 0);
    sim_await_fds(sim.ferryd, before);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* One that asks without end and reads nothing is not heard any more, then cut. */
static void test_never_reads(void **state)
{
    struct peer_end c, flood;
    struct timeval patience = {.tv_sec = SIM_PATIENCE_MS / 1000};
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    struct buf out;
    struct err err;
    ssize_t n = 0;
    buf_init(&out, 64);
    sim_connect(&sim, &c);
    sim_connect(&sim, &flood);
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &events;
    setsockopt(flood.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    for (uint32_t id = 2; n >= 0; id++) {
        request.id = id;
        out.len = 0;
        assert_int_equal(frame_pack(&request.base, &out, &err), 0);
        n = send(flood.fd, out.data, out.len, MSG_NOSIGNAL);
    }
    assert_true(errno == EPIPE || errno == ECONNRESET);
    buf_fini(&out);
    sim_close(&flood);
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_close(&c);
}

static void test_too_many_requests(void **state)
{
    struct peer_end c;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    events.follow = true;
    events.after_seq = UINT64_MAX;
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &events;
    sim_connect(&sim, &c);
    for (int i = 0; i < 64; i++)
        sim_send(&c, &request);
    uint32_t id = sim_send(&c, &request);
    Ferry__Reply *reply = sim_recv(&c);
    assert_int_equal(reply->id, id);
    assert_int_equal(reply->code, EAGAIN);
    sim_free(reply);
    c.id = 10; /* the next is 11, which is open */
    send_bare(&c, FERRY__REQUEST__BODY_LIST);
    expect_cut(&c, EPROTO, "request id 11 is 0 or still open");
}

static void test_too_many_clients(void **state)
{
    struct peer_end c[257], late;
    unsigned before = sim_count_fds(sim.ferryd);
    for (int i = 0; i < 256; i++)
        sim_connect(&sim, &c[i]);
    sim_connect_raw(&sim, &late);
    expect_cut(&late, EUSERS, "too many clients");
    assert_int_equal(sim_state(&c[255], "web"), -1);
    for (int i = 0; i < 256; i++)
        sim_close(&c[i]);
    sim_await_fds(sim.ferryd, before);
    expect_alive();
}

static void test_ten_thousand_connects(void **state)
{
    struct peer_end c;
    unsigned before = sim_count_fds(sim.ferryd);
    for (int i = 0; i < 10000; i++) {
        sim_connect_raw(&sim, &c);
        sim_close(&c);
    }
    sim_await_fds(sim.ferryd, before);
    expect_alive();
}

/* who may what -------------------------------------------------------------------------------- */

struct who {
    uid_t uid;
    gid_t gid, extra;
};

/* As somebody else: the codes of list, of kill, and of connecting, in one status. */
static int probe(const struct who *who, Ferry__Request__BodyCase what)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct peer_end c;
        alarm(SIM_PATIENCE_MS / 1000);
        if (setgroups(1, &who->extra) < 0 || setgid(who->gid) < 0 || setuid(who->uid) < 0)
            _exit(250);
        sim_connect_raw(&sim, &c);
        send_bare(&c, FERRY__REQUEST__BODY_HELLO);
        Ferry__Reply *reply = sim_recv(&c);
        if (!reply || reply->code)
            _exit(reply ? (int)reply->code : 251);
        _exit(what == FERRY__REQUEST__BODY_KILL
                  ? SIM_DO(&c, KILL, "web")
                  : (send_bare(&c, what), reply = sim_recv(&c), reply ? (int)reply->code : 251));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void restart(const char *a, const char *b, const char *c)
{
    sim_term(&sim);
    memset(sim.extra, 0, sizeof(sim.extra));
    sim.extra[0] = a;
    sim.extra[1] = b;
    sim.extra[2] = c;
    sim_start(&sim);
}

static unsigned socket_mode(void)
{
    char path[300];
    struct stat st;
    sim_path(&sim, path, sizeof(path), "run/ferryd.sock");
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void test_privileges(void **state)
{
    static const struct who nobody = {NOBODY, NOBODY, NOBODY};
    static const struct who member = {NOBODY, ODD_GROUP, NOBODY};
    static const struct who extra = {NOBODY, NOBODY, ODD_GROUP};
    static const struct who root = {0, 0, 0};
    char path[300];
    if (geteuid() != 0)
        skip(); /* only root can be others */
    assert_int_equal(chmod(sim.dir, 0755), 0);
    assert_int_equal(socket_mode(), 0600);
    restart("--open-reads", NULL, NULL);
    assert_int_equal(socket_mode(), 0666);
    assert_int_equal(probe(&root, FERRY__REQUEST__BODY_LIST), 0);
    assert_int_equal(probe(&root, FERRY__REQUEST__BODY_KILL), ENOENT);
    assert_int_equal(probe(&nobody, FERRY__REQUEST__BODY_LIST), 0);
    assert_int_equal(probe(&nobody, FERRY__REQUEST__BODY_KILL), EACCES);
    restart("--group", "54321", NULL);
    assert_int_equal(socket_mode(), 0660);
    assert_int_equal(probe(&member, FERRY__REQUEST__BODY_KILL), ENOENT);
    assert_int_equal(probe(&extra, FERRY__REQUEST__BODY_KILL), ENOENT);
    /* The file's mode let through, credentials still decide. */
    sim_path(&sim, path, sizeof(path), "run/ferryd.sock");
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(probe(&nobody, FERRY__REQUEST__BODY_LIST), EACCES);
    restart("--group", "54321", "--open-reads");
    assert_int_equal(probe(&nobody, FERRY__REQUEST__BODY_LIST), 0);
    assert_int_equal(probe(&nobody, FERRY__REQUEST__BODY_KILL), EACCES);
    assert_int_equal(probe(&extra, FERRY__REQUEST__BODY_KILL), ENOENT);
    restart(NULL, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_protobuf_floods),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_unknown_request),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_slow_loris),
        cmocka_unit_test(test_console_readers),
        cmocka_unit_test(test_reader_after_reader),
        cmocka_unit_test(test_leaving_in_the_middle),
        cmocka_unit_test(test_never_reads),
        cmocka_unit_test(test_too_many_requests),
        cmocka_unit_test(test_too_many_clients),
        cmocka_unit_test(test_ten_thousand_connects),
        cmocka_unit_test(test_privileges),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
