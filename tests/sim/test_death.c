/* Workers that die, hang, or talk nonsense: each is named for what it did and leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static void expect_reason(struct peer_end *c, const char *reason)
{
    char path[300];
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_CRASHED);
    Ferry__Reply *reply = sim_show(c, "web");
    if (!strstr(reply->vm->summary->reason, reason))
        fail_msg("'%s' is not in: %s", reason, reply->vm->summary->reason);
    assert_int_equal(reply->vm->ending->kind, FERRY__END_KIND__END_WORKER_DIED);
    assert_int_equal(reply->vm->summary->pid, 0);
    sim_free(reply);
    sim_path(&sim, path, sizeof(path), "run/vms/web");
    assert_int_equal(access(path, F_OK), -1);
}

/* What is typed makes the worker end; it is crashed for that reason and starts again. */
static void crash(struct peer_end *c, const char *line, const char *reason)
{
    assert_int_equal(sim_start_again(c, "web"), 0);
    int pid = sim_pid(c, "web");
    sim_type(&sim, "web", line);
    expect_reason(c, reason);
    assert_true(sim_process_is_gone(pid));
}

static void test_ways_to_die(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "say=hello"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    crash(&c, "signal 9", "worker killed by signal 9 (SIGKILL)");
    crash(&c, "signal 11", "worker");
    crash(&c, "exit 0", "worker exited with status 0");
    crash(&c, "exit 7", "worker exited with status 7");
    crash(&c, "garbage", "the worker: the body is not a valid WorkerReply message");
    crash(&c, "huge", "the worker: frame length 2147483647 is over the limit");
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* Its last words can be read also after a kill -9, and its log is in show. */
static void test_last_words(void **state)
{
    struct peer_end c;
    char text[256];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "say=alas"), 0);
    assert_int_equal(kill(sim_pid(&c, "web"), SIGKILL), 0);
    expect_reason(&c, "SIGKILL");
    sim_console(&c, "web", text, sizeof(text));
    assert_string_equal(text, "alas");
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* One that closes its connection and stays is not waited for without end. */
static void test_closed_but_alive(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    sim_type(&sim, "web", "close");
    expect_reason(&c, "worker killed by signal 9 (SIGKILL)");
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

static void test_mute_and_strange_at_start(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "mute "), EIO);
    sim_said(&c, "the worker said nothing for 5 s");
    assert_int_equal(sim_state(&c, "web"), -1);
    assert_int_equal(sim_start_vm(&c, "web", "old-version"), EIO);
    sim_said(&c, "speaks protocol version 99, ferryd speaks 1");
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_close(&c);
}

static void test_no_answer_to_pause(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "ignore-pause"), 0);
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), ETIMEDOUT);
    sim_said(&c, "'web' cannot pause: the worker did not answer in time");
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_RUNNING);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* A frozen process is killed all the same, and input that waits for it ends. */
static void test_kill_of_a_stopped_process(void **state)
{
    struct peer_end c, typist;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleInput input = FERRY__CONSOLE_INPUT__INIT;
    sim_connect(&sim, &c);
    sim_connect(&sim, &typist);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    int pid = sim_pid(&c, "web");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    input.name = "web";
    input.data = (ProtobufCBinaryData){.data = (uint8_t *)"hello\n", .len = 6};
    request.body_case = FERRY__REQUEST__BODY_CONSOLE_INPUT;
    request.console_input = &input;
    uint32_t id = sim_send(&typist, &request);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_true(sim_process_is_gone(pid));
    Ferry__Reply *reply = sim_recv(&typist);
    assert_int_equal(reply->id, id);
    assert_int_equal(reply->code, ECONNRESET);
    sim_free(reply);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&typist);
    sim_close(&c);
}

static void test_fifty_cycles_leak_nothing(void **state)
{
    struct peer_end c;
    char text[256];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "say=hello"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    unsigned before = sim_count_fds(sim.ferryd);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(sim_start_again(&c, "web"), 0);
        sim_console(&c, "web", text, sizeof(text));
        if (i % 3 == 0)
            assert_int_equal(sim_stop_vm(&c, "web", 20000), 0);
        else if (i % 3 == 1)
            assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
        else
            sim_type(&sim, "web", "shutdown");
        sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPED);
    }
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_await_fds(sim.ferryd, before - 1); /* the VM's directory is closed as well */
    sim_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ways_to_die),
        cmocka_unit_test(test_last_words),
        cmocka_unit_test(test_closed_but_alive),
        cmocka_unit_test(test_mute_and_strange_at_start),
        cmocka_unit_test(test_no_answer_to_pause),
        cmocka_unit_test(test_kill_of_a_stopped_process),
        cmocka_unit_test(test_fifty_cycles_leak_nothing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
