/* See record.h. */
#include "daemon/record.h"

static const struct slots_kind kind = {.what = "record file",
                                       .magic = 0x43455246, /* "FREC" */
                                       .slot_bytes = RECORD_SLOT_BYTES,
                                       .message = &ferry__worker_status__descriptor};

int record_reserve(int fd, struct err *err)
{
    return slots_reserve(&kind, fd, err);
}

int record_write(int fd, uint64_t seq, const Ferry__WorkerStatus *status, struct err *err)
{
    return slots_write(&kind, fd, seq, &status->base, err);
}

int record_read(int fd, uint64_t *seq, Ferry__WorkerStatus **status, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = slots_read(&kind, fd, seq, &message, err);
    if (rc == 0)
        *status = (Ferry__WorkerStatus *)message;
    return rc;
}
