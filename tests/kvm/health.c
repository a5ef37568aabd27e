/* See health.h. */
#include "tests/kvm/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/now.h"

#define PATIENCE_NS 20000000000ull

char *console_of(struct host *h, const char *name)
{
    char *all = calloc(1, CONSOLE_MAX);
    assert_non_null(all);
    host_run(h, all, CONSOLE_MAX, "console %s --log", name);
    return all;
}

void expect_healthy(struct host *h, const char *name)
{
    host_expect(h, "errors=0", 20000, "console %s --log", name);
    char *all = console_of(h, name);
    const char *bad = strstr(all, "FAIL");
    for (const char *at = all; !bad && (at = strstr(at, "errors=")); at += 7)
        if (at[7] && strncmp(at, "errors=0", 8) != 0) /* the last line may still be coming */
            bad = at;
    if (bad)
        fail_msg("%s found an error: %.300s", name, bad);
    free(all);
}

unsigned count_verdicts(struct host *h, const char *name)
{
    unsigned n = 0;
    char *all = console_of(h, name);
    for (const char *at = all; (at = strstr(at, "errors=")) && strchr(at, '\n'); at += 7)
        n++;
    free(all);
    return n;
}

void expect_more(struct host *h, const char *name, unsigned verdicts)
{
    uint64_t until = now_ns() + PATIENCE_NS;
    while (count_verdicts(h, name) <= verdicts) {
        if (now_ns() > until)
            fail_msg("%s says no more", name);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    expect_healthy(h, name);
}
