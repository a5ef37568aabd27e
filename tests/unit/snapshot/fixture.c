/* See fixture.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "tests/temp.h"
#include "tests/unit/snapshot/fixture.h"

static const char *fd_name(int fd, char *to, size_t size)
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(to, '/');
    return slash ? slash + 1 : to;
}

static void note(struct disk *d, const char *what, const char *name)
{
    size_t used = strlen(d->log);
    snprintf(d->log + used, sizeof(d->log) - used, "%s %s\n", what, name);
}

/* 0 to go on; else what the call returns. Counts one call and meets its fault. */
static int meet(struct disk *d, unsigned kind)
{
    if (!(d->kinds & kind) || ++d->count != d->at)
        return 0;
    if (d->fault == DISK_FAIL) {
        for (d->hit = strlen(d->log) - 1; d->hit && d->log[d->hit - 1] != '\n';)
            d->hit--;
        return -d->code;
    }
    if (d->fault == DISK_DIE)
        _exit(9);
    return 1;
}

static int disk_open(void *ctx, int dirfd, const char *name, int flags, mode_t mode)
{
    struct disk *d = ctx;
    note(d, "open", name);
    int rc = meet(d, DISK_OPEN);
    int fd = rc < 0 ? rc : fileio_system.open(NULL, dirfd, name, flags, mode);
    if (rc > 0)
        _exit(9);
    return fd;
}

static int disk_make_dir(void *ctx, int dirfd, const char *name, mode_t mode)
{
    struct disk *d = ctx;
    note(d, "mkdir", name);
    int rc = meet(d, DISK_MAKE_DIR);
    return rc ? rc : fileio_system.make_dir(NULL, dirfd, name, mode);
}

static ssize_t disk_write(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
    struct disk *d = ctx;
    char path[256];
    note(d, "write", fd_name(fd, path, sizeof(path)));
    int rc = meet(d, DISK_WRITE);
    if (rc < 0)
        return rc;
    if (rc > 0) {
        (void)fileio_system.write(NULL, fd, data, len / 2, offset);
        _exit(9);
    }
    /* Two calls for one, as the kernel may do. */
    return fileio_system.write(NULL, fd, data, len > 4096 ? len / 2 : len, offset);
}

static int disk_truncate(void *ctx, int fd, uint64_t size)
{
    struct disk *d = ctx;
    char path[256];
    note(d, "truncate", fd_name(fd, path, sizeof(path)));
    int rc = meet(d, DISK_TRUNCATE);
    return rc ? rc : fileio_system.truncate(NULL, fd, size);
}

static int disk_punch(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    struct disk *d = ctx;
    char path[256];
    note(d, "punch", fd_name(fd, path, sizeof(path)));
    int rc = meet(d, DISK_PUNCH);
    return rc ? rc : fileio_system.punch(NULL, fd, offset, len);
}

static int disk_sync(void *ctx, int fd)
{
    struct disk *d = ctx;
    char path[256];
    note(d, "sync", fd_name(fd, path, sizeof(path)));
    int rc = meet(d, DISK_SYNC);
    return rc ? rc
              : 0; /* the kernel's own cache outlives the process: no need to wait for a disk */
}

static int disk_rename(void *ctx, int dirfd, const char *from, const char *to)
{
    struct disk *d = ctx;
    note(d, "rename", to);
    int rc = meet(d, DISK_RENAME);
    if (rc < 0)
        return rc;
    int done = fileio_system.rename(NULL, dirfd, from, to);
    if (rc > 0)
        _exit(9);
    return done;
}

static int disk_remove(void *ctx, int dirfd, const char *name)
{
    struct disk *d = ctx;
    note(d, "remove", name);
    int rc = meet(d, DISK_REMOVE);
    return rc ? rc : fileio_system.remove(NULL, dirfd, name);
}

int fixture_setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    if (!f || !temp_dir(f->root, sizeof(f->root)))
        return -1;
    f->dir = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    f->ram = calloc(1, FIXTURE_RAM);
    f->disk.io = (struct fileio){.ctx = &f->disk,
                                 .open = disk_open,
                                 .make_dir = disk_make_dir,
                                 .write = disk_write,
                                 .truncate = disk_truncate,
                                 .punch = disk_punch,
                                 .sync = disk_sync,
                                 .rename = disk_rename,
                                 .remove = disk_remove};
    f->catalogue = (struct catalogue){.fd = f->dir, .io = &f->disk.io};
    *state = f;
    return f->dir < 0 || !f->ram ? -1 : 0;
}

int fixture_teardown(void **state)
{
    struct fixture *f = *state;
    struct err err;
    clean_fd(&f->dir);
    int rc = fs_remove_tree(AT_FDCWD, f->root, &err);
    free(f->ram);
    free(f);
    return rc;
}

void fixture_fill(struct fixture *f, unsigned page, unsigned count, unsigned seed)
{
    for (unsigned p = page; p < page + count; p++)
        for (unsigned i = 0; i < 4096; i++)
            f->ram[p * 4096u + i] =
                (uint8_t)(seed ? (p * 2654435761u + (i / 8) * 40503u * seed) >> 11 | 1 : 0);
}

struct uuid fixture_uuid(unsigned id)
{
    struct uuid uuid;
    memset(uuid.bytes, (int)id, sizeof(uuid.bytes));
    return uuid;
}

