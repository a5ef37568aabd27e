/*
 * A writer of JSON. It keeps the commas and brackets, so that what comes out is one well-formed
 * value whatever the strings hold: a byte that is no UTF-8 becomes U+FFFD, all control characters
 * are escaped.
 *
 *     struct json j;
 *     json_begin(&j, stdout);
 *     json_object(&j, NULL);
 *     json_string(&j, "name", "web");
 *     json_end(&j);
 *     json_finish(&j);                    {"name":"web"} and a newline
 *
 * Inside an object each value has a key, elsewhere NULL. Misuse (a key missing, an end too many,
 * nesting over JSON_DEPTH_MAX) and a failed write are kept and told by json_finish.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define JSON_DEPTH_MAX 16

struct json {
    FILE *out; /* borrowed */
    unsigned depth;
    bool bad;
    char closers[JSON_DEPTH_MAX];
    bool filled[JSON_DEPTH_MAX + 1]; /* a value stands already at that depth */
};

void json_begin(struct json *j, FILE *out);
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j);
void json_string(struct json *j, const char *key, const char *value);
void json_string_n(struct json *j, const char *key, const void *bytes, size_t len);
void json_u64(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
void json_null(struct json *j, const char *key);

/* "0x1f" */
void json_hex(struct json *j, const char *key, uint64_t value);

/* RFC 3339 in UTC with nanoseconds; null for 0. */
void json_time(struct json *j, const char *key, uint64_t wall_ns);

/* RFC 4648, with padding. */
void json_base64(struct json *j, const char *key, const void *bytes, size_t len);

/* Lower case, two digits a byte, no separators. */
void json_hex_bytes(struct json *j, const char *key, const void *bytes, size_t len);

/* Closes what is open and ends the line. */
int json_finish(struct json *j, struct err *err);
