/* See slots.h. */
#include "daemon/slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "proto/frame.h"

#define CRC_FROM 12u /* the checksum covers the sequence and the body */

static off_t slot_offset(const struct slots_kind *kind, uint64_t seq)
{
    return (off_t)(seq % 2) * kind->slot_bytes;
}

int slots_reserve(const struct slots_kind *kind, int fd, struct err *err)
{
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * (off_t)kind->slot_bytes) == 0 ||
        errno == EOPNOTSUPP)
        return 0;
    return err_sys(err, errno, "cannot reserve the %s", kind->what);
}

static int write_slot(const struct slots_kind *kind, int fd, const uint8_t *slot, size_t len,
                      off_t at, struct err *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, slot + done, len - done, at + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_sys(err, n < 0 ? errno : EIO, "cannot write the %s", kind->what);
        done += (size_t)n;
    }
    return 0;
}

int slots_write(const struct slots_kind *kind, int fd, uint64_t seq,
                const ProtobufCMessage *message, struct err *err)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    if (len > kind->slot_bytes - SLOTS_HEAD_BYTES)
        return err_set(err, EMSGSIZE, "a message of %zu bytes does not fit the %s", len,
                       kind->what);
    CLEAN(clean_free) uint8_t *slot = malloc(SLOTS_HEAD_BYTES + len);
    if (!slot)
        return err_set(err, ENOMEM, "no memory for the %s", kind->what);
    le_put(slot, kind->magic, 4);
    le_put(slot + 4, len, 4);
    le_put(slot + 12, seq, 8);
    protobuf_c_message_pack(message, slot + SLOTS_HEAD_BYTES);
    le_put(slot + 8, crc32c(0, slot + CRC_FROM, SLOTS_HEAD_BYTES - CRC_FROM + len), 4);
    return write_slot(kind, fd, slot, SLOTS_HEAD_BYTES + len, slot_offset(kind, seq), err);
}

/* As many bytes of the slot as there are. */
static ssize_t read_slot(const struct slots_kind *kind, int fd, uint8_t *slot, off_t at)
{
    size_t done = 0;
    while (done < kind->slot_bytes) {
        ssize_t n = pread(fd, slot + done, kind->slot_bytes - done, at + (off_t)done);
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

static ProtobufCMessage *slot_open(const struct slots_kind *kind, const uint8_t *slot, size_t have,
                                   uint64_t *seq, struct err *err)
{
    const char *what = kind->what;
    if (have < SLOTS_HEAD_BYTES || le_get(slot, 4) != kind->magic) {
        err_set(err, EBADMSG, "the %s has no intact slot: wrong magic", what);
        return NULL;
    }
    size_t len = le_get(slot + 4, 4);
    if (len > have - SLOTS_HEAD_BYTES) {
        err_set(err, EBADMSG, "the %s has no intact slot: wrong length", what);
        return NULL;
    }
    uint32_t crc = crc32c(0, slot + CRC_FROM, SLOTS_HEAD_BYTES - CRC_FROM + len);
    if (crc != le_get(slot + 8, 4)) {
        err_set(err, EBADMSG, "the %s has no intact slot: wrong checksum", what);
        return NULL;
    }
    *seq = le_get(slot + 12, 8);
    return frame_unpack(kind->message, slot + SLOTS_HEAD_BYTES, len, err);
}

int slots_read(const struct slots_kind *kind, int fd, uint64_t *seq, ProtobufCMessage **message,
               struct err *err)
{
    ProtobufCMessage *best = NULL;
    struct err why = {0}; /* of a slot that is not intact, which matters when none is */
    uint64_t best_seq = 0;
    size_t found = 0;
    CLEAN(clean_free) uint8_t *slot = malloc(kind->slot_bytes);
    if (!slot)
        return err_set(err, ENOMEM, "no memory for the %s", kind->what);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t this_seq = 0;
        ssize_t n = read_slot(kind, fd, slot, slot_offset(kind, i));
        found += n > 0 ? (size_t)n : 0;
        ProtobufCMessage *this = n > 0 ? slot_open(kind, slot, (size_t)n, &this_seq, &why) : NULL;
        if (this && (!best || this_seq > best_seq)) {
            frame_free(best);
            best = this;
            best_seq = this_seq;
        } else {
            frame_free(this);
        }
    }
    if (!best && found == 0)
        return err_set(err, ENODATA, "the %s is empty", kind->what);
    if (!best) {
        *err = why;
        return -err->code;
    }
    if (seq)
        *seq = best_seq;
    *message = best;
    return 0;
}
