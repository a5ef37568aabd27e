/* See network.h. */
#include "tests/kvm/network.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"

#define COMMAND_MAX 1024
#define EXPECT_NS 10000000000ull

static void skip_all(const char *why)
{
    print_message("skipped: %s\n", why);
    exit(77);
}

void network_need(void)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (geteuid() != 0)
        skip_all("only root makes taps, bridges and network namespaces");
    if (fd < 0)
        skip_all("there are no taps: /dev/net/tun cannot be opened");
    close(fd);
    if (unshare(CLONE_NEWNET) < 0)
        skip_all("a network namespace cannot be made");
    if (!network_try("ip link set lo up"))
        skip_all("there is no `ip`");
    if (!network_try("ip link add probe type bridge") || !network_try("ip link del probe"))
        skip_all("this kernel has no bridges");
}

#define FORMAT(to)                                                                                 \
    char to[COMMAND_MAX];                                                                          \
    va_list list;                                                                                  \
    va_start(list, command);                                                                       \
    vsnprintf(to, sizeof(to), command, list);                                                      \
    va_end(list)

void network_run(const char *command, ...)
{
    FORMAT(text);
    if (system(text) != 0)
        fail_msg("'%s' failed", text);
}

bool network_try(const char *command, ...)
{
    char quiet[COMMAND_MAX + 32];
    FORMAT(text);
    snprintf(quiet, sizeof(quiet), "{ %s; } >/dev/null 2>&1", text);
    return system(quiet) == 0;
}

void network_expect(const char *command, ...)
{
    uint64_t until = now_ns() + EXPECT_NS;
    FORMAT(text);
    while (!network_try("%s", text)) {
        if (now_ns() > until)
            fail_msg("'%s' fails still", text);
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
