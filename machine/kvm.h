/*
 * /dev/kvm: what this host's KVM is and can do, found out once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define KVM_CPUS_MAX 64

struct kvm {
    int fd; /* borrowed */
    int run_bytes;
    int max_cpus;
    bool manual_dirty_log; /* with INITIALLY_SET */
    bool kvmclock_ctrl;
};

/* Takes an open /dev/kvm; refuses one that lacks what every guest needs, by name. */
int kvm_init(struct kvm *kvm, int fd, struct err *err);

/* An ioctl that goes on after EINTR; returns what the kernel says, or -errno. [any] */
int kvm_ioctl(int fd, unsigned long request, void *arg);
