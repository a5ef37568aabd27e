/* The generation of the machine: see vmgenid.c and docs/devices.md. */
#pragma once

#include "base/uuid.h"
#include "machine/device.h"

struct vmgenid;

extern const struct device_type vmgenid_type; /* "vmgenid", of struct vmgenid */

/* The machine is another one than its guest believes: from resume on the guest finds this
 * generation and is told so. While quiesced. [loop] */
void vmgenid_renew(struct vmgenid *g, const struct uuid *generation);

/* [loop] */
struct uuid vmgenid_get(const struct vmgenid *g);
