/* See worker_console.h. */
#include "daemon/worker_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/worker_session.h"

/* Input that the guest's queue had no room for yet. */
struct console_write {
    struct console_write *next;
    struct session *session; /* NULL once it left */
    uint32_t id;
    size_t len, done;
    uint8_t data[];
};

int worker_console_read(struct session *s, uint32_t id, const Ferry__WorkerConsoleRead *ask,
                        struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerConsoleData data = FERRY__WORKER_CONSOLE_DATA__INIT;
    size_t max = ask->max_bytes < WORKER_CONSOLE_CHUNK ? ask->max_bytes : WORKER_CONSOLE_CHUNK;
    uint64_t offset = ask->offset, missed;
    uint8_t *space = malloc(max ? max : 1);
    if (!space)
        return err_set(err, ENOMEM, "no memory for console output");
    size_t n = console_read(&s->worker->console, &offset, space, max, &missed);
    data.offset = offset - n;
    data.data = (ProtobufCBinaryData){.data = space, .len = n};
    data.end = console_end(&s->worker->console);
    reply.id = id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_CONSOLE;
    reply.console = &data;
    session_reply(s, &reply);
    free(space);
    return 1;
}

static void set_watching(struct session *s, bool watching)
{
    if (s->watching == watching)
        return;
    s->watching = watching;
    if (watching)
        atomic_fetch_add(&s->worker->watchers, 1);
    else
        atomic_fetch_sub(&s->worker->watchers, 1);
}

/* Answers an open watch when there is something behind its offset, or when it is in vain. */
static void answer_watch(struct session *s, bool gone)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerConsoleData data = FERRY__WORKER_CONSOLE_DATA__INIT;
    uint64_t end = console_end(&s->worker->console);
    if (!s->watching || (end <= s->watch_offset && !gone))
        return;
    set_watching(s, false);
    data.offset = data.end = end;
    reply.id = s->watch_id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_CONSOLE;
    reply.console = &data;
    session_reply(s, &reply);
}

/* Watching is announced before the console is looked at, or output between the two would wake
 * nobody. */
int worker_console_watch(struct session *s, uint32_t id, const Ferry__WorkerConsoleWatch *ask,
                         struct err *err)
{
    if (s->watching)
        return err_set(err, EBUSY, "a console watch is open already");
    s->watch_id = id;
    s->watch_offset = ask->offset;
    set_watching(s, true);
    answer_watch(s, false);
    return 1;
}

static void answer_write(struct session *s, uint32_t id, size_t bytes)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerConsoleWritten written = FERRY__WORKER_CONSOLE_WRITTEN__INIT;
    written.bytes = bytes;
    reply.id = id;
    reply.body_case = FERRY__WORKER_REPLY__BODY_WRITTEN;
    reply.written = &written;
    session_reply(s, &reply);
}

static int put_in_line(struct session *s, uint32_t id, const uint8_t *data, size_t len, size_t done,
                       struct err *err)
{
    struct worker *w = s->worker;
    struct console_write *write = malloc(sizeof(*write) + len), **at = &w->writes;
    if (!write)
        return err_set(err, ENOMEM, "no memory for console input");
    *write = (struct console_write){.session = s, .id = id, .len = len, .done = done};
    memcpy(write->data, data, len);
    while (*at)
        at = &(*at)->next;
    *at = write;
    w->writes_waiting++;
    return 1;
}

int worker_console_write(struct session *s, uint32_t id, const Ferry__WorkerConsoleWrite *ask,
                         struct err *err)
{
    struct worker *w = s->worker;
    size_t len = ask->data.len, done = 0;
    if (len > WORKER_CONSOLE_CHUNK)
        return err_set(err, EMSGSIZE, "console input is at most %u bytes at once",
                       WORKER_CONSOLE_CHUNK);
    if (w->writes_waiting >= WORKER_WRITES_MAX)
        return err_set(err, EAGAIN, "the guest does not read its console");
    if (!w->writes)
        done = console_feed(&w->console, ask->data.data, len);
    if (done < len)
        return put_in_line(s, id, ask->data.data, len, done, err);
    answer_write(s, id, len);
    return 1;
}

/* Types what waits, as far as the guest's queue takes it. */
static void pump_writes(struct worker *w)
{
    while (w->writes) {
        struct console_write *first = w->writes;
        first->done +=
            console_feed(&w->console, first->data + first->done, first->len - first->done);
        if (first->done < first->len)
            return;
        w->writes = first->next;
        w->writes_waiting--;
        if (first->session)
            answer_write(first->session, first->id, first->len);
        free(first);
    }
}

static void drop_writes(struct worker *w)
{
    while (w->writes) {
        struct console_write *first = w->writes;
        w->writes = first->next;
        free(first);
    }
    w->writes_waiting = 0;
}

void worker_console_wake(struct worker *w)
{
    bool gone = !w->machine;
    for (struct session *s = w->sessions; s; s = s->next)
        answer_watch(s, gone);
    if (gone)
        drop_writes(w);
    else
        pump_writes(w);
}

void worker_console_forget(struct session *s)
{
    set_watching(s, false);
    for (struct console_write *c = s->worker->writes; c; c = c->next)
        if (c->session == s)
            c->session = NULL;
}
