/*
 * The record file of a worker, ROOT/vms/NAME/record: its last status, for a ferryd that was not
 * there when it was said. The worker writes, ferryd reads, at any moment and with no lock.
 *
 *     two slots of 64 KiB (daemon/slots.h), magic 'FREC', each with a WorkerStatus
 */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "daemon/slots.h"
#include "proto/worker.pb-c.h"

#define RECORD_SLOT_BYTES 65536u
#define RECORD_HEAD_BYTES SLOTS_HEAD_BYTES
#define RECORD_BODY_MAX (RECORD_SLOT_BYTES - RECORD_HEAD_BYTES)

/* See slots.h. */
int record_reserve(int fd, struct err *err);

int record_write(int fd, uint64_t seq, const Ferry__WorkerStatus *status, struct err *err);
int record_read(int fd, uint64_t *seq, Ferry__WorkerStatus **status, struct err *err);
