/*
 * A machine that cannot be built, at each place where it may fail for want of descriptors or
 * memory: one sentence, and nothing left behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define CPUS 4

static unsigned long mapped_kib(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    return pages * 4;
}

static void limit(int what, rlim_t to)
{
    struct rlimit l;
    assert_int_equal(getrlimit(what, &l), 0);
    l.rlim_cur = to < l.rlim_max ? to : l.rlim_max;
    assert_int_equal(setrlimit(what, &l), 0);
}

/* One attempt with the limit set; true when the machine could be built. */
static bool try(const struct rig *r, int what, rlim_t to, struct err *err)
{
    struct rlimit before;
    *err = (struct err){0};
    assert_int_equal(getrlimit(what, &before), 0);
    limit(what, to);
    struct machine *m = machine_new(&r->config, &r->host, err);
    limit(what, before.rlim_cur);
    if (!m)
        assert_true(err->code > 0 && err->text[0] != '\0');
    machine_free(m);
    return m != NULL;
}

/* A rig whose machine is taken away: its config and host remain. */
static void rig_of_parts(struct rig *r)
{
    rig_start(r, &(struct rig_options){.guest = "hello", .cpus = CPUS});
    machine_free(r->machine);
    r->machine = NULL;
}

/* A loop of libuv that cannot be made keeps a descriptor for itself (seen with 1.44). */
static void without_descriptors(void **state)
{
    struct rig r;
    struct err err;
    rig_of_parts(&r);
    struct host_usage before = host_usage(getpid());
    unsigned taken = 0, failures = 0;
    for (rlim_t n = before.fds - 3; !try(&r, RLIMIT_NOFILE, n + taken, &err); n++, failures++) {
        taken += strstr(err.text, "I/O loop") != NULL;
        assert_true(failures < 100);
        assert_in_range(host_usage(getpid()).fds, before.fds, before.fds + taken);
    }
    assert_true(failures >= CPUS + 3);
    assert_int_equal(host_usage(getpid()).threads, before.threads);
    rig_stop(&r);
}

/* Sanitizers keep address space of their own. */
static void without_memory(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("skipped: a sanitizer needs all of the address space\n");
    skip();
#endif
    struct rig r;
    struct err err;
    rig_of_parts(&r);
    assert_true(try(&r, RLIMIT_AS, RLIM_INFINITY, &err)); /* fills caches of stacks and heaps */
    struct host_usage before = host_usage(getpid());
    unsigned long mapped = mapped_kib();
    unsigned failures = 0;
    for (unsigned long kib = 64; !try(&r, RLIMIT_AS, (rlim_t)(mapped + kib) << 10, &err);
         failures++) {
        kib += kib < 4096 ? 64 : 4096;
        assert_true(kib < 1ul << 20);
    }
    assert_true(failures > 10);
    struct host_usage after = host_usage(getpid());
    assert_int_equal(after.fds, before.fds);
    assert_int_equal(after.threads, before.threads);
    assert_true(mapped_kib() <= mapped + 1024);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_descriptors),
        cmocka_unit_test(without_memory),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
