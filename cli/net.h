/* The value of --net: tap=DEV or bridge=BRIDGE, and [,mac=MAC]. */
#pragma once

#include "base/err.h"
#include "cli/options.h"
#include "proto/config.pb-c.h"

#define NET_MAC_BYTES 6
#define NET_MAC_TEXT 18

struct net_list {
    Ferry__NetConfig nets[ARGS_LIST_MAX], *list[ARGS_LIST_MAX];
    uint8_t macs[ARGS_LIST_MAX][NET_MAC_BYTES];
    char *texts[ARGS_LIST_MAX]; /* owned */
    size_t count;
};

int net_list_parse(struct net_list *n, const struct arg_list *args, struct err *err);
void net_list_fini(struct net_list *n);

/* "52:54:00:12:34:56"; empty for what is no address. Returns `text`. */
const char *net_mac_text(const ProtobufCBinaryData *mac, char text[NET_MAC_TEXT]);
