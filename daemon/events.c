/* See events.h. */
#include "daemon/events.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/fs.h"
#include "base/now.h"
#include "proto/frame.h"

#define EVENT_HEAD_BYTES 8u
#define EVENT_BODY_MAX 8192u
#define EVENTS_IN_FILE_MAX (4 * EVENTS_KEPT)
#define EVENTS_FILE_MAX ((EVENTS_IN_FILE_MAX + 1) * (EVENT_HEAD_BYTES + EVENT_BODY_MAX))

static int pack(const Ferry__Event *event, struct buf *out, struct err *err)
{
    size_t len = ferry__event__get_packed_size(event);
    uint8_t *to = len <= EVENT_BODY_MAX ? buf_reserve(out, EVENT_HEAD_BYTES + len) : NULL;
    if (!to)
        return err_set(err, EMSGSIZE, "an event of %zu bytes does not fit", len);
    ferry__event__pack(event, to + EVENT_HEAD_BYTES);
    uint32_t crc = crc32c(0, to + EVENT_HEAD_BYTES, len);
    buf_append_le(out, len, 4);
    buf_append_le(out, crc, 4);
    out->len += len;
    return 0;
}

/* Takes one record off the front; NULL when what is there is no whole intact record. */
static Ferry__Event *take(struct span *s)
{
    struct span at = *s;
    struct err ignored;
    uint64_t len, crc;
    if (!span_le(&at, 4, &len) || !span_le(&at, 4, &crc) || len > EVENT_BODY_MAX)
        return NULL;
    const uint8_t *body = span_take(&at, len);
    if (!body || crc32c(0, body, len) != crc)
        return NULL;
    *s = at;
    return (Ferry__Event *)frame_unpack(&ferry__event__descriptor, body, len, &ignored);
}

static void keep(struct events *e, Ferry__Event *event)
{
    Ferry__Event **slot = &e->ring[event->seq % EVENTS_KEPT];
    frame_free((ProtobufCMessage *)*slot);
    *slot = event;
    e->last = event->seq;
}

/* The numbers of a file go up by one; anything else is damage. */
static void load(struct events *e, const struct buf *in, struct err *note)
{
    struct span s = {.at = in->data, .left = in->len};
    while (s.left) {
        Ferry__Event *event = take(&s);
        if (!event || event->seq == 0 || (e->last && event->seq != e->last + 1)) {
            frame_free((ProtobufCMessage *)event);
            err_set(note, EBADMSG,
                    "the events file is damaged behind number %llu: %zu bytes dropped",
                    (unsigned long long)e->last, s.left);
            return;
        }
        keep(e, event);
        e->in_file++;
    }
}

static int reopen(struct events *e, struct err *err)
{
    clean_fd(&e->fd);
    e->fd =
        openat(e->dirfd, "events", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return e->fd < 0 ? err_sys(err, errno, "cannot open 'events'") : 0;
}

/* Writes the file anew with what is kept. */
static int rewrite(struct events *e, struct err *err)
{
    struct buf out;
    int rc = 0;
    unsigned count = 0;
    buf_init(&out, EVENTS_FILE_MAX);
    for (const Ferry__Event *at = events_from(e, 0); at && rc == 0;
         at = events_from(e, at->seq + 1), count++)
        rc = pack(at, &out, err);
    if (rc == 0)
        rc = fs_replace(e->dirfd, "events", out.data, out.len, 0600, err);
    buf_fini(&out);
    if (rc == 0)
        rc = reopen(e, err);
    if (rc == 0)
        e->in_file = count;
    return rc;
}

int events_open(struct events *e, int dirfd, struct err *note, struct err *err)
{
    struct buf in;
    *note = (struct err){0};
    *e = (struct events){.dirfd = dirfd, .fd = -1};
    buf_init(&in, EVENTS_FILE_MAX);
    if (fs_read_file(dirfd, "events", &in, err) == 0)
        load(e, &in, note);
    else if (err->code != ENOENT)
        *note = *err;
    buf_fini(&in);
    int rc = note->code ? rewrite(e, err) : reopen(e, err);
    if (rc < 0)
        events_close(e);
    return rc;
}

void events_close(struct events *e)
{
    for (size_t i = 0; i < EVENTS_KEPT; i++) {
        frame_free((ProtobufCMessage *)e->ring[i]);
        e->ring[i] = NULL;
    }
    clean_fd(&e->fd);
}

/* A record that is only half written would hide all behind it: then the file is made anew. */
static int append(struct events *e, const struct buf *record, struct err *err)
{
    ssize_t n = e->fd < 0 || e->torn ? -1 : write(e->fd, record->data, record->len);
    if (n == (ssize_t)record->len && ++e->in_file <= EVENTS_IN_FILE_MAX)
        return 0;
    e->torn = true; /* until it is made anew, at the next event if not now */
    int rc = rewrite(e, err);
    e->torn = rc < 0;
    return rc;
}

int events_add(struct events *e, Ferry__Event event, struct err *err)
{
    struct buf record;
    event.seq = e->last + 1;
    event.wall_ns = now_wall_ns();
    buf_init(&record, EVENT_HEAD_BYTES + EVENT_BODY_MAX);
    if (pack(&event, &record, err) < 0) {
        buf_fini(&record);
        return -err->code;
    }
    Ferry__Event *copy =
        (Ferry__Event *)frame_unpack(&ferry__event__descriptor, record.data + EVENT_HEAD_BYTES,
                                     record.len - EVENT_HEAD_BYTES, err);
    int rc = copy ? 0 : -err->code;
    if (copy) {
        keep(e, copy);
        rc = append(e, &record, err);
        if (e->added)
            e->added(e->ctx);
    }
    buf_fini(&record);
    return rc;
}

const Ferry__Event *events_from(const struct events *e, uint64_t seq)
{
    if (e->last >= EVENTS_KEPT && seq <= e->last - EVENTS_KEPT)
        seq = e->last - EVENTS_KEPT + 1;
    for (; seq <= e->last; seq++)
        if (e->ring[seq % EVENTS_KEPT] && e->ring[seq % EVENTS_KEPT]->seq == seq)
            return e->ring[seq % EVENTS_KEPT];
    return NULL;
}
