/* See crash_disk.h. */
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
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "tests/unit/snapshot/crash_disk.h"

#define SECTOR 512u
#define PAGE 4096u

static struct crash_disk *recording;

/* recording ----------------------------------------------------------------------------------- */

/* The newest of that number: the kernel gives it again. */
static unsigned node_of(const struct crash_disk *d, int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    for (unsigned i = d->nnodes; i-- > 0;)
        if (d->nodes[i].ino == st.st_ino)
            return i;
    fail_msg("a call on a file that the disk does not know");
    return 0;
}

static unsigned node_new(struct crash_disk *d, const struct stat *st)
{
    assert_true(d->nnodes < CRASH_NODES);
    struct crash_node *n = &d->nodes[d->nnodes];
    *n = (struct crash_node){.ino = st->st_ino, .is_dir = S_ISDIR(st->st_mode)};
    return d->nnodes++;
}

static struct crash_op *record(struct crash_disk *d, enum crash_kind kind, unsigned node,
                               const char *name)
{
    d->ops = realloc(d->ops, (d->nops + 1) * sizeof(*d->ops));
    assert_non_null(d->ops);
    struct crash_op *op = &d->ops[d->nops++];
    *op = (struct crash_op){.kind = kind, .node = node};
    snprintf(op->name, sizeof(op->name), "%s", name ? name : "");
    return op;
}

static void record_link(struct crash_disk *d, int dirfd, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    unsigned parent = node_of(d, dirfd), child = node_new(d, &st);
    record(d, CRASH_LINK, parent, name)->child = child;
}

static int crash_open(void *ctx, int dirfd, const char *name, int flags, mode_t mode)
{
    int fd = fileio_system.open(NULL, dirfd, name, flags, mode);
    if (fd >= 0 && (flags & O_CREAT))
        record_link(ctx, dirfd, name);
    return fd;
}

static int crash_make_dir(void *ctx, int dirfd, const char *name, mode_t mode)
{
    int rc = fileio_system.make_dir(NULL, dirfd, name, mode);
    if (rc == 0)
        record_link(ctx, dirfd, name);
    return rc;
}

static ssize_t crash_write(void *ctx, int fd, const void *data, size_t len, uint64_t offset)
{
    ssize_t n = fileio_system.write(NULL, fd, data, len, offset);
    if (n <= 0)
        return n;
    struct crash_op *op = record(ctx, CRASH_WRITE, node_of(ctx, fd), NULL);
    op->offset = offset;
    op->length = (uint64_t)n;
    op->data = malloc((size_t)n);
    assert_non_null(op->data);
    memcpy(op->data, data, (size_t)n);
    return n;
}

static int crash_truncate(void *ctx, int fd, uint64_t size)
{
    int rc = fileio_system.truncate(NULL, fd, size);
    if (rc == 0)
        record(ctx, CRASH_TRUNCATE, node_of(ctx, fd), NULL)->length = size;
    return rc;
}

static int crash_punch(void *ctx, int fd, uint64_t offset, uint64_t len)
{
    int rc = fileio_system.punch(NULL, fd, offset, len);
    if (rc < 0)
        return rc;
    struct crash_op *op = record(ctx, CRASH_PUNCH, node_of(ctx, fd), NULL);
    op->offset = offset;
    op->length = len;
    return 0;
}

static int crash_sync(void *ctx, int fd)
{
    record(ctx, CRASH_SYNC, node_of(ctx, fd), NULL);
    return 0;
}

static int crash_rename(void *ctx, int dirfd, const char *from, const char *to)
{
    int rc = fileio_system.rename(NULL, dirfd, from, to);
    if (rc == 0) {
        struct crash_op *op = record(ctx, CRASH_RENAME, node_of(ctx, dirfd), from);
        snprintf(op->to, sizeof(op->to), "%s", to);
    }
    return rc;
}

/* The C library's, because trees are removed beside the table, too. */
int unlinkat(int dirfd, const char *name, int flags)
{
    if (syscall(SYS_unlinkat, dirfd, name, flags) < 0)
        return -1;
    if (recording)
        record(recording, CRASH_UNLINK, node_of(recording, dirfd), name);
    return 0;
}

static void load_dir(struct crash_disk *d, unsigned node, int fd);

