/*
 * Networks of a test's own: the test's process leaves the host's network namespace for a new one,
 * which, with every tap and bridge in it, is gone when its last process ends.
 */
#pragma once

#include <stdbool.h>

/* From here on this process, and what it starts, is in a namespace of its own, whose loopback is
 * up. Skips the whole program, with the reason, where that cannot be. */
void network_need(void);

/* Runs a command of a shell, such as "ip link add br0 type bridge"; fails the test when it fails.
 */
void network_run(const char *command, ...) __attribute__((format(printf, 1, 2)));

/* Repeats a command until it succeeds; fails the test after 10 s. */
void network_expect(const char *command, ...) __attribute__((format(printf, 1, 2)));

/* Whether it succeeds. */
bool network_try(const char *command, ...) __attribute__((format(printf, 1, 2)));
