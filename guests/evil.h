/* What the evil guest does to its machine, and what it spares of itself. */
#ifndef GUESTS_EVIL_H
#define GUESTS_EVIL_H

#include "virtio.h"

#define SCRATCH_BYTES 0x40000u

/* The only memory whose address devices are told: all that they write has to be in it. */
extern uint8_t evil_scratch[SCRATCH_BYTES];

uint64_t evil_random(void); /* of CPU 0 */
/* In the scratch, or where there is no memory. */
uint64_t evil_address(void);

/* One access of a port; those that end or reset the machine are left out. */
void evil_port(void);
/* The serial port, the interrupt controllers and the timer as they were. */
void evil_mend(void);

/* A register of a virtio window, of a device or of none. */
void evil_register(uint64_t window);
/* A device set up half right, with rings full of lies, that change while it looks. */
void evil_rings(uint64_t window);
/* One lie more, from another CPU. */
void evil_scribble(uint64_t *random);

#endif
