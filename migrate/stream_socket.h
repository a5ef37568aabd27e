/* A stream over a connected socket that somebody else has opened and will close. */
#pragma once

#include "migrate/stream.h"

struct stream_socket {
    struct stream stream;
    int fd; /* borrowed */
};

void stream_socket_init(struct stream_socket *s, int fd);
