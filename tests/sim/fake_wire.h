/*
 * A wire between two migration engines, in memory and with virtual time, that has one fault at one
 * byte. The clock stands as long as anybody works; when both ends wait it jumps to where the first
 * of them gives up waiting.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "migrate/stream.h"
#include "migrate/wire.h"

#define WIRE_ENDS 2u
#define WIRE_FRAMES 512u /* as many are noted of each lane */

enum wire_fault {
    FAULT_NONE,
    FAULT_CUT,           /* both ways; what is on its way arrives */
    FAULT_GARBAGE,       /* a bit of that byte is turned */
    FAULT_FREEZE,        /* nothing of that way is delivered any more, nor that it is closed */
    FAULT_PARTITION,     /* the same of both ways */
    FAULT_SOURCE_KILLED, /* that end does nothing any more */
    FAULT_TARGET_KILLED,
    FAULT_WRITE_ERROR, /* who writes that byte cannot, and nobody else notices */
    WIRE_FAULTS
};

/* One direction. */
struct lane {
    uint8_t *data; /* owned: a ring */
    uint64_t written, read;
    bool closed, frozen, broken;
    /* Where frames begin. */
    uint8_t head[WIRE_HEAD_BYTES];
    uint64_t frames[WIRE_FRAMES], next;
    unsigned nframes;
};

struct wire_end {
    struct stream stream;
    struct fake_wire *wire;
    unsigned number; /* 0 is the source; writes to its lane, reads from the other */
};

struct fake_wire {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lane lanes[WIRE_ENDS]; /* 0: from the source */
    struct wire_end ends[WIRE_ENDS];
    uint64_t now_ns;
    uint64_t waits_until[WIRE_ENDS]; /* of each end; 0 while it works; UINT64_MAX once it is gone */
    enum wire_fault fault;
    unsigned fault_lane;
    uint64_t fault_at; /* byte of that lane */
    uint64_t fault_ns; /* when it was met; 0 before */
    uint64_t left_ns[WIRE_ENDS];
    bool dead[WIRE_ENDS];
};

void fake_wire_init(struct fake_wire *w, enum wire_fault fault, unsigned lane, uint64_t at);
void fake_wire_fini(struct fake_wire *w);

/* The engine of that end has come to its end: its connection is closed. */
void fake_wire_leave(struct fake_wire *w, unsigned end);

/* It was killed: what it is asked to do must have no effect. */
bool fake_wire_is_dead(struct fake_wire *w, unsigned end);
