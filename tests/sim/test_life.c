/* A VM from its definition to its removal, on the happy ways and the refused ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

static void test_whole_life(void **state)
{
    struct peer_end c;
    char text[256];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "say=hello"), 0);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_RUNNING);
    sim_console(&c, "web", text, sizeof(text));
    assert_string_equal(text, "hello");
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), 0);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_PAUSED);
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), EALREADY);
    sim_said(&c, "'web' is paused already");
    assert_int_equal(SIM_DO(&c, RESUME, "web"), 0);
    assert_int_equal(SIM_DO(&c, RESUME, "web"), EALREADY);
    assert_int_equal(SIM_DO(&c, STATS, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), EBUSY);
    sim_said(&c, "stop or kill it first");
    assert_int_equal(sim_stop_vm(&c, "web", 20000), 0);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_STOPPED);
    sim_console(&c, "web", text, sizeof(text));
    assert_string_equal(text, "hello");
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), EPERM);
    sim_said(&c, "'web' is stopped: start it first");
    assert_int_equal(SIM_DO(&c, KILL, "web"), EALREADY);
    assert_int_equal(sim_start_again(&c, "web"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    sim_console(&c, "web", text, sizeof(text));
    assert_string_equal(text, "hello");
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    assert_int_equal(sim_state(&c, "web"), -1);
    assert_int_equal(SIM_DO(&c, KILL, "web"), ENOENT);
    sim_said(&c, "there is no VM 'web'");
    sim_close(&c);
}

static int start_with(struct peer_end *c, const Ferry__MachineConfig *config)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StartRequest start = FERRY__START_REQUEST__INIT;
    start.config = (Ferry__MachineConfig *)config;
    request.body_case = FERRY__REQUEST__BODY_START;
    request.start = &start;
    Ferry__Reply *reply = sim_call(c, &request);
    int code = (int)reply->code;
    sim_free(reply);
    return code;
}

static void test_bad_definitions(void **state)
{
    struct peer_end c;
    static char cmdline[2049];
    memset(cmdline, 'x', sizeof(cmdline) - 1);
    const Ferry__MachineConfig good = {
        .base = PROTOBUF_C_MESSAGE_INIT(&ferry__machine_config__descriptor),
        .name = "web",
        .kernel = "/bin/sh",
        .initrd = "",
        .cmdline = "",
        .cpu_profile = "",
        .memory_bytes = 64u << 20,
        .cpus = 1,
    };
#define BAD(field, value, sentence)                                                                \
    do {                                                                                           \
        Ferry__MachineConfig bad = good;                                                           \
        bad.field = (value);                                                                       \
        assert_int_not_equal(start_with(&c, &bad), 0);                                             \
        sim_said(&c, sentence);                                                                    \
        assert_int_equal(sim_state(&c, "web"), -1);                                                \
    } while (0)
    sim_connect(&sim, &c);
    BAD(name, "", "is not a name");
    BAD(name, "../web", "is not a name");
    BAD(name, "a/b", "is not a name");
    BAD(name, ".hidden", "is not a name");
    BAD(memory_bytes, 15u << 20, "16M to 1T");
    BAD(memory_bytes, (1ull << 40) + (1u << 20), "16M to 1T");
    BAD(memory_bytes, UINT64_MAX, "16M to 1T");
    BAD(memory_bytes, (64u << 20) + 1, "whole number of MiB");
    BAD(cpus, 65, "65 cpus");
    BAD(cpus, UINT32_MAX, "cpus");
    BAD(cmdline, cmdline, "cmdline");
    BAD(kernel, "", "a kernel is needed");
    BAD(kernel, "bin/sh", "not an absolute path");
    BAD(kernel, "/nowhere/at/all", "cannot open the kernel '/nowhere/at/all'");
    BAD(kernel, "/dev/null", "not a plain file");
    BAD(kernel, "/", "not a plain file");
    BAD(initrd, "sh", "not an absolute path");
    BAD(initrd, "/nowhere", "cannot open the initrd");
    BAD(uuid, ((ProtobufCBinaryData){.data = (uint8_t *)"abc", .len = 3}), "uuid has 3 bytes");
    assert_int_equal(sim_start_again(&c, "web"), ENOENT);
    sim_said(&c, "there is no VM 'web'");
    assert_int_equal(start_with(&c, &good), 0);
    assert_int_equal(start_with(&c, &good), EEXIST);
    sim_said(&c, "'web' exists");
    assert_int_equal(sim_start_again(&c, "web"), EEXIST);
    sim_said(&c, "'web' is running already");
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

static void test_paused_with_initrd(void **state)
{
    struct peer_end c;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StartRequest start = FERRY__START_REQUEST__INIT;
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    config.name = "web";
    config.kernel = config.initrd = "/bin/sh";
    start.config = &config;
    start.paused = true;
    request.body_case = FERRY__REQUEST__BODY_START;
    request.start = &start;
    sim_connect(&sim, &c);
    Ferry__Reply *reply = sim_call(&c, &request);
    assert_int_equal(reply->code, 0);
    sim_free(reply);
    reply = sim_show(&c, "web");
    assert_int_equal(reply->vm->summary->state, FERRY__VM_STATE__VM_PAUSED);
    assert_int_equal(reply->vm->config->memory_bytes, 256ull << 20);
    assert_int_equal(reply->vm->config->cpus, 1);
    assert_int_equal(reply->vm->config->uuid.len, 16);
    sim_free(reply);
    assert_int_equal(sim_stop_vm(&c, "web", 20000), 0); /* it is resumed for that */
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_STOPPED);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

