/* See stats.h. */
#include "cli/stats.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/json.h"
#include "cli/table.h"

static void format_grouped(uint64_t value, char *to, size_t size)
{
    char digits[32];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, value);
    size_t used = 0;
    for (int i = 0; i < n && used + 2 < size; i++) {
        if (i && (n - i) % 3 == 0)
            to[used++] = ' ';
        to[used++] = digits[i];
    }
    to[used] = '\0';
}

/* Below a millisecond units_format_time has nothing finer. */
static void format_ns(uint64_t ns, char *to, size_t size)
{
    if (ns < 1000)
        snprintf(to, size, "%" PRIu64 "ns", ns);
    else if (ns < 1000000)
        snprintf(to, size, "%.1fus", (double)ns / 1e3);
    else if (ns < 1000000000)
        snprintf(to, size, "%.1fms", (double)ns / 1e6);
    else
        units_format_time(ns / 1000000, to, size);
}

static void format_bytes(uint64_t value, char *to, size_t size)
{
    units_format_size(value, to, size);
    if (value < 1024)
        snprintf(to, size, "%" PRIu64 "B", value);
}

static void format_us(uint64_t value, char *to, size_t size)
{
    format_ns(value > UINT64_MAX / 1000 ? UINT64_MAX : value * 1000, to, size);
}

static void format_ms(uint64_t value, char *to, size_t size)
{
    units_format_time(value, to, size);
}

static const struct unit_row {
    const char *suffix;
    void (*format)(uint64_t value, char *to, size_t size);
} unit_rows[] = {
    {"_bytes", format_bytes},
    {"_ns", format_ns},
    {"_us", format_us},
    {"_ms", format_ms},
};

static const struct unit_row *unit_of(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof(unit_rows) / sizeof(unit_rows[0]); i++) {
        size_t n = strlen(unit_rows[i].suffix);
        if (len > n && strcmp(name + len - n, unit_rows[i].suffix) == 0)
            return &unit_rows[i];
    }
    return NULL;
}

const char *stats_format(const char *name, uint64_t value, char *to, size_t size)
{
    const struct unit_row *unit = unit_of(name);
    if (unit)
        unit->format(value, to, size);
    else
        format_grouped(value, to, size);
    return to;
}

int stats_print(FILE *out, const Ferry__VmStats *stats, struct err *err)
{
    static const struct table_column columns[] = {{"COUNTER"}, {"VALUE", true}};
    CLEAN(table_fini) struct table t;
    char text[64];
    table_init(&t, columns, 2);
    for (size_t i = 0; i < stats->n_counters; i++) {
        const Ferry__Counter *c = stats->counters[i];
        const struct unit_row *unit = unit_of(c->name);
        size_t drop = unit ? strlen(unit->suffix) : 0;
        table_addf(&t, "%.*s", (int)(strlen(c->name) - drop), c->name);
        table_add(&t, stats_format(c->name, c->value, text, sizeof(text)));
    }
    return table_print(&t, out, err);
}

int stats_json(FILE *out, const Ferry__VmStats *stats, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_string(&j, "name", stats->name);
    json_object(&j, "counters");
    for (size_t i = 0; i < stats->n_counters; i++)
        json_u64(&j, stats->counters[i]->name, stats->counters[i]->value);
    return json_finish(&j, err);
}
