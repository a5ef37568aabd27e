/* ferryd dies, its guests do not: what the next one finds, and what it cannot be fooled by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "tests/sim/sim.h"

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

static void expect_reason(struct peer_end *c, const char *name, Ferry__VmState vm_state,
                          const char *reason)
{
    Ferry__Reply *reply = sim_show(c, name);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->vm->summary->state, vm_state);
    if (!strstr(reply->vm->summary->reason, reason))
        fail_msg("'%s' is not in: %s", reason, reply->vm->summary->reason);
    sim_free(reply);
}

/* The last event of that kind, as "NUMBER VM TEXT"; empty when there is none. */
static uint64_t last_event(struct peer_end *c, Ferry__EventKind kind, char *vm, size_t size)
{
    uint64_t seq = 0;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &events;
    sim_send(c, &request);
    for (bool last = false; !last;) {
        Ferry__Reply *reply = sim_recv(c);
        last = reply->last;
        if (reply->body_case == FERRY__REPLY__BODY_EVENT && reply->event->kind == kind) {
            seq = reply->event->seq;
            snprintf(vm, size, "%s", reply->event->vm);
        }
        sim_free(reply);
    }
    return seq;
}

static void test_guests_run_on(void **state)
{
    struct peer_end c;
    char text[256], vm[80];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "one", "say=hello"), 0);
    assert_int_equal(sim_start_vm(&c, "two", "say=hello"), 0);
    assert_int_equal(sim_start_vm(&c, "three", "break-at-once"), 0);
    assert_int_equal(SIM_DO(&c, PAUSE, "two"), 0);
    int one = sim_pid(&c, "one"), two = sim_pid(&c, "two");
    uint64_t started = last_event(&c, FERRY__EVENT_KIND__EVENT_DAEMON_STARTED, vm, sizeof(vm));
    sim_kill9(&sim);
    sim_close(&c);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_state(&c, "one"), FERRY__VM_STATE__VM_RUNNING);
    assert_int_equal(sim_state(&c, "two"), FERRY__VM_STATE__VM_PAUSED);
    assert_int_equal(sim_state(&c, "three"), FERRY__VM_STATE__VM_FAILED);
    assert_int_equal(sim_pid(&c, "one"), one);
    assert_int_equal(sim_pid(&c, "two"), two);
    assert_true(last_event(&c, FERRY__EVENT_KIND__EVENT_ADOPTED, vm, sizeof(vm)) > started);
    assert_true(last_event(&c, FERRY__EVENT_KIND__EVENT_DAEMON_STARTED, vm, sizeof(vm)) > started);
    sim_type(&sim, "one", "say  again");
    assert_int_equal(sim_console(&c, "one", text, sizeof(text)), strlen("hello again"));
    assert_string_equal(text, "hello again");
    assert_int_equal(SIM_DO(&c, RESUME, "two"), 0);
    assert_int_equal(sim_stop_vm(&c, "two", 20000), 0);
    assert_int_equal(kill(one, SIGKILL), 0);
    sim_await_state(&sim, "one", FERRY__VM_STATE__VM_CRASHED);
    expect_reason(&c, "one", FERRY__VM_STATE__VM_CRASHED, "worker died");
    assert_int_equal(SIM_DO(&c, REMOVE, "one"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "two"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "three"), 0);
    sim_close(&c);
}

static void test_term_leaves_guests(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    int pid = sim_pid(&c, "web");
    sim_close(&c);
    sim_term(&sim);
    assert_false(sim_process_is_gone(pid));
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_pid(&c, "web"), pid);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

static void await_gone(int pid)
{
    struct timespec turn = {.tv_nsec = 5000000};
    for (int i = 0; i < SIM_PATIENCE_MS / 5 && !sim_process_is_gone(pid); i++)
        nanosleep(&turn, NULL);
    assert_true(sim_process_is_gone(pid));
}

