/* Moments on the monotonic clock as timeouts of poll. */
#pragma once

#include <stdint.h>

#include "base/now.h"

#define DEADLINE_MS 1000000ull /* nanoseconds */

/* Milliseconds until then, rounded up; 0 when it is past. */
static inline int deadline_left_ms(uint64_t then_ns)
{
    uint64_t now = now_ns();
    return now >= then_ns ? 0 : (int)((then_ns - now) / DEADLINE_MS) + 1;
}

/* The shorter of two timeouts, of which -1 is for ever. */
static inline int deadline_sooner(int a_ms, int b_ms)
{
    return a_ms < 0 ? b_ms : b_ms < 0 ? a_ms : a_ms < b_ms ? a_ms : b_ms;
}
