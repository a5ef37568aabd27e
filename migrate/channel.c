/* See channel.h. */
#include "migrate/channel.h"

#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "proto/frame.h"
#include "proto/utf8.h"

#define ERRNO_MAX 4096u

void channel_init(struct channel *c, const struct stream *stream, bool (*is_cancelled)(void *ctx),
                  void *ctx)
{
    c->stream = stream;
    c->is_cancelled = is_cancelled;
    c->ctx = ctx;
    c->sent_ns = c->heard_ns = stream_now_ns(stream);
    c->bytes_out = c->bytes_in = 0;
    c->is_mute = c->broken = c->peer_failed = false;
}

uint64_t channel_now_ns(const struct channel *c)
{
    return stream_now_ns(c->stream);
}

static int check_cancel(const struct channel *c, struct err *err)
{
    return c->is_cancelled && c->is_cancelled(c->ctx)
               ? err_set(err, ECANCELED, "the migration was cancelled")
               : 0;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Passes over `n` bytes that were moved. */
static void advance(struct iovec **iov, unsigned *count, size_t n)
{
    while (*count && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        ++*iov;
        --*count;
    }
    if (n) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

/* writing ------------------------------------------------------------------------------------- */

static int write_some(struct channel *c, struct iovec **iov, unsigned *count, uint64_t give_up_ns,
                      struct err *err)
{
    uint64_t slice = channel_now_ns(c) + CHANNEL_SLICE_NS;
    ssize_t n =
        c->stream->ops->write(c->stream->ctx, *iov, *count, earlier(slice, give_up_ns), err);
    if (n == -ETIMEDOUT && channel_now_ns(c) < give_up_ns)
        return check_cancel(c, err);
    if (n == -ETIMEDOUT)
        return err_set(err, ETIMEDOUT, "the peer took nothing for %llu s: it is dead or frozen",
                       CHANNEL_PATIENCE_NS / 1000000000ull);
    if (n < 0)
        return (int)n;
    c->bytes_out += (size_t)n;
    c->sent_ns = channel_now_ns(c);
    advance(iov, count, (size_t)n);
    return 0;
}

static int write_all(struct channel *c, struct iovec *iov, unsigned count, struct err *err)
{
    if (c->broken)
        return err_set(err, EPIPE, "the connection to the peer broke");
    int rc = 0;
    uint64_t moved = c->bytes_out, give_up = channel_now_ns(c) + CHANNEL_PATIENCE_NS;
    while (rc == 0 && count) {
        rc = write_some(c, &iov, &count, give_up, err);
        if (c->bytes_out != moved)
            give_up = c->sent_ns + CHANNEL_PATIENCE_NS;
        moved = c->bytes_out;
    }
    c->broken = rc < 0;
    return rc;
}

int channel_send(struct channel *c, struct wire_head *h, const void *meta, const struct iovec *data,
                 unsigned count, struct err *err)
{
    uint8_t head[WIRE_HEAD_BYTES];
    struct iovec iov[2 + WIRE_RUNS_MAX] = {
        {head, sizeof(head)},
        {(void *)(uintptr_t)meta, h->meta_bytes},
    };
    unsigned n = h->meta_bytes ? 2 : 1;
    if (count > WIRE_RUNS_MAX)
        return err_set(err, EINVAL, "a frame of %u runs", count);
    h->meta_crc = crc32c(0, meta, h->meta_bytes);
    wire_head_put(h, head);
    if (count)
        memcpy(&iov[n], data, count * sizeof(*data));
    return write_all(c, iov, n + count, err);
}

int channel_send_plain(struct channel *c, enum wire_kind kind, uint8_t flags, uint64_t value,
                       const void *meta, size_t bytes, struct err *err)
{
    struct wire_head h = {
        .kind = (uint8_t)kind, .flags = flags, .value = value, .meta_bytes = (uint32_t)bytes};
    return channel_send(c, &h, meta, NULL, 0, err);
}

int channel_send_message(struct channel *c, enum wire_kind kind, uint64_t value,
                         const ProtobufCMessage *message, struct err *err)
{
    uint8_t packed[4096];
    size_t bytes = protobuf_c_message_get_packed_size(message);
    if (bytes > sizeof(packed))
        return err_set(err, EMSGSIZE, "a %s message of %zu bytes", message->descriptor->short_name,
                       bytes);
    protobuf_c_message_pack(message, packed);
    return channel_send_plain(c, kind, 0, value, packed, bytes, err);
}

void channel_send_failure(struct channel *c, const struct err *why)
{
    struct err clean = *why, ignored; /* the failure itself is what is reported */
    Ferry__MigrateFailure failure = FERRY__MIGRATE_FAILURE__INIT;
    if (c->peer_failed)
        return;
    utf8_clean(clean.text);
    failure.code = (uint32_t)clean.code;
    failure.text = clean.text;
    c->is_cancelled = NULL; /* that is what may be told */
    channel_send_message(c, WIRE_CANCEL, 0, &failure.base, &ignored);
}

int channel_tend(struct channel *c, struct err *err)
{
    if (c->is_mute || channel_now_ns(c) - c->sent_ns < CHANNEL_ALIVE_NS)
        return 0;
    return channel_send_plain(c, WIRE_ALIVE, 0, 0, NULL, 0, err);
}

/* reading ------------------------------------------------------------------------------------- */

/* One wait, no longer than until the next ALIVE of ours is due. */
static ssize_t read_some(struct channel *c, struct iovec *iov, unsigned count, uint64_t until_ns,
                         struct err *err)
{
    uint64_t slice = channel_now_ns(c) + CHANNEL_SLICE_NS;
    ssize_t n = c->stream->ops->read(c->stream->ctx, iov, count, earlier(slice, until_ns), err);
    if (n == 0)
        return err_set(err, ECONNRESET, "the peer closed the connection");
    if (n > 0) {
        c->bytes_in += (size_t)n;
        c->heard_ns = channel_now_ns(c);
    }
    return n;
}

int channel_rest(struct channel *c, struct err *err)
{
    int rc = check_cancel(c, err);
    return rc == 0 ? channel_tend(c, err) : rc;
}

/* What is to be done whenever nothing came for a slice. */
static int idle(struct channel *c, struct err *err)
{
    int rc = channel_rest(c, err);
    if (rc == 0 && channel_now_ns(c) - c->heard_ns >= CHANNEL_PATIENCE_NS)
        rc = err_set(err, ETIMEDOUT, "the peer said nothing for %llu s: it is dead or frozen",
                     CHANNEL_PATIENCE_NS / 1000000000ull);
    return rc;
}

/* `until_ns` counts only as long as nothing has come; 0 for none. */
static int read_all(struct channel *c, struct iovec *iov, unsigned count, uint64_t until_ns,
                    struct err *err)
{
    bool began = false;
    while (count) {
        bool limited = !began && until_ns;
        ssize_t n = read_some(c, iov, count, limited ? until_ns : UINT64_MAX, err);
        if (n == -ETIMEDOUT) {
            int rc = idle(c, err);
            if (rc < 0)
                return rc;
            if (limited && channel_now_ns(c) >= until_ns)
                return err_set(err, EAGAIN, "nothing came in time");
            continue;
        }
        if (n < 0)
            return (int)n;
        began = true;
        advance(&iov, &count, (size_t)n);
        int rc = channel_tend(c, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int channel_read_data(struct channel *c, struct iovec *iov, unsigned count, struct err *err)
{
    return read_all(c, iov, count, 0, err);
}

static int receive_one(struct channel *c, struct wire_head *h, uint64_t until_ns, struct err *err)
{
    uint8_t head[WIRE_HEAD_BYTES];
    struct iovec iov = {head, sizeof(head)};
    int rc = read_all(c, &iov, 1, until_ns, err);
    if (rc == 0)
        rc = wire_head_get(head, h, err);
    iov = (struct iovec){c->meta, h->meta_bytes};
    if (rc == 0 && h->meta_bytes)
        rc = read_all(c, &iov, 1, 0, err);
    if (rc == 0 && crc32c(0, c->meta, h->meta_bytes) != h->meta_crc)
        rc = err_set(err, EBADMSG, "a frame %s has the wrong checksum", wire_kind_name(h->kind));
    return rc;
}

ProtobufCMessage *channel_unpack(const struct channel *c, const struct wire_head *h,
                                 const ProtobufCMessageDescriptor *type, struct err *err)
{
    return frame_unpack(type, c->meta, h->meta_bytes, err);
}

static int take_failure(struct channel *c, const struct wire_head *h, struct err *err)
{
    Ferry__MigrateFailure *f =
        (Ferry__MigrateFailure *)channel_unpack(c, h, &ferry__migrate_failure__descriptor, err);
    c->peer_failed = true;
    if (!f)
        return -err->code;
    err_set(err, f->code && f->code < ERRNO_MAX ? (int)f->code : EIO, "the peer gave up: %s",
            f->text[0] ? f->text : "it does not say why");
    frame_free(&f->base);
    return -err->code;
}

int channel_receive(struct channel *c, struct wire_head *h, uint64_t until_ns, struct err *err)
{
    int rc;
    do {
        *h = (struct wire_head){0};
        rc = receive_one(c, h, until_ns, err);
    } while (rc == 0 && h->kind == WIRE_ALIVE);
    return rc == 0 && h->kind == WIRE_CANCEL ? take_failure(c, h, err) : rc;
}
