/*
 * Frames and bodies from outside: cut anywhere, flipped anywhere, of any length, made to cost as
 * much as they can.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/le.h"
#include "base/now.h"
#include "proto/config.pb-c.h"
#include "proto/ferry.pb-c.h"
#include "proto/frame.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COUNTS_MEMORY 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define COUNTS_MEMORY 1
#endif

/* The sanitizer tells of every allocation: the peak of what is alive. */
static size_t alive, peak;
#ifdef COUNTS_MEMORY
/* As in sanitizer/allocator_interface.h, which gcc does not install. */
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *);

static void count_malloc(const volatile void *p, size_t size)
{
    alive += size;
    peak = alive > peak ? alive : peak;
}

static void count_free(const volatile void *p)
{
    alive -= p ? __sanitizer_get_allocated_size(p) : 0;
}
#endif

static int count_start(void **state)
{
#ifdef COUNTS_MEMORY
    return __sanitizer_install_malloc_and_free_hooks(count_malloc, count_free) > 0 ? 0 : -1;
#else
    return 0;
#endif
}

/* Unpacks a copy of exactly that size, and holds it to the memory bound. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *type, const uint8_t *body,
                                size_t len, struct err *err)
{
    uint8_t *exact = malloc(len ? len : 1);
    assert_non_null(exact);
    memcpy(exact, body, len);
    *err = (struct err){0};
    size_t before = alive;
    peak = alive;
    ProtobufCMessage *message = frame_unpack(type, exact, len, err);
    assert_true(peak - before <= FRAME_UNPACK_MAX);
    free(exact);
    if (!message)
        assert_true(err->code > 0 && err->text[0]);
    return message;
}

static int refused(const ProtobufCMessageDescriptor *type, const uint8_t *body, size_t len,
                   struct err *err)
{
    ProtobufCMessage *message = unpack(type, body, len, err);
    frame_free(message);
    return message ? 0 : err->code;
}

#define REQUEST (&ferry__request__descriptor)

/* Request { id: 300, start { config { name: "web" memory_bytes: 16777216 cpus: 2 } paused: true } }
 */
static const uint8_t start[] = {
    0x08, 0xac, 0x02,             /* 1 id, varint: 300 */
    0x22, 0x12,                   /* 4 start, 18 bytes */
    0x0a, 0x0e,                   /*   1 config, 14 bytes */
    0x0a, 0x03, 'w',  'e',  'b',  /*     1 name, 3 bytes */
    0x18, 0x80, 0x80, 0x80, 0x08, /*     3 memory_bytes: 1 << 24 */
    0x20, 0x02,                   /*     4 cpus: 2 */
    0x2a, 0x00,                   /*     5 cpu_profile, empty */
    0x10, 0x01,                   /*   2 paused: true */
};

static void test_golden_body(void **state)
{
    struct err err;
    Ferry__Request *r = (Ferry__Request *)unpack(REQUEST, start, sizeof(start), &err);
    assert_non_null(r);
    assert_int_equal(r->id, 300);
    assert_int_equal(r->body_case, FERRY__REQUEST__BODY_START);
    assert_string_equal(r->start->config->name, "web");
    assert_int_equal(r->start->config->memory_bytes, 1 << 24);
    assert_int_equal(r->start->config->cpus, 2);
    assert_true(r->start->paused);
#ifdef COUNTS_MEMORY
    assert_true(peak >= sizeof(*r)); /* the bound below is really measured */
#endif
    frame_free(&r->base);
}

