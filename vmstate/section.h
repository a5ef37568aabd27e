/*
 * Sections: the frame around each piece of state, at rest in a snapshot and on the wire of a
 * migration. A stream of state is sections side by side, in any order, each on its own feet:
 *
 *      0       4          6       8          12        14        16       20       24
 *     | "FSEC" | name len | flags | instance | version | readers | length | crc32c | name | payload
 *
 * The CRC covers the whole section but itself, so that no flipped bit gets past it. `version` is
 * the writer's, `readers` the oldest version of a reader that may load it. A section that the
 * reader does not know is an error by name when it is marked critical, else it is skipped and
 * counted. docs/state-format.md has the details.
 *
 * Happy path: a set lists what a machine consists of (devices, vCPUs, ...); section_set_save writes
 * it, section_set_load fills the same set built on the other side.
 *
 * The bytes are hostile: every failure is one sentence that names the section, and nothing is read
 * or allocated beyond bounds. A failed load leaves objects half filled; their owner drops the
 * machine.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmstate/field.h"

#define SECTION_MAGIC 0x43455346u /* "FSEC" */
#define SECTION_HEAD_BYTES 24u
#define SECTION_NAME_MAX 63u
#define SECTION_PAYLOAD_MAX (16u << 20)
#define SECTION_SET_MAX 16384u

#define SECTION_CRITICAL 0x0001u /* a reader that does not know it must give up */
#define SECTION_FLAGS SECTION_CRITICAL

struct section {
    char name[SECTION_NAME_MAX + 1]; /* of a-z 0-9 . _ - */
    uint16_t flags;
    uint32_t instance;
    uint16_t version, reader_version;
    struct span payload; /* borrowed */
};

/* Appends one section; on failure `out` is as before. [any] */
int section_write(const struct section *s, struct buf *out, struct err *err);

/* Takes one section off `in`: 1; 0 at the end; -errno for damage. [any] */
int section_read(struct span *in, struct section *s, struct err *err);

/* One object by its table. */
int section_save(const struct state_desc *desc, uint32_t instance, uint16_t flags,
                 const void *object, struct buf *out, struct err *err);
/* `fields_skipped` (may be NULL) grows by the fields that the table does not know. */
int section_load(const struct section *s, const struct state_desc *desc, void *object,
                 unsigned *fields_skipped, struct err *err);

struct section_target {
    const struct state_desc *desc; /* borrowed */
    uint32_t instance;
    uint16_t flags;
    void *object; /* borrowed */
    bool loaded;  /* by the last section_set_load */
};

/* All that is saved of a machine, in the order of saving. */
struct section_set {
    struct section_target *targets; /* owned */
    unsigned count, capacity;
};

/* What a load passed over, for the log. */
struct section_report {
    unsigned sections_skipped, fields_skipped;
    char first_skipped[SECTION_NAME_MAX + 1];
};

void section_set_init(struct section_set *set);
void section_set_fini(struct section_set *set);

/* Refuses a name and instance that is there already. A critical one must be in every load. */
int section_set_add(struct section_set *set, const struct state_desc *desc, uint32_t instance,
                    uint16_t flags, void *object, struct err *err);

int section_set_save(const struct section_set *set, struct buf *out, struct err *err);

/* `report` may be NULL. */
int section_set_load(struct section_set *set, struct span in, struct section_report *report,
                     struct err *err);
