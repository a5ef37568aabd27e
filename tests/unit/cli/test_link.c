/* A link waits for a ferryd that was there, not for one that never was, and not for ever. */
#include "tests/unit/cli/fake_ferryd.h"

#include <poll.h>

#include "cli/link.h"

static void serve_hello(struct fake *f, int fd)
{
    if (fake_greet(fd))
        while (fake_read_all(fd, (char[1]){0}, 1))
            ;
}

/* Moves bytes until the state is reached or a step fails; returns that step's result. */
static int run_until(struct link *l, bool away, struct err *err)
{
    int rc = 0;
    while (rc >= 0 && (l->away != away || !(away || l->client.ready))) {
        Ferry__Reply *reply = NULL;
        struct pollfd p = {.fd = link_fd(l), .events = client_interest(&l->client)};
        assert_true(poll(&p, 1, link_timeout_ms(l)) >= 0);
        rc = link_pump(l, p.revents, err);
        if (rc >= 0)
            rc = link_take(l, &reply, err);
        assert_null(reply);
    }
    return rc;
}

static void a_first_failure_is_final(void **state)
{
    struct link l;
    struct err err;
    assert_true(link_open(&l, "/nonexistent", &err) < 0);
    link_close(&l);
}

static void serve_nothing(struct fake *f, int fd)
{
}

static void one_that_never_answered_is_not_waited_for(void **state)
{
    struct link l;
    struct fake fake;
    struct err err;
    fake_start(&fake, serve_nothing, NULL);
    assert_int_equal(link_open(&l, fake.run, &err), 0);
    assert_int_equal(run_until(&l, true, &err), -ECONNRESET);
    assert_int_equal(link_fd(&l), -1);
    link_close(&l);
    fake_stop(&fake);
}

static void it_comes_back(void **state)
{
    struct link l;
    struct fake fake;
    struct err err;
    fake_start(&fake, serve_hello, NULL);
    assert_int_equal(link_open(&l, fake.run, &err), 0);
    assert_int_equal(run_until(&l, false, &err), 0);
    for (int i = 0; i < 3; i++) {
        fake_hang_up(&fake);
        assert_int_equal(run_until(&l, true, &err), 0);
        assert_int_equal(link_fd(&l), -1);
        fake_listen(&fake);
        assert_int_equal(run_until(&l, false, &err), 0);
    }
    link_close(&l);
    fake_stop(&fake);
}

static void it_gives_up(void **state)
{
    struct link l;
    struct fake fake;
    struct err err;
    fake_start(&fake, serve_hello, NULL);
    assert_int_equal(link_open(&l, fake.run, &err), 0);
    assert_int_equal(run_until(&l, false, &err), 0);
    fake_hang_up(&fake);
    assert_int_equal(run_until(&l, true, &err), 0);
    l.give_up_ns = 1; /* its time is over */
    assert_int_equal(run_until(&l, false, &err), -ECONNRESET);
    assert_non_null(strstr(err.text, "did not come back"));
    link_close(&l);
    fake_listen(&fake);
    fake_stop(&fake);
}

static void serve_nonsense(struct fake *f, int fd)
{
    if (fake_greet(fd))
        fake_write(fd, "\0\0\0\0", 4);
}

static void nonsense_is_not_waited_out(void **state)
{
    struct link l;
    struct fake fake;
    struct err err;
    fake_start(&fake, serve_nonsense, NULL);
    assert_int_equal(link_open(&l, fake.run, &err), 0);
    assert_int_equal(run_until(&l, true, &err), -EBADMSG);
    link_close(&l);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_first_failure_is_final),
        cmocka_unit_test(one_that_never_answered_is_not_waited_for),
        cmocka_unit_test(it_comes_back),
        cmocka_unit_test(it_gives_up),
        cmocka_unit_test(nonsense_is_not_waited_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
