/* See field.h. */
#include "vmstate/field.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/le.h"

#define FIELD_HEAD_BYTES 8
#define FIELD_DEPTH_MAX 4   /* structs in structs: bounded by the tables, checked all the same */
#define FIELD_PER_TABLE 256 /* tables are ours; this bounds the `seen` set */

static const struct {
    const char *name;
    uint8_t bytes;
} kinds[] = {
    [FIELD_KIND_U8] = {"u8", 1},           [FIELD_KIND_U16] = {"u16", 2},
    [FIELD_KIND_U32] = {"u32", 4},         [FIELD_KIND_U64] = {"u64", 8},
    [FIELD_KIND_I32] = {"i32", 4},         [FIELD_KIND_I64] = {"i64", 8},
    [FIELD_KIND_BOOL] = {"bool", 1},       [FIELD_KIND_STRUCT] = {"struct", 0},
    [FIELD_KIND_STRUCTS] = {"structs", 0},
};

static uint64_t element_get(const struct field *f, const void *object, uint32_t i)
{
    uint64_t value = 0;
    memcpy(&value, (const uint8_t *)object + f->offset + (size_t)i * f->size, f->size);
    return value;
}

static void element_put(const struct field *f, void *object, uint32_t i, uint64_t value)
{
    memcpy((uint8_t *)object + f->offset + (size_t)i * f->size, &value, f->size);
}

static int save_fields(const struct field *fields, const void *object, struct buf *out);

/* How many elements are in use; never more than there are. */
static uint32_t used_get(const struct field *f, const void *object)
{
    uint32_t used = f->count;
    if (f->counted)
        memcpy(&used, (const uint8_t *)object + f->used_offset, sizeof(used));
    return used < f->count ? used : f->count;
}

static void used_put(const struct field *f, void *object, uint32_t used)
{
    if (f->counted)
        memcpy((uint8_t *)object + f->used_offset, &used, sizeof(used));
}

/* u32 length, then the fields, for each. */
static int save_structs(const struct field *f, const void *object, struct buf *out)
{
    int rc = 0;
    for (uint32_t i = 0, n = used_get(f, object); rc == 0 && i < n; i++) {
        size_t at = out->len;
        rc = buf_append_le(out, 0, 4);
        if (rc == 0)
            rc =
                save_fields(f->sub, (const uint8_t *)object + f->offset + (size_t)i * f->size, out);
        if (rc == 0)
            le_put(out->data + at, out->len - at - 4, 4);
    }
    return rc;
}

static int save_numbers(const struct field *f, const void *object, struct buf *out)
{
    uint32_t n = used_get(f, object);
    unsigned bytes = kinds[f->kind].bytes;
    uint8_t *to = buf_reserve(out, (size_t)n * bytes);
    if (!to)
        return -1;
    if (bytes == 1)
        memcpy(to, (const uint8_t *)object + f->offset, n);
    else
        for (uint32_t i = 0; i < n; i++)
            le_put(to + (size_t)i * bytes, element_get(f, object, i), bytes);
    out->len += (size_t)n * bytes;
    return 0;
}

static int save_field(const struct field *f, const void *object, struct buf *out)
{
    size_t head = out->len;
    uint8_t *to = buf_reserve(out, FIELD_HEAD_BYTES);
    int rc;
    if (!to)
        return -1;
    le_put(to, f->tag, 2);
    le_put(to + 2, f->kind, 2); /* and a 0 */
    out->len += FIELD_HEAD_BYTES;
    if (f->kind == FIELD_KIND_STRUCT)
        rc = save_fields(f->sub, (const uint8_t *)object + f->offset, out);
    else
        rc = f->kind == FIELD_KIND_STRUCTS ? save_structs(f, object, out)
                                           : save_numbers(f, object, out);
    if (rc == 0)
        le_put(out->data + head + 4, out->len - head - FIELD_HEAD_BYTES, 4);
    return rc;
}

static int save_fields(const struct field *fields, const void *object, struct buf *out)
{
    int rc = 0;
    for (const struct field *f = fields; rc == 0 && f->kind != FIELD_KIND_END; f++)
        rc = save_field(f, object, out);
    return rc;
}

int field_save(const struct state_desc *desc, const void *object, struct buf *out, struct err *err)
{
    if (save_fields(desc->fields, object, out) < 0)
        return err_set(err, ENOSPC, "state of '%s' does not fit %zu bytes", desc->name, out->max);
    return 0;
}

struct loader {
    const struct state_desc *desc;
    uint16_t version;
    unsigned skipped;
    struct err *err;
};

static int load_fields(struct loader *l, const struct field *fields, void *object, struct span in,
                       unsigned depth);

static int load_numbers(struct loader *l, const struct field *f, void *object, struct span in)
{
    uint64_t want = (uint64_t)f->count * kinds[f->kind].bytes;
    bool fits =
        f->counted ? in.left <= want && in.left % kinds[f->kind].bytes == 0 : in.left == want;
    uint32_t used = (uint32_t)(in.left / kinds[f->kind].bytes);
    if (!fits)
        return err_set(l->err, EBADMSG, "%s.%s has %zu bytes instead of %" PRIu64, l->desc->name,
                       f->name, in.left, want);
    used_put(f, object, used);
    for (uint32_t i = 0; i < used; i++) {
        uint64_t value = 0;
        span_le(&in, kinds[f->kind].bytes, &value);
        if (f->kind == FIELD_KIND_BOOL && value > 1)
            return err_set(l->err, EBADMSG, "%s.%s is neither true nor false", l->desc->name,
                           f->name);
        element_put(f, object, i, value);
    }
    return 0;
}

