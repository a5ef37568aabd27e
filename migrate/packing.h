/*
 * Whether pages go packed: it pays where the connection is slower than the packing. Pure functions
 * of numbers; what is measured is told, and the clock with it.
 *
 * What it would be worth is guessed before it begins, and must be a quarter more:
 *
 *     plainly     what the connection takes
 *     packed      the less of: what the threads pack; what the connection takes / what is left of
 * it
 *
 * Once it has begun both are measured as they are: how much memory went in a window of packed
 * frames, and in one that goes plainly, to see, two seconds after the last one. Packing ends when
 * it is not the faster. A guess that was wrong so (the guest wants the CPUs, too) makes the next
 * one harder, until the connection is another. What packing gives is seen by some frames that go
 * packed in any case, ever fewer of them while it does not pay.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PACKING_WINDOW_BYTES (16ull << 20)
#define PACKING_WINDOW_NS 250000000ull /* of a slow connection */
#define PACKING_WINDOW_LEAST (1ull << 20)
#define PACKING_LOOK_NS 2000000000ull /* a look at the connection is good for so long */
#define PACKING_TRIALS 2u             /* the first frames */
#define PACKING_TRIAL_EVERY 64u
#define PACKING_TRIAL_RAREST 1024u

enum packing_mode { PACKING_AUTO, PACKING_ALWAYS, PACKING_NEVER };

#define PACKING_DEMAND 1250u /* permille of what goes plainly */
#define PACKING_DEMAND_MAX 10000u

/* Bytes a second; 0 is not known. */
struct packing_rates {
    uint64_t link;          /* that the connection takes */
    uint64_t pack;          /* of memory, that all threads together pack */
    unsigned permille;      /* what is left of them */
    uint64_t plain, packed; /* of memory, as it went */
};

struct packing {
    enum packing_mode mode;
    unsigned threads;
    uint64_t limit; /* bytes a second; 0: none */
    bool on;        /* pages go packed */
    bool looking;   /* but not in this window, to see what the connection takes */
    bool settled;   /* it stays as it is: the guest stands still */
    struct packing_rates rates;
    uint64_t frames, next_trial, every;
    unsigned demand;
    uint64_t wrong_link; /* that was taken when a guess was wrong */
    uint64_t window_from_ns, looked_ns, raw_sent, sent_bytes, sent_ns;
    double raw_bytes, packed_bytes, pack_ns; /* sums that fade by half with each window */
};

void packing_init(struct packing *p, enum packing_mode mode, unsigned threads, uint64_t limit,
                  uint64_t now_ns);

/* Whether it is to begin, and whether it is to go on. */
bool packing_promises(const struct packing_rates *r, unsigned demand);
bool packing_pays(const struct packing_rates *r);

/* Whether the next frame is to be packed. */
bool packing_next(struct packing *p);

/* A frame for `raw` bytes of memory was written, with `bytes`, which took so long. */
void packing_note_sent(struct packing *p, uint64_t raw, uint64_t bytes, uint64_t took_ns,
                       uint64_t now_ns);

/* A frame was packed, on one thread. */
void packing_note_packed(struct packing *p, uint64_t raw, uint64_t packed, uint64_t took_ns);
