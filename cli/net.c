/* See net.h. */
#include "cli/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"

void net_list_fini(struct net_list *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->texts[i]);
}

const char *net_mac_text(const ProtobufCBinaryData *mac, char text[NET_MAC_TEXT])
{
    const uint8_t *b = mac->data;
    text[0] = '\0';
    if (mac->len == NET_MAC_BYTES)
        snprintf(text, NET_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
                 b[5]);
    return text;
}

static int digit(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) % 16 : -1;
}

static int parse_mac(const char *text, uint8_t mac[NET_MAC_BYTES], struct err *err)
{
    bool good = strlen(text) == NET_MAC_TEXT - 1;
    for (unsigned i = 0; good && i < NET_MAC_BYTES; i++) {
        int high = digit(text[3 * i]), low = digit(text[3 * i + 1]);
        good = high >= 0 && low >= 0 && (i + 1 == NET_MAC_BYTES || text[3 * i + 2] == ':');
        mac[i] = good ? (uint8_t)(high << 4 | low) : 0;
    }
    if (!good)
        return err_set(err, COMMAND_USAGE,
                       "--net has the mac '%.40s', not one as 52:54:00:12:34:56", text);
    if (mac[0] & 1)
        return err_set(err, COMMAND_USAGE,
                       "--net has the mac '%s', which is not that of one card: its "
                       "first byte is odd",
                       text);
    return 0;
}

static int set_place(char **to, const Ferry__NetConfig *net, char *name, struct err *err)
{
    if (net->tap[0] || net->bridge[0])
        return err_set(err, COMMAND_USAGE, "--net takes one tap or one bridge");
    if (!*name)
        return err_set(err, COMMAND_USAGE, "--net has a tap or a bridge without a name");
    *to = name;
    return 0;
}

static int set_word(Ferry__NetConfig *net, char *word, uint8_t mac[NET_MAC_BYTES], struct err *err)
{
    if (strncmp(word, "tap=", 4) == 0)
        return set_place(&net->tap, net, word + 4, err);
    if (strncmp(word, "bridge=", 7) == 0)
        return set_place(&net->bridge, net, word + 7, err);
    if (strncmp(word, "mac=", 4) != 0)
        return err_set(err, COMMAND_USAGE,
                       "--net has '%.64s'; it takes tap=DEV or bridge=BRIDGE, and "
                       "mac=MAC",
                       word);
    if (net->mac.len)
        return err_set(err, COMMAND_USAGE, "--net has two macs");
    net->mac = (ProtobufCBinaryData){.data = mac, .len = NET_MAC_BYTES};
    return parse_mac(word + 4, mac, err);
}

static int parse_one(struct net_list *n, const char *text, struct err *err)
{
    Ferry__NetConfig *net = n->list[n->count] = &n->nets[n->count];
    uint8_t *mac = n->macs[n->count];
    char *copy = strdup(text), *rest = copy;
    int rc = 0;
    ferry__net_config__init(net);
    n->texts[n->count++] = copy;
    if (!copy)
        return err_set(err, ENOMEM, "no memory for a network");
    while (rc == 0 && rest)
        rc = set_word(net, strsep(&rest, ","), mac, err);
    if (rc == 0 && !net->tap[0] && !net->bridge[0])
        rc = err_set(err, COMMAND_USAGE, "--net needs tap=DEV or bridge=BRIDGE");
    return rc;
}

int net_list_parse(struct net_list *n, const struct arg_list *args, struct err *err)
{
    int rc = 0;
    n->count = 0;
    for (size_t i = 0; rc == 0 && i < args->count; i++)
        rc = parse_one(n, args->items[i], err);
    return rc;
}
