/*
 * The manifest of a snapshot. The first byte decides whether the rest is the whole file or only the
 * message, which then gets a right head: so the message's own checks are reached. What is taken
 * must be written and taken again, and its numbers must fit each other.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "snapshot/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const Ferry__SnapshotManifest *m)
{
    char names[64];
    struct buf out;
    struct err err;
    uint64_t end = 0;
    buf_init(&out, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX);
    (void)manifest_cpu_missing(m, "GenuineIntel", "sse sse2", names, sizeof(names));
    for (size_t i = 0; i < m->n_regions; i++) {
        if (m->regions[i]->offset != end || m->regions[i]->gpa + m->regions[i]->size < end)
            __builtin_trap();
        end += m->regions[i]->size;
    }
    const Ferry__SnapshotFile *memory = manifest_file(m, "memory");
    if (end != m->ram_bytes || !memory || manifest_file(m, "state") == NULL ||
        memory->crc32c.len / 4 != manifest_chunks(end))
        __builtin_trap();
    for (size_t i = 0; i < m->n_files; i++)
        if (strchr(m->files[i]->name, '/') || m->files[i]->name[0] == '.')
            __builtin_trap();
    if (manifest_pack(m, &out, &err) == 0) {
        Ferry__SnapshotManifest *again = manifest_unpack(out.data, out.len, &err);
        if (!again)
            __builtin_trap();
        manifest_free(again);
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf in;
    struct err err;
    if (size < 1 || size > MANIFEST_BODY_MAX)
        return 0;
    buf_init(&in, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX + 1);
    if (data[0]) {
        buf_append_le(&in, MANIFEST_MAGIC, 4);
        buf_append_le(&in, MANIFEST_LAYOUT, 4);
        buf_append_le(&in, size - 1, 4);
        buf_append_le(&in, crc32c(0, data + 1, size - 1), 4);
    }
    buf_append(&in, data + 1, size - 1);
    Ferry__SnapshotManifest *m = manifest_unpack(in.data, in.len, &err);
    if (m)
        check(m);
    manifest_free(m);
    buf_fini(&in);
    return 0;
}
