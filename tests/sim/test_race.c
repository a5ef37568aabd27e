/* Two things at once, a worker that stands still, a disk that is full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/now.h"
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

static uint32_t send_pause(struct peer_end *c, const char *name)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__PauseRequest pause_request = FERRY__PAUSE_REQUEST__INIT;
    pause_request.name = (char *)name;
    request.body_case = FERRY__REQUEST__BODY_PAUSE;
    request.pause = &pause_request;
    return sim_send(c, &request);
}

static uint32_t send_stop(struct peer_end *c, const char *name)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StopRequest stop = FERRY__STOP_REQUEST__INIT;
    stop.name = (char *)name;
    stop.timeout_ms = 20000;
    request.body_case = FERRY__REQUEST__BODY_STOP;
    request.stop = &stop;
    return sim_send(c, &request);
}

static int recv_code(struct peer_end *c, uint32_t id)
{
    Ferry__Reply *reply = sim_recv(c);
    assert_non_null(reply);
    assert_int_equal(reply->id, id);
    int code = (int)reply->code;
    sim_free(reply);
    return code;
}

/* The worker is paused first and hears the button then: it must not stand there until its time is
 * over and be killed. */
static void test_stop_overtakes_a_pause(void **state)
{
    struct peer_end a, b;
    sim_connect(&sim, &a);
    sim_connect(&sim, &b);
    assert_int_equal(sim_start_vm(&a, "web", "x"), 0);
    int pid = sim_pid(&a, "web");
    assert_int_equal(kill(pid, SIGSTOP), 0);
    uint32_t pause_id = send_pause(&a, "web");
    assert_int_equal(sim_state(&a, "web"), FERRY__VM_STATE__VM_RUNNING); /* it has been heard */
    uint32_t stop_id = send_stop(&b, "web");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPING);
    assert_int_equal(kill(pid, SIGCONT), 0);
    int pause_code = recv_code(&a, pause_id);
    assert_true(pause_code == EPERM || pause_code == ECONNRESET);
    assert_int_equal(recv_code(&b, stop_id), 0);
    Ferry__Reply *shown = sim_show(&a, "web");
    assert_int_equal(shown->vm->ending->kind, FERRY__END_KIND__END_SHUTDOWN);
    sim_free(shown);
    assert_int_equal(SIM_DO(&a, REMOVE, "web"), 0);
    sim_close(&a);
    sim_close(&b);
}

/* Others are served, what concerns it is given up in time, and kill works. */
static void test_frozen_worker(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "ice", "x"), 0);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    assert_int_equal(kill(sim_pid(&c, "ice"), SIGSTOP), 0);
    uint64_t before = now_ns();
    assert_int_equal(SIM_DO(&c, STATS, "ice"), ETIMEDOUT);
    assert_true(now_ns() - before < 10000000000ull);
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), 0);
    assert_int_equal(SIM_DO(&c, SHOW, "ice"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "ice"), 0);
    assert_int_equal(sim_state(&c, "ice"), FERRY__VM_STATE__VM_STOPPED);
    assert_int_equal(SIM_DO(&c, REMOVE, "ice"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* Nothing can be written when it starts, so the state file is older than the worker: the next
 * ferryd finds it by its record. */
static void test_found_without_a_state_file(void **state)
{
    struct peer_end c;
    char path[300];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    sim_path(&sim, path, sizeof(path), "root/vms/web/.state.new"); /* in the way of every write */
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(sim_start_again(&c, "web"), 0);
    int pid = sim_pid(&c, "web");
    sim_kill9(&sim);
    sim_close(&c);
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_RUNNING);
    assert_int_equal(sim_pid(&c, "web"), pid);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* A name that does not fit the sentence is cut in the middle of a letter there. */
static void test_errors_are_text(void **state)
{
    struct peer_end c;
    char name[200] = "x";
    for (size_t i = 1; i + 2 < sizeof(name); i += 2)
        memcpy(name + i, "\xc3\xa9", 3);
    sim_connect(&sim, &c);
    assert_int_equal(SIM_DO(&c, SHOW, name), ENOENT);
    sim_said(&c, "there is no VM");
    sim_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_overtakes_a_pause),
        cmocka_unit_test(test_frozen_worker),
        cmocka_unit_test(test_found_without_a_state_file),
        cmocka_unit_test(test_errors_are_text),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