static void test_failed_start_leaves_nothing(void **state)
{
    struct peer_end c;
    char path[300];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "fail-start"), EINVAL);
    assert_string_equal(c.error, "the kernel is not to the fake worker's taste");
    assert_int_equal(sim_state(&c, "web"), -1);
    assert_int_equal(sim_start_vm(&c, "web", "die-start"), EIO);
    sim_said(&c, "worker exited with status 9");
    sim_said(&c, "I was told to die");
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_path(&sim, path, sizeof(path), "root/vms/web");
    assert_int_equal(access(path, F_OK), -1);
    sim_path(&sim, path, sizeof(path), "run/vms/web");
    assert_int_equal(access(path, F_OK), -1);
    sim_close(&c);
}

static void test_stop_kills_the_deaf(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "ignore-power"), 0);
    assert_int_equal(sim_stop_vm(&c, "web", 50), 0);
    Ferry__Reply *reply = sim_show(&c, "web");
    assert_int_equal(reply->vm->summary->state, FERRY__VM_STATE__VM_STOPPED);
    assert_string_equal(reply->vm->summary->reason, "killed: it did not switch off within 50ms");
    assert_int_equal(reply->vm->ending->kind, FERRY__END_KIND__END_KILLED);
    sim_free(reply);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

static uint32_t send_stop(struct peer_end *c, uint64_t timeout_ms)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StopRequest stop = FERRY__STOP_REQUEST__INIT;
    stop.name = "web";
    stop.timeout_ms = timeout_ms;
    request.body_case = FERRY__REQUEST__BODY_STOP;
    request.stop = &stop;
    return sim_send(c, &request);
}

static void cancel(struct peer_end *c, uint32_t target)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__CancelRequest body = FERRY__CANCEL_REQUEST__INIT;
    body.target = target;
    request.body_case = FERRY__REQUEST__BODY_CANCEL;
    request.cancel = &body;
    uint32_t id = sim_send(c, &request);
    Ferry__Reply *first = sim_recv(c), *second = sim_recv(c);
    assert_int_equal(first->id, target);
    assert_int_equal(first->code, ECANCELED);
    assert_true(first->last);
    assert_int_equal(second->id, id);
    assert_int_equal(second->code, 0);
    sim_free(first);
    sim_free(second);
}

/* Two stops at once, one cancelled, then the other; then a kill ends a third. */
static void test_stops_and_kill_together(void **state)
{
    struct peer_end a, b, c;
    sim_connect(&sim, &a);
    sim_connect(&sim, &b);
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "ignore-power"), 0);
    uint32_t stop_a = send_stop(&a, 600000);
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPING);
    send_stop(&b, 600000);
    cancel(&a, stop_a);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_STOPPING);
    sim_close(&b); /* leaving is cancelling */
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_RUNNING);
    stop_a = send_stop(&a, 600000);
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPING);
    assert_int_equal(SIM_DO(&c, PAUSE, "web"), EPERM);
    sim_said(&c, "'web' is stopping");
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    Ferry__Reply *reply = sim_recv(&a);
    assert_int_equal(reply->id, stop_a);
    assert_int_equal(reply->code, 0);
    sim_free(reply);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&a);
    sim_close(&c);
}

static void test_cancelled_start_is_undone(void **state)
{
    struct peer_end a, c;
    sim_connect(&sim, &a);
    sim_connect(&sim, &c);
    uint32_t id = sim_send_start(&a, "web", "mute ");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STARTING);
    assert_int_equal(SIM_DO(&c, STATS, "web"), EPERM);
    sim_said(&c, "'web' is starting");
    cancel(&a, id);
    sim_await_state(&sim, "web", (Ferry__VmState)-1);
    sim_send_start(&a, "web", "mute ");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STARTING);
    sim_close(&a);
    sim_await_state(&sim, "web", (Ferry__VmState)-1);
    sim_close(&c);
}

static void test_kill_while_starting(void **state)
{
    struct peer_end a, c;
    sim_connect(&sim, &a);
    sim_connect(&sim, &c);
    sim_send_start(&a, "web", "mute ");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STARTING);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    Ferry__Reply *reply = sim_recv(&a);
    assert_int_equal(reply->code, ECANCELED);
    assert_string_equal(reply->error, "killed by request");
    sim_free(reply);
    sim_await_state(&sim, "web", (Ferry__VmState)-1);
    sim_close(&a);
    sim_close(&c);
}

