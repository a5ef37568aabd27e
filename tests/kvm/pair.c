/* See pair.h. */
#include "tests/kvm/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "tests/kvm/health.h"

#define WIRES_MAX 128u
#define LONG_MS 20000u

void pair_start(struct pair *p, struct proxy wire)
{
    static struct proxy wires[WIRES_MAX]; /* their threads outlive the test */
    static unsigned used;
    assert_true(used < WIRES_MAX);
    memset(p, 0, sizeof(*p));
    host_start_listening(&p->h[0]);
    host_start_listening(&p->h[1]);
    p->wire = &wires[used++];
    *p->wire = wire;
    p->wire->to = strdup(p->h[1].address);
    assert_non_null(p->wire->to);
    proxy_start(p->wire);
    host_must(&p->h[0], "start web --kernel %%G/dirty.elf --memory 32M --cmdline rate=1000");
    expect_healthy(&p->h[0], "web");
    p->verdicts = count_verdicts(&p->h[0], "web");
}

void pair_begin(struct pair *p)
{
    char args[128];
    snprintf(args, sizeof(args), "migrate web %s", p->wire->address);
    p->migrate = host_begin(&p->h[0], args);
    proxy_wait(p->wire);
}

int pair_end(struct pair *p)
{
    int status;
    assert_int_equal(waitpid(p->migrate, &status, 0), p->migrate);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void pair_expect_at(struct pair *p, unsigned i)
{
    host_expect_state(&p->h[i], "web", "running", LONG_MS);
    host_expect(&p->h[!i], "there is no VM", LONG_MS, "show web");
    expect_more(&p->h[i], "web", p->verdicts);
}

void pair_stop(struct pair *p)
{
    proxy_release(p->wire);
    host_stop(&p->h[0]);
    host_stop(&p->h[1]);
}
