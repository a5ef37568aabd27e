/* What the files catalogue*.c share: names of what nobody sees yet, or any more. */
#pragma once

#include "base/uuid.h"
#include "snapshot/catalogue.h"

#define CATALOGUE_TEMP_PREFIX ".tmp-"
#define CATALOGUE_TEMP_SIZE (sizeof(CATALOGUE_TEMP_PREFIX) + UUID_TEXT_SIZE)

/* Held by whoever gives or takes a name, from the look at the list to the rename: until the
 * descriptor is closed. */
int catalogue_lock_names(const struct catalogue *c, struct err *err);

void catalogue_temp_name(const struct uuid *uuid, char name[CATALOGUE_TEMP_SIZE]);
