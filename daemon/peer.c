/* See peer.h. */
#include "daemon/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define PEER_GROUPS_MAX 65536 /* NGROUPS_MAX of Linux */

/* The supplementary groups that the peer had when it connected; an unknown list has no members. */
static bool in_groups(int fd, gid_t group)
{
    socklen_t size = 64 * sizeof(gid_t);
    CLEAN(clean_free) gid_t *list = malloc(size);
    if (!list)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &size) < 0) {
        if (errno != ERANGE || size > PEER_GROUPS_MAX * sizeof(gid_t))
            return false;
        gid_t *more = realloc(list, size);
        if (!more)
            return false;
        list = more;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, list, &size) < 0)
            return false;
    }
    for (size_t i = 0; i < size / sizeof(gid_t); i++)
        if (list[i] == group)
            return true;
    return false;
}

int peer_identify(int fd, const struct peer_rules *rules, struct peer *peer, struct err *err)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return err_sys(err, errno, "cannot tell who the client is");
    *peer = (struct peer){.pid = cred.pid, .uid = cred.uid};
    if (cred.uid == 0 || cred.uid == geteuid())
        peer->privilege = PRIVILEGE_MANAGE;
    else if (rules->has_group && (cred.gid == rules->group || in_groups(fd, rules->group)))
        peer->privilege = PRIVILEGE_MANAGE;
    else if (rules->open_reads)
        peer->privilege = PRIVILEGE_READ;
    return 0;
}
