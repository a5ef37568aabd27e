/*
 * The console on a real terminal, against a scripted guest: no byte is lost either way, Ctrl-] and
 * signals always work, and the terminal is afterwards as it was before.
 */
#include "tests/unit/cli/fake_guest.h"

#include <poll.h>
#include <pty.h>
#include <termios.h>

struct terminal {
    int master, slave;
    struct termios before;
};

/* Without output processing, so that bytes can be compared. */
static void terminal_open(struct terminal *t)
{
    assert_int_equal(openpty(&t->master, &t->slave, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(t->slave, &t->before), 0);
    t->before.c_oflag &= ~(tcflag_t)OPOST;
    assert_int_equal(tcsetattr(t->slave, TCSANOW, &t->before), 0);
    fcntl(t->master, F_SETFL, O_NONBLOCK);
    fcntl(t->master, F_SETFD, FD_CLOEXEC);
}

static bool terminal_is_raw(const struct terminal *t)
{
    struct termios now;
    assert_int_equal(tcgetattr(t->slave, &now), 0);
    return !(now.c_lflag & (ICANON | ECHO | ISIG)) && !(now.c_iflag & (IXON | ICRNL));
}

static void terminal_expect_restored(const struct terminal *t)
{
    struct termios now;
    assert_int_equal(tcgetattr(t->slave, &now), 0);
    assert_int_equal(now.c_lflag, t->before.c_lflag);
    assert_int_equal(now.c_iflag, t->before.c_iflag);
    assert_int_equal(now.c_oflag, t->before.c_oflag);
    assert_memory_equal(now.c_cc, t->before.c_cc, sizeof(now.c_cc));
}

static void terminal_close(struct terminal *t)
{
    close(t->master);
    close(t->slave);
}

/* Types `n` bytes (of `keys`) while it reads `want` bytes into `screen`. */
static void terminal_talk(struct terminal *t, const void *keys, size_t n, void *screen, size_t want)
{
    size_t typed = 0, seen = 0;
    while (typed < n || seen < want) {
        struct pollfd p = {.fd = t->master, .events = (short)((typed < n ? POLLOUT : 0) | POLLIN)};
        assert_int_equal(poll(&p, 1, 30000), 1);
        if (p.revents & POLLOUT) {
            ssize_t done = write(t->master, (const char *)keys + typed, n - typed);
            assert_true(done > 0 || errno == EAGAIN);
            typed += done > 0 ? (size_t)done : 0;
        }
        if (p.revents & POLLIN) {
            char byte;
            ssize_t got = seen < want ? read(t->master, (char *)screen + seen, want - seen)
                                      : read(t->master, &byte, 1);
            assert_true(got > 0 && seen < want);
            seen += (size_t)got;
        }
    }
}

/* vmctl console on the terminal; its remarks go to a pipe. Returns when it listens. */
static int attach(struct run *r, struct terminal *t, const struct fake *fake)
{
    struct guest *g = fake->data;
    char line[256] = "";
    size_t used = 0;
    int err[2];
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    r->in = t->slave;
    r->out = dup(t->slave);
    r->err = err[1];
    run_begin(r, fake->run, WORDS("console", "web"));
    while (!strchr(line, '\n')) {
        ssize_t n = read(err[0], line + used, sizeof(line) - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
        line[used] = '\0';
    }
    assert_string_equal(line, "vmctl: attached to 'web'; Ctrl-] leaves\n");
    assert_true(terminal_is_raw(t));
    pthread_mutex_lock(&g->lock);
    while (!g->asked)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return err[0];
}

static void leave(struct run *r, struct terminal *t)
{
    terminal_talk(t, "\x1d", 1, NULL, 0);
    assert_int_equal(run_end(r), 0);
    terminal_expect_restored(t);
}

static void a_terminal_loses_no_byte(void **state)
{
    CLEAN(clean_free) uint8_t *keys = make_bytes(MUCH);
    CLEAN(clean_free) uint8_t *said = make_bytes(MUCH);
    CLEAN(clean_free) uint8_t *screen = malloc(MUCH);
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    struct terminal t;
    guest_init(&g);
    fake_start(&fake, serve_guest, &g);
    terminal_open(&t);
    int err = attach(&r, &t, &fake);
    guest_say(&g, said, MUCH);
    terminal_talk(&t, keys, MUCH, screen, MUCH);
    guest_wait_heard(&g, MUCH);
    leave(&r, &t);
    assert_int_equal(g.heard.len, MUCH);
    assert_memory_equal(g.heard.data, keys, MUCH);
    assert_memory_equal(screen, said, MUCH);
    close(err);
    terminal_close(&t);
    guest_finish(&g, &fake);
}

static void a_terminal_begins_with_whole_lines(void **state)
{
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    struct terminal t;
    char screen[64] = "";
    guest_init(&g);
    for (unsigned i = 0; i < 4096 - 8; i++)
        guest_say(&g, "x", 1);
    guest_say(&g, "yz\nlast line", 12);
    fake_start(&fake, serve_guest, &g);
    terminal_open(&t);
    int err = attach(&r, &t, &fake);
    terminal_talk(&t, "", 0, screen, 9);
    leave(&r, &t);
    assert_int_equal(g.asked_tail, 4096);
    assert_string_equal(screen, "last line");
    close(err);
    terminal_close(&t);
    guest_finish(&g, &fake);
}

static void a_signal_restores_the_terminal(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct run r = RUN_NEW;
        struct guest g;
        struct fake fake;
        struct terminal t;
        guest_init(&g);
        fake_start(&fake, serve_guest, &g);
        terminal_open(&t);
        int err = attach(&r, &t, &fake);
        kill(r.pid, signals[i]);
        assert_int_equal(run_end(&r), 0);
        terminal_expect_restored(&t);
        close(err);
        terminal_close(&t);
        guest_finish(&g, &fake);
    }
}

/* Neither a guest that takes nothing nor a full input keeps Ctrl-] from being seen. */
static void a_deaf_guest_can_be_left(void **state)
{
    CLEAN(clean_free) uint8_t *keys = make_bytes(MUCH);
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    struct terminal t;
    guest_init(&g);
    g.deaf = true;
    fake_start(&fake, serve_guest, &g);
    terminal_open(&t);
    int err = attach(&r, &t, &fake);
    terminal_talk(&t, keys, MUCH, NULL, 0);
    leave(&r, &t);
    close(err);
    terminal_close(&t);
    guest_finish(&g, &fake);
}

/* A terminal that prints nothing more: its buffer is full, and keys still work. */
static void a_stuck_terminal_can_be_left(void **state)
{
    CLEAN(clean_free) uint8_t *said = make_bytes(MUCH);
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    struct terminal t;
    struct pollfd p;
    guest_init(&g);
    fake_start(&fake, serve_guest, &g);
    terminal_open(&t);
    int err = attach(&r, &t, &fake);
    guest_say(&g, said, MUCH);
    p = (struct pollfd){.fd = t.master, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 30000), 1);
    assert_int_equal(write(t.master, "ab", 2), 2);
    guest_wait_heard(&g, 2);
    assert_int_equal(write(t.master, "\x1d", 1), 1);
    assert_int_equal(run_end(&r), 0);
    terminal_expect_restored(&t);
    close(err);
    terminal_close(&t);
    guest_finish(&g, &fake);
}

