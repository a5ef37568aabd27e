/* The definition and the state of a VM on disk: golden bytes, every truncation, every flipped bit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/le.h"
#include "daemon/definition.h"
#include "proto/frame.h"
#include "tests/temp.h"

static char dir[100];
static int dirfd_;

static int setup(void **state)
{
    assert_true(temp_dir(dir, sizeof(dir)));
    dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dirfd_ >= 0);
    return 0;
}

static int teardown(void **state)
{
    struct err err;
    close(dirfd_);
    return fs_remove_tree(AT_FDCWD, dir, &err);
}

static void write_one(void)
{
    struct err err;
    static uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    config.name = "web";
    config.uuid = (ProtobufCBinaryData){.data = uuid, .len = sizeof(uuid)};
    config.kernel = "/k";
    config.memory_bytes = 16u << 20;
    config.cpus = 2;
    assert_int_equal(definition_write(dirfd_, &config, &err), 0);
    assert_int_equal(definition_sync(dirfd_, &err), 0);
}

static size_t bytes_of(const char *name, uint8_t *to, size_t size)
{
    int fd = openat(dirfd_, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, to, size);
    assert_true(n > 0 && (size_t)n < size);
    close(fd);
    return (size_t)n;
}

static void put_bytes(const char *name, const uint8_t *bytes, size_t len)
{
    struct err err;
    assert_int_equal(fs_replace(dirfd_, name, bytes, len, 0600, &err), 0);
}

static int read_back(const char *name)
{
    struct err err = {0};
    Ferry__MachineConfig *config = NULL;
    int rc = definition_read(dirfd_, name, &config, &err);
    assert_int_equal(rc < 0, config == NULL);
    assert_int_equal(rc < 0, err.text[0] != '\0');
    frame_free((ProtobufCMessage *)config);
    return rc;
}

static void test_golden(void **state)
{
    // clang-format off
    static const uint8_t expect[] = {
        'F', 'D', 'E', 'F',                   /* magic */
        1, 0, 0, 0,                           /* version */
        34, 0, 0, 0,                          /* length */
        0, 0, 0, 0,                           /* checksum, tested by the flipped bits */
        0x0a, 3, 'w', 'e', 'b',               /* name */
        0x12, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, /* uuid */
        0x18, 0x80, 0x80, 0x80, 0x08,         /* memory_bytes: 16 MiB */
        0x20, 2,                              /* cpus */
        0x32, 2, '/', 'k',                    /* kernel */
    };
    // clang-format on
    uint8_t bytes[256];
    write_one();
    assert_int_equal(bytes_of("definition", bytes, sizeof(bytes)), sizeof(expect));
    memset(bytes + 12, 0, 4);
    assert_memory_equal(bytes, expect, sizeof(expect));
    assert_int_equal(read_back("web"), 0);
    assert_int_equal(read_back("other"), -EBADMSG); /* the directory says another name */
}

static void test_every_truncation(void **state)
{
    uint8_t bytes[256];
    write_one();
    size_t n = bytes_of("definition", bytes, sizeof(bytes));
    for (size_t cut = 0; cut < n; cut++) {
        put_bytes("definition", bytes, cut);
        assert_int_equal(read_back("web"), -EBADMSG);
    }
    bytes[n] = 0;
    put_bytes("definition", bytes, n + 1); /* trailing garbage */
    assert_int_equal(read_back("web"), -EBADMSG);
}

static void test_every_bit(void **state)
{
    uint8_t bytes[256];
    write_one();
    size_t n = bytes_of("definition", bytes, sizeof(bytes));
    for (size_t bit = 0; bit < n * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        put_bytes("definition", bytes, n);
        int version = bit >= 32 && bit < 64;
        assert_int_equal(read_back("web"), version ? -EPROTONOSUPPORT : -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_not_a_file(void **state)
{
    assert_int_equal(unlinkat(dirfd_, "definition", 0), 0);
    assert_int_equal(read_back("web"), -ENOENT);
    assert_int_equal(mkdirat(dirfd_, "definition", 0700), 0);
    assert_true(read_back("web") < 0);
    assert_int_equal(unlinkat(dirfd_, "definition", AT_REMOVEDIR), 0);
    assert_int_equal(mkfifoat(dirfd_, "definition", 0600), 0);
    assert_int_equal(read_back("web"), -EINVAL);
    assert_int_equal(unlinkat(dirfd_, "definition", 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", dirfd_, "definition"), 0);
    assert_int_equal(read_back("web"), -ELOOP);
    assert_int_equal(unlinkat(dirfd_, "definition", 0), 0);
}

static void test_state(void **state)
{
    struct err err = {0};
    Ferry__Ending ending = FERRY__ENDING__INIT;
    Ferry__VmStored stored = FERRY__VM_STORED__INIT, *back = NULL;
    uint8_t bytes[256];
    ending.text = "gone";
    stored.state = 6;
    stored.ending = &ending;
    stored.pid = 4711;
    stored.pid_start = UINT64_MAX;
    assert_int_equal(definition_write_state(dirfd_, &stored, &err), 0);
    assert_int_equal(definition_read_state(dirfd_, &back, &err), 0);
    assert_int_equal(back->pid, 4711);
    assert_true(back->pid_start == UINT64_MAX);
    assert_string_equal(back->ending->text, "gone");
    frame_free((ProtobufCMessage *)back);
    size_t n = bytes_of("state", bytes, sizeof(bytes));
    put_bytes("definition", bytes, n); /* a state is no definition */
    assert_int_equal(read_back("web"), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_bit), cmocka_unit_test(test_not_a_file),
        cmocka_unit_test(test_state),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
