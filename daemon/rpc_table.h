/*
 * What a client may ask: one row a request. What has no row is refused, and a row that names no
 * privilege or no state allows nobody and no state.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/peer.h"
#include "proto/ferry.pb-c.h"

struct request;

struct rpc_row {
    const char *name;
    /* Answers now or later; < 0 with a sentence answers with that. */
    int (*handle)(struct request *rq, struct err *err);
    enum privilege privilege;
    bool about_vm;   /* the first field of the body is the VM's name, and it must exist */
    uint32_t states; /* STATE_BIT(...): in which the VM may be */
    bool stream;     /* has replies before the last */
};

/* NULL when there is no such request. */
const struct rpc_row *rpc_table_find(Ferry__Request__BodyCase body);

/* The name in a request whose row says about_vm. */
const char *rpc_table_vm(const Ferry__Request *request);

/* "'web' is stopped: start it first". */
int rpc_table_refuse_state(const struct rpc_row *row, const char *vm, Ferry__VmState state,
                           struct err *err);
