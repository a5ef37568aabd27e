/* Disks by both engines: what is written is read, in many requests at once; what is no disk. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "machine/disk.h"

#define BYTES (4u << 20)
#define BLOCK 4096u

struct bench {
    int fd;
    struct disk disk;
};

static void open_disk(struct bench *b, const struct disk_engine *engine)
{
    struct err err = {0};
    b->fd = memfd_create("disk", MFD_CLOEXEC);
    assert_int_equal(ftruncate(b->fd, BYTES), 0);
    if (disk_init(&b->disk, b->fd, engine, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(b->disk.bytes, BYTES);
}

static void close_disk(struct bench *b)
{
    disk_fini(&b->disk);
    close(b->fd);
}

static int do_one(struct bench *b, struct disk_op *op)
{
    disk_queue(&b->disk, op);
    disk_kick(&b->disk);
    assert_ptr_equal(disk_reap(&b->disk, true), op);
    assert_null(disk_reap(&b->disk, true));
    return op->result;
}

static void expect_bytes(struct bench *b, uint64_t at, uint64_t bytes, uint8_t want)
{
    uint8_t got[BLOCK];
    for (uint64_t end = at + bytes; at < end; at += BLOCK) {
        assert_int_equal(pread(b->fd, got, BLOCK, (off_t)at), BLOCK);
        for (unsigned i = 0; i < BLOCK; i++)
            assert_int_equal(got[i], want);
    }
}

/* As many as there may be, in one go; every one comes back once. */
static void test_many(void **state)
{
    static uint8_t data[DISK_IN_FLIGHT_MAX][BLOCK];
    struct disk_op ops[DISK_IN_FLIGHT_MAX];
    struct iovec iov[DISK_IN_FLIGHT_MAX][2];
    struct bench b;
    open_disk(&b, *state);
    for (unsigned round = 0; round < 8; round++) {
        bool write = round % 2 == 0;
        for (unsigned i = 0; i < DISK_IN_FLIGHT_MAX; i++) {
            memset(data[i], write ? (int)(i + round) : 0, BLOCK);
            iov[i][0] = (struct iovec){data[i], 100};
            iov[i][1] = (struct iovec){data[i] + 100, BLOCK - 100};
            ops[i] = (struct disk_op){.kind = write ? DISK_WRITE : DISK_READ,
                                      .at = (uint64_t)i * BLOCK,
                                      .bytes = BLOCK,
                                      .iov = iov[i],
                                      .niov = 2,
                                      .result = 77};
            disk_queue(&b.disk, &ops[i]);
        }
        disk_kick(&b.disk);
        for (unsigned i = 0; i < DISK_IN_FLIGHT_MAX; i++) {
            struct disk_op *op = disk_reap(&b.disk, true);
            assert_non_null(op);
            assert_int_equal(op->result, 0);
            op->result = 77; /* once each */
        }
        assert_null(disk_reap(&b.disk, true));
        for (unsigned i = 0; i < DISK_IN_FLIGHT_MAX; i++)
            assert_int_equal(data[i][BLOCK - 1], (uint8_t)(i + (write ? round : round - 1)));
    }
    close_disk(&b);
}

/* This file has ZERO_RANGE nowhere: zeroes that keep their place are written, by pieces. */
static void test_zeroes_and_discard(void **state)
{
    static uint8_t ones[BYTES];
    struct iovec iov = {ones, BYTES};
    struct bench b;
    struct stat st;
    open_disk(&b, *state);
    memset(ones, 1, sizeof(ones));
    struct disk_op op = {.kind = DISK_WRITE, .bytes = BYTES, .iov = &iov, .niov = 1};
    assert_int_equal(do_one(&b, &op), 0);
    expect_bytes(&b, 0, BYTES, 1);
    op = (struct disk_op){.kind = DISK_ZEROES, .at = BLOCK, .bytes = 1 << 20, .keep = true};
    assert_int_equal(do_one(&b, &op), 0);
    expect_bytes(&b, 0, BLOCK, 1);
    expect_bytes(&b, BLOCK, 1 << 20, 0);
    expect_bytes(&b, BLOCK + (1 << 20), BLOCK, 1);
    assert_int_equal(fstat(b.fd, &st), 0);
    assert_int_equal(st.st_blocks, BYTES / 512);
    op = (struct disk_op){.kind = DISK_ZEROES, .at = 2 << 20, .bytes = 1 << 20};
    assert_int_equal(do_one(&b, &op), 0);
    expect_bytes(&b, 2 << 20, 1 << 20, 0);
    op = (struct disk_op){.kind = DISK_DISCARD, .at = 3 << 20, .bytes = 1 << 20};
    assert_int_equal(do_one(&b, &op), 0);
    expect_bytes(&b, 3 << 20, 1 << 20, 0);
    assert_int_equal(fstat(b.fd, &st), 0);
    assert_int_equal(st.st_blocks, BYTES / 2 / 512);
    op = (struct disk_op){.kind = DISK_FLUSH};
    assert_int_equal(do_one(&b, &op), 0);
    close_disk(&b);
}

