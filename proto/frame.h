/*
 * The framing of every RPC:   u32 length, little-endian | body
 *
 * and the two halves of dealing with a body from outside: unpacking it under a memory bound, and
 * checking that its strings are strings.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

#define FRAME_HEAD_BYTES 4u
#define FRAME_BODY_MAX (1u << 20)

/* What unpacking one body may allocate in all: unknown fields and repeated ones cost many times
 * their wire size, and a body comes from outside. */
#define FRAME_UNPACK_MAX (8u << 20)

/* Appends head and packed message. */
int frame_pack(const ProtobufCMessage *message, struct buf *out, struct err *err);

/*
 * Looks at the front of `in`: > 0 is the whole frame's size (head and body) when all of it is
 * there, 0 when more bytes are needed, -EMSGSIZE for a length over FRAME_BODY_MAX, -EBADMSG for 0.
 */
ssize_t frame_peek(const uint8_t *in, size_t len, struct err *err);

/* The body's size that a head tells, or < 0 as frame_peek. */
ssize_t frame_body_size(const uint8_t head[FRAME_HEAD_BYTES], struct err *err);

/*
 * Unpacks a body. NULL with a sentence when it is no such message, needs too much memory, or a
 * string in it is not UTF-8 or holds a control character. Freed with frame_free.
 */
ProtobufCMessage *frame_unpack(const ProtobufCMessageDescriptor *type, const uint8_t *body,
                               size_t len, struct err *err);
void frame_free(ProtobufCMessage *message);

/* A copy of its own, freed with frame_free; NULL with a sentence as frame_unpack. */
ProtobufCMessage *frame_copy(const ProtobufCMessage *message, struct err *err);
