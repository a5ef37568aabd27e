/*
 * A ferryd with fake workers (worker/fake_worker.c), and clients that speak its RPC: no KVM needed.
 * All of it fails the running test by itself when something cannot be.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/ferry.pb-c.h"

#define SIM_PATIENCE_MS 30000

struct sim {
    char dir[100]; /* holds root/, run/, ferryd.log; removed at the end */
    pid_t ferryd;
    const char *extra[6]; /* more arguments of ferryd; NULL behind the last */
};

void sim_init(struct sim *s);

/* Starts ferryd and waits for its READY=1. */
void sim_start(struct sim *s);

/* Starts it and returns its exit status; what it said is in `said`. It is not to get ready. */
int sim_start_fails(struct sim *s, char *said, size_t size);

/* SIGTERM; it must end with status 0 (a leak is another status). */
void sim_term(struct sim *s);
void sim_kill9(struct sim *s);

/* Kills and removes all VMs, ends ferryd, checks that nothing is left, removes the directory. */
void sim_end(struct sim *s);

/* DIR/FORMAT... */
void sim_path(const struct sim *s, char *to, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

struct peer_end {
    int fd;
    uint32_t id;      /* of the last request */
    char error[1024]; /* of the last reply that had one */
};

/* Connected, without and with the hello. */
void sim_connect_raw(const struct sim *s, struct peer_end *c);
void sim_connect(const struct sim *s, struct peer_end *c);
void sim_close(struct peer_end *c);

/* Sends a request under the next id, which is returned. */
uint32_t sim_send(struct peer_end *c, Ferry__Request *request);
void sim_send_bytes(struct peer_end *c, const void *data, size_t len);

/* The next reply, freed with sim_free; NULL when ferryd has closed the connection. */
Ferry__Reply *sim_recv(struct peer_end *c);
void sim_free(Ferry__Reply *reply);

/* Sends and takes replies up to the last, which is returned. */
Ferry__Reply *sim_call(struct peer_end *c, Ferry__Request *request);

/* The code of a request that carries a name only: kill, pause, rm... */
int sim_do(struct peer_end *c, Ferry__Request__BodyCase what, const char *name);
#define SIM_DO(c, what, name) sim_do(c, FERRY__REQUEST__BODY_##what, name)

int sim_start_vm(struct peer_end *c, const char *name, const char *cmdline);
uint32_t sim_send_start(struct peer_end *c, const char *name, const char *cmdline);
int sim_start_again(struct peer_end *c, const char *name);
int sim_stop_vm(struct peer_end *c, const char *name, uint64_t timeout_ms);

/* Types a line on the console, without waiting for it to be taken. */
void sim_type(const struct sim *s, const char *name, const char *line);

/* All that the console has now. */
size_t sim_console(struct peer_end *c, const char *name, char *to, size_t size);

/* -1 when there is no such VM. */
int sim_state(struct peer_end *c, const char *name);
int sim_pid(struct peer_end *c, const char *name);
void sim_await_state(const struct sim *s, const char *name, Ferry__VmState state);

/* Fails unless `text` is in c->error. */
void sim_said(const struct peer_end *c, const char *text);

Ferry__Reply *sim_show(struct peer_end *c, const char *name);

unsigned sim_count_fds(pid_t pid);
void sim_await_fds(pid_t pid, unsigned count);
bool sim_process_is_gone(pid_t pid);
