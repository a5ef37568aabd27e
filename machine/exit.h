/* One exit of KVM_RUN: ports and MMIO to the buses, everything else to its counter and verdict. */
#pragma once

#include <stdbool.h>

#include "machine/vcpu.h"

/* false when the guest cannot go on: the exit is a fault. [vcpu] */
bool exit_handle(struct vcpu *v);