static void test_golden_frame(void **state)
{
    static const uint8_t expected[] = {
        13,   0,    0,    0,         /* length of the body */
        0x08, 0x07,                  /* 1 id: 7 */
        0x12, 0x09,                  /* 2 hello, 9 bytes */
        0x08, 0x01, 0x10, 0x02,      /*   1 min_version: 1, 2 max_version: 2 */
        0x1a, 0x03, '1',  '.',  '0', /*   3 release: "1.0" */
    };
    Ferry__Hello hello = FERRY__HELLO__INIT;
    Ferry__Request r = FERRY__REQUEST__INIT;
    struct buf out;
    struct err err;
    hello.min_version = 1;
    hello.max_version = 2;
    hello.release = "1.0";
    r.id = 7;
    r.body_case = FERRY__REQUEST__BODY_HELLO;
    r.hello = &hello;
    buf_init(&out, 1000);
    assert_int_equal(frame_pack(&r.base, &out, &err), 0);
    assert_int_equal(out.len, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
    for (size_t len = 0; len < sizeof(expected); len++)
        assert_int_equal(frame_peek(expected, len, &err), 0);
    assert_int_equal(frame_peek(expected, sizeof(expected), &err), sizeof(expected));
    assert_int_equal(frame_pack(&r.base, &out, &err), 0); /* frames side by side */
    assert_int_equal(frame_peek(out.data, out.len, &err), sizeof(expected));
    assert_memory_equal(out.data + sizeof(expected), expected, sizeof(expected));
    buf_fini(&out);
}

static void test_lengths_in_the_head(void **state)
{
    static const struct {
        uint32_t length;
        int result;
    } rows[] = {
        {0, -EBADMSG},
        {1, 0},
        {FRAME_BODY_MAX - 1, 0},
        {FRAME_BODY_MAX, 0},
        {FRAME_BODY_MAX + 1, -EMSGSIZE},
        {1u << 31, -EMSGSIZE},
        {UINT32_MAX - 3, -EMSGSIZE},
        {UINT32_MAX, -EMSGSIZE},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t head[FRAME_HEAD_BYTES];
        struct err err;
        le_put(head, rows[i].length, 4);
        assert_int_equal(frame_peek(head, sizeof(head), &err), rows[i].result);
        ssize_t body = rows[i].result < 0 ? rows[i].result : (ssize_t)rows[i].length;
        assert_int_equal(frame_body_size(head, &err), body);
        if (rows[i].result == -EBADMSG)
            assert_string_equal(err.text, "frame length is 0");
        if (rows[i].result == -EMSGSIZE)
            assert_non_null(strstr(err.text, "is over the limit of 1048576 bytes"));
    }
}

static void test_largest_frame_is_whole(void **state)
{
    uint8_t *frame = calloc(1, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    struct err err;
    assert_non_null(frame);
    le_put(frame, FRAME_BODY_MAX, 4);
    assert_int_equal(frame_peek(frame, FRAME_HEAD_BYTES + FRAME_BODY_MAX - 1, &err), 0);
    assert_int_equal(frame_peek(frame, FRAME_HEAD_BYTES + FRAME_BODY_MAX, &err),
                     FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    free(frame);
}

static void test_pack_refuses_what_does_not_fit(void **state)
{
    Ferry__MachineConfig c = FERRY__MACHINE_CONFIG__INIT;
    struct buf out;
    struct err err;
    char *text = malloc(FRAME_BODY_MAX + 1);
    assert_non_null(text);
    memset(text, 'x', FRAME_BODY_MAX);
    text[FRAME_BODY_MAX] = '\0';
    buf_init(&out, 16u << 20);
    assert_int_equal(frame_pack(&c.base, &out, &err), -EMSGSIZE); /* nothing set: no body */
    c.cmdline = text;
    assert_int_equal(frame_pack(&c.base, &out, &err), -EMSGSIZE);
    assert_int_equal(out.len, 0);
    text[FRAME_BODY_MAX - 4] = '\0'; /* tag and length take 4 */
    assert_int_equal(frame_pack(&c.base, &out, &err), 0);
    assert_int_equal(out.len, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    buf_fini(&out);
    buf_init(&out, 100);
    assert_int_equal(frame_pack(&c.base, &out, &err), -ENOBUFS);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
    free(text);
}

/* Cut at the end of a top-level field is a shorter message; anywhere else it is none. */
static void test_every_truncation(void **state)
{
    for (size_t len = 0; len < sizeof(start); len++) {
        struct err err;
        int code = refused(REQUEST, start, len, &err);
        assert_int_equal(code, len == 0 || len == 3 ? 0 : EBADMSG);
        if (code)
            assert_string_equal(err.text, "the body is not a valid Request message");
    }
}

static void test_every_flipped_bit_is_survived(void **state)
{
    uint8_t body[sizeof(start)];
    unsigned good = 0, bad = 0;
    memcpy(body, start, sizeof(body));
    for (unsigned bit = 0; bit < sizeof(body) * 8; bit++) {
        struct err err;
        body[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (refused(REQUEST, body, sizeof(body), &err))
            bad++;
        else
            good++;
        body[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(good > 20 && bad > 50);
}

static void test_every_single_byte_body(void **state)
{
    for (unsigned c = 0; c < 256; c++) {
        struct err err;
        assert_int_equal(refused(REQUEST, (uint8_t[]){(uint8_t)c}, 1, &err), EBADMSG);
    }
}

struct row {
    const char *what;
    uint8_t len, bytes[24];
    int code;
};

static void test_malformed_fields(void **state)
{
    static const struct row rows[] = {
        {"id, 10 bytes", 11, {8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 0},
        {"id, 11 bytes", 12, {8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, EBADMSG},
        {"id, over-long zero", 4, {8, 0x80, 0x80, 0}, 0},
        {"id, never ending", 10, {8, 255, 255, 255, 255, 255, 255, 255, 255, 255}, EBADMSG},
        {"tag, never ending", 8, {255, 255, 255, 255, 255, 255, 255, 255}, EBADMSG},
        {"tag of 6 bytes", 7, {0x88, 0x80, 0x80, 0x80, 0x80, 0, 0}, EBADMSG},
        {"field 0", 2, {0, 0}, EBADMSG},
        {"id as string", 3, {0x0a, 1, 'x'}, EBADMSG},
        {"id as fixed32", 5, {0x0d, 0, 0, 0, 0}, EBADMSG},
        {"id as fixed64", 9, {0x09, 0, 0, 0, 0, 0, 0, 0, 0}, EBADMSG},
        {"group begins", 2, {0x0b, 0x0c}, EBADMSG},
        {"group ends", 1, {0x0c}, EBADMSG},
        {"wire type 6", 2, {0x0e, 0}, EBADMSG},
        {"wire type 7", 2, {0x0f, 0}, EBADMSG},
        {"start as number", 2, {0x20, 5}, EBADMSG},
        {"config as number", 4, {0x22, 2, 0x08, 1}, EBADMSG},
        {"name as number", 6, {0x22, 4, 0x0a, 2, 0x08, 1}, EBADMSG},
        {"name longer than all", 7, {0x22, 5, 0x0a, 3, 0x0a, 9, 'x'}, EBADMSG},
        {"start, 2^31 bytes", 6, {0x22, 0x80, 0x80, 0x80, 0x80, 8}, EBADMSG},
        {"start, 2^32-1 bytes", 6, {0x22, 255, 255, 255, 255, 15}, EBADMSG},
        {"start, 2^64-1 bytes",
         11,
         {0x22, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
         EBADMSG},
        {"start twice", 8, {0x22, 2, 0x10, 1, 0x22, 2, 0x10, 0}, 0},
        {"start, then kill", 6, {0x22, 2, 0x10, 1, 0x4a, 0}, 0},
        {"unknown field 99", 5, {0x98, 6, 1, 8, 1}, 0},
        {"field 0", 4, {0, 1, 8, 1}, EBADMSG},
        {"field 0, too long", 5, {0x80, 0, 1, 8, 1}, EBADMSG},
        {"nothing", 0, {0}, 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err;
        int code = refused(REQUEST, rows[i].bytes, rows[i].len, &err);
        if (code != rows[i].code)
            fail_msg("%s: %d instead of %d", rows[i].what, code, rows[i].code);
    }
}

/* `count` times the same bytes. */
static uint8_t *repeat(const uint8_t *unit, size_t len, size_t count)
{
    uint8_t *all = malloc(len * count);
    assert_non_null(all);
    for (size_t i = 0; i < count; i++)
        memcpy(all + i * len, unit, len);
    return all;
}

static int flood(const ProtobufCMessageDescriptor *type, const uint8_t *unit, size_t len,
                 size_t count, struct err *err)
{
    uint8_t *all = repeat(unit, len, count);
    int code = refused(type, all, len * count, err);
    free(all);
    return code;
}

static void test_a_million_unknown_fields(void **state)
{
    static const uint8_t unknown[] = {0x10, 0}; /* field 2, which a CancelRequest has not */
    const ProtobufCMessageDescriptor *type = &ferry__cancel_request__descriptor;
    struct err err;
    assert_int_equal(flood(type, unknown, 2, 1000000, &err), EMSGSIZE);
    assert_string_equal(err.text,
                        "a CancelRequest message needs more than 8388608 bytes of memory");
    assert_int_equal(flood(type, unknown, 2, FRAME_BODY_MAX / 2, &err), EMSGSIZE);
    assert_int_equal(flood(type, unknown, 2, 1000, &err), 0);
}

static void test_floods(void **state)
{
    static const struct {
        const char *what;
        const ProtobufCMessageDescriptor *type;
        struct row unit;
    } rows[] = {
        {"empty messages of a list", &ferry__vm_list__descriptor, {"", 2, {0x0a, 0}}},
        {"strings over and over", &ferry__machine_config__descriptor, {"", 3, {0x0a, 1, 'x'}}},
        {"one message in parts", REQUEST, {"", 4, {0x22, 2, 0x0a, 0}}},
        {"changing members of a oneof", REQUEST, {"", 4, {0x22, 0, 0x4a, 0}}},
        {"lists merged", &ferry__reply__descriptor, {"", 4, {0x32, 2, 0x0a, 0}}},
        {"numbers one by one", &ferry__cpu_report__descriptor, {"", 2, {0x20, 1}}},
        {"unknown fields with bytes", REQUEST, {"", 3, {0xfa, 7, 0}}},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *unit = &rows[i].unit;
        struct err err;
        uint64_t before = now_of(CLOCK_PROCESS_CPUTIME_ID);
        int code = flood(rows[i].type, unit->bytes, unit->len, FRAME_BODY_MAX / unit->len, &err);
        print_message("%s: %s, %u ms\n", rows[i].what, code ? err.text : "taken",
                      (unsigned)((now_of(CLOCK_PROCESS_CPUTIME_ID) - before) / 1000000));
        assert_true(code == 0 || code == EMSGSIZE);
        assert_int_equal(flood(rows[i].type, unit->bytes, unit->len, 100, &err), 0);
    }
}

/* Packed numbers cost eight bytes for one: half a body of them fits the bound, a whole does not. */
static void test_packed_numbers(void **state)
{
    static const size_t counts[] = {16, FRAME_BODY_MAX / 2, FRAME_BODY_MAX - 8};
    uint8_t *body = malloc(FRAME_BODY_MAX);
    assert_non_null(body);
    for (unsigned i = 0; i < 3; i++) {
        size_t count = counts[i], n = 0;
        struct err err;
        body[n++] = 0x22; /* 4 gpr, packed */
        for (size_t left = count; left || n == 1; left >>= 7)
            body[n++] = (uint8_t)((left & 0x7f) | (left >> 7 ? 0x80 : 0));
        memset(body + n, 1, count);
        ProtobufCMessage *m = unpack(&ferry__cpu_report__descriptor, body, n + count, &err);
        if (i < 2)
            assert_int_equal(((Ferry__CpuReport *)m)->n_gpr, count);
        else
            assert_null(m);
        frame_free(m);
    }
    free(body);
}

/* Nested as deep as length allows, in a field that is known at the first two levels only. */
static void test_nesting_bomb(void **state)
{
    static uint8_t body[1 << 20];
    size_t at = sizeof(body);
    struct err err;
    while (at > 16) {
        size_t len = sizeof(body) - at;
        uint8_t head[6] = {0x22};
        unsigned n = 1;
        do
            head[n++] = (uint8_t)((len & 0x7f) | (len >> 7 ? 0x80 : 0));
        while (len >>= 7);
        at -= n;
        memcpy(body + at, head, n);
    }
    int code = refused(REQUEST, body + at, sizeof(body) - at, &err);
    assert_true(code == 0 || code == EBADMSG);
    code = refused(&ferry__reply__descriptor, body + at, sizeof(body) - at, &err);
    assert_true(code == 0 || code == EBADMSG);
}

static void test_texts_are_checked_wherever_they_are(void **state)
{
    static const struct {
        const ProtobufCMessageDescriptor *type;
        struct row body;
        const char *text;
    } rows[] = {
        {&ferry__machine_config__descriptor,
         {"", 3, {0x0a, 1, 0xff}},
         "field 'name' is not clean UTF-8 text"},
        {&ferry__machine_config__descriptor,
         {"", 6, {0x0a, 1, 'x', 0x42, 1, 0x1b}},
         "field 'cmdline' is not clean UTF-8 text"},
        {REQUEST, /* oneof, message, message */
         {"", 7, {0x22, 5, 0x0a, 3, 0x0a, 1, 0xc0}},
         "field 'name' is not clean UTF-8 text"},
        {&ferry__reply__descriptor, /* the third of a list */
         {"", 15, {0x32, 13, 0x0a, 3, 0x0a, 1, 'a', 0x0a, 0, 0x0a, 4, 0x0a, 2, 0xed, 0xa0}},
         "field 'name' is not clean UTF-8 text"},
        {&ferry__reply__descriptor,
         {"", 3, {0x22, 1, 0x7f}},
         "field 'error' is not clean UTF-8 text"},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct err err;
        assert_int_equal(refused(rows[i].type, rows[i].body.bytes, rows[i].body.len, &err),
                         EBADMSG);
        assert_string_equal(err.text, rows[i].text);
    }
    static const uint8_t raw[] = {0x12, 3, 0xff, 0, 0x1b}; /* uuid is bytes, not text */
    struct err err;
    assert_int_equal(refused(&ferry__machine_config__descriptor, raw, sizeof(raw), &err), 0);
}

static void test_free_of_nothing(void **state)
{
    frame_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_body),
        cmocka_unit_test(test_golden_frame),
        cmocka_unit_test(test_lengths_in_the_head),
        cmocka_unit_test(test_largest_frame_is_whole),
        cmocka_unit_test(test_pack_refuses_what_does_not_fit),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_every_flipped_bit_is_survived),
        cmocka_unit_test(test_every_single_byte_body),
        cmocka_unit_test(test_malformed_fields),
        cmocka_unit_test(test_a_million_unknown_fields),
        cmocka_unit_test(test_floods),
        cmocka_unit_test(test_packed_numbers),
        cmocka_unit_test(test_nesting_bomb),
        cmocka_unit_test(test_texts_are_checked_wherever_they_are),
        cmocka_unit_test(test_free_of_nothing),
    };
    return cmocka_run_group_tests(tests, count_start, NULL);
}
