/*
 * State is described, never copied raw: a const table names each field of a struct, and save, load
 * and describe read the same table.
 *
 *     static const struct field serial_fields[] = {
 *         FIELD(1, struct serial, ier),
 *         FIELD_ARRAY(2, struct serial, rx_fifo),
 *         FIELD_SINCE(3, 2, struct serial, fifo_errors),      // added in version 2
 *         FIELD_END,
 *     };
 *     const struct state_desc serial_state = {
 *         .name = "serial", .version = 2, .min_version = 1, .fields = serial_fields,
 *         .post_load = serial_post_load,
 *     };
 *
 * On the wire a field is self-describing, little-endian, and found by its tag, so that a field may
 * be added (an old reader skips it) and no reader depends on the order:
 *
 *     u16 tag | u8 kind | u8 0 | u32 length | payload (length bytes)
 *
 * A struct's payload is fields again; an array's payload is its elements side by side, of which a
 * counted array has only as many as are in use; an array of structs puts u32 length before each.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum field_kind {
    FIELD_KIND_END = 0,
    FIELD_KIND_U8 = 1,
    FIELD_KIND_U16 = 2,
    FIELD_KIND_U32 = 3,
    FIELD_KIND_U64 = 4,
    FIELD_KIND_I32 = 5,
    FIELD_KIND_I64 = 6,
    FIELD_KIND_BOOL = 7,
    FIELD_KIND_STRUCT = 8,
    FIELD_KIND_STRUCTS = 9,
};

struct state_desc;

struct field {
    uint16_t tag;   /* stable, never reused */
    uint16_t since; /* first version of the table that has it; 0 = from the beginning */
    const char *name;
    enum field_kind kind;
    uint32_t offset, size, count; /* of one element; how many */
    uint32_t used_offset;         /* where a uint32_t says how many are in use; see FIELD_USED */
    bool counted;
    const struct field *sub; /* of a struct or of each of an array of structs: its fields */
};

struct state_desc {
    const char *name;
    uint16_t version, min_version; /* what save writes; the oldest that load takes */
    /* The oldest reader that may load what save writes, skipping the fields it does not know; 0
     * when none older than `version` may. A section carries it. */
    uint16_t reader_version;
    const struct field *fields; /* up to FIELD_END */
    /* Checks and derives what is not stored, after a load; NULL for nothing to do. The object may
     * hold any values: the bytes came from outside. */
    int (*post_load)(void *object, struct err *err);
};

// clang-format off
#define FIELD_KIND_OF(x)                                                                           \
    _Generic((x),                                                                                  \
             uint8_t: FIELD_KIND_U8,   char: FIELD_KIND_U8,   uint16_t: FIELD_KIND_U16,            \
             uint32_t: FIELD_KIND_U32, uint64_t: FIELD_KIND_U64, unsigned long long: FIELD_KIND_U64, \
             int32_t: FIELD_KIND_I32,  int64_t: FIELD_KIND_I64,  long long: FIELD_KIND_I64,        \
             bool: FIELD_KIND_BOOL)
// clang-format on
#define FIELD_MEMBER(type, member) (((type *)0)->member)

#define FIELD_SINCE(tag_, since_, type, member)                                                    \
    {                                                                                              \
        .tag = (tag_), .since = (since_), .name = #member,                                         \
        .kind = FIELD_KIND_OF(FIELD_MEMBER(type, member)), .offset = offsetof(type, member),       \
        .size = sizeof(FIELD_MEMBER(type, member)), .count = 1                                     \
    }
#define FIELD(tag_, type, member) FIELD_SINCE(tag_, 0, type, member)
#define FIELD_ARRAY(tag_, type, member)                                                            \
    {                                                                                              \
        .tag = (tag_), .name = #member, .kind = FIELD_KIND_OF(FIELD_MEMBER(type, member)[0]),      \
        .offset = offsetof(type, member), .size = sizeof(FIELD_MEMBER(type, member)[0]),           \
        .count = sizeof(FIELD_MEMBER(type, member)) / sizeof(FIELD_MEMBER(type, member)[0])        \
    }
/* An array of which the first `used` (a uint32_t member) elements mean something. */
#define FIELD_USED(tag_, type, member, used)                                                       \
    {                                                                                              \
        .tag = (tag_), .name = #member, .kind = FIELD_KIND_OF(FIELD_MEMBER(type, member)[0]),      \
        .offset = offsetof(type, member), .size = sizeof(FIELD_MEMBER(type, member)[0]),           \
        .count = sizeof(FIELD_MEMBER(type, member)) / sizeof(FIELD_MEMBER(type, member)[0]),       \
        .used_offset = offsetof(type, used), .counted = true                                       \
    }
#define FIELD_STRUCTS(tag_, type, member, sub_)                                                    \
    {                                                                                              \
        .tag = (tag_), .name = #member, .kind = FIELD_KIND_STRUCTS,                                \
        .offset = offsetof(type, member), .size = sizeof(FIELD_MEMBER(type, member)[0]),           \
        .count = sizeof(FIELD_MEMBER(type, member)) / sizeof(FIELD_MEMBER(type, member)[0]),       \
        .sub = (sub_)                                                                              \
    }
#define FIELD_STRUCTS_USED(tag_, type, member, used, sub_)                                         \
    {                                                                                              \
        .tag = (tag_), .name = #member, .kind = FIELD_KIND_STRUCTS,                                \
        .offset = offsetof(type, member), .size = sizeof(FIELD_MEMBER(type, member)[0]),           \
        .count = sizeof(FIELD_MEMBER(type, member)) / sizeof(FIELD_MEMBER(type, member)[0]),       \
        .used_offset = offsetof(type, used), .counted = true, .sub = (sub_)                        \
    }
#define FIELD_STRUCT(tag_, type, member, sub_)                                                     \
    {                                                                                              \
        .tag = (tag_), .name = #member, .kind = FIELD_KIND_STRUCT,                                 \
        .offset = offsetof(type, member), .size = sizeof(FIELD_MEMBER(type, member)), .count = 1,  \
        .sub = (sub_)                                                                              \
    }
#define FIELD_END                                                                                  \
    {                                                                                              \
        .kind = FIELD_KIND_END                                                                     \
    }

/* Appends the object's fields. Fails only for want of room. [any] */
int field_save(const struct state_desc *desc, const void *object, struct buf *out, struct err *err);

/*
 * Loads into a built object. A field that `version` should have and the bytes lack is an error by
 * name; a tag that the table does not know is skipped and counted in *skipped (may be NULL). A
 * failed load leaves the object half filled: its owner drops it. [any]
 */
int field_load(const struct state_desc *desc, void *object, uint16_t version, struct span in,
               unsigned *skipped, struct err *err);

/* The table as text, one line a field: the schema that reviews see change. */
int field_describe(const struct state_desc *desc, struct buf *out, struct err *err);
