/* See frame.h. */
#include "proto/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/le.h"
#include "proto/utf8.h"

int frame_pack(const ProtobufCMessage *message, struct buf *out, struct err *err)
{
    size_t body = protobuf_c_message_get_packed_size(message);
    if (body == 0 || body > FRAME_BODY_MAX)
        return err_set(err, EMSGSIZE, "a message of %zu bytes does not fit a frame (at most %u)",
                       body, FRAME_BODY_MAX);
    uint8_t *to = buf_reserve(out, FRAME_HEAD_BYTES + body);
    if (!to)
        return err_set(err, ENOBUFS, "no room for a message of %zu bytes", body);
    le_put(to, body, FRAME_HEAD_BYTES);
    protobuf_c_message_pack(message, to + FRAME_HEAD_BYTES);
    out->len += FRAME_HEAD_BYTES + body;
    return 0;
}

ssize_t frame_body_size(const uint8_t head[FRAME_HEAD_BYTES], struct err *err)
{
    uint64_t body = le_get(head, FRAME_HEAD_BYTES);
    if (body > FRAME_BODY_MAX)
        return err_set(err, EMSGSIZE, "frame length %llu is over the limit of %u bytes",
                       (unsigned long long)body, FRAME_BODY_MAX);
    if (body == 0)
        return err_set(err, EBADMSG, "frame length is 0");
    return (ssize_t)body;
}

ssize_t frame_peek(const uint8_t *in, size_t len, struct err *err)
{
    if (len < FRAME_HEAD_BYTES)
        return 0;
    ssize_t body = frame_body_size(in, err);
    if (body < 0)
        return body;
    return len - FRAME_HEAD_BYTES >= (size_t)body ? FRAME_HEAD_BYTES + body : 0;
}

struct allowance {
    size_t left;
    bool spent; /* something was refused for want of it */
};

static void *allowance_alloc(void *data, size_t size)
{
    struct allowance *a = data;
    size_t cost = size + 16; /* malloc's own share, so that many tiny ones count too */
    if (cost < size || cost > a->left) {
        a->spent = true;
        return NULL;
    }
    a->left -= cost;
    return malloc(size ? size : 1);
}

static void allowance_free(void *data, void *pointer)
{
    free(pointer);
}

ProtobufCMessage *frame_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *body,
                               size_t len, struct err *err)
{
    struct allowance allowance = {.left = FRAME_UNPACK_MAX};
    ProtobufCAllocator allocator = {
        .alloc = allowance_alloc, .free = allowance_free, .allocator_data = &allowance};
    ProtobufCMessage *message = protobuf_c_message_unpack(type, &allocator, len, body);
    if (!message && allowance.spent) {
        err_set(err, EMSGSIZE, "a %s message needs more than %u bytes of memory", type->short_name,
                FRAME_UNPACK_MAX);
        return NULL;
    }
    if (!message) {
        err_set(err, EBADMSG, "the body is not a valid %s message", type->short_name);
        return NULL;
    }
    if (utf8_check_message(message, err) < 0) {
        frame_free(message);
        return NULL;
    }
    return message;
}

void frame_free(ProtobufCMessage *message)
{
    struct allowance unused = {0};
    ProtobufCAllocator allocator = {
        .alloc = allowance_alloc, .free = allowance_free, .allocator_data = &unused};
    if (message)
        protobuf_c_message_free_unpacked(message, &allocator);
}

ProtobufCMessage *frame_copy(const ProtobufCMessage *message, struct err *err)
{
    struct buf bytes;
    ProtobufCMessage *copy = NULL;
    buf_init(&bytes, FRAME_HEAD_BYTES + FRAME_BODY_MAX);
    if (frame_pack(message, &bytes, err) == 0)
        copy = frame_unpack(message->descriptor, bytes.data + FRAME_HEAD_BYTES,
                            bytes.len - FRAME_HEAD_BYTES, err);
    buf_fini(&bytes);
    return copy;
}
