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

/* Letters of two, three and four bytes at every distance from the end of the room: what is left is
 * whole letters, so that it can go where only UTF-8 may. */
static void test_letters_are_not_cut_in_two(void **state)
{
    static const char *const letters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\xa7"};
    for (size_t kind = 0; kind < 3; kind++) {
        for (size_t before = 0; before < 5; before++) {
            char many[4 * ERR_TEXT_MAX] = "";
            size_t size = strlen(letters[kind]), len = before;
            memset(many, 'x', before);
            for (; len + size < sizeof(many); len += size)
                memcpy(many + len, letters[kind], size + 1);
            struct err err = {0}, sys = {0};
            err_set(&err, EIO, "%s", many);
            assert_int_equal((strlen(err.text) - before) % size, 0);
            assert_true(strlen(err.text) + size >= ERR_TEXT_MAX);
            err_sys(&sys, EIO, "%s", many);
            assert_string_equal(sys.text, err.text);
            err_wrap(&err, "ab");
            assert_int_equal((strlen(err.text) - before - 4) % size, 0);
        }
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
        cmocka_unit_test(test_letters_are_not_cut_in_two),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
