/*
 * The manifest: what a snapshot is, and what its other files must look like.
 *
 *     0   u32 magic "FSNP"     8   u32 length of the message
 *     4   u32 version, 1      12   u32 CRC-32C of the message
 *     16  the message (proto/snapshot.proto)
 *
 * Nothing of a snapshot is believed before its manifest has been read and checked here: identity,
 * names, sizes against each other, regions, lists without gaps or repeats. A manifest that came
 * through holds no name that could lead out of its directory and no count that disagrees with
 * another. Files are opened only through manifest_open_file. A failure is one sentence that names
 * the field.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/uuid.h"
#include "proto/snapshot.pb-c.h"
#include "snapshot/fileio.h"

#define SNAPSHOT_VERSION 1u        /* what is written */
#define SNAPSHOT_VERSION_OLDEST 1u /* the oldest that is read */

#define MANIFEST_MAGIC 0x504e5346u /* "FSNP" */
#define MANIFEST_LAYOUT 1u
#define MANIFEST_HEAD_BYTES 16u
#define MANIFEST_BODY_MAX (6u << 20)

#define SNAPSHOT_CHUNK_BYTES (1u << 20)
#define SNAPSHOT_CHUNK_PAGES 256u
#define SNAPSHOT_RAM_MAX (1ull << 40)
#define SNAPSHOT_REGIONS_MAX 16u
#define SNAPSHOT_FILES_MAX 64u
#define SNAPSHOT_LINEAGE_MAX 256u
#define SNAPSHOT_CHAIN_MAX 64u /* layers, the full one among them */
#define SNAPSHOT_STATE_MAX (64u << 20)
#define SNAPSHOT_ARCH "x86_64"

/* What an index has for each chunk of RAM: u32 length of its frame, u32 CRC-32C of the frame. */
#define SNAPSHOT_INDEX_ENTRY 8u

/* All that can be said without looking at other files. */
int manifest_check(const Ferry__SnapshotManifest *m, struct err *err);

/* Checks and appends head and message. */
int manifest_pack(const Ferry__SnapshotManifest *m, struct buf *out, struct err *err);

/* The bytes are the whole file. NULL with a sentence; else freed with manifest_free. */
Ferry__SnapshotManifest *manifest_unpack(const uint8_t *data, size_t len, struct err *err);
void manifest_free(Ferry__SnapshotManifest *m);
static inline void clean_manifest(Ferry__SnapshotManifest **m)
{
    manifest_free(*m);
    *m = NULL;
}

/* Makes the file `manifest`: its descriptor, for the caller to sync. */
int manifest_create(const struct fileio *io, int dirfd, const Ferry__SnapshotManifest *m,
                    struct err *err);

/* Makes it and syncs it. */
int manifest_write(const struct fileio *io, int dirfd, const Ferry__SnapshotManifest *m,
                   struct err *err);
Ferry__SnapshotManifest *manifest_read(int dirfd, struct err *err);

/* The directory has the files of the manifest, plain ones of the right length, and no other. */
int manifest_check_files(int dirfd, const Ferry__SnapshotManifest *m, struct err *err);

/* A descriptor for reading; refuses a link, a pipe, a device, another length than the manifest's.
 */
int manifest_open_file(int dirfd, const Ferry__SnapshotManifest *m, const char *name,
                       struct err *err);

/* NULL when there is none. */
const Ferry__SnapshotFile *manifest_file(const Ferry__SnapshotManifest *m, const char *name);

bool manifest_is_diff(const Ferry__SnapshotManifest *m);
bool manifest_is_packed(const Ferry__SnapshotManifest *m);
static inline bool manifest_has_pages(const Ferry__SnapshotManifest *m)
{
    return m->memory != FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL;
}

/* Started MiB. */
static inline uint64_t manifest_chunks(uint64_t bytes)
{
    return bytes / SNAPSHOT_CHUNK_BYTES + (bytes % SNAPSHOT_CHUNK_BYTES != 0);
}

/* The checksum of a file's chunk, or of a chunk of RAM for `memory`. */
uint32_t manifest_crc(const Ferry__SnapshotFile *file, uint64_t chunk);

bool manifest_same_uuid(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b);
void manifest_uuid(const ProtobufCBinaryData *from, struct uuid *to);

/*
 * What the snapshot's guest would miss on a CPU of that vendor with these features (spelled and
 * separated as in SnapshotCpu): writes "a, b, c" and returns how many there are; cut with "and N
 * more" when it does not fit.
 */
unsigned manifest_cpu_missing(const Ferry__SnapshotManifest *m, const char *vendor,
                              const char *features, char *names, size_t size);
