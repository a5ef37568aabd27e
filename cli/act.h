/*
 * Asks ferryd to do something that takes its time and waits until it is done. What takes longer
 * than a second, or tells how far it is, shows a line on a terminal (progress.h); Ctrl-C cancels
 * the request and waits for ferryd's answer to that, a second Ctrl-C leaves.
 */
#pragma once

#include "cli/client.h"
#include "cli/options.h"

struct act {
    const char *doing;  /* "stopping" */
    const char *name;   /* of the VM or snapshot that it is done to */
    const char *undone; /* how things are when it is cancelled; NULL: 'vmctl show NAME' tells */
    bool gone;          /* there is nothing to describe afterwards */
    /* NULL, or what takes the replies that come in parts before the last; `ctx` is theirs. */
    int (*part)(void *ctx, const Ferry__Reply *reply, struct err *err);
    void *ctx;
};

/* The last reply, which is no refusal, with that body (FERRY__REPLY__BODY__NOT_SET: any). */
int act_ask(const struct act *act, const char *run, Ferry__Request *request,
            Ferry__Reply__BodyCase body, Ferry__Reply **reply, struct err *err);

/* To a VM. On success nothing is printed, or with --json the VM as it is then. */
int act_run(const struct act *act, const struct args *args, Ferry__Request *request,
            struct err *err);

/* The one line of JSON for something that was done: {"name":"web","removed":true}. */
int act_report_done(const char *name, const char *done, struct err *err);
