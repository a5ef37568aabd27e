/*
 * A ferryd that says what the test tells it to: a thread that listens on a socket in a directory of
 * its own and gives each connection to the test's `serve`, each in a thread of its own.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/fs.h"
#include "proto/ferry.pb-c.h"
#include "proto/frame.h"
#include "tests/temp.h"

#define FAKE_CONNECTIONS_MAX 64

struct fake {
    char run[192];
    int listener;
    void (*serve)(struct fake *f, int fd);
    void *data; /* the test's own */
    pthread_t acceptor, threads[FAKE_CONNECTIONS_MAX];
    int fds[FAKE_CONNECTIONS_MAX];
    unsigned count;
    atomic_uint connections;
};

struct fake_connection {
    struct fake *fake;
    int fd;
};

static inline void *fake_run_connection(void *argument)
{
    struct fake_connection c = *(struct fake_connection *)argument;
    free(argument);
    c.fake->serve(c.fake, c.fd);
    shutdown(c.fd, SHUT_RDWR);
    return NULL;
}

static inline void *fake_accept(void *argument)
{
    struct fake *f = argument;
    int fd;
    while (f->count < FAKE_CONNECTIONS_MAX && (fd = accept(f->listener, NULL, NULL)) >= 0) {
        struct fake_connection *c = malloc(sizeof(*c));
        *c = (struct fake_connection){f, fd};
        f->fds[f->count] = fd;
        atomic_fetch_add(&f->connections, 1);
        pthread_create(&f->threads[f->count++], NULL, fake_run_connection, c);
    }
    return NULL;
}

static inline void fake_listen(struct fake *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/ferryd.sock", f->run);
    unlink(address.sun_path);
    f->count = 0;
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(f->listener, 16), 0);
    assert_int_equal(pthread_create(&f->acceptor, NULL, fake_accept, f), 0);
}

/* Like kill -9: the listener and all connections are gone. */
static inline void fake_hang_up(struct fake *f)
{
    shutdown(f->listener, SHUT_RDWR);
    pthread_join(f->acceptor, NULL);
    close(f->listener);
    for (unsigned i = 0; i < f->count; i++)
        shutdown(f->fds[i], SHUT_RDWR);
    for (unsigned i = 0; i < f->count; i++) {
        pthread_join(f->threads[i], NULL);
        close(f->fds[i]);
    }
}

static inline void fake_start(struct fake *f, void (*serve)(struct fake *, int), void *data)
{
    *f = (struct fake){.serve = serve, .data = data};
    assert_true(temp_dir(f->run, sizeof(f->run)));
    fake_listen(f);
}

static inline void fake_stop(struct fake *f)
{
    struct err err;
    fake_hang_up(f);
    assert_int_equal(fs_remove_tree(AT_FDCWD, f->run, &err), 0);
}

static inline bool fake_read_all(int fd, void *to, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = read(fd, (char *)to + at, n - at);
        if (got <= 0)
            return false;
        at += (size_t)got;
    }
    return true;
}

/* The next request, or NULL at the end; freed with frame_free. */
static inline Ferry__Request *fake_read(int fd)
{
    uint8_t head[FRAME_HEAD_BYTES];
    struct err err;
    if (!fake_read_all(fd, head, sizeof(head)))
        return NULL;
    ssize_t n = frame_body_size(head, &err);
    CLEAN(clean_free) uint8_t *body = n > 0 ? malloc((size_t)n) : NULL;
    if (!body || !fake_read_all(fd, body, (size_t)n))
        return NULL;
    return (Ferry__Request *)frame_unpack(&ferry__request__descriptor, body, (size_t)n, &err);
}

static inline bool fake_write(int fd, const void *data, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t done = send(fd, (const char *)data + at, n - at, MSG_NOSIGNAL);
        if (done <= 0)
            return false;
        at += (size_t)done;
    }
    return true;
}

static inline bool fake_send(int fd, const Ferry__Reply *reply)
{
    struct err err;
    struct buf b;
    buf_init(&b, 2u << 20);
    bool ok = frame_pack(&reply->base, &b, &err) == 0 && fake_write(fd, b.data, b.len);
    buf_fini(&b);
    return ok;
}

static inline void fake_refuse(int fd, uint32_t id, int code, const char *text)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    reply.id = id;
    reply.last = 1;
    reply.code = (uint32_t)code;
    reply.error = (char *)text;
    fake_send(fd, &reply);
}

static inline void fake_done(int fd, uint32_t id)
{
    fake_refuse(fd, id, 0, "");
}

static inline void fake_answer_hello(int fd, uint32_t id, uint32_t version)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__Hello hello = FERRY__HELLO__INIT;
    hello.min_version = hello.max_version = version;
    hello.release = (char *)"fake";
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_HELLO;
    reply.hello = &hello;
    fake_send(fd, &reply);
}

/* Reads and answers the hello; false when it was none. */
static inline bool fake_greet(int fd)
{
    Ferry__Request *request = fake_read(fd);
    bool ok = request && request->body_case == FERRY__REQUEST__BODY_HELLO;
    if (ok)
        fake_answer_hello(fd, request->id, 1);
    frame_free(request ? &request->base : NULL);
    return ok;
}

static inline void fake_answer_vm(int fd, uint32_t id, const char *name, Ferry__VmState state,
                                  const char *reason)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VmDetail vm = FERRY__VM_DETAIL__INIT;
    Ferry__VmSummary summary = FERRY__VM_SUMMARY__INIT;
    summary.name = (char *)name;
    summary.state = state;
    summary.reason = (char *)reason;
    vm.summary = &summary;
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_VM;
    reply.vm = &vm;
    fake_send(fd, &reply);
}

static inline bool fake_say(int fd, uint32_t id, uint64_t offset, const void *data, size_t n)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__ConsoleOutput out = FERRY__CONSOLE_OUTPUT__INIT;
    out.offset = offset;
    out.data.data = (uint8_t *)data;
    out.data.len = n;
    reply.id = id;
    reply.body_case = FERRY__REPLY__BODY_CONSOLE;
    reply.console = &out;
    return fake_send(fd, &reply);
}
