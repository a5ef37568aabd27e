/* HOST, HOST:PORT, [V6]:PORT: where a ferryd listens for others, as text. */
#pragma once

#include <netdb.h>
#include <stdbool.h>

#include "base/err.h"

#define PEER_PORT_DEFAULT "7001"
#define PEER_ADDRESS_MAX 280u

struct peer_address {
    char host[256], port[8];
};

/* Without a port it is the default one. */
int peer_address_parse(const char *text, struct peer_address *a, struct err *err);

/* "host:port", with brackets where they are needed. */
void peer_address_format(const struct peer_address *a, char *to, size_t size);

/* Resolves it, for connecting or for listening; may take its time. Freed with freeaddrinfo. [job]
 */
int peer_address_resolve(const struct peer_address *a, bool to_listen, struct addrinfo **list,
                         struct err *err);

/* Only this host can come there. */
bool peer_address_is_loopback(const struct addrinfo *list);
