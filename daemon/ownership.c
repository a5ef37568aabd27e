/* See ownership.h. */
#include "daemon/ownership.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "daemon/slots.h"

static const struct slots_kind kind = {.what = "record of ownership",
                                       .magic = 0x4e574f46, /* "FOWN" */
                                       .slot_bytes = 4096,
                                       .message = &ferry__ownership__descriptor};

static int take(struct ownership *o, const Ferry__Ownership *m, struct err *err)
{
    if (m->uuid.len != sizeof(o->uuid.bytes) ||
        memcmp(m->uuid.data, o->uuid.bytes, sizeof(o->uuid.bytes)) != 0)
        return err_set(err, EBADMSG, "the record of ownership is another guest's");
    if (strlen(m->peer) >= sizeof(o->peer))
        return err_set(err, EBADMSG, "the peer in the record of ownership is too long");
    o->epoch = m->epoch;
    o->owner = m->owner;
    memcpy(o->peer, m->peer, strlen(m->peer) + 1);
    return 0;
}

/* What the open file says; -ENODATA when it is empty. */
static int read_record(struct ownership *o, int fd, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = slots_read(&kind, fd, &o->seq, &message, err);
    if (rc == 0)
        rc = take(o, (const Ferry__Ownership *)message, err);
    frame_free(message);
    return rc;
}

int ownership_read(struct ownership *o, int fd, const struct uuid *uuid, struct err *err)
{
    *o = (struct ownership){.fd = -1, .uuid = *uuid};
    int rc = read_record(o, fd, err);
    return rc == -ENODATA ? 0 : rc;
}

int ownership_open(struct ownership *o, int fd, const struct uuid *uuid, struct err *err)
{
    *o = (struct ownership){.fd = fd, .uuid = *uuid};
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? err_set(err, EBUSY, "the guest is being migrated already")
                                    : err_sys(err, errno, "cannot lock the record of ownership");
    int rc = read_record(o, fd, err);
    return rc == -ENODATA ? slots_reserve(&kind, fd, err) : rc;
}

void ownership_close(struct ownership *o)
{
    clean_fd(&o->fd);
}

int ownership_write(struct ownership *o, Ferry__Owner owner, uint64_t epoch, const char *peer,
                    struct err *err)
{
    Ferry__Ownership m = FERRY__OWNERSHIP__INIT;
    m.uuid = (ProtobufCBinaryData){.data = o->uuid.bytes, .len = sizeof(o->uuid.bytes)};
    m.epoch = epoch;
    m.owner = owner;
    m.peer = peer ? (char *)(uintptr_t)peer : o->peer;
    m.wall_ns = now_wall_ns();
    if (strlen(m.peer) >= sizeof(o->peer))
        return err_set(err, ENAMETOOLONG, "the address of the peer is too long");
    int rc = slots_write(&kind, o->fd, o->seq + 1, &m.base, err);
    if (rc < 0)
        return rc;
    o->seq++;
    o->epoch = epoch;
    o->owner = owner;
    if (peer)
        snprintf(o->peer, sizeof(o->peer), "%s", peer);
    return 0;
}

int ownership_sync(const struct ownership *o, struct err *err)
{
    return fdatasync(o->fd) < 0 ? err_sys(err, errno, "cannot sync the record of ownership") : 0;
}

const char *ownership_name(Ferry__Owner owner)
{
    static const char *const names[] = {
        [FERRY__OWNER__OWNER_NONE] = "nobody's",
        [FERRY__OWNER__OWNER_OURS] = "ours",
        [FERRY__OWNER__OWNER_HANDED_OFF] = "handed off",
        [FERRY__OWNER__OWNER_GONE] = "the peer's",
        [FERRY__OWNER__OWNER_INCOMING] = "on its way here",
        [FERRY__OWNER__OWNER_TOMBSTONE] = "never to run here",
    };
    return (size_t)owner < sizeof(names) / sizeof(names[0]) ? names[owner] : "unknown";
}
