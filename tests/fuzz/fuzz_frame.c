/*
 * Frames one behind the other, as a connection takes them, each body unpacked as every message that
 * comes from outside. What is taken and packed must, when taken again, pack to the same bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "proto/ferry.pb-c.h"
#include "proto/frame.h"
#include "proto/worker.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &ferry__request__descriptor,        &ferry__reply__descriptor,
    &ferry__worker_request__descriptor, &ferry__worker_reply__descriptor,
    &ferry__machine_config__descriptor, &ferry__worker_status__descriptor,
};

/* false: too large for a frame, which a merge of unknown fields may be. */
static bool pack(const ProtobufCMessage *message, struct buf *out)
{
    struct err err;
    buf_init(out, 2 * FRAME_BODY_MAX);
    return frame_pack(message, out, &err) == 0;
}

static void try_body(const ProtobufCMessageDescriptor *type, const uint8_t *body, size_t len)
{
    struct err err = {0};
    struct buf once, twice;
    ProtobufCMessage *message = frame_unpack(type, body, len, &err);
    if (!message) {
        if (err.code <= 0 || !err.text[0])
            abort();
        return;
    }
    if (pack(message, &once)) {
        ProtobufCMessage *again =
            frame_unpack(type, once.data + FRAME_HEAD_BYTES, once.len - FRAME_HEAD_BYTES, &err);
        /* Not taken again is no fault: the library takes an unknown field 0 with an over-long tag,
         * writes the tag short, and then refuses it; and merged fields may cost more memory. */
        if (again) {
            if (!pack(again, &twice) || twice.len != once.len ||
                memcmp(once.data, twice.data, once.len) != 0)
                abort();
            buf_fini(&twice);
            frame_free(again);
        }
    }
    buf_fini(&once);
    frame_free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    while (size) {
        struct err err = {0};
        ssize_t n = frame_peek(data, size, &err);
        if (n < 0 && (err.code != -n || !err.text[0]))
            abort();
        if (n <= 0)
            break;
        if ((size_t)n > size)
            abort();
        for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++)
            try_body(types[i], data + FRAME_HEAD_BYTES, (size_t)n - FRAME_HEAD_BYTES);
        data += n;
        size -= (size_t)n;
    }
    return 0;
}
