/*
 * A tap as the other end of a network card: each read or write is one frame behind a header of
 * virtio's, which says what of checksums and segments is left to the one who takes it.
 *
 *     0  u8 flags | u8 segments as | u16 header bytes | u16 segment bytes
 *     6  u16 checksum from | u16 checksum at | u16 buffers that it fills (virtio-net's own)
 *
 * Descriptors come from ferryd, not blocking, with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR set.
 */
#pragma once

#include "base/err.h"

#define TAP_HEADER_BYTES 12u

/* What may be left to the reader of frames: the kernel's numbers. */
#define TAP_CSUM 0x01u
#define TAP_TSO4 0x02u
#define TAP_TSO6 0x04u

struct tap_ops {
    /* Refuses what is no such tap; `*offloads` is what it can leave to its reader, and leaves
     * nothing yet. */
    int (*init)(int fd, unsigned *offloads, struct err *err);
    /* What it leaves from now on, of those. */
    int (*set_offloads)(int fd, unsigned offloads);
};

extern const struct tap_ops tap_ops;
