/* See snapshot_reply.h. */
#include "daemon/snapshot_reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "snapshot/manifest.h"

static void fill_summary(Ferry__SnapshotSummary *s, const struct catalogue_entry *e)
{
    ferry__snapshot_summary__init(s);
    s->name = (char *)e->name;
    s->vm = (char *)e->vm_name;
    s->uuid = (ProtobufCBinaryData){.data = (uint8_t *)e->uuid.bytes, .len = 16};
    s->wall_ns = e->wall_ns;
    s->ram_bytes = e->ram_bytes;
    s->disk_bytes = e->disk_bytes;
    s->parent = (char *)(e->has_parent ? e->parent_name : "");
}

/* "NAME: why". A directory may be called anything; what is no plain character is shown as '?'. */
static char *describe_broken(const struct catalogue_entry *e)
{
    char *text;
    if (asprintf(&text, "%s: %s", e->name, e->problem) < 0)
        return NULL;
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c >= 0x7f)
            *c = '?';
    return text;
}

static void free_texts(char **texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(texts[i]);
}

void snapshot_reply_list(struct snapshot_task *t)
{
    struct err err = {0};
    Ferry__SnapshotList list = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    size_t n = t->list.count + 1;
    CLEAN(clean_free) Ferry__SnapshotSummary *space = calloc(n, sizeof(*space));
    CLEAN(clean_free) Ferry__SnapshotSummary **good = calloc(n, sizeof(*good));
    CLEAN(clean_free) char **broken = calloc(n, sizeof(*broken));
    if (!space || !good || !broken) {
        err_set(&err, ENOMEM, "no memory for the list");
        request_fail(t->rq, &err);
        return;
    }
    for (size_t i = 0; i < t->list.count; i++) {
        const struct catalogue_entry *e = &t->list.entries[i];
        if (e->problem) {
            char *text = describe_broken(e);
            if (text)
                broken[list.n_broken++] = text;
            continue;
        }
        fill_summary(&space[list.n_snapshots], e);
        good[list.n_snapshots] = &space[list.n_snapshots];
        list.n_snapshots++;
    }
    list.snapshots = good;
    list.broken = broken;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOTS;
    reply.snapshots = &list;
    request_done(t->rq, &reply);
    free_texts(broken, list.n_broken);
}

static const char *kind_name(Ferry__SnapshotMemory kind)
{
    static const char *const names[] = {
        [FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL] = "raw full",
        [FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF] = "raw diff",
        [FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL] = "packed full",
        [FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF] = "packed diff",
    };
    bool known = (size_t)kind < sizeof(names) / sizeof(names[0]) && names[kind];
    return known ? names[kind] : "unknown";
}

void snapshot_reply_detail(struct snapshot_task *t, const struct snapshot_done *done)
{
    const struct catalogue_entry *e = catalogue_find(&t->list, t->name);
    const Ferry__SnapshotManifest *m = t->manifest;
    Ferry__SnapshotSummary summary;
    Ferry__SnapshotDetail detail = FERRY__SNAPSHOT_DETAIL__INIT;
    Ferry__SnapshotFileDetail files[SNAPSHOT_FILES_MAX], *list[SNAPSHOT_FILES_MAX];
    Ferry__Reply reply = FERRY__REPLY__INIT;
    char path[4200];
    if (e) {
        fill_summary(&summary, e);
        detail.summary = &summary;
    }
    for (size_t i = 0; i < m->n_files && i < SNAPSHOT_FILES_MAX; i++) {
        ferry__snapshot_file_detail__init(&files[i]);
        files[i].name = m->files[i]->name;
        files[i].length = m->files[i]->length;
        list[detail.n_files++] = &files[i];
    }
    detail.files = list;
    detail.config = m->config;
    detail.release = m->release;
    if (m->cpu) {
        detail.cpu_vendor = m->cpu->vendor;
        detail.cpu_features = m->cpu->features;
    }
    if (done) {
        detail.pause_ns = done->pause_ns;
        detail.total_ns = done->total_ns;
        detail.rounds = done->rounds;
        detail.note = (char *)(uintptr_t)done->note;
    }
    detail.kind = (char *)(uintptr_t)kind_name(m->memory);
    detail.version = m->version;
    detail.min_version = m->min_version;
    detail.arch = m->arch;
    detail.page_bytes = m->page_bytes;
    detail.parent = m->parent;
    detail.regions = m->regions;
    detail.n_regions = m->n_regions;
    detail.lineage = m->lineage;
    detail.n_lineage = m->n_lineage;
    snprintf(path, sizeof(path), "%s/snapshots/%s", t->root->root, t->name);
    detail.path = path;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOT;
    reply.snapshot = &detail;
    request_done(t->rq, &reply);
}