/* Types while ferryd is there, and takes it away before the worker has obeyed. */
static void test_ends_while_away(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "off", "x"), 0);
    assert_int_equal(sim_start_vm(&c, "dead", "x"), 0);
    int off = sim_pid(&c, "off"), dead = sim_pid(&c, "dead");
    assert_int_equal(kill(off, SIGSTOP), 0);
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleInput input = FERRY__CONSOLE_INPUT__INIT;
    input.name = "off";
    input.data = (ProtobufCBinaryData){.data = (uint8_t *)"shutdown\n", .len = 9};
    request.body_case = FERRY__REQUEST__BODY_CONSOLE_INPUT;
    request.console_input = &input;
    sim_send(&c, &request);
    assert_int_equal(sim_state(&c, "off"), FERRY__VM_STATE__VM_RUNNING); /* so it was forwarded */
    sim_close(&c);
    sim_kill9(&sim);
    assert_int_equal(kill(off, SIGCONT), 0);
    assert_int_equal(kill(dead, SIGKILL), 0);
    await_gone(off);
    await_gone(dead);
    sim_start(&sim);
    sim_connect(&sim, &c);
    expect_reason(&c, "off", FERRY__VM_STATE__VM_STOPPED, "switched off by the guest");
    expect_reason(&c, "dead", FERRY__VM_STATE__VM_CRASHED, "died while no ferryd was there");
    assert_int_equal(SIM_DO(&c, REMOVE, "off"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "dead"), 0);
    sim_close(&c);
}

/* A start that ferryd's end cut off was no crash, and can be tried again. */
static void test_term_during_a_start(void **state)
{
    struct peer_end c, other;
    sim_connect(&sim, &c);
    sim_connect(&sim, &other);
    sim_send_start(&c, "web", "mute ");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STARTING);
    int pid = sim_pid(&other, "web");
    sim_close(&c);
    sim_close(&other);
    sim_term(&sim);
    kill(pid, SIGKILL); /* mute ones stay; a real one ends with its socket */
    await_gone(pid);
    sim_start(&sim);
    sim_connect(&sim, &c);
    expect_reason(&c, "web", FERRY__VM_STATE__VM_STOPPED, "ferryd ended while it was started");
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* A worker that hangs is given up, and the others are found in the same time. */
static void test_hung_and_mute_workers(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "frozen", "x"), 0);
    assert_int_equal(sim_start_vm(&c, "mute", "mute-later"), 0);
    assert_int_equal(sim_start_vm(&c, "fine", "x"), 0);
    int frozen = sim_pid(&c, "frozen");
    assert_int_equal(kill(frozen, SIGSTOP), 0);
    sim_close(&c);
    sim_kill9(&sim);
    sim_start(&sim);
    sim_connect(&sim, &c);
    expect_reason(&c, "frozen", FERRY__VM_STATE__VM_CRASHED, "said nothing for 5 s");
    expect_reason(&c, "mute", FERRY__VM_STATE__VM_CRASHED, "said nothing for 5 s");
    assert_int_equal(sim_state(&c, "fine"), FERRY__VM_STATE__VM_RUNNING);
    await_gone(frozen);
    assert_int_equal(SIM_DO(&c, KILL, "fine"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "fine"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "frozen"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "mute"), 0);
    sim_close(&c);
}

static void read_whole(const char *path, struct buf *out)
{
    struct err err;
    buf_init(out, 16u << 20);
    assert_int_equal(fs_read_file(AT_FDCWD, path, out, &err), 0);
}

static void write_whole(const char *path, const void *data, size_t len)
{
    CLEAN(clean_fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
}

/* A worker that is alive, and a state file that does not name it: it is neither killed nor given a
 * second one beside it. */
static void test_state_file_lies(void **state)
{
    struct peer_end c;
    char path[300], record[300];
    struct buf good;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    int pid = sim_pid(&c, "web");
    sim_close(&c);
    sim_kill9(&sim);
    sim_path(&sim, path, sizeof(path), "root/vms/web/state");
    sim_path(&sim, record, sizeof(record), "root/vms/web/record");
    write_whole(path, "FSTAxx", 6);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_pid(&c, "web"), pid); /* its record says who it is */
    sim_close(&c);
    sim_kill9(&sim);
    read_whole(path, &good);
    write_whole(path, "FSTAxx", 6);
    write_whole(record, "FRECxx", 6);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_false(sim_process_is_gone(pid));
    assert_int_equal(sim_start_again(&c, "web"), EBUSY);
    sim_said(&c, "an older worker of 'web' still runs");
    sim_close(&c);
    sim_kill9(&sim);
    write_whole(path, good.data, good.len);
    buf_fini(&good);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_pid(&c, "web"), pid);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* Definitions cut short or flipped are left alone, said in the log, and do not stop the daemon. */