static void a_guest_that_ends_is_told_of(void **state)
{
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    struct terminal t;
    char screen[4] = "";
    guest_init(&g);
    fake_start(&fake, serve_guest, &g);
    terminal_open(&t);
    int err = attach(&r, &t, &fake);
    guest_say(&g, "bye", 3);
    guest_set(&g, &g.ended, true);
    terminal_talk(&t, "", 0, screen, 3);
    assert_int_equal(run_end(&r), 0);
    assert_string_equal(screen, "bye");
    terminal_expect_restored(&t);
    close(err);
    terminal_close(&t);
    guest_finish(&g, &fake);
}

static void serve_refusal(struct fake *f, int fd)
{
    Ferry__Request *r = fake_greet(fd) ? fake_read(fd) : NULL;
    if (r)
        fake_refuse(fd, r->id, ENOENT, "there is no VM 'web'");
    frame_free(r ? &r->base : NULL);
}

static void a_wrong_name_leaves_the_terminal_alone(void **state)
{
    struct run r = RUN_NEW;
    struct fake fake;
    struct terminal t;
    fake_start(&fake, serve_refusal, NULL);
    terminal_open(&t);
    r.in = t.slave;
    r.out = dup(t.slave);
    run_begin(&r, fake.run, WORDS("console", "web"));
    assert_int_equal(run_end(&r), 1);
    assert_string_equal(r.complained, "vmctl: there is no VM 'web'\n");
    terminal_expect_restored(&t);
    run_free(&r);
    terminal_close(&t);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_terminal_loses_no_byte),
        cmocka_unit_test(a_terminal_begins_with_whole_lines),
        cmocka_unit_test(a_signal_restores_the_terminal),
        cmocka_unit_test(a_deaf_guest_can_be_left),
        cmocka_unit_test(a_stuck_terminal_can_be_left),
        cmocka_unit_test(a_guest_that_ends_is_told_of),
        cmocka_unit_test(a_wrong_name_leaves_the_terminal_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
