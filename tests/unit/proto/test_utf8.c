/* Well-formed text is let through, everything else is not, and nothing is read behind its end. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/config.pb-c.h"
#include "proto/utf8.h"

/* On the heap, so that a read behind the NUL is seen. */
static bool valid(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool ok = utf8_valid(copy);
    free(copy);
    return ok;
}

static size_t encode(uint32_t code, unsigned bytes, char *to)
{
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (unsigned i = bytes; i-- > 1; code >>= 6)
        to[i] = (char)(0x80 | (code & 0x3f));
    to[0] = (char)(bytes == 1 ? code : lead[bytes] | code);
    return bytes;
}

static unsigned shortest(uint32_t code)
{
    return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

/* All code points that four bytes can hold, in their shortest form and in longer ones. */
static void test_every_code_point_in_every_length(void **state)
{
    static const uint32_t limits[] = {0, 0x80, 0x800, 0x10000, 0x200000};
    for (unsigned bytes = 1; bytes <= 4; bytes++) {
        for (uint32_t code = bytes == 1; code < limits[bytes]; code++) {
            char text[5];
            bool control = code < 0x20 || (code >= 0x7f && code < 0xa0);
            bool good = bytes == shortest(code) && code <= 0x10ffff &&
                        (code < 0xd800 || code > 0xdfff) &&
                        (!control || code == '\t' || code == '\n');
            text[encode(code, bytes, text)] = '\0';
            if (utf8_valid(text) != good)
                fail_msg("U+%x in %u bytes", code, bytes);
        }
    }
}

static void test_every_lead_and_second_byte(void **state)
{
    for (unsigned a = 0x80; a < 256; a++) {
        for (unsigned b = 1; b < 256; b++) {
            char two[] = {(char)a, (char)b};
            bool good = a >= 0xc2 && a < 0xe0 && b >= 0x80 && b < 0xc0 &&
                        !(a == 0xc2 && b < 0xa0); /* U+0080..9F are controls */
            assert_int_equal(valid(two, 2), good);
        }
        assert_false(valid((char[]){(char)a}, 1));
    }
}

static void test_truncated_sequences(void **state)
{
    static const char *const texts[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x90\x8e"};
    for (unsigned i = 0; i < 3; i++) {
        size_t len = strlen(texts[i]);
        assert_true(valid(texts[i], len));
        for (size_t cut = 1; cut < len; cut++)
            assert_false(valid(texts[i], cut));
    }
}

static void test_sentences(void **state)
{
    static const char *const good[] = {"",
                                       "web-1",
                                       "a\tb\nc",
                                       "Gr\xc3\xbc\xc3\x9f.",
                                       "\xe6\xb8\xa1\xe3\x81\x97",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"a\x1b[2J",
                                      "a\rb",
                                      "\x07",
                                      "ok\xff",
                                      "\x80-",
                                      "\xc3\xa4\xa4",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xc0\x80",
                                      "\xc2\x9b[J"};
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(valid(good[i], strlen(good[i])));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(valid(bad[i], strlen(bad[i])));
}

static void test_message_made_here(void **state)
{
    Ferry__Ending ending = FERRY__ENDING__INIT;
    Ferry__CpuReport cpu = FERRY__CPU_REPORT__INIT;
    struct err err = {0};
    ending.text = "went well";
    ending.cpu = &cpu;
    assert_int_equal(utf8_check_message(&ending.base, &err), 0);
    ending.text = NULL; /* unset is fine */
    assert_int_equal(utf8_check_message(&ending.base, &err), 0);
    ending.text = "went \xff";
    assert_int_equal(utf8_check_message(&ending.base, &err), -EBADMSG);
    assert_string_equal(err.text, "field 'text' is not clean UTF-8 text");
}

static void test_clean(void **state)
{
    char whole[] = "caf\xc3\xa9\tok\n", cut[] = "caf\xc3", odd[] = "a\x1b[0m\xff\xe2\x82z\xc2\x80";
    utf8_clean(whole);
    assert_string_equal(whole, "caf\xc3\xa9\tok\n");
    utf8_clean(cut);
    assert_string_equal(cut, "caf?");
    utf8_clean(odd);
    assert_string_equal(odd, "a?[0m???z??");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_in_every_length),
        cmocka_unit_test(test_every_lead_and_second_byte),
        cmocka_unit_test(test_truncated_sequences),
        cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_message_made_here),
        cmocka_unit_test(test_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