static void test_damaged_definition(void **state)
{
    struct peer_end c;
    char path[300];
    struct buf good;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    sim_close(&c);
    sim_path(&sim, path, sizeof(path), "root/vms/web/definition");
    read_whole(path, &good);
    for (size_t cut = 0; cut < good.len; cut += 7) {
        sim_term(&sim);
        write_whole(path, good.data, cut);
        sim_start(&sim);
        sim_connect(&sim, &c);
        assert_int_equal(sim_state(&c, "web"), -1);
        assert_int_not_equal(sim_start_vm(&c, "web", "x"), 0); /* not over it */
        sim_said(&c, "vms/web");
        sim_close(&c);
    }
    sim_term(&sim);
    good.data[20] ^= 1;
    write_whole(path, good.data, good.len);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_close(&c);
    sim_term(&sim);
    good.data[20] ^= 1;
    write_whole(path, good.data, good.len);
    buf_fini(&good);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_STOPPED);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* A torn tail costs the torn event; the numbers go on. */
static void test_torn_events(void **state)
{
    struct peer_end c;
    char path[300], vm[80];
    struct stat st;
    sim_term(&sim);
    sim_start(&sim); /* which is now the last event */
    sim_connect(&sim, &c);
    uint64_t before = last_event(&c, FERRY__EVENT_KIND__EVENT_DAEMON_STARTED, vm, sizeof(vm));
    sim_close(&c);
    sim_term(&sim);
    sim_path(&sim, path, sizeof(path), "root/events");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 3), 0);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(last_event(&c, FERRY__EVENT_KIND__EVENT_DAEMON_STARTED, vm, sizeof(vm)),
                     before);
    sim_close(&c);
    sim_term(&sim);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(last_event(&c, FERRY__EVENT_KIND__EVENT_DAEMON_STARTED, vm, sizeof(vm)),
                     before + 1);
    sim_close(&c);
}

static void test_leftovers_are_removed(void **state)
{
    char path[300];
    sim_term(&sim);
    sim_path(&sim, path, sizeof(path), "root/vms/half");
    assert_int_equal(mkdir(path, 0700), 0);
    sim_path(&sim, path, sizeof(path), "root/vms/half/log");
    write_whole(path, "x", 1);
    sim_start(&sim);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_second_daemon_refused(void **state)
{
    char said[2048], expect[64];
    assert_int_equal(sim_start_fails(&sim, said, sizeof(said)), 1);
    snprintf(expect, sizeof(expect), "is in use by the ferryd with pid %d", (int)sim.ferryd);
    if (!strstr(said, expect))
        fail_msg("'%s' is not in: %s", expect, said);
}

static void expect_refused(const char *first, const char *second, const char *sentence)
{
    struct sim other;
    char said[4096];
    sim_init(&other);
    other.extra[0] = first;
    other.extra[1] = second;
    assert_int_not_equal(sim_start_fails(&other, said, sizeof(said)), 0);
    if (!strstr(said, sentence))
        fail_msg("'%s' is not in: %s", sentence, said);
    struct err err;
    assert_int_equal(fs_remove_tree(AT_FDCWD, other.dir, &err), 0);
}

static void test_bad_arguments(void **state)
{
    char longish[200], run[300];
    memset(longish, 'r', sizeof(longish) - 1);
    longish[sizeof(longish) - 1] = '\0';
    sim_path(&sim, run, sizeof(run), "%s", longish);
    expect_refused("--run", run, "is too long for the socket in it");
    expect_refused("--worker", "/nowhere/ferry-vm", "cannot find the worker program");
    expect_refused("--group", "no-such-group-here", "there is no group 'no-such-group-here'");
    expect_refused("--log", "loud", "--log takes error, warn, info or debug");
    expect_refused("--nonsense", NULL, "usage: ferryd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_term_during_a_start),   cmocka_unit_test(test_guests_run_on),
        cmocka_unit_test(test_term_leaves_guests),    cmocka_unit_test(test_ends_while_away),
        cmocka_unit_test(test_hung_and_mute_workers), cmocka_unit_test(test_state_file_lies),
        cmocka_unit_test(test_damaged_definition),    cmocka_unit_test(test_torn_events),
        cmocka_unit_test(test_leftovers_are_removed), cmocka_unit_test(test_second_daemon_refused),
        cmocka_unit_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
