/* See section.h. */
#include "vmstate/section.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/le.h"

enum {
    AT_MAGIC = 0,
    AT_NAME_LEN = 4,
    AT_FLAGS = 6,
    AT_INSTANCE = 8,
    AT_VERSION = 12,
    AT_READER_VERSION = 14,
    AT_LENGTH = 16,
    AT_CRC = 20,
};

static bool name_is_good(const char *name, size_t len)
{
    if (len == 0 || len > SECTION_NAME_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '.' || name[i] == '_' || name[i] == '-'))
            return false;
    return true;
}

static uint32_t section_crc(const uint8_t *head, size_t total)
{
    uint32_t crc = crc32c(0, head, AT_CRC);
    return crc32c(crc, head + SECTION_HEAD_BYTES, total - SECTION_HEAD_BYTES);
}

/* Header and name, with length and CRC still to be filled in. */
static int begin(const struct section *s, struct buf *out, struct err *err)
{
    size_t name_len = strnlen(s->name, sizeof(s->name));
    if (!name_is_good(s->name, name_len))
        return err_set(err, EINVAL, "'%.*s' is no name for a section", (int)name_len, s->name);
    if (s->version == 0 || s->reader_version == 0 || s->reader_version > s->version ||
        (s->flags & ~SECTION_FLAGS))
        return err_set(err, EINVAL, "section '%s' has impossible versions or flags", s->name);
    uint8_t *head = buf_reserve(out, SECTION_HEAD_BYTES + name_len);
    if (!head)
        return err_set(err, ENOSPC, "section '%s' does not fit %zu bytes", s->name, out->max);
    le_put(head + AT_MAGIC, SECTION_MAGIC, 4);
    le_put(head + AT_NAME_LEN, name_len, 2);
    le_put(head + AT_FLAGS, s->flags, 2);
    le_put(head + AT_INSTANCE, s->instance, 4);
    le_put(head + AT_VERSION, s->version, 2);
    le_put(head + AT_READER_VERSION, s->reader_version, 2);
    memcpy(head + SECTION_HEAD_BYTES, s->name, name_len);
    out->len += SECTION_HEAD_BYTES + name_len;
    return 0;
}

/* The payload lies behind the name now: seals what began at `start`. */
static int end(const struct section *s, struct buf *out, size_t start, struct err *err)
{
    size_t total = out->len - start;
    size_t payload = total - SECTION_HEAD_BYTES - strlen(s->name);
    uint8_t *head = out->data + start;
    if (payload > SECTION_PAYLOAD_MAX)
        return err_set(err, EFBIG, "section '%s' has more than %u bytes", s->name,
                       SECTION_PAYLOAD_MAX);
    le_put(head + AT_LENGTH, payload, 4);
    le_put(head + AT_CRC, section_crc(head, total), 4);
    return 0;
}

int section_write(const struct section *s, struct buf *out, struct err *err)
{
    size_t start = out->len;
    int rc = begin(s, out, err);
    if (rc == 0 && buf_append(out, s->payload.at, s->payload.left) < 0)
        rc = err_set(err, ENOSPC, "section '%s' does not fit %zu bytes", s->name, out->max);
    if (rc == 0)
        rc = end(s, out, start, err);
    if (rc < 0)
        out->len = start;
    return rc;
}

static int describe(struct section *s, const struct state_desc *desc, uint32_t instance,
                    uint16_t flags, struct err *err)
{
    size_t len = strnlen(desc->name, SECTION_NAME_MAX + 1);
    *s = (struct section){
        .flags = flags,
        .instance = instance,
        .version = desc->version,
        .reader_version = desc->reader_version ? desc->reader_version : desc->version,
    };
    if (len > SECTION_NAME_MAX)
        return err_set(err, EINVAL, "'%s' is too long a name for a section", desc->name);
    memcpy(s->name, desc->name, len);
    return 0;
}

