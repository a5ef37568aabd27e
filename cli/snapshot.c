/* See snapshot.h. */
#include "cli/snapshot.h"

#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/json.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/vm.h"

#define LINEAGE_SHOWN 8u

static void add_age(struct table *t, const Ferry__SnapshotSummary *s, uint64_t now_wall_ns)
{
    char text[32] = "";
    if (s->wall_ns && now_wall_ns >= s->wall_ns)
        units_format_time((now_wall_ns - s->wall_ns) / 1000000u, text, sizeof(text));
    table_add(t, text);
}

int snapshot_print_list(FILE *out, const Ferry__SnapshotList *list, uint64_t now_wall_ns,
                        struct err *err)
{
    static const struct table_column columns[] = {
        {"NAME"}, {"VM"}, {"AGE", true}, {"MEMORY", true}, {"DISK", true}, {"PARENT"},
    };
    CLEAN(table_fini) struct table t;
    char size[32];
    table_init(&t, columns, sizeof(columns) / sizeof(columns[0]));
    for (size_t i = 0; i < list->n_snapshots; i++) {
        const Ferry__SnapshotSummary *s = list->snapshots[i];
        table_add(&t, s->name);
        table_add(&t, s->vm);
        add_age(&t, s, now_wall_ns);
        table_add(&t, units_format_size(s->ram_bytes, size, sizeof(size)));
        table_add(&t, units_format_size(s->disk_bytes, size, sizeof(size)));
        table_add(&t, *s->parent ? s->parent : "-");
    }
    return table_print(&t, out, err);
}

static void add_summary(struct table *t, const Ferry__SnapshotSummary *s)
{
    char text[64];
    table_add_pair(t, "name", s->name);
    table_add_pair(t, "vm", s->vm);
    table_add_pair(t, "uuid", vm_uuid_text(&s->uuid, text));
    table_add_pair(t, "taken", text_time(s->wall_ns, text, sizeof(text)));
    table_add_pair(t, "memory", units_format_size(s->ram_bytes, text, sizeof(text)));
    table_add_pair(t, "disk", units_format_size(s->disk_bytes, text, sizeof(text)));
    table_add_pair(t, "parent", s->parent);
}

/* Oldest first, as "mon, tue". */
static void add_lineage(struct table *t, const Ferry__SnapshotDetail *s)
{
    char text[LINEAGE_SHOWN * 70 + 8] = "";
    size_t from = s->n_lineage > LINEAGE_SHOWN ? s->n_lineage - LINEAGE_SHOWN : 0;
    size_t used = from ? (size_t)snprintf(text, sizeof(text), "..., ") : 0;
    for (size_t i = from; i < s->n_lineage; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.64s", i > from ? ", " : "",
                                 s->lineage[i]->name);
    table_add_pair(t, "lineage", text);
}

static void add_format(struct table *t, const Ferry__SnapshotDetail *s)
{
    if (!s->version)
        return;
    table_add_pair(t, "kind", s->kind);
    table_add(t, "format");
    table_addf(t, "version %" PRIu32 ", readable from %" PRIu32, s->version, s->min_version);
    table_add(t, "arch");
    table_addf(t, "%s, pages of %" PRIu32 " bytes", s->arch, s->page_bytes);
    for (size_t i = 0; i < s->n_regions; i++) {
        table_add(t, "region");
        table_addf(t, "0x%" PRIx64 ", %" PRIu64 " bytes", s->regions[i]->gpa, s->regions[i]->size);
    }
}

static void add_config(struct table *t, const Ferry__MachineConfig *c)
{
    char text[UUID_TEXT_SIZE];
    if (!c)
        return;
    table_add_pair(t, "machine", vm_uuid_text(&c->uuid, text));
    table_add(t, "cpus");
    table_addf(t, "%" PRIu32, c->cpus);
    table_add_pair(t, "cpu", c->cpu_profile);
    table_add_pair(t, "kernel", c->kernel);
    table_add_pair(t, "initrd", c->initrd);
    table_add_pair(t, "cmdline", c->cmdline);
    vm_add_devices(t, c);
}

static int print_files(FILE *out, const Ferry__SnapshotDetail *s, struct err *err)
{
    static const struct table_column columns[] = {{"FILE"}, {"BYTES", true}};
    CLEAN(table_fini) struct table t;
    table_init(&t, columns, 2);
    for (size_t i = 0; i < s->n_files; i++) {
        table_add(&t, s->files[i]->name);
        table_addf(&t, "%" PRIu64, s->files[i]->length);
    }
    fputc('\n', out);
    return table_print(&t, out, err);
}

