/*
 * TLS between two workers, over two pipes in memory: what is written comes out, in whatever pieces;
 * another key, a changed byte, an end in the middle and a peer that does not answer are errors.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "migrate/stream_tls.h"

#define ROOM (1u << 20)
#define LONG_BYTES 200000u

/* One direction. */
struct lane {
    uint8_t data[ROOM];
    size_t written, read, limit; /* no byte behind the limit gets in */
    uint64_t flip;               /* this byte is changed; UINT64_MAX for none */
    bool closed;
};

struct side {
    struct stream below;
    struct lane *out, *in;
    struct stream_tls tls;
};

static struct lane lanes[2];
static struct side sides[2];

static ssize_t on_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                        struct err *err)
{
    struct side *s = ctx;
    const uint8_t *from = iov->iov_base;
    size_t n = 0;
    for (; n < iov->iov_len && s->out->written < s->out->limit; n++, s->out->written++)
        s->out->data[s->out->written] = (uint8_t)(from[n] ^ (s->out->written == s->out->flip));
    return n ? (ssize_t)n : err_set(err, ETIMEDOUT, "full");
}

static ssize_t on_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until,
                       struct err *err)
{
    struct side *s = ctx;
    size_t n = s->in->written - s->in->read;
    if (n == 0)
        return s->in->closed ? 0 : err_set(err, ETIMEDOUT, "nothing");
    n = n < iov->iov_len ? n : iov->iov_len;
    memcpy(iov->iov_base, s->in->data + s->in->read, n);
    s->in->read += n;
    return (ssize_t)n;
}

static uint64_t on_now(void *ctx)
{
    return 1;
}

static const struct stream_ops ops = {.write = on_write, .read = on_read, .now_ns = on_now};

static void make(const char *key, const char *other)
{
    const char *keys[] = {key, other};
    memset(lanes, 0, sizeof(lanes));
    for (unsigned i = 0; i < 2; i++) {
        uint8_t bytes[STREAM_TLS_KEY_BYTES] = {0};
        struct err err;
        lanes[i].limit = ROOM;
        lanes[i].flip = UINT64_MAX;
        memcpy(bytes, keys[i], strlen(keys[i]));
        sides[i] = (struct side){.out = &lanes[i], .in = &lanes[!i]};
        sides[i].below = (struct stream){.ops = &ops, .ctx = &sides[i]};
        assert_int_equal(stream_tls_init(&sides[i].tls, &sides[i].below,
                                         i ? STREAM_TLS_ANSWERS : STREAM_TLS_ASKS, bytes, &err),
                         0);
    }
}

static void unmake(void)
{
    stream_tls_fini(&sides[0].tls);
    stream_tls_fini(&sides[1].tls);
}

static ssize_t put(unsigned side, const struct iovec *iov, unsigned count, struct err *err)
{
    const struct stream *s = &sides[side].tls.stream;
    return s->ops->write(s->ctx, iov, count, 0, err);
}

static ssize_t get(unsigned side, void *to, size_t bytes, struct err *err)
{
    const struct stream *s = &sides[side].tls.stream;
    struct iovec iov = {to, bytes};
    return s->ops->read(s->ctx, &iov, 1, 0, err);
}

/* Both try by turns until the handshake is done or one of them fails; its error. */
static int greet(struct err *err)
{
    uint8_t byte = 7;
    const struct iovec iov = {&byte, 1};
    ssize_t wrote = -ETIMEDOUT, got = -ETIMEDOUT;
    for (unsigned i = 0; i < 10 && got == -ETIMEDOUT; i++) {
        if (wrote == -ETIMEDOUT)
            wrote = put(0, &iov, 1, err);
        if (wrote < 0 && wrote != -ETIMEDOUT)
            return (int)wrote;
        got = get(1, &byte, 1, err);
    }
    return got == 1 ? 0 : (int)got;
}

