/* See units.h. */
#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40}, {NULL, 0},
};

static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};

/* Leading digits; returns what follows them, or NULL without a digit or on overflow. */
static const char *parse_digits(const char *text, uint64_t *value)
{
    const char *p = text;
    *value = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*value, 10u, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*p - '0'), value))
            return NULL;
    return p == text ? NULL : p;
}

static bool parse_with(const char *text, const struct unit *units, uint64_t *out)
{
    uint64_t value;
    const char *rest = parse_digits(text, &value);
    for (; rest && units->suffix; units++)
        if (strcmp(rest, units->suffix) == 0)
            return !__builtin_mul_overflow(value, units->factor, out);
    return false;
}

int units_parse_size(const char *text, uint64_t *bytes, struct err *err)
{
    if (!parse_with(text, size_units, bytes))
        return err_set(err, EINVAL, "'%s' is not a size (write 512M or 4G)", text);
    return 0;
}

int units_parse_time(const char *text, uint64_t *ms, struct err *err)
{
    if (!parse_with(text, time_units, ms))
        return err_set(err, EINVAL, "'%s' is not a time (write 50ms, 30s or 5m)", text);
    return 0;
}

int units_parse_number(const char *text, uint64_t min, uint64_t max, const char *what,
                       uint64_t *value, struct err *err)
{
    const char *rest = parse_digits(text, value);
    if (!rest || *rest || *value < min || *value > max)
        return err_set(err, EINVAL,
                       "%s is '%s', which is not a number from %" PRIu64 " to %" PRIu64, what, text,
                       min, max);
    return 0;
}

const char *units_format_size(uint64_t bytes, char *to, size_t size)
{
    const struct unit *u = &size_units[4];
    while (u > size_units && bytes < u->factor)
        u--;
    if (bytes % u->factor == 0 || u == size_units)
        snprintf(to, size, "%" PRIu64 "%s", bytes / u->factor, u->suffix);
    else
        snprintf(to, size, "%" PRIu64 ".%" PRIu64 "%s", bytes / u->factor,
                 bytes % u->factor * 10 / u->factor, u->suffix);
    return to;
}

const char *units_format_time(uint64_t ms, char *to, size_t size)
{
    uint64_t s = ms / 1000;
    if (ms < 1000)
        snprintf(to, size, "%" PRIu64 "ms", ms);
    else if (s < 60)
        snprintf(to, size, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
    else if (s < 3600)
        snprintf(to, size, "%" PRIu64 "m %" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(to, size, "%" PRIu64 "h %" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(to, size, "%" PRIu64 "d %" PRIu64 "h", s / 86400, s / 3600 % 24);
    return to;
}
