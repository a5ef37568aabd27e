/* The console in pipes: all of standard input arrives, all output comes, also over a restart. */
#include "tests/unit/cli/fake_guest.h"

static void write_all(int fd, const uint8_t *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t done = write(fd, data + at, n - at);
        assert_true(done > 0);
        at += (size_t)done;
    }
}

static void *feed(void *argument)
{
    struct buf *b = argument;
    write_all((int)b->max, b->data, b->len); /* max carries the descriptor */
    close((int)b->max);
    return NULL;
}

/* Everything goes through an echoing guest, and the end of the input ends nothing. */
static void pipes_lose_no_byte(void **state)
{
    CLEAN(clean_free) uint8_t *bytes = make_bytes(MUCH);
    CLEAN(clean_free) uint8_t *back = malloc(MUCH + 3);
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    pthread_t feeder;
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    guest_init(&g);
    g.echo = true;
    fake_start(&fake, serve_guest, &g);
    bytes[77] = 0x1d; /* only a terminal has a Ctrl-] */
    r.in = in[0];
    r.out = out[1];
    run_begin(&r, fake.run, WORDS("console", "web"));
    struct buf fed = {.data = bytes, .len = MUCH, .max = (size_t)in[1]};
    assert_int_equal(pthread_create(&feeder, NULL, feed, &fed), 0);
    assert_true(fake_read_all(out[0], back, MUCH));
    pthread_join(feeder, NULL);
    guest_say(&g, "end", 3);
    assert_true(fake_read_all(out[0], back + MUCH, 3));
    guest_set(&g, &g.ended, true);
    assert_int_equal(run_end(&r), 0);
    assert_memory_equal(back, bytes, MUCH);
    assert_memory_equal(back + MUCH, "end", 3);
    assert_string_equal(r.complained, "");
    run_free(&r);
    close(in[0]);
    close(out[0]);
    guest_finish(&g, &fake);
}

static void refused_input_is_a_failure(void **state)
{
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    int in[2], err[2];
    char line[256] = "";
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    guest_init(&g);
    g.refuses_input = true;
    guest_say(&g, "hello", 5);
    fake_start(&fake, serve_guest, &g);
    write_all(in[1], (const uint8_t *)"x", 1);
    close(in[1]);
    r.in = in[0];
    r.err = err[1];
    run_begin(&r, fake.run, WORDS("console", "web"));
    assert_true(read(err[0], line, sizeof(line) - 1) > 0);
    assert_string_equal(line, "vmctl: 'web' takes no input\n");
    guest_set(&g, &g.ended, true);
    assert_int_equal(run_end(&r), 1);
    memset(line, 0, sizeof(line));
    assert_true(read(err[0], line, sizeof(line) - 1) > 0);
    assert_string_equal(line, "vmctl: not all of the input has reached 'web'\n");
    assert_string_equal(r.said, "hello");
    run_free(&r);
    close(in[0]);
    close(err[0]);
    guest_finish(&g, &fake);
}

static void a_restart_of_ferryd_loses_no_byte(void **state)
{
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    char back[16] = "";
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    guest_init(&g);
    guest_say(&g, "before", 6);
    fake_start(&fake, serve_guest, &g);
    r.out = out[1];
    run_begin(&r, fake.run, WORDS("console", "web"));
    assert_true(fake_read_all(out[0], back, 6));
    guest_set(&g, &g.hang, true);
    fake_hang_up(&fake);
    guest_set(&g, &g.hang, false);
    guest_say(&g, " after", 6);
    guest_set(&g, &g.ended, true);
    fake_listen(&fake);
    assert_true(fake_read_all(out[0], back + 6, 6));
    assert_int_equal(run_end(&r), 0);
    assert_string_equal(back, "before after");
    assert_int_equal(g.asked_offset, 6);
    assert_string_equal(r.complained, "vmctl: ferryd is gone; waiting for it to come back\n"
                                      "vmctl: ferryd is back\n");
    run_free(&r);
    close(out[0]);
    guest_finish(&g, &fake);
}

static void a_gap_is_told(void **state)
{
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    char back[16] = "";
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    guest_init(&g);
    guest_say(&g, "ab", 2);
    fake_start(&fake, serve_guest, &g);
    r.out = out[1];
    run_begin(&r, fake.run, WORDS("console", "web"));
    assert_true(fake_read_all(out[0], back, 2));
    pthread_mutex_lock(&g.lock);
    g.lost = 5;
    g.ended = true;
    buf_append(&g.said, "cdefg", 5);
    pthread_cond_broadcast(&g.changed);
    pthread_mutex_unlock(&g.lock);
    assert_true(fake_read_all(out[0], back + 2, 2));
    assert_int_equal(run_end(&r), 0);
    assert_string_equal(back, "abfg");
    assert_string_equal(r.complained, "vmctl: 3 bytes are missing here: the guest spoke faster "
                                      "than they were read\n");
    run_free(&r);
    close(out[0]);
    guest_finish(&g, &fake);
}

static void a_closed_output_ends_it(void **state)
{
    CLEAN(clean_free) uint8_t *said = make_bytes(MUCH);
    struct run r = RUN_NEW;
    struct guest g;
    struct fake fake;
    char byte;
    int out[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    guest_init(&g);
    guest_say(&g, said, MUCH);
    fake_start(&fake, serve_guest, &g);
    r.out = out[1];
    run_begin(&r, fake.run, WORDS("console", "web"));
    assert_int_equal(read(out[0], &byte, 1), 1);
    close(out[0]);
    assert_int_equal(run_end(&r), 0);
    run_free(&r);
    guest_finish(&g, &fake);
}

static void a_log_is_printed_and_ends(void **state)
{
    struct guest g;
    struct fake fake;
    guest_init(&g);
    guest_say(&g, "one\n\033[1mtwo\xff", 12);
    fake_start(&fake, serve_guest, &g);
    run_expect(fake.run, WORDS("console", "--log", "web"), 0, "one\n\033[1mtwo\xff", "");
    run_expect(fake.run, WORDS("console", "--log", "web", "--json"), 0,
               "{\"offset\":0,\"text\":\"one\\n\\u001b[1mtwo\xef\xbf\xbd\","
               "\"base64\":\"b25lChtbMW10d2//\"}\n",
               "");
    g.lost = 4;
    run_expect(fake.run, WORDS("console", "--log", "web"), 0, "\033[1mtwo\xff", "");
    guest_finish(&g, &fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipes_lose_no_byte),
        cmocka_unit_test(refused_input_is_a_failure),
        cmocka_unit_test(a_restart_of_ferryd_loses_no_byte),
        cmocka_unit_test(a_gap_is_told),
        cmocka_unit_test(a_closed_output_ends_it),
        cmocka_unit_test(a_log_is_printed_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
