/* Tenants: every move of the lifecycle, who is told of it, and endings that are too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "daemon/definition.h"
#include "daemon/registry.h"
#include "proto/frame.h"
#include "tests/temp.h"

static struct {
    char dir[100];
    struct root root;
    struct events events;
    struct registry registry;
} w;

static int setup(void **state)
{
    struct err note, err;
    char root[120], run[120];
    assert_true(temp_dir(w.dir, sizeof(w.dir)));
    snprintf(root, sizeof(root), "%s/root", w.dir);
    snprintf(run, sizeof(run), "%s/run", w.dir);
    assert_int_equal(root_open(&w.root, root, run, &err), 0);
    assert_int_equal(events_open(&w.events, w.root.root_fd, &note, &err), 0);
    registry_init(&w.registry, &w.events, &w.root);
    return 0;
}

static int teardown(void **state)
{
    struct err err;
    registry_fini(&w.registry);
    events_close(&w.events);
    root_close(&w.root);
    return fs_remove_tree(AT_FDCWD, w.dir, &err);
}

static Ferry__MachineConfig *config_of(const char *name)
{
    struct err err;
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    uint8_t packed[256];
    config.name = (char *)name;
    config.kernel = "/k";
    size_t n = ferry__machine_config__pack(&config, packed);
    Ferry__MachineConfig *copy =
        (Ferry__MachineConfig *)frame_unpack(&ferry__machine_config__descriptor, packed, n, &err);
    assert_non_null(copy);
    assert_int_equal(definition_complete(copy, &err), 0);
    return copy;
}

static struct tenant *define(const char *name)
{
    struct err err;
    struct tenant *t = registry_define(&w.registry, config_of(name), &err);
    assert_non_null(t);
    return t;
}

/* Written out once more, so that the table cannot change unseen. */
static void test_every_move(void **state)
{
    enum { STOPPED, STARTING, RUNNING, PAUSED, STOPPING, FAILED, CRASHED, IN_DOUBT, STATES };
    static const bool allowed[STATES][STATES] = {
        [STOPPED] = {[STARTING] = true},
        [STARTING] = {[STOPPED] = true,
                      [RUNNING] = true,
                      [PAUSED] = true,
                      [FAILED] = true,
                      [CRASHED] = true},
        [RUNNING] = {[STOPPED] = true,
                     [PAUSED] = true,
                     [STOPPING] = true,
                     [FAILED] = true,
                     [CRASHED] = true,
                     [IN_DOUBT] = true},
        [PAUSED] = {[STOPPED] = true,
                    [RUNNING] = true,
                    [STOPPING] = true,
                    [FAILED] = true,
                    [CRASHED] = true,
                    [IN_DOUBT] = true},
        [STOPPING] = {[STOPPED] = true,
                      [RUNNING] = true,
                      [FAILED] = true,
                      [CRASHED] = true,
                      [IN_DOUBT] = true},
        [FAILED] = {[STOPPED] = true, [RUNNING] = true, [PAUSED] = true, [CRASHED] = true},
        [CRASHED] = {[STARTING] = true},
        [IN_DOUBT] = {[STOPPED] = true, [RUNNING] = true, [PAUSED] = true, [CRASHED] = true},
    };
    struct err err;
    struct tenant *t = define("web");
    for (unsigned from = 0; from < STATES; from++) {
        for (unsigned to = 0; to < STATES + 2; to++) {
            bool ok = to < STATES && allowed[from][to];
            uint64_t last = w.events.last;
            t->sm.now = from;
            assert_int_equal(tenant_move(t, (Ferry__VmState)to, ""), ok ? 0 : -EPERM);
            assert_int_equal(tenant_state(t), ok ? to : from);
            assert_int_equal(w.events.last, last + ok);
        }
    }
    t->sm.now = STOPPED;
    assert_int_equal(registry_remove(t, &err), 0);
    assert_string_equal(events_from(&w.events, w.events.last)->vm, "web");
    assert_int_equal(events_from(&w.events, w.events.last)->kind, FERRY__EVENT_KIND__EVENT_REMOVED);
}

struct watcher {
    struct tenant_watch watch;
    unsigned told, removed;
    struct watcher *takes_out; /* when told */
    bool moves_on;
};

