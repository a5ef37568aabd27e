/* The record file: golden bytes, every truncation, every flipped bit, torn writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/le.h"
#include "daemon/record.h"
#include "proto/frame.h"

static int fresh(void)
{
    int fd = memfd_create("record", MFD_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void put(int fd, uint64_t seq, uint32_t resets)
{
    struct err err = {0};
    Ferry__WorkerStatus s = FERRY__WORKER_STATUS__INIT;
    s.state = FERRY__WORKER_STATE__WORKER_RUNNING;
    s.resets = resets;
    assert_int_equal(record_write(fd, seq, &s, &err), 0);
}

/* The resets that are read back, or -errno. */
static int got(int fd, uint64_t *seq)
{
    struct err err = {0};
    Ferry__WorkerStatus *s = NULL;
    int rc = record_read(fd, seq, &s, &err);
    if (rc < 0) {
        assert_true(err.text[0] != '\0');
        return rc;
    }
    rc = (int)s->resets;
    frame_free((ProtobufCMessage *)s);
    return rc;
}

static void test_golden(void **state)
{
    static const uint8_t expect[] = {
        'F',  'R', 'E', 'C',             /* magic */
        4,    0,   0,   0,               /* length */
        0,    0,   0,   0,               /* checksum, below */
        2,    0,   0,   0,   0, 0, 0, 0, /* sequence: an even one is in the first slot */
        0x08, 1,                         /* state = 1 */
        0x20, 7,                         /* resets = 7 */
    };
    uint8_t bytes[sizeof(expect)];
    int fd = fresh();
    put(fd, 2, 7);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(le_get(bytes + 8, 4), crc32c(0, expect + 12, sizeof(expect) - 12));
    memset(bytes + 8, 0, 4);
    assert_memory_equal(bytes, expect, sizeof(expect));
    close(fd);
}

static void test_newest_wins(void **state)
{
    int fd = fresh();
    uint64_t seq = 0;
    assert_int_equal(got(fd, &seq), -ENODATA);
    for (uint32_t i = 1; i < 6; i++) {
        put(fd, i, 100 + i);
        assert_int_equal(got(fd, &seq), 100 + i);
        assert_int_equal(seq, i);
    }
    close(fd);
}

/* A write that stops after any number of bytes leaves the status before it. */
static void test_torn_write(void **state)
{
    uint8_t slot[RECORD_HEAD_BYTES + 4], junk[RECORD_HEAD_BYTES + 4];
    memset(junk, 0xa5, sizeof(junk));
    for (size_t cut = 0; cut < sizeof(slot); cut++) {
        int fd = fresh();
        put(fd, 1, 11);
        put(fd, 2, 12);
        put(fd, 3, 13);
        assert_int_equal(pread(fd, slot, sizeof(slot), RECORD_SLOT_BYTES), sizeof(slot));
        put(fd, 1, 11);
        assert_int_equal(pwrite(fd, slot, cut, RECORD_SLOT_BYTES), cut);
        int n = got(fd, NULL);
        assert_true(n == 12);
        assert_int_equal(pwrite(fd, junk, sizeof(junk), RECORD_SLOT_BYTES), sizeof(junk));
        assert_int_equal(got(fd, NULL), 12);
        close(fd);
    }
}

static void test_every_truncation(void **state)
{
    for (size_t len = 1; len < RECORD_HEAD_BYTES + 4; len++) {
        int fd = fresh();
        put(fd, 2, 7);
        assert_int_equal(ftruncate(fd, (off_t)len), 0);
        assert_int_equal(got(fd, NULL), -EBADMSG);
        close(fd);
    }
}

static void test_every_bit(void **state)
{
    int fd = fresh();
    put(fd, 2, 7);
    for (size_t bit = 0; bit < (RECORD_HEAD_BYTES + 4) * 8; bit++) {
        uint8_t was, now;
        assert_int_equal(pread(fd, &was, 1, (off_t)bit / 8), 1);
        now = was ^ (uint8_t)(1u << bit % 8);
        assert_int_equal(pwrite(fd, &now, 1, (off_t)bit / 8), 1);
        assert_int_equal(got(fd, NULL), -EBADMSG);
        assert_int_equal(pwrite(fd, &was, 1, (off_t)bit / 8), 1);
    }
    assert_int_equal(got(fd, NULL), 7);
    close(fd);
}

static void test_lengths(void **state)
{
    static const uint32_t lengths[] = {0x7fffffff,        0x80000000,      0xffffffff,
                                       RECORD_SLOT_BYTES, RECORD_BODY_MAX, RECORD_BODY_MAX + 1};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t raw[4];
        int fd = fresh();
        put(fd, 2, 7);
        le_put(raw, lengths[i], 4);
        assert_int_equal(pwrite(fd, raw, 4, 4), 4);
        assert_int_equal(got(fd, NULL), -EBADMSG);
        close(fd);
    }
}

static void test_too_large(void **state)
{
    static char text[RECORD_BODY_MAX + 1];
    struct err err = {0};
    int fd = fresh();
    memset(text, 'x', sizeof(text) - 1);
    Ferry__Ending ending = FERRY__ENDING__INIT;
    Ferry__WorkerStatus s = FERRY__WORKER_STATUS__INIT;
    ending.text = text;
    s.ending = &ending;
    assert_int_equal(record_write(fd, 1, &s, &err), -EMSGSIZE);
    assert_int_equal(got(fd, NULL), -ENODATA);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),     cmocka_unit_test(test_newest_wins),
        cmocka_unit_test(test_torn_write), cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_bit),  cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
