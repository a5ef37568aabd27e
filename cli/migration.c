/* See migration.h. */
#include "cli/migration.h"

#include <inttypes.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/json.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/vm.h"

static const char *const end_names[] = {
    [FERRY__MIGRATION_END__MIGRATION_RUNS] = "runs",
    [FERRY__MIGRATION_END__MIGRATION_MOVED] = "moved",
    [FERRY__MIGRATION_END__MIGRATION_FAILED] = "failed",
    [FERRY__MIGRATION_END__MIGRATION_CANCELLED] = "cancelled",
    [FERRY__MIGRATION_END__MIGRATION_IN_DOUBT] = "in-doubt",
    [FERRY__MIGRATION_END__MIGRATION_CHECKED] = "checked",
};

static const char *end_name(Ferry__MigrationEnd end)
{
    return (size_t)end < sizeof(end_names) / sizeof(end_names[0]) ? end_names[end] : "unknown";
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static void format_downtime(const Ferry__MigrationDowntime *d, char *to, size_t size)
{
    snprintf(to, size,
             "%.2f ms: stop %.2f, last pages %.2f, state %.2f, send %.2f, load %.2f, commit %.2f, "
             "resume %.2f",
             ms(d->total_ns), ms(d->stop_ns), ms(d->last_pages_ns), ms(d->state_ns), ms(d->send_ns),
             ms(d->load_ns), ms(d->commit_ns), ms(d->resume_ns));
}

int migration_print_done(FILE *out, const Ferry__MigrationReport *r)
{
    char sent[32], total[32], downtime[256] = "an unknown time";
    stats_format("sent_bytes", r->bytes, sent, sizeof(sent));
    units_format_time(r->total_ns / 1000000u, total, sizeof(total));
    if (r->downtime)
        format_downtime(r->downtime, downtime, sizeof(downtime));
    text_print_line(out, r->name);
    fputs(" runs on ", out);
    text_print_line(out, r->peer);
    fprintf(out, ": %s in %s, %" PRIu32 " rounds; stood still %s\n", sent, total, r->rounds,
            downtime);
    return 0;
}

int migration_print_reasons(FILE *out, const Ferry__MigrationReport *r)
{
    for (size_t i = 0; i < r->n_reasons; i++) {
        text_print_line(out, r->reasons[i]);
        fputc('\n', out);
    }
    if (r->n_reasons == 0) {
        text_print_line(out, r->name);
        fputs(" can go to ", out);
        text_print_line(out, r->peer);
        fputc('\n', out);
    }
    return 0;
}

static void add_number(struct table *t, const char *name, uint64_t value)
{
    char text[32];
    if (value)
        table_add_pair(t, name, stats_format(name, value, text, sizeof(text)));
}

static void add_progress(struct table *t, const Ferry__Progress *p)
{
    if (!p)
        return;
    add_number(t, "done_bytes", p->done_bytes);
    add_number(t, "total_bytes", p->total_bytes);
    add_number(t, "round", p->round);
    add_number(t, "rate_bytes", p->rate_bytes);
    add_number(t, "dirty_rate_bytes", p->dirty_rate_bytes);
    add_number(t, "expected_downtime_ns", p->expected_downtime_ns);
    table_add_pair(t, "why", p->why);
}

int migration_print(FILE *out, const Ferry__MigrationReport *r, struct err *err)
{
    static const struct table_column columns[] = {{NULL}, {NULL}};
    CLEAN(table_fini) struct table t;
    char text[256];
    table_init(&t, columns, 2);
    table_add_pair(&t, "name", r->name);
    table_add_pair(&t, "machine", vm_uuid_text(&r->uuid, text));
    table_add_pair(&t, "to", r->peer);
    table_add_pair(&t, "migration", end_name(r->end));
    table_add_pair(&t, "why", r->text);
    for (size_t i = 0; i < r->n_reasons; i++)
        table_add_pair(&t, "against", r->reasons[i]);
    table_add_pair(&t, "began", text_time(r->began_wall_ns, text, sizeof(text)));
    add_number(&t, "attempt", r->epoch);
    add_number(&t, "total_ns", r->total_ns);
    add_number(&t, "rounds", r->rounds);
    add_number(&t, "throttle", r->throttle);
    add_number(&t, "pages", r->pages);
    add_number(&t, "zero_pages", r->zero_pages);
    add_number(&t, "last_pages", r->last_pages);
    add_number(&t, "packed_pages", r->packed_pages);
    add_number(&t, "sent_bytes", r->bytes);
    add_number(&t, "state_bytes", r->state_bytes);
    if (r->downtime && r->downtime->total_ns) {
        format_downtime(r->downtime, text, sizeof(text));
        table_add_pair(&t, "downtime", text);
    }
    add_progress(&t, r->progress);
    return table_print(&t, out, err);
}

static void json_downtime(struct json *j, const Ferry__MigrationDowntime *d)
{
    json_object(j, "downtime");
    json_u64(j, "total_ns", d->total_ns);
    json_u64(j, "stop_ns", d->stop_ns);
    json_u64(j, "last_pages_ns", d->last_pages_ns);
    json_u64(j, "state_ns", d->state_ns);
    json_u64(j, "send_ns", d->send_ns);
    json_u64(j, "load_ns", d->load_ns);
    json_u64(j, "commit_ns", d->commit_ns);
    json_u64(j, "resume_ns", d->resume_ns);
    json_end(j);
}

static void json_progress(struct json *j, const Ferry__Progress *p)
{
    json_object(j, "progress");
    json_u64(j, "done_bytes", p->done_bytes);
    json_u64(j, "total_bytes", p->total_bytes);
    json_u64(j, "round", p->round);
    json_u64(j, "rate_bytes_per_s", p->rate_bytes);
    json_u64(j, "dirty_bytes_per_s", p->dirty_rate_bytes);
    json_u64(j, "expected_downtime_ns", p->expected_downtime_ns);
    json_string(j, "why", p->why);
    json_end(j);
}

int migration_json(FILE *out, const Ferry__MigrationReport *r, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_string(&j, "name", r->name);
    vm_json_uuid(&j, "uuid", &r->uuid);
    json_string(&j, "to", r->peer);
    json_string(&j, "migration", end_name(r->end));
    json_string(&j, "why", r->text);
    json_array(&j, "reasons");
    for (size_t i = 0; i < r->n_reasons; i++)
        json_string(&j, NULL, r->reasons[i]);
    json_end(&j);
    json_time(&j, "began", r->began_wall_ns);
    json_u64(&j, "attempt", r->epoch);
    json_u64(&j, "total_ns", r->total_ns);
    json_u64(&j, "rounds", r->rounds);
    json_u64(&j, "throttle", r->throttle);
    json_u64(&j, "pages", r->pages);
    json_u64(&j, "zero_pages", r->zero_pages);
    json_u64(&j, "last_pages", r->last_pages);
    json_u64(&j, "packed_pages", r->packed_pages);
    json_u64(&j, "sent_bytes", r->bytes);
    json_u64(&j, "state_bytes", r->state_bytes);
    if (r->downtime)
        json_downtime(&j, r->downtime);
    if (r->progress)
        json_progress(&j, r->progress);
    return json_finish(&j, err);
}