static void on_moved(struct tenant_watch *watch, bool removed)
{
    struct watcher *x = (struct watcher *)watch;
    struct tenant *t = watch->tenant;
    x->told++;
    x->removed += removed;
    if (x->takes_out)
        tenant_unwatch(&x->takes_out->watch);
    if (x->moves_on && tenant_in(t, STATE_BIT(STARTING)))
        tenant_move(t, FERRY__VM_STATE__VM_RUNNING, "");
}

static void test_watching(void **state)
{
    struct err err;
    struct tenant *t = define("web");
    struct watcher a = {0}, b = {0}, c = {0};
    tenant_watch(t, &a.watch, on_moved);
    tenant_watch(t, &b.watch, on_moved);
    tenant_watch(t, &c.watch, on_moved);
    a.takes_out = &b;
    b.takes_out = &b;
    tenant_move(t, FERRY__VM_STATE__VM_STARTING, "");
    assert_int_equal(a.told, 1);
    assert_int_equal(b.told, 0);
    assert_int_equal(c.told, 1);
    a.takes_out = &a; /* takes itself out */
    tenant_move(t, FERRY__VM_STATE__VM_STOPPED, "");
    assert_int_equal(a.told, 2);
    tenant_watch(t, &a.watch, on_moved);
    a.takes_out = NULL;
    a.moves_on = true; /* a move within a move: all hear the last */
    tenant_move(t, FERRY__VM_STATE__VM_STARTING, "");
    assert_int_equal(tenant_state(t), FERRY__VM_STATE__VM_RUNNING);
    assert_true(c.told >= 3);
    tenant_move(t, FERRY__VM_STATE__VM_STOPPED, "");
    assert_int_equal(registry_remove(t, &err), 0);
    assert_int_equal(c.removed, 1);
    assert_int_equal(b.removed, 0);
}

static void test_endings_are_bounded(void **state)
{
    static char text[20000];
    uint8_t code[5000] = {0};
    struct err err;
    struct tenant *t = define("web");
    Ferry__CpuReport cpu = FERRY__CPU_REPORT__INIT;
    Ferry__Ending ending = FERRY__ENDING__INIT;
    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2); /* cut in the middle of a letter somewhere */
    text[sizeof(text) - 1] = text[sizeof(text) - 2] = '\0';
    ending.kind = FERRY__END_KIND__END_TRIPLE_FAULT;
    ending.text = text;
    tenant_set_ending(t, &ending);
    assert_int_equal(t->ending->kind, FERRY__END_KIND__END_TRIPLE_FAULT);
    assert_true(strlen(t->ending->text) < ERR_TEXT_MAX);
    ending.text = "short";
    cpu.code = (ProtobufCBinaryData){.data = code, .len = sizeof(code)};
    ending.cpu = &cpu;
    tenant_set_ending(t, &ending);
    assert_string_equal(t->ending->text, "short");
    assert_null(t->ending->cpu);
    cpu.code.len = 15;
    tenant_set_ending(t, &ending);
    assert_int_equal(t->ending->cpu->code.len, 15);
    assert_int_equal(registry_remove(t, &err), 0);
}

static void test_sorted_and_limited(void **state)
{
    static const char *const names[] = {"b", "a", "c", "a0"};
    struct err err;
    struct tenant *t, *before = NULL;
    for (int i = 0; i < 4; i++)
        define(names[i]);
    TAILQ_FOREACH(t, &w.registry.all, all)
    {
        assert_true(!before || strcmp(before->name, t->name) < 0);
        before = t;
    }
    assert_null(registry_define(&w.registry, config_of("a"), &err)); /* its directory is there */
    assert_int_equal(w.registry.count, 4);
    w.registry.count = REGISTRY_MAX;
    assert_null(registry_define(&w.registry, config_of("z"), &err));
    assert_int_equal(err.code, ENOSPC);
    w.registry.count = 4;
    for (int i = 0; i < 4; i++)
        assert_int_equal(registry_remove(registry_find(&w.registry, names[i]), &err), 0);
    assert_int_equal(w.registry.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_move),
        cmocka_unit_test(test_watching),
        cmocka_unit_test(test_endings_are_bounded),
        cmocka_unit_test(test_sorted_and_limited),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