int section_save(const struct state_desc *desc, uint32_t instance, uint16_t flags,
                 const void *object, struct buf *out, struct err *err)
{
    struct section s;
    size_t start = out->len;
    int rc = describe(&s, desc, instance, flags, err);
    if (rc == 0)
        rc = begin(&s, out, err);
    if (rc == 0)
        rc = field_save(desc, object, out, err);
    if (rc == 0)
        rc = end(&s, out, start, err);
    if (rc < 0)
        out->len = start;
    return rc;
}

/* What the header says, once the CRC vouches for it. */
static int check(struct section *s, const uint8_t *head, size_t name_len, struct err *err)
{
    const char *name = (const char *)head + SECTION_HEAD_BYTES;
    if (!name_is_good(name, name_len))
        return err_set(err, EBADMSG, "a section has an impossible name");
    memcpy(s->name, name, name_len);
    s->flags = (uint16_t)le_get(head + AT_FLAGS, 2);
    s->instance = (uint32_t)le_get(head + AT_INSTANCE, 4);
    s->version = (uint16_t)le_get(head + AT_VERSION, 2);
    s->reader_version = (uint16_t)le_get(head + AT_READER_VERSION, 2);
    if (s->flags & ~SECTION_FLAGS)
        return err_set(err, EPROTONOSUPPORT, "section '%s' has unknown flags 0x%x", s->name,
                       s->flags);
    if (s->reader_version == 0 || s->reader_version > s->version)
        return err_set(err, EBADMSG, "section '%s' of version %u says it needs version %u", s->name,
                       s->version, s->reader_version);
    return 0;
}

int section_read(struct span *in, struct section *s, struct err *err)
{
    *s = (struct section){0};
    if (in->left == 0)
        return 0;
    const uint8_t *head = in->at;
    if (in->left < SECTION_HEAD_BYTES)
        return err_set(err, EBADMSG, "state is truncated in a section header");
    if (le_get(head + AT_MAGIC, 4) != SECTION_MAGIC)
        return err_set(err, EBADMSG, "state has no section where one should begin");
    size_t name_len = le_get(head + AT_NAME_LEN, 2), length = le_get(head + AT_LENGTH, 4);
    if (name_len > SECTION_NAME_MAX)
        return err_set(err, EBADMSG, "a section has a name of %zu bytes", name_len);
    if (length > SECTION_PAYLOAD_MAX)
        return err_set(err, EBADMSG, "a section has %zu bytes, more than %u", length,
                       SECTION_PAYLOAD_MAX);
    size_t total = SECTION_HEAD_BYTES + name_len + length;
    if (!span_take(in, total))
        return err_set(err, EBADMSG, "state is truncated in a section of %zu bytes", length);
    if (section_crc(head, total) != le_get(head + AT_CRC, 4))
        return err_set(err, EBADMSG, "a section of %zu bytes is damaged: its checksum is wrong",
                       length);
    int rc = check(s, head, name_len, err);
    s->payload = (struct span){.at = head + SECTION_HEAD_BYTES + name_len, .left = length};
    return rc < 0 ? rc : 1;
}

int section_load(const struct section *s, const struct state_desc *desc, void *object,
                 unsigned *fields_skipped, struct err *err)
{
    unsigned skipped = 0;
    if (desc->version < s->reader_version)
        return err_set(err, EPROTONOSUPPORT,
                       "section '%s' needs version %u of its reader, this one has %u", s->name,
                       s->reader_version, desc->version);
    int rc = field_load(desc, object, s->version, s->payload, &skipped, err);
    if (fields_skipped)
        *fields_skipped += skipped;
    return rc < 0 ? err_wrap(err, "section '%s' %" PRIu32, s->name, s->instance) : 0;
}

void section_set_init(struct section_set *set)
{
    *set = (struct section_set){0};
}

void section_set_fini(struct section_set *set)
{
    free(set->targets);
    *set = (struct section_set){0};
}

