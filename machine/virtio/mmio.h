/*
 * virtio over MMIO, version 2: a window of registers and one interrupt line for each device.
 *
 * Windows lie side by side from LAYOUT_VIRTIO_GPA on, in the order of the devices; a guest finds
 * them by ACPI (LNRO0005) or by its command line. QueueNotify is taken by KVM itself where it can
 * (ioeventfd) and the line is raised by a descriptor (irqfd); otherwise by exits and calls. The
 * line is edge-triggered: InterruptStatus says what there is to do, also behind a lost edge.
 */
#pragma once

#include "machine/virtio/virtio.h"

#define VIRTIO_MMIO_WINDOWS 16

/* For device_env.virtio_attach. */
int virtio_mmio_attach(struct virtio *v, const struct device_env *env, struct err *err);

/* Where window `index` is, for the tables that announce it. */
uint64_t virtio_mmio_gpa(unsigned index);
unsigned virtio_mmio_gsi(unsigned index);
