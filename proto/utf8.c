/* See utf8.h. */
#include "proto/utf8.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Length of the sequence at p and its code point; 0 when it is none. Reads no byte behind a NUL. */
static unsigned decode(const uint8_t *p, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    if (n == 0)
        return 0;
    *code = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    bool surrogate = *code >= 0xd800 && *code <= 0xdfff;
    return *code < least[n] || *code > 0x10ffff || surrogate ? 0 : n;
}

/* Length of the letter at p; 0 for what no text may hold. */
static unsigned letter(const uint8_t *p)
{
    uint32_t code = 0;
    unsigned n = decode(p, &code);
    bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
    return control && code != '\t' && code != '\n' ? 0 : n;
}

bool utf8_valid(const char *text)
{
    const uint8_t *p = (const uint8_t *)text;
    while (*p) {
        unsigned n = letter(p);
        if (n == 0)
            return false;
        p += n;
    }
    return true;
}

void utf8_clean(char *text)
{
    uint8_t *p = (uint8_t *)text;
    while (*p) {
        unsigned n = letter(p);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
}

static int check_value(const ProtobufCFieldDescriptor *f, const void *slot, struct err *err)
{
    const void *value = *(const void *const *)slot;
    if (!value)
        return 0;
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return utf8_check_message(value, err);
    if (!utf8_valid(value))
        return err_set(err, EBADMSG, "field '%s' is not clean UTF-8 text", f->name);
    return 0;
}

static int check_field(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *f,
                       struct err *err)
{
    const uint8_t *base = (const uint8_t *)message;
    if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE)
        return 0;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)(base + f->quantifier_offset);
        const uint8_t *array = *(const uint8_t *const *)(base + f->offset);
        int rc = 0;
        for (size_t i = 0; rc == 0 && i < n; i++)
            rc = check_value(f, array + i * sizeof(void *), err);
        return rc;
    }
    /* A member of a oneof shares its memory with the others: only the one that is set is there. */
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
        *(const uint32_t *)(base + f->quantifier_offset) != f->id)
        return 0;
    return check_value(f, base + f->offset, err);
}

int utf8_check_message(const ProtobufCMessage *message, struct err *err)
{
    const ProtobufCMessageDescriptor *type = message->descriptor;
    int rc = 0;
    for (unsigned i = 0; i < message->n_unknown_fields; i++)
        if (message->unknown_fields[i].tag == 0)
            return err_set(err, EBADMSG, "a field of %s has the number 0", type->short_name);
    for (unsigned i = 0; rc == 0 && i < type->n_fields; i++)
        rc = check_field(message, &type->fields[i], err);
    return rc;
}
