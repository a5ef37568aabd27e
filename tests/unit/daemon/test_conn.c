/* One connection: frames in any pieces, refusals, holding, and peers that do not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/le.h"
#include "daemon/conn.h"
#include "proto/ferry.pb-c.h"

struct owner {
    uv_loop_t loop;
    struct conn *conn;
    int peer;
    unsigned frames, closed, refused, drained;
    size_t bytes;
    char why[200];
    int refuse_with; /* each frame */
    bool hold_next, close_next, farewell;
};

static int on_frame(void *ctx, const uint8_t *body, size_t len, struct err *err)
{
    struct owner *o = ctx;
    o->frames++;
    o->bytes += len;
    if (o->hold_next)
        conn_hold(o->conn, true);
    if (o->close_next)
        conn_close(o->conn, false);
    return o->refuse_with ? err_set(err, o->refuse_with, "not liked") : 0;
}

static void on_refused(void *ctx, const struct err *err)
{
    struct owner *o = ctx;
    struct err ignored;
    Ferry__Hello hello = FERRY__HELLO__INIT;
    hello.release = "farewell";
    o->refused++;
    if (!o->farewell)
        return;
    assert_int_equal(conn_send(o->conn, &hello.base, &ignored), 0);
    conn_close(o->conn, true);
}

static void on_closed(void *ctx, const char *why)
{
    struct owner *o = ctx;
    o->closed++;
    o->conn = NULL;
    snprintf(o->why, sizeof(o->why), "%s", why);
}

static void on_drained(void *ctx)
{
    struct owner *o = ctx;
    o->drained++;
}

static const struct conn_ops ops = {
    .frame = on_frame, .refused = on_refused, .closed = on_closed, .drained = on_drained};

static void open_owner(struct owner *o)
{
    struct err err;
    int pair[2];
    *o = (struct owner){0};
    uv_loop_init(&o->loop);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    o->peer = pair[1];
    o->conn = conn_new(&o->loop, &ops, o, &err);
    assert_non_null(o->conn);
    assert_int_equal(conn_open(o->conn, pair[0], &err), 0);
    assert_true(conn_fd(o->conn) >= 0);
}

static void turn(struct owner *o)
{
    for (int i = 0; i < 4; i++)
        uv_run(&o->loop, UV_RUN_NOWAIT);
}

static void close_owner(struct owner *o)
{
    if (o->conn)
        conn_close(o->conn, false);
    uv_run(&o->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&o->loop), 0); /* no handle is left */
    assert_int_equal(o->closed, 1);
    if (o->peer >= 0)
        close(o->peer);
}

static void test_one_byte_a_segment(void **state)
{
    struct owner o;
    static const uint8_t two[] = {2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'c'};
    open_owner(&o);
    for (size_t i = 0; i < sizeof(two); i++) {
        assert_int_equal(write(o.peer, two + i, 1), 1);
        turn(&o);
        assert_int_equal(o.frames, i < 5 ? 0 : i < 10 ? 1 : 2);
    }
    assert_int_equal(o.bytes, 3);
    close_owner(&o);
}

static void test_half_a_frame_then_gone(void **state)
{
    struct owner o;
    open_owner(&o);
    assert_int_equal(write(o.peer, "\x09\0\0\0abc", 7), 7);
    close(o.peer);
    o.peer = -1;
    turn(&o);
    assert_int_equal(o.frames, 0);
    assert_string_equal(o.why, "the peer closed the connection");
    close_owner(&o);
}

static void test_refusal_with_farewell(void **state)
{
    struct owner o;
    char text[64];
    open_owner(&o);
    o.farewell = true;
    assert_int_equal(write(o.peer, "\xff\xff\xff\x7f", 4), 4);
    uv_run(&o.loop, UV_RUN_DEFAULT);
    assert_int_equal(o.refused, 1);
    ssize_t n = read(o.peer, text, sizeof(text));
    assert_int_equal(n, 4 + 2 + (ssize_t)strlen("farewell"));
    assert_memory_equal(text + 6, "farewell", 8);
    assert_int_equal(read(o.peer, text, sizeof(text)), 0);
    close_owner(&o);
}

