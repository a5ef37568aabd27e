/* What comes out is JSON whatever goes in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/json.h"
#include "tests/unit/cli/printed.h"

static const struct {
    const char *bytes;
    size_t len;
    const char *quoted;
} strings[] = {
    {"", 0, "\"\""},
    {"plain", 5, "\"plain\""},
    {"\"\\/", 3, "\"\\\"\\\\/\""},
    {"\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\""},
    {"a\0b", 3, "\"a\\u0000b\""},
    {"\x01\x1f\x7f", 3, "\"\\u0001\\u001f\\u007f\""},
    {"\033[2J", 4, "\"\\u001b[2J\""},
    {"\xc2\x9b", 2, "\"\\u009b\""},
    {"\xc3\xa9", 2, "\"\xc3\xa9\""},
    {"\xf0\x9f\x9a\xa2", 4, "\"\xf0\x9f\x9a\xa2\""},
    {"\xff", 1, "\"\xef\xbf\xbd\""},
    {"a\xc3", 2, "\"a\xef\xbf\xbd\""},
    {"\xc0\x80", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\""},
    {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
    {"\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
};

static void strings_are_escaped(void **state)
{
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        struct printed p;
        struct json j;
        struct err err;
        char expected[64];
        /* Exactly as long as it is, so that a reader past its end is caught. */
        char *copy = malloc(strings[i].len ? strings[i].len : 1);
        memcpy(copy, strings[i].bytes, strings[i].len);
        json_begin(&j, printed_begin(&p));
        json_string_n(&j, NULL, copy, strings[i].len);
        assert_int_equal(json_finish(&j, &err), 0);
        snprintf(expected, sizeof(expected), "%s\n", strings[i].quoted);
        assert_printed(&p, expected);
        free(copy);
    }
}

static void values_are_joined(void **state)
{
    struct printed p;
    struct json j;
    struct err err;
    json_begin(&j, printed_begin(&p));
    json_object(&j, NULL);
    json_string(&j, "a\"b", "x");
    json_u64(&j, "most", UINT64_MAX);
    json_array(&j, "list");
    json_bool(&j, NULL, true);
    json_null(&j, NULL);
    json_object(&j, NULL);
    json_end(&j);
    json_array(&j, NULL);
    json_end(&j);
    json_hex(&j, NULL, 0x1f);
    json_end(&j);
    json_hex_bytes(&j, "code", "\x0f\xff", 2);
    json_time(&j, "t", 1000000000123456789u);
    json_time(&j, "never", 0);
    json_end(&j);
    assert_int_equal(json_finish(&j, &err), 0);
    assert_printed(&p, "{\"a\\\"b\":\"x\",\"most\":18446744073709551615,\"list\":[true,null,{},[],"
                       "\"0x1f\"],\"code\":\"0fff\",\"t\":\"2001-09-09T01:46:40.123456789Z\","
                       "\"never\":null}\n");
}

static void base64_is_padded(void **state)
{
    static const char *const expected[] = {"",         "Zg==",     "Zm8=",    "Zm9v",
                                           "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (size_t n = 0; n < sizeof(expected) / sizeof(expected[0]); n++) {
        struct printed p;
        struct json j;
        struct err err;
        char line[32];
        json_begin(&j, printed_begin(&p));
        json_base64(&j, NULL, "foobar", n);
        assert_int_equal(json_finish(&j, &err), 0);
        snprintf(line, sizeof(line), "\"%s\"\n", expected[n]);
        assert_printed(&p, line);
    }
}

static void what_is_open_is_closed(void **state)
{
    struct printed p;
    struct json j;
    struct err err;
    json_begin(&j, printed_begin(&p));
    json_object(&j, NULL);
    json_array(&j, "a");
    json_object(&j, NULL);
    json_finish(&j, &err);
    assert_printed(&p, "{\"a\":[{}]}\n");
}

static void no_key(struct json *j)
{
    json_object(j, NULL);
    json_u64(j, NULL, 1);
}

static void key_in_array(struct json *j)
{
    json_array(j, NULL);
    json_u64(j, "k", 1);
}

static void two_values(struct json *j)
{
    json_u64(j, NULL, 1);
    json_u64(j, NULL, 2);
}

static void too_many_ends(struct json *j)
{
    json_object(j, NULL);
    json_end(j);
    json_end(j);
}

static void too_deep(struct json *j)
{
    for (int i = 0; i < JSON_DEPTH_MAX + 1; i++)
        json_array(j, NULL);
}

static void nothing(struct json *j)
{
}

static void misuse_is_told(void **state)
{
    static void (*const wrong[])(struct json *) = {no_key,        key_in_array, two_values,
                                                   too_many_ends, too_deep,     nothing};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct printed p;
        struct json j;
        struct err err;
        json_begin(&j, printed_begin(&p));
        wrong[i](&j);
        assert_int_not_equal(json_finish(&j, &err), 0);
        printed_end(&p);
        printed_free(&p);
    }
}

static void a_full_disk_is_told(void **state)
{
    struct json j;
    struct err err;
    FILE *full = fopen("/dev/full", "w");
    if (!full)
        skip();
    setvbuf(full, NULL, _IONBF, 0);
    json_begin(&j, full);
    json_u64(&j, NULL, 1);
    assert_int_not_equal(json_finish(&j, &err), 0);
    fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_escaped), cmocka_unit_test(values_are_joined),
        cmocka_unit_test(base64_is_padded),    cmocka_unit_test(what_is_open_is_closed),
        cmocka_unit_test(misuse_is_told),      cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
