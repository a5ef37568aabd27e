/* Frames go there and back; what is no frame of the expected size is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <zstd.h>

#include "vmstate/pack.h"

enum { SIZE = 300000 };
static uint8_t plain[SIZE], packed[2 * SIZE], back[SIZE + 1];
static struct packer packer;
static struct unpacker unpacker;

static int setup(void **state)
{
    struct err err;
    srand(1);
    for (unsigned i = 0; i < SIZE; i++)
        plain[i] = (uint8_t)(i % 5 ? i / 512 : (unsigned)rand());
    return packer_init(&packer, 0, &err) | unpacker_init(&unpacker, &err);
}

static int teardown(void **state)
{
    packer_fini(&packer);
    unpacker_fini(&unpacker);
    return 0;
}

static size_t pack(size_t len)
{
    struct err err = {0};
    ssize_t n = packer_pack(&packer, plain, len, packed, sizeof(packed), &err);
    if (n <= 0)
        fail_msg("%s", err.text);
    return (size_t)n;
}

static int unpack(size_t n, size_t size, const char *why)
{
    struct err err = {0};
    int rc = unpacker_unpack(&unpacker, packed, n, back, size, &err);
    if (why && (rc == 0 || !strstr(err.text, why)))
        fail_msg("'%s', not '%s'", err.text, why);
    return rc;
}

static void test_there_and_back(void **state)
{
    static const size_t sizes[] = {1, 4096, 65536, SIZE};
    for (unsigned i = 0; i < 4; i++) {
        size_t n = pack(sizes[i]);
        memset(back, 0, sizeof(back));
        assert_int_equal(unpack(n, sizes[i], NULL), 0);
        assert_memory_equal(back, plain, sizes[i]);
    }
    assert_true(pack(SIZE) <= packer_bound(SIZE));
}

static void test_other_sizes(void **state)
{
    size_t n = pack(4096);
    assert_int_equal(unpack(n, 4095, "does not say that it has 4095"), -EBADMSG);
    assert_int_equal(unpack(n, 4097, "does not say that it has 4097"), -EBADMSG);
    assert_int_equal(unpack(n, 0, "does not say"), -EBADMSG);
    packed[n] = 0;
    assert_int_equal(unpack(n + 1, 4096, "of its place"), -EBADMSG);
    memcpy(packed + n, packed, n);
    assert_int_equal(unpack(2 * n, 4096, "of its place"), -EBADMSG);
}

static void test_truncated_and_flipped(void **state)
{
    size_t n = pack(4096);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(unpack(i, 4096, "packed frame"), -EBADMSG);
    for (size_t bit = 0; bit < 8 * n; bit++) { /* refused, or the right size: never beyond */
        back[4096] = 0x77;
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)unpack(n, 4096, NULL);
        packed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(back[4096], 0x77);
    }
}

/* A frame that zstd itself makes with a dictionary's number, with a skippable head, and heads that
 * are written by hand. */
static void test_foreign(void **state)
{
    static const uint8_t window[] = {0x28, 0xb5, 0x2f, 0xfd, 0x80, 0xa8, 0, 16, 0, 0, 1, 0, 0};
    static const uint8_t dictionary[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 16, 1, 0, 0};
    static const uint8_t skippable[] = {0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4};
    memcpy(packed, window, sizeof(window));
    assert_int_equal(unpack(sizeof(window), 4096, "a window of"), -EBADMSG);
    memcpy(packed, dictionary, sizeof(dictionary));
    assert_int_equal(unpack(sizeof(dictionary), 16, "asks for a dictionary"), -EBADMSG);
    memcpy(packed, skippable, sizeof(skippable));
    assert_int_equal(unpack(sizeof(skippable), 16, "does not begin as one"), -EBADMSG);
}

/* A bomb says its true size and is refused, or a false one and does not fit. */
static void test_bomb(void **state)
{
    size_t n = 0;
    uint8_t *huge = calloc(1, 64 << 20);
    assert_non_null(huge);
    n = ZSTD_compress(packed, sizeof(packed), huge, 64 << 20, 19);
    free(huge);
    assert_false(ZSTD_isError(n));
    assert_int_equal(unpack(n, SIZE, "packed frame"), -EBADMSG);
}

static void test_levels(void **state)
{
    struct packer p;
    struct err err;
    assert_int_equal(packer_init(&p, 20, &err), -EINVAL);
    assert_string_equal(err.text, "the level of packing is 20, not 0 to 19");
    assert_int_equal(packer_init(&p, -1, &err), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_other_sizes),
        cmocka_unit_test(test_truncated_and_flipped),
        cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
