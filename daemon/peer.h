/* Who a client is, by the kernel's word, and what that allows. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Ordered: each may do what the ones before it may. */
enum privilege { PRIVILEGE_NONE, PRIVILEGE_READ, PRIVILEGE_MANAGE };

struct peer_rules {
    bool open_reads; /* everybody may read */
    bool has_group;
    gid_t group; /* its members may manage */
};

struct peer {
    pid_t pid;
    uid_t uid;
    enum privilege privilege;
};

/* Root, our own user and members of the group manage; others read when that is open, else nothing.
 */
int peer_identify(int fd, const struct peer_rules *rules, struct peer *peer, struct err *err);
