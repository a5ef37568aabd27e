/*
 * The disks of a VM, opened by ferryd: raw files and block devices.
 *
 * Who opens a disk locks it: one writer, or any number of readers. The lock is of the open file
 * itself (an OFD lock, which QEMU heeds and takes too), so it goes to the worker with the
 * descriptor and ends with the last copy of it, however the worker ends.
 */
#pragma once

#include "base/err.h"
#include "proto/config.pb-c.h"

#define DISKS_MAX 12u

struct disks {
    int fds[DISKS_MAX]; /* owned; the first `count` */
    unsigned count;
};

void disks_fini(struct disks *d);

/* Whether a definition's disks can be; gives those without an id one. */
int disks_complete(Ferry__MachineConfig *config, struct err *err);

/* Opens and locks all of them, or none. */
int disks_open(struct disks *d, const Ferry__MachineConfig *config, struct err *err);
