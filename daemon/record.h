/*
 * The record file of a worker, ROOT/vms/NAME/record: its last status, for a ferryd that was not
 * there when it was said. The worker writes, ferryd reads, at any moment and with no lock.
 *
 *     two slots of 64 KiB; sequence number n goes to slot n % 2:
 *
 *     0   u32 magic 'FREC'     8   u32 crc32c of all behind it   20  WorkerStatus, `length` bytes
 *     4   u32 length          12  u64 sequence
 *
 * A write that is cut short damages one slot; the other still holds the status before it.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "proto/worker.pb-c.h"

#define RECORD_SLOT_BYTES 65536u
#define RECORD_HEAD_BYTES 20u
#define RECORD_BODY_MAX (RECORD_SLOT_BYTES - RECORD_HEAD_BYTES)

/* Writes status number `seq` (1, 2, 3...). Not synced: it must outlive processes, not the host. */
/* Takes the room for both slots now, where the file system can: a full disk must not meet a state
 * that changes. The file stays empty. */
int record_reserve(int fd, struct err *err);

int record_write(int fd, uint64_t seq, const Ferry__WorkerStatus *status, struct err *err);

/*
 * Reads the newest intact status; the caller frees it with frame_free. -ENODATA when nothing was
 * ever written, -EBADMSG when no slot is intact. `seq` may be NULL.
 */
int record_read(int fd, uint64_t *seq, Ferry__WorkerStatus **status, struct err *err);