void fixture_manifest(struct fixture_manifest *fm, const char *name, unsigned id,
                      const char *parent, unsigned parent_id)
{
    ferry__snapshot_manifest__init(&fm->m);
    ferry__snapshot_ref__init(&fm->parent);
    ferry__machine_config__init(&fm->config);
    ferry__snapshot_cpu__init(&fm->cpu);
    memset(fm->uuid, (int)id, 16);
    memset(fm->parent_uuid, (int)parent_id, 16);
    memset(fm->vm_uuid, 0xee, 16);
    fm->m.name = (char *)name;
    fm->m.uuid = (ProtobufCBinaryData){16, fm->uuid};
    fm->m.release = "test";
    fm->m.wall_ns = 1000u * id;
    fm->parent.name = (char *)parent;
    fm->parent.uuid = (ProtobufCBinaryData){16, fm->parent_uuid};
    fm->m.parent = parent ? &fm->parent : NULL;
    for (unsigned i = 0; i < 2; i++) {
        ferry__snapshot_region__init(&fm->regions[i]);
        fm->region_list[i] = &fm->regions[i];
    }
    fm->regions[0].size = fm->regions[1].offset = 1 << 20;
    fm->regions[1].gpa = 4ull << 30;
    fm->regions[1].size = FIXTURE_RAM - (1 << 20);
    fm->m.regions = fm->region_list;
    fm->m.n_regions = 2;
    fm->config.name = "web";
    fm->config.uuid = (ProtobufCBinaryData){16, fm->vm_uuid};
    fm->config.memory_bytes = FIXTURE_RAM;
    fm->config.cpus = 2;
    fm->config.kernel = "/boot/vmlinux";
    fm->m.config = &fm->config;
    fm->cpu.vendor = "GenuineIntel";
    fm->cpu.features = "sse sse2 avx";
    fm->m.cpu = &fm->cpu;
}

int fixture_begin(struct fixture *f, unsigned id, Ferry__SnapshotMemory memory,
                  struct image_writer *w, int *dirfd, struct err *err)
{
    struct uuid uuid = fixture_uuid(id);
    *dirfd = catalogue_begin(&f->catalogue, &uuid, err);
    if (*dirfd < 0)
        return *dirfd;
    const struct image_options options = {
        .io = f->catalogue.io, .dirfd = *dirfd, .ram_bytes = FIXTURE_RAM, .memory = memory};
    return image_begin(w, &options, err);
}

static bool is_zero(const uint8_t *page)
{
    static const uint8_t zeros[4096];
    return memcmp(page, zeros, sizeof(zeros)) == 0;
}

static int write_ram(struct fixture *f, struct image_writer *w, const uint8_t *base,
                     struct err *err)
{
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < FIXTURE_RAM; at += 4096) {
        if (base && memcmp(base + at, f->ram + at, 4096) == 0)
            continue;
        rc = is_zero(f->ram + at) ? image_write_zero(w, at, 4096, err)
                                  : image_write_pages(w, at, f->ram + at, 4096, err);
    }
    return rc;
}

int fixture_take(struct fixture *f, const char *name, unsigned id, Ferry__SnapshotMemory memory,
                 const char *parent, unsigned parent_id, const uint8_t *base, struct err *err)
{
    struct image_writer w = {.raw_fd = -1, .state_fd = -1};
    struct image_totals totals;
    struct fixture_manifest fm;
    struct uuid uuid = fixture_uuid(id);
    struct err unused;
    CLEAN(clean_fd) int dirfd = -1;
    int rc = fixture_begin(f, id, memory, &w, &dirfd, err);
    if (rc == 0)
        rc = write_ram(f, &w, base, err);
    if (rc == 0)
        rc = image_write_state(&w, name, strlen(name), err);
    fixture_manifest(&fm, name, id, parent, parent_id);
    if (rc == 0)
        rc = image_finish(&w, &fm.m, &totals, err);
    image_abandon(&w);
    if (rc == 0)
        rc = catalogue_publish(&f->catalogue, &uuid, name, err);
    if (rc < 0 && dirfd >= 0)
        (void)catalogue_abandon(&f->catalogue, &uuid, &unused);
    return rc;
}

uint8_t *fixture_load(const struct fixture *f, const char *name, const char *file, size_t *len)
{
    char path[200];
    struct buf in;
    struct err err;
    snprintf(path, sizeof(path), "%s/%s", name, file);
    buf_init(&in, 64 << 20);
    if (fs_read_file(f->dir, path, &in, &err) < 0)
        fail_msg("%s", err.text);
    *len = in.len;
    return in.data;
}

void fixture_store(const struct fixture *f, const char *name, const char *file, const void *data,
                   size_t len)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", name, file);
    CLEAN(clean_fd) int fd = openat(f->dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
}

void fixture_flip(const struct fixture *f, const char *name, const char *file, uint64_t offset,
                  unsigned bit)
{
    char path[200];
    uint8_t byte;
    snprintf(path, sizeof(path), "%s/%s", name, file);
    CLEAN(clean_fd) int fd = openat(f->dir, path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

unsigned fixture_count(const struct fixture *f, const char *prefix)
{
    unsigned n = 0;
    DIR *d = opendir(f->root);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
             strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return n;
}