/* Looks from `hint` on and around: sections mostly come in the order of the set. */
static struct section_target *find(const struct section_set *set, const char *name,
                                   uint32_t instance, unsigned hint)
{
    for (unsigned i = 0; i < set->count; i++) {
        struct section_target *t = &set->targets[(hint + i) % set->count];
        if (t->instance == instance && strcmp(t->desc->name, name) == 0)
            return t;
    }
    return NULL;
}

static int grow(struct section_set *set, struct err *err)
{
    unsigned capacity = set->capacity ? set->capacity * 2 : 16;
    if (set->count < set->capacity)
        return 0;
    if (set->count >= SECTION_SET_MAX)
        return err_set(err, ENOSPC, "more than %u sections", SECTION_SET_MAX);
    struct section_target *targets = realloc(set->targets, capacity * sizeof(*targets));
    if (!targets)
        return err_set(err, ENOMEM, "no memory for a list of sections");
    set->targets = targets;
    set->capacity = capacity;
    return 0;
}

int section_set_add(struct section_set *set, const struct state_desc *desc, uint32_t instance,
                    uint16_t flags, void *object, struct err *err)
{
    if (find(set, desc->name, instance, 0))
        return err_set(err, EEXIST, "section '%s' %" PRIu32 " is there already", desc->name,
                       instance);
    int rc = grow(set, err);
    if (rc < 0)
        return rc;
    set->targets[set->count++] = (struct section_target){
        .desc = desc, .instance = instance, .flags = flags, .object = object};
    return 0;
}

int section_set_save(const struct section_set *set, struct buf *out, struct err *err)
{
    size_t start = out->len;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < set->count; i++) {
        const struct section_target *t = &set->targets[i];
        rc = section_save(t->desc, t->instance, t->flags, t->object, out, err);
    }
    if (rc < 0)
        out->len = start;
    return rc;
}

static int skip(const struct section *s, struct section_report *report, struct err *err)
{
    if (s->flags & SECTION_CRITICAL)
        return err_set(err, EPROTONOSUPPORT,
                       "section '%s' %" PRIu32 " is unknown here and the machine cannot do without",
                       s->name, s->instance);
    if (report->sections_skipped == SECTION_SET_MAX)
        return err_set(err, EBADMSG, "more than %u unknown sections", SECTION_SET_MAX);
    if (report->sections_skipped++ == 0)
        memcpy(report->first_skipped, s->name, sizeof(report->first_skipped));
    return 0;
}

static int take(struct section_set *set, const struct section *s, unsigned *hint,
                struct section_report *report, struct err *err)
{
    struct section_target *t = find(set, s->name, s->instance, *hint);
    if (!t)
        return skip(s, report, err);
    if (t->loaded)
        return err_set(err, EBADMSG, "section '%s' %" PRIu32 " is there twice", s->name,
                       s->instance);
    t->loaded = true;
    *hint = (unsigned)(t - set->targets) + 1;
    return section_load(s, t->desc, t->object, &report->fields_skipped, err);
}

static int check_missing(const struct section_set *set, struct err *err)
{
    for (unsigned i = 0; i < set->count; i++)
        if (!set->targets[i].loaded && (set->targets[i].flags & SECTION_CRITICAL))
            return err_set(err, EBADMSG, "section '%s' %" PRIu32 " is missing",
                           set->targets[i].desc->name, set->targets[i].instance);
    return 0;
}

int section_set_load(struct section_set *set, struct span in, struct section_report *report,
                     struct err *err)
{
    struct section_report unused;
    struct section s;
    unsigned hint = 0;
    int rc;
    if (!report)
        report = &unused;
    *report = (struct section_report){0};
    for (unsigned i = 0; i < set->count; i++)
        set->targets[i].loaded = false;
    while ((rc = section_read(&in, &s, err)) > 0) {
        rc = take(set, &s, &hint, report, err);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? rc : check_missing(set, err);
}