/* Pieces of all lengths, as guest memory has them, through a lane that is full now and then. */
static void pieces_come_out_whole(void **state)
{
    static const size_t lengths[] = {1, 32, 4096, 8192, 3, 16384, 16385, 40960, 100000, 5};
    static uint8_t from[LONG_BYTES], to[LONG_BYTES];
    struct iovec iov[sizeof(lengths) / sizeof(lengths[0])];
    struct err err;
    size_t all = 0, sent = 0, came = 0;
    for (unsigned i = 0; i < LONG_BYTES; i++)
        from[i] = (uint8_t)(i * 31 + i / 256);
    make("one key", "one key");
    assert_int_equal(greet(&err), 0);
    for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); all += lengths[i++])
        iov[i] = (struct iovec){from + all, lengths[i]};
    unsigned first = 0, count = sizeof(lengths) / sizeof(lengths[0]);
    lanes[0].limit = lanes[0].written + 100;
    while (sent < all) {
        ssize_t n = put(0, iov + first, count - first, &err);
        if (n == -ETIMEDOUT)
            lanes[0].limit += 5000;
        else if (n < 0)
            fail_msg("%s", err.text);
        for (size_t left = n > 0 ? (size_t)n : 0; left;) {
            size_t step = left < iov[first].iov_len ? left : iov[first].iov_len;
            iov[first].iov_base = (uint8_t *)iov[first].iov_base + step;
            iov[first].iov_len -= step;
            first += iov[first].iov_len == 0;
            left -= step;
            sent += step;
        }
    }
    while (came < all) {
        ssize_t n = get(1, to + came, all - came, &err);
        assert_true(n > 0);
        came += (size_t)n;
    }
    assert_memory_equal(from, to, all);
    assert_int_equal(get(1, to, 1, &err), -ETIMEDOUT);
    lanes[0].closed = true;
    assert_int_equal(get(1, to, 1, &err), 0);
    unmake();
}

/* Nothing of what was said can be read on the way. */
static void the_wire_shows_nothing(void **state)
{
    static const char secret[] = "what the guest has in its memory";
    const struct iovec iov = {(void *)(uintptr_t)secret, sizeof(secret)};
    struct err err;
    make("one key", "one key");
    assert_int_equal(greet(&err), 0);
    assert_int_equal(put(0, &iov, 1, &err), sizeof(secret));
    assert_null(memmem(lanes[0].data, lanes[0].written, secret, 8));
    unmake();
}

static void another_key_is_refused(void **state)
{
    struct err err = {0};
    make("one key", "another");
    assert_true(greet(&err) < 0);
    assert_int_not_equal(err.code, ETIMEDOUT);
    assert_non_null(strstr(err.text, "another key"));
    unmake();
}

/* Wherever it is changed, in the handshake or after it. */
static void a_changed_byte_is_an_error(void **state)
{
    struct err err;
    make("one key", "one key");
    assert_int_equal(greet(&err), 0);
    uint64_t all = lanes[0].written;
    unmake();
    for (uint64_t at = 0; at < all; at += at + 40 < all ? 7 : 1) {
        err = (struct err){0};
        make("one key", "one key");
        lanes[0].flip = at;
        if (greet(&err) == 0)
            fail_msg("byte %llu of %llu is changed, and nobody sees it", (unsigned long long)at,
                     (unsigned long long)all);
        assert_true(err.text[0]);
        unmake();
    }
}

static void plain_bytes_are_refused(void **state)
{
    struct err err = {0};
    uint8_t byte;
    make("one key", "one key");
    for (unsigned i = 0; i < 64; i++)
        lanes[0].data[lanes[0].written++] = "FM plain frames"[i % 15] & 0x7f;
    assert_true(get(1, &byte, 1, &err) < 0);
    assert_int_not_equal(err.code, ETIMEDOUT);
    unmake();
}

/* Long streams change their key on the way. */
static void keys_are_changed(void **state)
{
    static uint8_t block[16384], back[16384];
    const struct iovec iov = {block, sizeof(block)};
    struct err err;
    make("one key", "one key");
    sides[0].tls.rekey_bytes = 40000;
    assert_int_equal(greet(&err), 0);
    for (unsigned i = 0; i < 12; i++) {
        size_t came = 0;
        memset(block, (int)i, sizeof(block));
        assert_int_equal(put(0, &iov, 1, &err), sizeof(block));
        while (came < sizeof(back)) {
            ssize_t n = get(1, back + came, sizeof(back) - came, &err);
            assert_true(n > 0);
            came += (size_t)n;
        }
        assert_memory_equal(block, back, sizeof(block));
    }
    assert_true(sides[0].tls.written < 40000); /* it began to count anew */
    unmake();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_come_out_whole),   cmocka_unit_test(the_wire_shows_nothing),
        cmocka_unit_test(another_key_is_refused),  cmocka_unit_test(a_changed_byte_is_an_error),
        cmocka_unit_test(plain_bytes_are_refused), cmocka_unit_test(keys_are_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