/* A file that was cut under us gives an error, and the next request is done. */
static void test_errors(void **state)
{
    uint8_t data[BLOCK];
    struct iovec iov = {data, BLOCK};
    struct bench b;
    open_disk(&b, *state);
    assert_int_equal(ftruncate(b.fd, BYTES - 2048), 0);
    struct disk_op op = {
        .kind = DISK_READ, .at = BYTES - BLOCK, .bytes = BLOCK, .iov = &iov, .niov = 1};
    assert_int_equal(do_one(&b, &op), -EIO);
    op = (struct disk_op){.kind = DISK_READ, .at = 0, .bytes = BLOCK, .iov = &iov, .niov = 1};
    assert_int_equal(do_one(&b, &op), 0);
    close_disk(&b);
    struct err err;
    int readonly = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(readonly >= 0);
    b.fd = readonly;
    if (disk_init(&b.disk, b.fd, *state, &err) == 0) { /* of whole sectors by chance only */
        op = (struct disk_op){.kind = DISK_WRITE, .bytes = BLOCK, .iov = &iov, .niov = 1};
        assert_int_equal(do_one(&b, &op), -EBADF);
        disk_fini(&b.disk);
    }
    close(readonly);
}

/* Requests that nobody reaped are waited for. */
static void test_dropped_in_flight(void **state)
{
    static uint8_t data[BYTES];
    struct iovec iov = {data, BYTES};
    struct disk_op op = {.kind = DISK_WRITE, .bytes = BYTES, .iov = &iov, .niov = 1};
    struct bench b;
    open_disk(&b, *state);
    memset(data, 9, sizeof(data));
    disk_queue(&b.disk, &op);
    disk_kick(&b.disk);
    int fd = dup(b.fd);
    close_disk(&b);
    b.fd = fd;
    expect_bytes(&b, 0, BYTES, 9);
    close(fd);
}

static void test_no_disk(void **state)
{
    static const struct {
        off_t bytes;
        const char *text, *says;
    } bad[] = {{0, "", "a disk of 0 bytes is not one or more whole sectors"},
               {511, "", "a disk of 511 bytes"},
               {4097, "", "a disk of 4097 bytes"},
               {4096, "QFI\xfb", "it is a qcow2 image, and disks are raw"}};
    struct disk d;
    struct err err;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CLEAN(clean_fd) int fd = memfd_create("disk", MFD_CLOEXEC);
        assert_int_equal(pwrite(fd, bad[i].text, strlen(bad[i].text), 0), strlen(bad[i].text));
        assert_int_equal(ftruncate(fd, bad[i].bytes), 0);
        assert_int_equal(disk_init(&d, fd, NULL, &err), -EINVAL);
        assert_non_null(strstr(err.text, bad[i].says));
    }
    CLEAN(clean_fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(disk_init(&d, null, NULL, &err), -EINVAL);
    assert_string_equal(err.text, "a disk is a plain file or a block device");
}

int main(void)
{
#define BOTH(fn)                                                                                   \
    {#fn " by io_uring", fn, NULL, NULL, (void *)(uintptr_t)&disk_ring},                           \
    {                                                                                              \
#fn " by threads", fn, NULL, NULL, (void *)(uintptr_t)&disk_pool                           \
    }
    const struct CMUnitTest tests[] = {
        BOTH(test_many),
        BOTH(test_zeroes_and_discard),
        BOTH(test_errors),
        BOTH(test_dropped_in_flight),
        cmocka_unit_test(test_no_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
