/* SHA-256 by the vectors of its standard, in pieces of every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/sha256.h"

static void test_vectors(void **state)
{
    static const char *const rows[][2] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char hex[SHA256_HEX_SIZE];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_string_equal(sha256_hex(rows[i][0], strlen(rows[i][0]), hex), rows[i][1]);
}

static void test_a_million(void **state)
{
    static const uint8_t want[SHA256_BYTES] = {0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92,
                                               0x81, 0xa1, 0xc7, 0xe2, 0x84, 0xd7, 0x3e, 0x67,
                                               0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97, 0x20, 0x0e,
                                               0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0};
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    char many[1000];
    memset(many, 'a', sizeof(many));
    sha256_init(&s);
    for (unsigned i = 0; i < 1000; i++)
        sha256_add(&s, many, sizeof(many));
    sha256_end(&s, digest);
    assert_memory_equal(digest, want, sizeof(want));
}

/* Cut anywhere, also around the padding, it is the same. */
static void test_pieces(void **state)
{
    uint8_t data[200], whole[SHA256_BYTES], pieces[SHA256_BYTES];
    struct sha256 s;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len <= sizeof(data); len++) {
        sha256_init(&s);
        sha256_add(&s, data, len);
        sha256_end(&s, whole);
        sha256_init(&s);
        sha256_add(&s, data, len / 3);
        sha256_add(&s, data + len / 3, len - len / 3);
        sha256_end(&s, pieces);
        assert_memory_equal(whole, pieces, sizeof(whole));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_a_million),
        cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
