/* Names become files and log words: everything else is kept out. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/name.h"

static void test_good(void **state)
{
    static const char *const good[] = {"a", "A", "0", "web", "web-1", "a.b_c-d", "x..y", "9.9.9"};
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(name_valid(good[i]));
}

static void test_bad(void **state)
{
    static const char *const bad[] = {
        "",         ".",         "..", "-a",  "_a", ".hidden", "../up", "a/b", "a b", "a\n",
        "a\x1b[0m", "a\xc3\xa4", "/",  "a\\", "a:", "a\x7f",   "*",     "a'b", "a$b",
    };
    struct err err;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(name_valid(bad[i]));
        assert_int_equal(name_check(bad[i], "the VM's name", &err), -EINVAL);
    }
    assert_string_equal(err.text, "the VM's name is not a name: use up to 64 letters, digits, '.', "
                                  "'_' or '-', beginning with a letter or digit");
    assert_int_equal(name_check("ok", "it", &err), 0);
}

/* Every byte, alone, at the front and inside. */
static void test_every_byte(void **state)
{
    for (int c = 1; c < 256; c++) {
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        char front[] = {(char)c, 'a', 0}, inside[] = {'a', (char)c, 'b', 0};
        assert_int_equal(name_valid(front), alnum);
        assert_int_equal(name_valid(inside), alnum || c == '.' || c == '_' || c == '-');
    }
}

static void test_length(void **state)
{
    char name[NAME_MAX_CHARS + 2];
    memset(name, 'n', sizeof(name));
    name[NAME_MAX_CHARS] = '\0';
    assert_true(name_valid(name));
    name[NAME_MAX_CHARS] = 'n';
    name[NAME_MAX_CHARS + 1] = '\0';
    assert_false(name_valid(name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
