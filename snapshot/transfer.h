/*
 * Snapshots as one file: what export writes and import reads, as a stream that needs no seeking.
 *
 *     u32 magic "FEXP" | u32 version, 1 | a zstd stream of records
 *
 *      0     4        8       16      20
 *     | kind | length | offset | crc32c | payload (length bytes)
 *
 * The CRC covers the 16 bytes before it and the payload. Records come in this order:
 *
 *     SNAPSHOT   payload: the manifest file        the full one first, then what stands on it
 *       FILE     payload: a name of that manifest  each once, in the manifest's order
 *         DATA   bytes of that file at `offset`    rising; what is not there is zero
 *     END        offset: how many snapshots there were
 */
#pragma once

#include <stdint.h>

#define TRANSFER_MAGIC 0x50584546u /* "FEXP" */
#define TRANSFER_VERSION 1u
#define TRANSFER_HEAD_BYTES 8u
#define TRANSFER_RECORD_BYTES 20u
#define TRANSFER_DATA_MAX (1u << 20)

enum transfer_kind {
    TRANSFER_SNAPSHOT = 1,
    TRANSFER_FILE = 2,
    TRANSFER_DATA = 3,
    TRANSFER_END = 4,
};
