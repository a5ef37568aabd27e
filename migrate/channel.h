/*
 * Frames over a stream, and knowing that the peer lives.
 *
 * Whoever waits for the peer sends an ALIVE twice a second meanwhile, so a peer that is silent for
 * CHANNEL_PATIENCE_NS, or takes nothing for as long, is dead or frozen: -ETIMEDOUT. A CANCEL from
 * the peer ends every wait with the peer's own sentence. A cancel of our own is heeded in every
 * wait within CHANNEL_SLICE_NS (-ECANCELED).
 */
#pragma once

#include <stdbool.h>

#include "migrate/stream.h"
#include "migrate/wire.h"
#include "proto/migrate.pb-c.h"

#define CHANNEL_PATIENCE_NS 4000000000ull
#define CHANNEL_ALIVE_NS 500000000ull
#define CHANNEL_SLICE_NS 100000000ull

struct channel {
    const struct stream *stream;     /* borrowed */
    bool (*is_cancelled)(void *ctx); /* by us; may be NULL */
    void *ctx;                       /* borrowed; of that */
    uint64_t sent_ns, heard_ns;
    uint64_t bytes_out, bytes_in;
    bool is_mute;     /* sends no ALIVE: nobody listens */
    bool broken;      /* nothing can be sent any more: a frame may be half written */
    bool peer_failed; /* the error came from the peer, which knows that it is over */
    uint8_t meta[WIRE_META_MAX];
};

void channel_init(struct channel *c, const struct stream *stream, bool (*is_cancelled)(void *ctx),
                  void *ctx);

/* Sends a frame: h->meta_crc is filled in here. `data` has h->data_bytes. */
int channel_send(struct channel *c, struct wire_head *h, const void *meta, const struct iovec *data,
                 unsigned count, struct err *err);

/* A frame without page data and with a meta part of `bytes`, or with a message. */
int channel_send_plain(struct channel *c, enum wire_kind kind, uint8_t flags, uint64_t value,
                       const void *meta, size_t bytes, struct err *err);
int channel_send_message(struct channel *c, enum wire_kind kind, uint64_t value,
                         const ProtobufCMessage *message, struct err *err);

/* Says why it is over, if anything can be said; never fails, and is no longer cancelled. */
void channel_send_failure(struct channel *c, const struct err *why);

/*
 * The next frame that is no ALIVE; its meta part is in c->meta. Page data is then read by
 * channel_read_data. Waits until `until_ns` (0: as long as the peer lives); -EAGAIN when it passed.
 */
int channel_receive(struct channel *c, struct wire_head *h, uint64_t until_ns, struct err *err);
int channel_read_data(struct channel *c, struct iovec *iov, unsigned count, struct err *err);

/* The meta part as a message, freed with frame_free. */
ProtobufCMessage *channel_unpack(const struct channel *c, const struct wire_head *h,
                                 const ProtobufCMessageDescriptor *type, struct err *err);

/* What is to be done while one waits for something else: the peer hears of us, and a cancel is
 * heeded. */
int channel_rest(struct channel *c, struct err *err);

/* Sends an ALIVE when one is due. */
int channel_tend(struct channel *c, struct err *err);
uint64_t channel_now_ns(const struct channel *c);