/* A guest that breaks stands frozen, is looked at, reset, broken again, started again, removed. */
static void test_broken_guest(void **state)
{
    struct peer_end c;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "break-at-once"), 0);
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_FAILED);
    Ferry__Reply *reply = sim_show(&c, "web");
    assert_string_equal(reply->vm->summary->reason, "triple fault on CPU 0");
    assert_int_equal(reply->vm->ending->kind, FERRY__END_KIND__END_TRIPLE_FAULT);
    assert_true(reply->vm->summary->pid > 0);
    sim_free(reply);
    assert_int_equal(SIM_DO(&c, RESUME, "web"), EPERM);
    sim_said(&c, "'web' is failed: show tells how; reset, kill or rm it");
    assert_int_equal(SIM_DO(&c, RESET, "web"), 0);
    assert_int_equal(sim_state(&c, "web"), FERRY__VM_STATE__VM_RUNNING);
    sim_type(&sim, "web", "break");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_FAILED);
    int pid = sim_pid(&c, "web");
    assert_int_equal(sim_start_again(&c, "web"), 0);
    assert_int_not_equal(sim_pid(&c, "web"), pid);
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_FAILED);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_close(&c);
}

static void test_stop_of_one_that_breaks(void **state)
{
    struct peer_end a, c;
    sim_connect(&sim, &a);
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "ignore-power"), 0);
    send_stop(&a, 600000);
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPING);
    sim_type(&sim, "web", "break");
    Ferry__Reply *reply = sim_recv(&a);
    assert_int_equal(reply->code, EIO);
    assert_non_null(strstr(reply->error, "broke while it was to switch off: triple fault"));
    sim_free(reply);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&a);
    sim_close(&c);
}

/* Nothing of ferryd's is open in a worker: 0 to 3 and the six files of its start. */
static void test_what_a_worker_inherits(void **state)
{
    struct peer_end c;
    char path[64], target[64];
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    int pid = sim_pid(&c, "web");
    assert_int_equal(sim_count_fds(pid), 10);
    assert_int_equal(getsid(pid), pid);
    snprintf(path, sizeof(path), "/proc/%d/fd/0", pid);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    assert_string_equal(target, "/dev/null");
    snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
    n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    assert_string_equal(target, "/");
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

/* Without KVM the daemon is there, and says how to get it. */
static void test_no_kvm(void **state)
{
    struct peer_end c;
    sim_term(&sim);
    sim.extra[0] = "--kvm";
    sim.extra[1] = "/nowhere/kvm";
    sim_start(&sim);
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), ENOENT);
    sim_said(&c, "there is no KVM here (/nowhere/kvm): load it with `modprobe kvm_intel`");
    assert_int_equal(sim_state(&c, "web"), -1);
    sim_close(&c);
    sim_term(&sim);
    sim.extra[0] = NULL;
    sim_start(&sim);
}

/* A guest that resets in a loop fills no log: one event a second. */
static void test_reset_flood(void **state)
{
    struct peer_end c;
    unsigned resets = 0;
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__EventsRequest events = FERRY__EVENTS_REQUEST__INIT;
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "x"), 0);
    sim_type(&sim, "web", "reset 5000");
    sim_type(&sim, "web", "shutdown");
    sim_await_state(&sim, "web", FERRY__VM_STATE__VM_STOPPED);
    Ferry__Reply *reply = sim_show(&c, "web");
    assert_int_equal(reply->vm->resets, 5000);
    assert_string_equal(reply->vm->summary->reason, "switched off by the guest");
    sim_free(reply);
    events.name = "web";
    request.body_case = FERRY__REQUEST__BODY_EVENTS;
    request.events = &events;
    sim_send(&c, &request);
    for (bool last = false; !last;) {
        reply = sim_recv(&c);
        last = reply->last;
        if (reply->body_case == FERRY__REPLY__BODY_EVENT) {
            assert_string_equal(reply->event->vm, "web");
            resets += reply->event->kind == FERRY__EVENT_KIND__EVENT_RESET;
        }
        sim_free(reply);
    }
    assert_true(resets >= 1 && resets < 100);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_life),
        cmocka_unit_test(test_bad_definitions),
        cmocka_unit_test(test_paused_with_initrd),
        cmocka_unit_test(test_failed_start_leaves_nothing),
        cmocka_unit_test(test_stop_kills_the_deaf),
        cmocka_unit_test(test_stops_and_kill_together),
        cmocka_unit_test(test_cancelled_start_is_undone),
        cmocka_unit_test(test_kill_while_starting),
        cmocka_unit_test(test_broken_guest),
        cmocka_unit_test(test_stop_of_one_that_breaks),
        cmocka_unit_test(test_what_a_worker_inherits),
        cmocka_unit_test(test_no_kvm),
        cmocka_unit_test(test_reset_flood),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