static void load_entry(struct crash_disk *d, unsigned parent, int dirfd, const char *name)
{
    CLEAN(clean_fd) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    unsigned node = node_new(d, &st);
    struct crash_node *to = &d->nodes[parent];
    assert_true(to->count < CRASH_ENTRIES);
    struct crash_entry *e = &to->entries[to->count++];
    snprintf(e->name, sizeof(e->name), "%s", name);
    e->node = node;
    if (S_ISDIR(st.st_mode)) {
        load_dir(d, node, fd);
        return;
    }
    d->nodes[node].size = (size_t)st.st_size;
    d->nodes[node].data = malloc((size_t)st.st_size + 1);
    assert_int_equal(pread(fd, d->nodes[node].data, (size_t)st.st_size, 0), st.st_size);
}

static void load_dir(struct crash_disk *d, unsigned node, int fd)
{
    DIR *dir = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            load_entry(d, node, fd, e->d_name);
    closedir(dir);
}

void crash_disk_begin(struct crash_disk *d, int dirfd)
{
    struct stat st;
    memset(d, 0, sizeof(*d));
    d->io = (struct fileio){.ctx = d,
                            .open = crash_open,
                            .make_dir = crash_make_dir,
                            .write = crash_write,
                            .truncate = crash_truncate,
                            .punch = crash_punch,
                            .sync = crash_sync,
                            .rename = crash_rename,
                            .remove = fileio_system.remove}; /* that is unlinkat */
    assert_int_equal(fstat(dirfd, &st), 0);
    load_dir(d, node_new(d, &st), dirfd);
    recording = d;
}

void crash_disk_end(struct crash_disk *d)
{
    assert_ptr_equal(recording, d);
    recording = NULL;
}

void crash_disk_fini(struct crash_disk *d)
{
    if (recording == d)
        recording = NULL;
    for (unsigned i = 0; i < d->nnodes; i++) {
        free(d->nodes[i].data);
        free(d->nodes[i].pending);
    }
    for (unsigned i = 0; i < d->nops; i++)
        free(d->ops[i].data);
    free(d->ops);
}

/* what is certain ----------------------------------------------------------------------------- */

static struct crash_entry *find_entry(struct crash_node *n, const char *name)
{
    for (unsigned i = 0; i < n->count; i++)
        if (strcmp(n->entries[i].name, name) == 0)
            return &n->entries[i];
    return NULL;
}

/* A call on names; one whose name has not come to the disk does nothing. */
static void change_names(struct crash_node *n, const struct crash_op *op)
{
    struct crash_entry *e = find_entry(n, op->name);
    if (op->kind == CRASH_LINK) {
        assert_true(n->count < CRASH_ENTRIES);
        e = e ? e : &n->entries[n->count++];
        memcpy(e->name, op->name, sizeof(e->name));
        e->node = op->child;
    } else if (e && op->kind == CRASH_RENAME) {
        memcpy(e->name, op->to, sizeof(e->name));
    } else if (e && op->kind == CRASH_UNLINK) {
        *e = n->entries[--n->count];
    }
}

static void resize(struct crash_node *n, uint64_t size)
{
    n->data = realloc(n->data, (size_t)size + 1);
    assert_non_null(n->data);
    if (size > n->size)
        memset(n->data + n->size, 0, (size_t)size - n->size);
    n->size = (size_t)size;
}

static void change_bytes(struct crash_node *n, const struct crash_op *op)
{
    uint64_t end = op->offset + op->length;
    if (op->kind == CRASH_TRUNCATE)
        resize(n, op->length);
    else if (op->kind == CRASH_WRITE && end > n->size)
        resize(n, end);
    if (op->kind == CRASH_WRITE)
        memcpy(n->data + op->offset, op->data, (size_t)op->length);
    else if (op->kind == CRASH_PUNCH && op->offset < n->size)
        memset(n->data + op->offset, 0, (size_t)((end < n->size ? end : n->size) - op->offset));
}

static void settle(struct crash_disk *d, struct crash_node *n)
{
    for (unsigned i = 0; i < n->npending; i++)
        (n->is_dir ? change_names : change_bytes)(n, &d->ops[n->pending[i]]);
    n->npending = 0;
}

