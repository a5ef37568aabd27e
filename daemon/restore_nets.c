/* See restore_nets.h. */
#include "daemon/restore_nets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/clone_name.h"

static int check_mac(size_t index, const Ferry__NetConfig *saved, const Ferry__NetConfig *given,
                     struct err *err)
{
    const uint8_t *m = saved->mac.data;
    if (given->mac.len == 0 ||
        (given->mac.len == saved->mac.len && memcmp(given->mac.data, m, saved->mac.len) == 0))
        return 0;
    if (saved->mac.len != 6)
        return err_set(err, EBADMSG, "network %zu of the saved machine has no mac", index);
    return err_set(err, EINVAL,
                   "network %zu cannot have another mac: the saved guest knows it as "
                   "%02x:%02x:%02x:%02x:%02x:%02x",
                   index, m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void replace(char **text, char *by)
{
    if (*text != protobuf_c_empty_string)
        free(*text);
    *text = by;
}

static int put(Ferry__NetConfig *to, const Ferry__NetConfig *from, unsigned clone, struct err *err)
{
    char *tap = clone_name(from->tap, clone), *bridge = clone_name(from->bridge, clone);
    if (!tap || !bridge) {
        free(tap);
        free(bridge);
        return err_set(err, ENOMEM, "no memory for a network's name");
    }
    replace(&to->tap, tap);
    replace(&to->bridge, bridge);
    return 0;
}

/* Whoever opens it second would fail, after others have started. */
static int check_own(const Ferry__NetConfig *net, const Ferry__NetConfig *given, unsigned clone,
                     struct err *err)
{
    if (!clone || !net->tap[0] || (given && strcmp(given->tap, net->tap) != 0))
        return 0;
    return err_set(err, EINVAL,
                   "clones cannot share tap '%s': give each its own, as --net tap=web{}, or a "
                   "bridge",
                   net->tap);
}

int restore_nets(Ferry__MachineConfig *config, const Ferry__RestoreRequest *ask, unsigned clone,
                 struct err *err)
{
    int rc = 0;
    if (ask->n_nets > config->n_nets)
        return err_set(err, EINVAL,
                       "more networks are given than the saved machine has, which is %zu",
                       config->n_nets);
    for (size_t i = 0; rc == 0 && i < config->n_nets; i++) {
        const Ferry__NetConfig *given = i < ask->n_nets ? ask->nets[i] : NULL;
        if (given)
            rc = check_mac(i, config->nets[i], given, err);
        if (given && rc == 0)
            rc = put(config->nets[i], given, clone, err);
        if (rc == 0)
            rc = check_own(config->nets[i], given, clone, err);
    }
    return rc;
}
