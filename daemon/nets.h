/*
 * The networks of a VM, opened by ferryd: a tap that the operator made, or one made here and put
 * into a bridge, which is gone with the last copy of its descriptor, however the worker ends.
 */
#pragma once

#include "base/err.h"
#include "proto/config.pb-c.h"

#define NETS_MAX 8u

struct nets {
    int fds[NETS_MAX]; /* owned; the first `count` */
    unsigned count;
};

void nets_fini(struct nets *n);

/* Whether a definition's networks can be; gives those without an address one that follows from the
 * VM's uuid, which is there. */
int nets_complete(Ferry__MachineConfig *config, struct err *err);

/* Opens all of them, or none. */
int nets_open(struct nets *n, const Ferry__MachineConfig *config, struct err *err);
