/* Clocks of the host, in nanoseconds. */
#pragma once

#include <stdint.h>
#include <time.h>

static inline uint64_t now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Since some moment in the past; never goes back. */
static inline uint64_t now_ns(void)
{
    return now_of(CLOCK_MONOTONIC);
}

/* Since 1970. */
static inline uint64_t now_wall_ns(void)
{
    return now_of(CLOCK_REALTIME);
}
