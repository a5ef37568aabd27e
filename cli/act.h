/*
 * Asks ferryd to do something to one VM and waits until it is done. On success nothing is printed,
 * or with --json the VM as it is then. What takes longer than a second shows a line on a terminal;
 * Ctrl-C cancels the request and waits for ferryd's answer to that, a second Ctrl-C leaves.
 */
#pragma once

#include "cli/client.h"
#include "cli/options.h"

struct act {
    const char *doing; /* "stopping" */
    const char *name;
    bool gone; /* there is no VM to describe afterwards */
};

int act_run(const struct act *act, const struct args *args, Ferry__Request *request,
            struct err *err);
