/*
 * What another host's ferryd says first, and what it answers: a PeerHello and a PeerAnswer, each
 * without the length before it. An offer is looked at as an accepting ferryd does; each reason
 * against it is a sentence that fits an answer, and an offer without one is a machine that can be
 * defined. Networks are left out: a look at them makes taps.
 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/name.h"
#include "daemon/definition.h"
#include "daemon/dial.h"
#include "daemon/preflight.h"
#include "proto/frame.h"
#include "proto/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_machine(const Ferry__MachineConfig *c)
{
    struct err err = {0};
    must(c && c->uuid.len == 16 && name_valid(c->name) && c->cpus && c->memory_bytes);
    Ferry__MachineConfig *copy = (Ferry__MachineConfig *)frame_copy(&c->base, &err);
    must(!copy || definition_complete(copy, &err) == 0);
    frame_free((ProtobufCMessage *)copy);
}

/* The answer to it fits one, and is read as one. */
static void check_reasons(struct reasons *r)
{
    struct err err = {0};
    struct buf out;
    Ferry__PeerAnswer answer = FERRY__PEER_ANSWER__INIT;
    for (unsigned i = 0; i < r->count; i++)
        must(r->texts[i][0] && utf8_valid(r->texts[i]));
    answer.version = PEER_PROTOCOL;
    answer.reasons = r->texts;
    answer.n_reasons = r->count;
    buf_init(&out, FRAME_HEAD_BYTES + PEER_BODY_MAX);
    must(frame_pack(&answer.base, &out, &err) == 0);
    ProtobufCMessage *again =
        frame_unpack(&ferry__peer_answer__descriptor, out.data + FRAME_HEAD_BYTES,
                     out.len - FRAME_HEAD_BYTES, &err);
    must(again != NULL);
    frame_free(again);
    buf_fini(&out);
}

static void try_offer(Ferry__PeerOffer *offer)
{
    static struct daemon d = {.options = {.kvm = "/dev/kvm"}};
    static bool ready;
    struct reasons reasons = {0};
    Ferry__MachineConfig *c = offer->config;
    if (!ready)
        registry_init(&d.registry, NULL, NULL);
    ready = true;
    size_t nets = c ? c->n_nets : 0;
    if (c)
        c->n_nets = 0;
    preflight(&d, offer, &reasons);
    if (reasons.count == 0)
        check_machine(c);
    check_reasons(&reasons);
    reasons_fini(&reasons);
    if (c)
        c->n_nets = nets;
}

static ProtobufCMessage *try_message(const ProtobufCMessageDescriptor *type, const uint8_t *data,
                                     size_t size)
{
    struct err err = {0};
    ProtobufCMessage *m = frame_unpack(type, data, size, &err);
    must(m || (err.code > 0 && err.text[0]));
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > PEER_BODY_MAX)
        return 0;
    Ferry__PeerHello *hello =
        (Ferry__PeerHello *)try_message(&ferry__peer_hello__descriptor, data, size);
    if (hello && hello->body_case == FERRY__PEER_HELLO__BODY_OFFER)
        try_offer(hello->offer);
    frame_free((ProtobufCMessage *)hello);
    frame_free(try_message(&ferry__peer_answer__descriptor, data, size));
    return 0;
}
