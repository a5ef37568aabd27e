/* Errors as values: codes, sentences, prefixes, and texts that are longer than there is room. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_set(void **state)
{
    struct err err = {0};
    assert_int_equal(err_set(&err, EINVAL, "size is %d, not %s", 7, "8"), -EINVAL);
    assert_int_equal(err.code, EINVAL);
    assert_string_equal(err.text, "size is 7, not 8");
}

static void test_code_that_is_none_becomes_eio(void **state)
{
    struct err err = {0};
    assert_int_equal(err_set(&err, 0, "odd"), -EIO);
    assert_int_equal(err_set(&err, -EINVAL, "odd"), -EIO);
    assert_int_equal(err_sys(&err, 0, "odd"), -EIO);
    assert_string_equal(err.text, "odd: Input/output error");
}

static void test_sys_says_what_errno_means(void **state)
{
    struct err err = {0};
    assert_int_equal(err_sys(&err, ENOENT, "cannot open '%s'", "x"), -ENOENT);
    assert_string_equal(err.text, "cannot open 'x': No such file or directory");
    assert_int_equal(err_sys(&err, 99999, "odd"), -99999);
    assert_string_equal(err.text, "odd: unknown error");
}

static void test_wrap_puts_prefixes_before(void **state)
{
    struct err err = {0};
    err_set(&err, EBADMSG, "truncated");
    assert_int_equal(err_wrap(&err, "kernel '%s'", "a"), -EBADMSG);
    assert_int_equal(err_wrap(&err, "vm %d", 1), -EBADMSG);
    assert_string_equal(err.text, "vm 1: kernel 'a': truncated");
}

/* Whatever the lengths, the text ends within its room and begins with the newest layer. */
static void test_long_texts_are_cut(void **state)
{
    char layer[ERR_TEXT_MAX + 10], inner[ERR_TEXT_MAX + 10];
    for (size_t outer = 1; outer < sizeof(layer); outer++) {
        for (size_t in = ERR_TEXT_MAX - 5; in < sizeof(inner); in++) {
            struct err err = {0};
            memset(layer, 'o', outer);
            layer[outer] = '\0';
            memset(inner, 'i', in);
            inner[in] = '\0';
            err_set(&err, EIO, "%.*s", (int)in, inner);
            assert_true(memchr(err.text, 0, sizeof(err.text)) != NULL);
            err_wrap(&err, "%.*s", (int)outer, layer);
            assert_true(memchr(err.text, 0, sizeof(err.text)) != NULL);
            assert_int_equal(err.text[0], 'o');
        }
        struct err err = {0};
        err_sys(&err, ENOENT, "%.*s", (int)outer, layer);
        assert_true(memchr(err.text, 0, sizeof(err.text)) != NULL);
        if (outer + 2 < ERR_TEXT_MAX - 1)
            assert_memory_equal(err.text + outer, ": N",
                                outer + 3 < ERR_TEXT_MAX ? 3 : ERR_TEXT_MAX - outer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set),
        cmocka_unit_test(test_code_that_is_none_becomes_eio),
        cmocka_unit_test(test_sys_says_what_errno_means),
        cmocka_unit_test(test_wrap_puts_prefixes_before),
        cmocka_unit_test(test_long_texts_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
