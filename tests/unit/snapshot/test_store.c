/* The parts of stores that need no server: URLs, configuration, waits, answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/store.h"

static void test_urls(void **state)
{
    static const struct {
        const char *endpoint, *text, *url;
    } rows[] = {
        {"", "s3://bucket/key", "https://bucket.s3.eu-1.amazonaws.com/key"},
        {"", "s3://my.bucket/a/b", "https://s3.eu-1.amazonaws.com/my.bucket/a/b"},
        {"http://minio:9000", "s3://bucket/a b=&?~/ü",
         "http://minio:9000/bucket/a%20b%3D%26%3F~/%C3%BC"},
        {"", "http://host:80/x?y=z", "http://host:80/x?y=z"},
        {"", "s3://ab/key", NULL},
        {"", "s3://bucket", NULL},
        {"", "s3://bucket/a+b", NULL},
        {"", "s3://bucket/./b", NULL},
        {"", "s3://bucket/..", NULL},
        {"", "s3://bu..cket/x", NULL},
        {"", "s3:///x", NULL},
        {"", "https://a b/", NULL},
        {"", "https://me@host/", NULL},
        {"", "https://host/\x1b", NULL},
        {"", "file:///x", NULL},
        {"", "://", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct store_config c = {.region = "eu-1"};
        struct store_url u;
        struct err err = {0};
        snprintf(c.endpoint, sizeof(c.endpoint), "%s", rows[i].endpoint);
        int rc = store_url_read(&u, rows[i].text, &c, &err);
        assert_int_equal(rc, rows[i].url ? 0 : -EINVAL);
        if (rows[i].url)
            assert_string_equal(u.url, rows[i].url);
        else
            assert_true(err.text[0]);
    }
}

static void test_sections(void **state)
{
    static const char text[] =
        "key = none\n[a]\n key=1 \n# key = 2\nkeys = 3\n\n[b]\r\nkey\t=\tb=c "
        "d\r\nkey2=\n[profile x]\nkey = x";
    static const char *const rows[][3] = {
        {"a", "key", "1"}, {"a", "keys", "3"}, {"b", "key", "b=c d"},     {"b", "key2", ""},
        {"c", "key", "?"}, {"a", "none", "?"}, {"profile x", "key", "x"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char value[16] = "?";
        store_config_find(text, sizeof(text) - 1, rows[i][0], rows[i][1], value, sizeof(value));
        assert_string_equal(value, rows[i][2]);
    }
    char small[3] = "?";
    store_config_find("[a]\nkey=long", 12, "a", "key", small, sizeof(small));
    assert_string_equal(small, "?");
    for (size_t len = 0; len < sizeof(text); len++)
        store_config_find(text, len, "b", "key", small, sizeof(small));
}

static void test_waits(void **state)
{
    for (uint64_t random = 0; random < 5000; random++) {
        assert_in_range(store_retry_wait_ms(500, 1, 0, random), 250, 500);
        assert_in_range(store_retry_wait_ms(500, 4, 0, random), 2000, 4000);
        assert_in_range(store_retry_wait_ms(500, 99, 0, random), 30000, 60000);
        assert_int_equal(store_retry_wait_ms(500, 1, 7000, random), 7000);
        assert_int_equal(store_retry_wait_ms(500, 1, 4000000000u, random), 120000);
        assert_in_range(store_retry_wait_ms(1, 1, 0, random), 0, 1);
    }
    assert_int_not_equal(store_retry_wait_ms(500, 4, 0, 1), store_retry_wait_ms(500, 4, 0, 1000));
}

static void test_xml(void **state)
{
    static const char *const rows[][3] = {
        {"<R><Id>x</Id></R>", "Id", "x"},
        {"<Id>a&amp;b&lt;&gt;&quot;&apos;&#65;&#x42;&#9;&nbsp;</Id>", "Id", "a&b<>\"'AB?&nbsp;"},
        {"<Ids>1</Ids><Id></Id>", "Id", ""},
        {"<Id>x", "Id", NULL},
        {"<Id", "Id", NULL},
        {"", "Id", NULL},
        {"<Id>0123456789012345678901234567890123456789</Id>", "Id", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char value[32];
        bool found = store_xml_find((const uint8_t *)rows[i][0], strlen(rows[i][0]), rows[i][1],
                                    value, sizeof(value));
        assert_int_equal(found, rows[i][2] != NULL);
        if (found)
            assert_string_equal(value, rows[i][2]);
    }
}

static void test_redirects(void **state)
{
    static const struct {
        const char *from, *to;
        int rc;
    } rows[] = {
        {"https://a/", "https://b/", 0},
        {"http://a/", "https://b/", 0},
        {"http://a/", "http://b/", 0},
        {"https://a/", "http://a/", -EPERM},
        {"HTTPS://a/", "http://a/", -EPERM},
        {"http://a/", "file:///x", -EPERM},
        {"http://a/", "", -EIO},
    };
    char to[STORE_URL_MAX];
    struct store_answer a = {.status = 302};
    struct err err;
    unsigned hops;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        hops = 0;
        snprintf(a.redirect, sizeof(a.redirect), "%s", rows[i].to);
        assert_int_equal(store_redirect(&a, rows[i].from, &hops, to, &err), rows[i].rc);
    }
    snprintf(a.redirect, sizeof(a.redirect), "http://b/");
    for (hops = 0; hops < 5;)
        assert_int_equal(store_redirect(&a, "http://a/", &hops, to, &err), 0);
    assert_int_equal(store_redirect(&a, "http://a/", &hops, to, &err), -ELOOP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls), cmocka_unit_test(test_sections),  cmocka_unit_test(test_waits),
        cmocka_unit_test(test_xml),  cmocka_unit_test(test_redirects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
