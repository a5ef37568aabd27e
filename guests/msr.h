/* What the parts of the msr guest share. */
#ifndef GUESTS_MSR_H
#define GUESTS_MSR_H

#include "guest.h"

/*
 * A register under test. bits: those that take random values; fixed: those that are always set;
 * canonical: an address. One without bits is only watched: it must stay what it was.
 */
struct reg {
    const char *name;
    uint32_t nr;
    uint64_t bits, fixed;
    bool canonical;
    uint64_t (*make)(uint64_t random); /* instead of bits */
};

/* Tables that end with a NULL name. msr_table.c */
extern const struct reg msr_table[];
extern const struct reg dr_table[];
extern const struct reg cr_table[];

#endif