bool crash_disk_step(struct crash_disk *d)
{
    if (d->step == d->nops)
        return false;
    const struct crash_op *op = &d->ops[d->step];
    struct crash_node *n = &d->nodes[op->node];
    if (op->kind == CRASH_SYNC) {
        settle(d, n);
    } else {
        n->pending = realloc(n->pending, (n->npending + 1) * sizeof(*n->pending));
        assert_non_null(n->pending);
        n->pending[n->npending++] = d->step;
    }
    d->step++;
    return true;
}

/* what is left -------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

enum fate { LOST, WHOLE, TORN, RUBBISH };

static enum fate fate_of(const struct crash_op *op, uint64_t seed, unsigned index)
{
    if (seed < 2)
        return (enum fate)seed;
    uint64_t r = mix(seed * 1000003 + index);
    if (op->kind != CRASH_WRITE)
        return r & 1 ? WHOLE : LOST;
    return (enum fate)(r % 4);
}

static void put(int fd, const void *data, size_t len, uint64_t offset)
{
    assert_int_equal(pwrite(fd, data, len, (off_t)offset), len);
}

static void leave_write(int fd, const struct crash_op *op, enum fate fate, uint64_t random)
{
    if (fate == WHOLE) {
        put(fd, op->data, (size_t)op->length, op->offset);
        return;
    }
    uint8_t rubbish[SECTOR];
    memset(rubbish, 0xa5, sizeof(rubbish));
    for (uint64_t at = 0; at < op->length; at += SECTOR) {
        size_t n = op->length - at < SECTOR ? (size_t)(op->length - at) : SECTOR;
        random = mix(random);
        if (fate == RUBBISH)
            put(fd, rubbish, n, op->offset + at);
        else if (random & 1)
            put(fd, op->data + at, n, op->offset + at);
    }
}

static void leave_bytes(const struct crash_disk *d, const struct crash_node *n, uint64_t seed,
                        int fd)
{
    static const uint8_t zeros[PAGE];
    assert_int_equal(ftruncate(fd, (off_t)n->size), 0);
    for (size_t at = 0; at < n->size; at += PAGE) {
        size_t len = n->size - at < PAGE ? n->size - at : PAGE;
        if (memcmp(n->data + at, zeros, len) != 0)
            put(fd, n->data + at, len, at);
    }
    for (unsigned i = 0; i < n->npending; i++) {
        const struct crash_op *op = &d->ops[n->pending[i]];
        enum fate fate = fate_of(op, seed, n->pending[i]);
        if (fate == LOST)
            continue;
        if (op->kind == CRASH_WRITE)
            leave_write(fd, op, fate, seed + n->pending[i]);
        else if (op->kind == CRASH_TRUNCATE)
            assert_int_equal(ftruncate(fd, (off_t)op->length), 0);
        else
            assert_int_equal(fileio_system.punch(NULL, fd, op->offset, op->length), 0);
    }
}

static void leave_dir(const struct crash_disk *d, unsigned node, uint64_t seed, int dirfd);

static void leave_entry(const struct crash_disk *d, const struct crash_entry *e, uint64_t seed,
                        int dirfd)
{
    bool is_dir = d->nodes[e->node].is_dir;
    if (is_dir)
        assert_int_equal(mkdirat(dirfd, e->name, 0700), 0);
    int flags = is_dir ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_EXCL;
    CLEAN(clean_fd) int fd = openat(dirfd, e->name, flags | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    if (is_dir)
        leave_dir(d, e->node, seed, fd);
    else
        leave_bytes(d, &d->nodes[e->node], seed, fd);
}

static void leave_dir(const struct crash_disk *d, unsigned node, uint64_t seed, int dirfd)
{
    struct crash_node left = d->nodes[node];
    for (unsigned i = 0; i < left.npending; i++)
        if (fate_of(&d->ops[left.pending[i]], seed, left.pending[i]) != LOST)
            change_names(&left, &d->ops[left.pending[i]]);
    for (unsigned i = 0; i < left.count; i++)
        leave_entry(d, &left.entries[i], seed, dirfd);
}

void crash_disk_leave(const struct crash_disk *d, uint64_t seed, int dirfd)
{
    leave_dir(d, 0, seed, dirfd);
}
