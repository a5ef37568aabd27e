/* See peer_address.h. */
#include "daemon/peer_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/units.h"

static int take(const char *from, size_t len, char *to, size_t size, const char *what,
                const char *text, struct err *err)
{
    if (len == 0 || len >= size)
        return err_set(err, EINVAL, "'%.100s' has no usable %s: write HOST or HOST:PORT", text,
                       what);
    memcpy(to, from, len);
    to[len] = '\0';
    return 0;
}

int peer_address_parse(const char *text, struct peer_address *a, struct err *err)
{
    uint64_t port;
    const char *host = text, *end, *colon;
    if (text[0] == '[') {
        host = text + 1;
        end = strchr(host, ']');
        if (!end || (end[1] && end[1] != ':'))
            return err_set(err, EINVAL, "'%.100s' has no ']' before its port", text);
        colon = end[1] ? end + 1 : NULL;
    } else {
        colon = strrchr(text, ':');
        if (colon && strchr(text, ':') != colon) /* a bare IPv6 address */
            colon = NULL;
        end = colon ? colon : text + strlen(text);
    }
    int rc = take(host, (size_t)(end - host), a->host, sizeof(a->host), "host", text, err);
    if (rc < 0)
        return rc;
    if (!colon)
        return take(PEER_PORT_DEFAULT, strlen(PEER_PORT_DEFAULT), a->port, sizeof(a->port), "port",
                    text, err);
    rc = take(colon + 1, strlen(colon + 1), a->port, sizeof(a->port), "port", text, err);
    return rc < 0 ? rc : units_parse_number(a->port, 0, 65535, "the port", &port, err);
}

void peer_address_format(const struct peer_address *a, char *to, size_t size)
{
    bool v6 = strchr(a->host, ':');
    snprintf(to, size, "%s%s%s:%s", v6 ? "[" : "", a->host, v6 ? "]" : "", a->port);
}

int peer_address_resolve(const struct peer_address *a, bool to_listen, struct addrinfo **list,
                         struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICSERV | (to_listen ? AI_PASSIVE : 0)};
    int rc = getaddrinfo(a->host, a->port, &hints, list);
    if (rc == 0)
        return 0;
    return err_set(err, EHOSTUNREACH, "cannot find the host '%.100s': %s", a->host,
                   gai_strerror(rc));
}

bool peer_address_is_loopback(const struct addrinfo *list)
{
    for (const struct addrinfo *i = list; i; i = i->ai_next) {
        if (i->ai_family == AF_INET) {
            const struct sockaddr_in *v4 = (const struct sockaddr_in *)i->ai_addr;
            if (ntohl(v4->sin_addr.s_addr) >> 24 != 127)
                return false;
        } else if (i->ai_family == AF_INET6) {
            const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)i->ai_addr;
            if (!IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr))
                return false;
        } else {
            return false;
        }
    }
    return true;
}
