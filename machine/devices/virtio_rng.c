/*
 * virtio-rng: every writable byte of a request is filled from the host's random number generator.
 *
 * Nothing is kept, so two clones of one guest never get the same bytes. A guest that asks without
 * end gets RNG_REQUEST_MAX bytes a request and VIRTIO_TURN requests a turn: it costs the I/O thread
 * of its own machine, which others of its devices share fairly, and nobody else.
 */
#include "machine/devices/virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

#include "machine/virtio/virtio.h"

#define RNG_REQUEST_MAX 65536u
#define RNG_QUEUE_SIZE 64

struct virtio_rng {
    struct virtio virtio; /* first: see virtio_device_fini */
    struct virtq_chain chain;
};

enum { COUNT_BYTES };
static const char *const counters[] = {[COUNT_BYTES] = "bytes"};

// clang-format off
static const struct field virtio_rng_fields[] = {
    FIELD_STRUCT(1, struct virtio_rng, virtio, virtio_fields),
    FIELD_END,
};
// clang-format on

/* getrandom gives all of 256 bytes, or less of more when a signal comes: what it gave counts. */
static uint64_t fill(const struct virtq_chain *c)
{
    uint64_t done = 0;
    for (unsigned i = c->nout; i < c->nout + c->nin && done < RNG_REQUEST_MAX; i++) {
        uint64_t want = c->iov[i].iov_len;
        if (want > RNG_REQUEST_MAX - done)
            want = RNG_REQUEST_MAX - done;
        ssize_t n = getrandom(c->iov[i].iov_base, want, 0);
        done += n > 0 ? (uint64_t)n : 0;
        if (n < 0 || (uint64_t)n < want)
            break;
    }
    return done;
}

static bool virtio_rng_work(void *dev, unsigned queue)
{
    struct virtio_rng *r = dev;
    unsigned n = 0;
    while (n < VIRTIO_TURN && virtio_pop(&r->virtio, queue, &r->chain)) {
        uint64_t bytes = fill(&r->chain);
        virtio_push(&r->virtio, queue, &r->chain, bytes);
        virtio_count(&r->virtio, COUNT_BYTES, bytes);
        n++;
    }
    if (n)
        virtio_tell(&r->virtio, queue);
    return n == VIRTIO_TURN;
}

static const struct virtio_class virtio_rng_class = {
    .name = "virtio-rng",
    .id = VIRTIO_ID_RNG,
    .queue_size = RNG_QUEUE_SIZE,
    .counters = counters,
    .ncounters = sizeof(counters) / sizeof(counters[0]),
    .work = virtio_rng_work,
};

static int virtio_rng_init(void *dev, const struct device_env *env, struct err *err)
{
    struct virtio_rng *r = dev;
    struct virtio_setup setup = {.class = &virtio_rng_class, .dev = r, .queues = 1};
    return virtio_init(&r->virtio, &setup, env, err);
}

static int virtio_rng_post_load(void *object, struct err *err)
{
    struct virtio_rng *r = object;
    return virtio_post_load(&r->virtio, err);
}

static const struct state_desc virtio_rng_state = {
    .name = "virtio-rng",
    .version = 1,
    .min_version = 1,
    .fields = virtio_rng_fields,
    .post_load = virtio_rng_post_load,
};

const struct device_type virtio_rng_type = {
    .name = "virtio-rng",
    .size = sizeof(struct virtio_rng),
    .state = &virtio_rng_state,
    .init = virtio_rng_init,
    .fini = virtio_device_fini,
    .quiesce = virtio_device_quiesce,
    .resume = virtio_device_resume,
    .reset = virtio_device_reset,
};
