/*
 * What is kept of a VM in its directory: `definition`, a MachineConfig, and `state`, a VmStored.
 * Both files are
 *
 *     0   u32 magic 'FDEF' or 'FSTA'    8   u32 length
 *     4   u32 version (1)              12   u32 crc32c of the body
 *     16  the message
 *
 * and are replaced whole.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "proto/config.pb-c.h"
#include "proto/state.pb-c.h"

#define DEFINITION_MEMORY_DEFAULT (256ull << 20)

/* Puts defaults where nothing is said and checks every field; the sentence names the field. */
int definition_complete(Ferry__MachineConfig *config, struct err *err);

/* Whether anything but the name is said. */
bool definition_is_full(const Ferry__MachineConfig *config);

/* Survives processes at once, and the host from definition_sync() on. */
int definition_write(int dirfd, const Ferry__MachineConfig *config, struct err *err);
int definition_sync(int dirfd, struct err *err);
int definition_read(int dirfd, const char *name, Ferry__MachineConfig **config, struct err *err);

int definition_write_state(int dirfd, const Ferry__VmStored *stored, struct err *err);
int definition_read_state(int dirfd, Ferry__VmStored **stored, struct err *err);
