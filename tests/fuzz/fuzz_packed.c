/*
 * A packed image: 128 bytes of its map, 16 of its index, the rest its frames. The manifest around
 * them is right, and the checksums that would stop a fuzzer are made right, all but the one of the
 * unpacked bytes. Everything is read and verified.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/fs.h"
#include "base/le.h"
#include "snapshot/manifest.h"
#include "snapshot/reader.h"
#include "snapshot/verify.h"
#include "tests/temp.h"

#define CHUNKS 2u
#define RAM (CHUNKS * SNAPSHOT_CHUNK_BYTES)
#define PAGES (CHUNKS * 256u / 4u)
#define INDEX (CHUNKS * 8u)
#define FILES 4u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fileio io; /* of the system, but that nothing waits for the disk */

static int no_sync(void *ctx, int fd)
{
    return 0;
}

static char root[64];
static int dir = -1;

static void remove_root(void)
{
    struct err err;
    close(dir);
    (void)fs_remove_tree(AT_FDCWD, root, &err);
}

static void make_root(void)
{
    if (!temp_dir(root, sizeof(root)) || (dir = open(root, O_RDONLY | O_DIRECTORY)) < 0)
        exit(1);
    atexit(remove_root);
    io = fileio_system;
    io.sync = no_sync;
}

static void put(const char *name, const void *data, size_t len, Ferry__SnapshotFile *file,
                uint8_t *crc)
{
    (void)unlinkat(dir, name, 0); /* truncated and written again, ext4 would wait for the disk */
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        exit(1);
    close(fd);
    le_put(crc, crc32c(0, data, len), 4);
    ferry__snapshot_file__init(file);
    file->name = (char *)name;
    file->length = len;
    file->crc32c = (ProtobufCBinaryData){4, crc};
}

/* Frames lie side by side: their checksums where their lengths say. */
static void mend_index(uint8_t *index, const uint8_t *frames, size_t len)
{
    uint64_t at = 0;
    for (unsigned i = 0; i < CHUNKS; i++) {
        uint64_t n = le_get(index + 8 * i, 4);
        if (n > len - at)
            return;
        le_put(index + 8 * i + 4, crc32c(0, frames + at, n), 4);
        at += n;
    }
}

static void write_all(const uint8_t *data, size_t size)
{
    static uint8_t one[16] = {1}, crc[FILES][8], memory_crc[4 * CHUNKS];
    Ferry__SnapshotManifest m = FERRY__SNAPSHOT_MANIFEST__INIT;
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    Ferry__SnapshotCpu cpu = FERRY__SNAPSHOT_CPU__INIT;
    Ferry__SnapshotRegion region = FERRY__SNAPSHOT_REGION__INIT, *regions[] = {&region};
    Ferry__SnapshotFile files[FILES], *list[FILES];
    uint8_t index[INDEX];
    struct err err;
    memcpy(index, data + PAGES, INDEX);
    mend_index(index, data + PAGES + INDEX, size - PAGES - INDEX);
    put("pages", data, PAGES, &files[0], crc[0]);
    put("index", index, INDEX, &files[1], crc[1]);
    put("memory", data + PAGES + INDEX, size - PAGES - INDEX, &files[2], crc[2]);
    put("state", "x", 1, &files[3], crc[3]);
    files[2].crc32c = (ProtobufCBinaryData){sizeof(memory_crc), memory_crc};
    for (unsigned i = 0; i < FILES; i++)
        list[i] = &files[i];
    m.version = m.min_version = 1;
    m.name = config.name = "fuzz";
    m.uuid = config.uuid = (ProtobufCBinaryData){16, one};
    m.arch = "x86_64";
    m.page_bytes = 4096;
    m.ram_bytes = config.memory_bytes = region.size = RAM;
    config.cpus = 1;
    m.config = &config;
    m.cpu = &cpu;
    m.regions = regions;
    m.n_regions = 1;
    m.memory = FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL;
    m.files = list;
    m.n_files = FILES;
    (void)unlinkat(dir, "manifest", 0);
    if (manifest_write(&io, dir, &m, &err) < 0)
        exit(1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t ram[RAM];
    struct verify_result result;
    struct reader r;
    struct err err;
    if (size < PAGES + INDEX || size > PAGES + INDEX + (1u << 20))
        return 0;
    if (dir < 0)
        make_root();
    write_all(data, size);
    if (reader_open_dirs(&r, &dir, 1, &err) == 0) {
        for (unsigned i = 0; i < CHUNKS; i++)
            (void)reader_read(&r, i * SNAPSHOT_CHUNK_BYTES, ram, SNAPSHOT_CHUNK_BYTES, &err);
        (void)reader_read(&r, 0, ram, RAM, &err);
        reader_close(&r);
    }
    (void)verify_snapshot(dir, NULL, &result, &err);
    return 0;
}