int snapshot_print_detail(FILE *out, const Ferry__SnapshotDetail *s, struct err *err)
{
    static const struct table_column columns[] = {{NULL}, {NULL}};
    CLEAN(table_fini) struct table t;
    char text[UUID_TEXT_SIZE];
    table_init(&t, columns, 2);
    add_summary(&t, s->summary);
    if (s->parent)
        table_add_pair(&t, "parent uuid", vm_uuid_text(&s->parent->uuid, text));
    add_lineage(&t, s);
    add_format(&t, s);
    add_config(&t, s->config);
    table_add_pair(&t, "vendor", s->cpu_vendor);
    table_add_pair(&t, "features", s->cpu_features);
    table_add_pair(&t, "release", s->release);
    table_add_pair(&t, "directory", s->path);
    int rc = table_print(&t, out, err);
    return rc < 0 || s->n_files == 0 ? rc : print_files(out, s, err);
}

int snapshot_print_made(FILE *out, const Ferry__SnapshotDetail *s)
{
    char disk[32], total[32];
    stats_format("disk_bytes", s->summary->disk_bytes, disk, sizeof(disk));
    units_format_time(s->total_ns / 1000000u, total, sizeof(total));
    text_print_line(out, s->summary->name);
    fprintf(out, ": %s on disk, paused %.1f ms, took %s\n", disk, (double)s->pause_ns / 1e6, total);
    if (*s->note) {
        fflush(out);
        text_note("it is a complete one: %s", s->note);
    }
    return 0;
}

int snapshot_print_imported(FILE *out, const Ferry__SnapshotDetail *s)
{
    char disk[32];
    stats_format("disk_bytes", s->summary->disk_bytes, disk, sizeof(disk));
    text_print_line(out, s->summary->name);
    fprintf(out, ": verified, %s on disk\n", disk);
    return 0;
}

static void json_summary(struct json *j, const Ferry__SnapshotSummary *s)
{
    json_string(j, "name", s->name);
    json_string(j, "vm", s->vm);
    vm_json_uuid(j, "uuid", &s->uuid);
    json_time(j, "time", s->wall_ns);
    json_u64(j, "memory_bytes", s->ram_bytes);
    json_u64(j, "disk_bytes", s->disk_bytes);
    if (*s->parent)
        json_string(j, "parent", s->parent);
    else
        json_null(j, "parent");
}

int snapshot_json_list(FILE *out, const Ferry__SnapshotList *list, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_array(&j, "snapshots");
    for (size_t i = 0; i < list->n_snapshots; i++) {
        json_object(&j, NULL);
        json_summary(&j, list->snapshots[i]);
        json_end(&j);
    }
    json_end(&j);
    json_array(&j, "broken");
    for (size_t i = 0; i < list->n_broken; i++)
        json_string(&j, NULL, list->broken[i]);
    return json_finish(&j, err);
}

static void json_features(struct json *j, const char *features)
{
    json_array(j, "cpu_features");
    while (*features) {
        size_t n = strcspn(features, " ");
        if (n)
            json_string_n(j, NULL, features, n);
        features += n + (features[n] == ' ');
    }
    json_end(j);
}

static void json_format(struct json *j, const Ferry__SnapshotDetail *s)
{
    if (s->parent)
        vm_json_uuid(j, "parent_uuid", &s->parent->uuid);
    else
        json_null(j, "parent_uuid");
    json_string(j, "kind", s->kind);
    json_u64(j, "version", s->version);
    json_u64(j, "min_version", s->min_version);
    json_string(j, "arch", s->arch);
    json_u64(j, "page_bytes", s->page_bytes);
    json_array(j, "regions");
    for (size_t i = 0; i < s->n_regions; i++) {
        json_object(j, NULL);
        json_u64(j, "address", s->regions[i]->gpa);
        json_u64(j, "length_bytes", s->regions[i]->size);
        json_end(j);
    }
    json_end(j);
}

int snapshot_json_detail(FILE *out, const Ferry__SnapshotDetail *s, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_summary(&j, s->summary);
    json_array(&j, "lineage");
    for (size_t i = 0; i < s->n_lineage; i++)
        vm_json_ref(&j, NULL, s->lineage[i]);
    json_end(&j);
    vm_json_config(&j, s->config);
    json_format(&j, s);
    json_string(&j, "release", s->release);
    json_string(&j, "cpu_vendor", s->cpu_vendor);
    json_features(&j, s->cpu_features);
    json_array(&j, "files");
    for (size_t i = 0; i < s->n_files; i++) {
        json_object(&j, NULL);
        json_string(&j, "name", s->files[i]->name);
        json_u64(&j, "length_bytes", s->files[i]->length);
        json_end(&j);
    }
    json_end(&j);
    json_string(&j, "path", s->path);
    return json_finish(&j, err);
}

int snapshot_json_made(FILE *out, const Ferry__SnapshotDetail *s, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_summary(&j, s->summary);
    json_u64(&j, "pause_ns", s->pause_ns);
    json_u64(&j, "total_ns", s->total_ns);
    json_u64(&j, "rounds", s->rounds);
    json_string(&j, "path", s->path);
    if (*s->note)
        json_string(&j, "note", s->note);
    else
        json_null(&j, "note");
    return json_finish(&j, err);
}