static void test_refused_frame_ends_the_rest(void **state)
{
    struct owner o;
    open_owner(&o);
    o.refuse_with = EPROTO;
    assert_int_equal(write(o.peer, "\1\0\0\0a\1\0\0\0b", 10), 10);
    turn(&o);
    assert_int_equal(o.frames, 1);
    assert_string_equal(o.why, "not liked");
    close_owner(&o);
}

static void test_closing_from_within(void **state)
{
    struct owner o;
    open_owner(&o);
    o.close_next = true;
    assert_int_equal(write(o.peer, "\1\0\0\0a\1\0\0\0b", 10), 10);
    turn(&o);
    assert_int_equal(o.frames, 1);
    close_owner(&o);
}

static void test_holding(void **state)
{
    struct owner o;
    open_owner(&o);
    o.hold_next = true;
    assert_int_equal(write(o.peer, "\1\0\0\0a\1\0\0\0b\1\0\0\0c", 15), 15);
    turn(&o);
    assert_int_equal(o.frames, 1);
    conn_hold(o.conn, false);
    assert_int_equal(o.frames, 2); /* and held again */
    o.hold_next = false;
    conn_hold(o.conn, false);
    assert_int_equal(o.frames, 3);
    close_owner(&o);
}

static int send_big(struct owner *o, size_t len)
{
    struct err err;
    Ferry__ConsoleOutput out = FERRY__CONSOLE_OUTPUT__INIT;
    uint8_t *data = calloc(1, len);
    out.data = (ProtobufCBinaryData){.data = data, .len = len};
    int rc = conn_send(o->conn, &out.base, &err);
    free(data);
    return rc;
}

static void test_drained(void **state)
{
    struct owner o;
    char sink[65536];
    open_owner(&o);
    assert_int_equal(send_big(&o, 900000), 0);
    assert_true(conn_pending(o.conn) >= CONN_PENDING_HIGH);
    turn(&o);
    assert_int_equal(o.drained, 0);
    for (size_t got = 0; got < 900000;) {
        ssize_t n = recv(o.peer, sink, sizeof(sink), MSG_DONTWAIT);
        got += n > 0 ? (size_t)n : 0;
        turn(&o);
    }
    assert_int_equal(o.drained, 1);
    assert_int_equal(conn_pending(o.conn), 0);
    close_owner(&o);
}

/* A flood that nobody reads ends the connection; a message too large does, too. */
static void test_never_reads(void **state)
{
    struct owner o;
    open_owner(&o);
    int rc = 0;
    for (int i = 0; i < 20 && rc == 0; i++)
        rc = send_big(&o, 900000);
    assert_int_equal(rc, -EPIPE);
    turn(&o);
    assert_int_equal(o.closed, 1);
    close_owner(&o);
    open_owner(&o);
    assert_int_equal(send_big(&o, FRAME_BODY_MAX), -EMSGSIZE);
    turn(&o);
    assert_int_equal(o.closed, 1);
    close_owner(&o);
}

/* Closing with a flush does not wait for ever: the loop comes to its end by itself. */
static void test_lingering_ends(void **state)
{
    struct owner o;
    open_owner(&o);
    assert_int_equal(send_big(&o, 900000), 0);
    conn_close(o.conn, true);
    assert_int_equal(o.closed, 1);
    uv_run(&o.loop, UV_RUN_DEFAULT);
    close_owner(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_byte_a_segment),
        cmocka_unit_test(test_half_a_frame_then_gone),
        cmocka_unit_test(test_refusal_with_farewell),
        cmocka_unit_test(test_refused_frame_ends_the_rest),
        cmocka_unit_test(test_closing_from_within),
        cmocka_unit_test(test_holding),
        cmocka_unit_test(test_drained),
        cmocka_unit_test(test_never_reads),
        cmocka_unit_test(test_lingering_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
