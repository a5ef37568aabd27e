/*
 * A message that is kept in a file and replaced in place, at any moment and with no lock between
 * the one who writes and those who read.
 *
 *     two slots; sequence number n goes to slot n % 2:
 *
 *     0   u32 magic            8   u32 crc32c of all behind it   20  the message, `length` bytes
 *     4   u32 length          12  u64 sequence
 *
 * A write that is cut short damages one slot; the other still holds the message before it.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "proto/frame.h"

#define SLOTS_HEAD_BYTES 20u

struct slots_kind {
    const char *what; /* "record file" */
    uint32_t magic, slot_bytes;
    const ProtobufCMessageDescriptor *message;
};

/* Takes the room for both slots now, where the file system can: a full disk must not meet a message
 * that changes. The file stays empty. */
int slots_reserve(const struct slots_kind *kind, int fd, struct err *err);

/* Writes message number `seq` (1, 2, 3...). Not synced: it outlives processes, not the host. */
int slots_write(const struct slots_kind *kind, int fd, uint64_t seq,
                const ProtobufCMessage *message, struct err *err);

/*
 * Reads the newest intact message; the caller frees it with frame_free. -ENODATA when nothing was
 * ever written, -EBADMSG when no slot is intact. `seq` may be NULL.
 */
int slots_read(const struct slots_kind *kind, int fd, uint64_t *seq, ProtobufCMessage **message,
               struct err *err);
