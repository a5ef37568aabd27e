/* RFC 4122 random UUIDs, and their text form. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define UUID_TEXT_SIZE 37

struct uuid {
    uint8_t bytes[16];
};

int uuid_make(struct uuid *uuid, struct err *err);
void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);
bool uuid_parse(const char *text, struct uuid *uuid);
