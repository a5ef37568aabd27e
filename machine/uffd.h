/*
 * userfaultfd: memory that is given its content when it is first touched, by whomever: the process,
 * the kernel for it, or KVM for its guest. Only what ferry needs: missing pages of private memory.
 *
 * A thread that touches a registered page without content sleeps until uffd_copy or uffd_zero has
 * given it some. Once the descriptor is closed such pages read as zero, so it may not be closed
 * early.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/*
 * A descriptor that does not block, for the calling process. `device` is an open /dev/userfaultfd,
 * or -1. Without it the system call is tried, which most hosts keep for those who may trace others
 * (vm.unprivileged_userfaultfd, CAP_SYS_PTRACE), because KVM faults in the kernel.
 */
int uffd_open(int device, struct err *err);

int uffd_register(int uffd, void *at, uint64_t bytes, struct err *err);

/* Whole pages; those that have content already are left alone. Wakes who waits for them. */
int uffd_copy(int uffd, void *to, const void *from, uint64_t bytes, struct err *err);
int uffd_zero(int uffd, void *to, uint64_t bytes, struct err *err);

/* 1 and the address that somebody waits for; 0 when nobody does. */
int uffd_next_fault(int uffd, uint64_t *address, struct err *err);
