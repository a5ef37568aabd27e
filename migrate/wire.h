/*
 * The bytes of a migration: frames, each with a head of 32 bytes, little-endian.
 *
 *     0   u16 magic 0x4d46 "FM"       16  u64 value, by kind
 *     2   u8  kind                    24  u32 crc32c of the meta part
 *     3   u8  flags                   28  u32 crc32c of bytes 0..27
 *     4   u32 bytes of the meta part, which follows
 *     8   u64 bytes of page data, which follow that
 *
 * The meta part has numbers, tables or a message of migrate.proto; only PAGES and PACKED have page
 * data. Each kind has bounds for both, and an engine takes a kind only in the states that
 * wire_kinds names. docs/migration-protocol.md describes all of them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WIRE_VERSION 3u
#define WIRE_MAGIC 0x4d46u
#define WIRE_HEAD_BYTES 32u
#define WIRE_PAGE 4096u

#define WIRE_PAGES_MAX 256u /* in one frame */
#define WIRE_RUNS_MAX 256u  /* of which PAGES is made */
#define WIRE_RANGES_MAX 2048u
#define WIRE_CHUNK_MAX 65536u      /* of state */
#define WIRE_CARGO_MAX 131072u     /* one piece of cargo */
#define WIRE_STATE_MAX (32u << 20) /* all state chunks together */
#define WIRE_META_MAX 131072u

enum wire_kind {
    WIRE_ALIVE = 1, /* nothing; shows that the sender lives */
    WIRE_CANCEL,    /* the sender gives up: MigrateFailure */
    WIRE_START,     /* MigrateStart */
    WIRE_EXPECT,    /* ranges of RAM that will come */
    WIRE_PAGES,     /* pages and their contents */
    WIRE_ZERO,      /* ranges that are zero */
    WIRE_CARGO,     /* bytes that the engines do not understand */
    WIRE_ROUND_END, /* value: number of the round; flag LAST: the guest stands still */
    WIRE_STATE,     /* a piece of the state; value: its offset */
    WIRE_COMPLETE,  /* all is told: MigrateComplete; value: epoch */
    WIRE_HANDOFF,   /* value: epoch */
    WIRE_ACK,       /* value: number of the round */
    WIRE_READY,     /* MigrateReady; value: epoch */
    WIRE_RUNNING,   /* MigrateRunning; value: epoch */
    WIRE_PACKED,    /* pages, their contents as one zstd frame that is less than they are */
    WIRE_KINDS
};

#define WIRE_LAST 1u /* flag of ROUND_END */

struct wire_head {
    uint8_t kind, flags;
    uint32_t meta_bytes, meta_crc;
    uint64_t data_bytes, value;
};

struct wire_range {
    uint64_t offset, bytes; /* RAM offset; whole pages */
};

const char *wire_kind_name(unsigned kind);

void wire_head_put(const struct wire_head *h, uint8_t to[WIRE_HEAD_BYTES]);

/* Checks magic, checksum, kind and bounds; the sentence names the field. */
int wire_head_get(const uint8_t from[WIRE_HEAD_BYTES], struct wire_head *h, struct err *err);

/* Tables of ranges, 16 bytes each: u64 offset, u64 bytes. */
size_t wire_ranges_put(const struct wire_range *ranges, size_t count, uint8_t *to);

/* Whole pages within RAM, at least one range; returns the count. */
int wire_ranges_get(const uint8_t *meta, size_t bytes, uint64_t ram_bytes,
                    struct wire_range ranges[WIRE_RANGES_MAX], struct err *err);

/*
 * The meta part of PAGES and PACKED: for each run u64 = offset | pages - 1 (pages of a run: 1..256,
 * the offset is a multiple of 4096), then for each page u32 crc32c. head->value is the number of
 * runs.
 */
struct wire_run {
    uint64_t offset;
    uint32_t pages;
};

size_t wire_runs_put(const struct wire_run *runs, size_t count, const uint32_t *crcs, size_t pages,
                     uint8_t *to);
int wire_runs_get(const struct wire_head *h, const uint8_t *meta, uint64_t ram_bytes,
                  struct wire_run runs[WIRE_RUNS_MAX], uint32_t crcs[WIRE_PAGES_MAX],
                  struct err *err);
