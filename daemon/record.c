/* See record.h. */
#include "daemon/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "proto/frame.h"

#define RECORD_MAGIC 0x43455246u /* "FREC" */
#define RECORD_CRC_FROM 12u      /* the checksum covers the sequence and the body */

static off_t slot_offset(uint64_t seq)
{
    return (off_t)(seq % 2) * RECORD_SLOT_BYTES;
}

int record_reserve(int fd, struct err *err)
{
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * RECORD_SLOT_BYTES) == 0 || errno == EOPNOTSUPP)
        return 0;
    return err_sys(err, errno, "cannot reserve the record file");
}

static int write_slot(int fd, const uint8_t *slot, size_t len, off_t at, struct err *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, slot + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(err, n < 0 ? errno : EIO, "cannot write the record file");
        done += (size_t)n;
    }
    return 0;
}

int record_write(int fd, uint64_t seq, const Ferry__WorkerStatus *status, struct err *err)
{
    size_t len = ferry__worker_status__get_packed_size(status);
    if (len > RECORD_BODY_MAX)
        return err_set(err, EMSGSIZE, "a status of %zu bytes does not fit the record file", len);
    CLEAN(clean_free) uint8_t *slot = malloc(RECORD_HEAD_BYTES + len);
    if (!slot)
        return err_set(err, ENOMEM, "no memory for a record");
    le_put(slot, RECORD_MAGIC, 4);
    le_put(slot + 4, len, 4);
    le_put(slot + 12, seq, 8);
    ferry__worker_status__pack(status, slot + RECORD_HEAD_BYTES);
    le_put(slot + 8, crc32c(0, slot + RECORD_CRC_FROM, RECORD_HEAD_BYTES - RECORD_CRC_FROM + len),
           4);
    return write_slot(fd, slot, RECORD_HEAD_BYTES + len, slot_offset(seq), err);
}

/* As many bytes of the slot as there are. */
static ssize_t read_slot(int fd, uint8_t *slot, off_t at)
{
    size_t done = 0;
    while (done < RECORD_SLOT_BYTES) {
        ssize_t n = pread(fd, slot + done, RECORD_SLOT_BYTES - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static Ferry__WorkerStatus *slot_open(const uint8_t *slot, size_t have, uint64_t *seq,
                                      struct err *err)
{
    if (have < RECORD_HEAD_BYTES || le_get(slot, 4) != RECORD_MAGIC) {
        err_set(err, EBADMSG, "the record file has no intact slot: wrong magic");
        return NULL;
    }
    size_t len = le_get(slot + 4, 4);
    if (len > have - RECORD_HEAD_BYTES) {
        err_set(err, EBADMSG, "the record file has no intact slot: wrong length");
        return NULL;
    }
    uint32_t crc = crc32c(0, slot + RECORD_CRC_FROM, RECORD_HEAD_BYTES - RECORD_CRC_FROM + len);
    if (crc != le_get(slot + 8, 4)) {
        err_set(err, EBADMSG, "the record file has no intact slot: wrong checksum");
        return NULL;
    }
    *seq = le_get(slot + 12, 8);
    return (Ferry__WorkerStatus *)frame_unpack(&ferry__worker_status__descriptor,
                                               slot + RECORD_HEAD_BYTES, len, err);
}

int record_read(int fd, uint64_t *seq, Ferry__WorkerStatus **status, struct err *err)
{
    Ferry__WorkerStatus *best = NULL;
    uint64_t best_seq = 0;
    size_t found = 0;
    CLEAN(clean_free) uint8_t *slot = malloc(RECORD_SLOT_BYTES);
    if (!slot)
        return err_set(err, ENOMEM, "no memory for a record");
    for (unsigned i = 0; i < 2; i++) {
        uint64_t this_seq = 0;
        ssize_t n = read_slot(fd, slot, slot_offset(i));
        found += n > 0 ? (size_t)n : 0;
        Ferry__WorkerStatus *this = n > 0 ? slot_open(slot, (size_t)n, &this_seq, err) : NULL;
        if (this && (!best || this_seq > best_seq)) {
            frame_free((ProtobufCMessage *)best);
            best = this;
            best_seq = this_seq;
        } else {
            frame_free((ProtobufCMessage *)this);
        }
    }
    if (!best && found == 0)
        return err_set(err, ENODATA, "the record file is empty");
    if (!best)
        return -err->code;
    if (seq)
        *seq = best_seq;
    *status = best;
    return 0;
}