static int load_structs(struct loader *l, const struct field *f, void *object, struct span in,
                        unsigned depth)
{
    uint32_t i = 0;
    for (; in.left; i++) {
        uint64_t length;
        if (i == f->count)
            return err_set(l->err, EBADMSG, "%s.%s has more than %u elements", l->desc->name,
                           f->name, f->count);
        if (!span_le(&in, 4, &length) || length > in.left)
            return err_set(l->err, EBADMSG, "%s.%s is truncated", l->desc->name, f->name);
        struct span one = {.at = span_take(&in, length), .left = length};
        int rc = load_fields(l, f->sub, (uint8_t *)object + f->offset + (size_t)i * f->size, one,
                             depth + 1);
        if (rc < 0)
            return rc;
    }
    if (!f->counted && i != f->count)
        return err_set(l->err, EBADMSG, "%s.%s has %u elements instead of %u", l->desc->name,
                       f->name, i, f->count);
    used_put(f, object, i);
    return 0;
}

static int load_field(struct loader *l, const struct field *f, unsigned kind, void *object,
                      struct span in, unsigned depth)
{
    if (kind != f->kind)
        return err_set(l->err, EBADMSG, "%s.%s is of kind %u instead of %s", l->desc->name, f->name,
                       kind, kinds[f->kind].name);
    if (f->kind == FIELD_KIND_STRUCTS)
        return load_structs(l, f, object, in, depth);
    if (f->kind != FIELD_KIND_STRUCT)
        return load_numbers(l, f, object, in);
    return load_fields(l, f->sub, (uint8_t *)object + f->offset, in, depth + 1);
}

static const struct field *field_by_tag(const struct field *fields, uint64_t tag)
{
    for (const struct field *f = fields; f->kind != FIELD_KIND_END; f++)
        if (f->tag == tag)
            return f;
    return NULL;
}

static int check_missing(struct loader *l, const struct field *fields, const bool *seen)
{
    for (const struct field *f = fields; f->kind != FIELD_KIND_END; f++)
        if (!seen[f - fields] && f->since <= l->version)
            return err_set(l->err, EBADMSG, "%s.%s is missing", l->desc->name, f->name);
    return 0;
}

/* One record: header, payload, then the field it belongs to. */
static int load_record(struct loader *l, const struct field *fields, bool *seen, void *object,
                       struct span *in, unsigned depth)
{
    uint64_t tag, kind, zero, length;
    if (!span_le(in, 2, &tag) || !span_le(in, 1, &kind) || !span_le(in, 1, &zero) ||
        !span_le(in, 4, &length))
        return err_set(l->err, EBADMSG, "%s is truncated in a field header", l->desc->name);
    struct span payload = {.at = span_take(in, length), .left = length};
    if (!payload.at)
        return err_set(l->err, EBADMSG, "%s field %u is truncated", l->desc->name, (unsigned)tag);
    if (zero != 0)
        return err_set(l->err, EBADMSG, "%s field %u has unknown flags", l->desc->name,
                       (unsigned)tag);
    const struct field *f = field_by_tag(fields, tag);
    if (!f) {
        l->skipped++;
        return 0;
    }
    if (seen[f - fields])
        return err_set(l->err, EBADMSG, "%s.%s is there twice", l->desc->name, f->name);
    seen[f - fields] = true;
    return load_field(l, f, (unsigned)kind, object, payload, depth);
}

static int load_fields(struct loader *l, const struct field *fields, void *object, struct span in,
                       unsigned depth)
{
    bool seen[FIELD_PER_TABLE] = {false};
    if (depth > FIELD_DEPTH_MAX)
        return err_set(l->err, EBADMSG, "%s is nested too deep", l->desc->name);
    while (in.left) {
        int rc = load_record(l, fields, seen, object, &in, depth);
        if (rc < 0)
            return rc;
    }
    return check_missing(l, fields, seen);
}

int field_load(const struct state_desc *desc, void *object, uint16_t version, struct span in,
               unsigned *skipped, struct err *err)
{
    struct loader l = {.desc = desc, .version = version, .err = err};
    if (version < desc->min_version)
        return err_set(err, EPROTONOSUPPORT, "%s has version %u, older than the oldest known %u",
                       desc->name, version, desc->min_version);
    int rc = load_fields(&l, desc->fields, object, in, 0);
    if (skipped)
        *skipped = l.skipped;
    if (rc == 0 && desc->post_load)
        rc = desc->post_load(object, err);
    return rc;
}

static int describe_fields(const struct field *fields, unsigned indent, struct buf *out)
{
    int rc = 0;
    for (const struct field *f = fields; rc == 0 && f->kind != FIELD_KIND_END; f++) {
        char line[200];
        int n = snprintf(line, sizeof(line), "%*s%u %s %s", indent, "", f->tag, f->name,
                         kinds[f->kind].name);
        if (f->count != 1)
            n += snprintf(line + n, sizeof(line) - n, f->counted ? "[up to %u]" : "[%u]", f->count);
        if (f->since)
            n += snprintf(line + n, sizeof(line) - n, " since %u", f->since);
        n += snprintf(line + n, sizeof(line) - n, "\n");
        rc = buf_append(out, line, (size_t)n);
        if (rc == 0 && f->sub)
            rc = describe_fields(f->sub, indent + 2, out);
    }
    return rc;
}

int field_describe(const struct state_desc *desc, struct buf *out, struct err *err)
{
    char line[200];
    int n = snprintf(line, sizeof(line), "%s version %u (loads from %u)\n", desc->name,
                     desc->version, desc->min_version);
    if (buf_append(out, line, (size_t)n) < 0 || describe_fields(desc->fields, 2, out) < 0)
        return err_set(err, ENOSPC, "schema of '%s' does not fit", desc->name);
    return 0;
}
