/* See json.h. */
#include "cli/json.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "cli/text.h"

void json_begin(struct json *j, FILE *out)
{
    *j = (struct json){.out = out};
}

static void put_quoted(struct json *j, const void *bytes, size_t left)
{
    static const char *const shorts[128] = {
        ['"'] = "\\\"", ['\\'] = "\\\\", ['\b'] = "\\b", ['\f'] = "\\f",
        ['\n'] = "\\n", ['\r'] = "\\r",  ['\t'] = "\\t"};
    const unsigned char *p = bytes;
    fputc('"', j->out);
    while (left) {
        unsigned code, n = text_decode(p, left, &code);
        if (n == 0)
            fputs("\xef\xbf\xbd", j->out);
        else if (code < 0x80 && shorts[code])
            fputs(shorts[code], j->out);
        else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
            fprintf(j->out, "\\u%04x", code);
        else
            fwrite(p, 1, n, j->out);
        n = n ? n : 1;
        p += n;
        left -= n;
    }
    fputc('"', j->out);
}

/* The comma and key before a value. False when there is no place for one. */
static bool begin_value(struct json *j, const char *key)
{
    bool in_object = j->depth && j->closers[j->depth - 1] == '}';
    if (in_object != (key != NULL) || (j->depth == 0 && j->filled[0]))
        j->bad = true;
    if (j->bad)
        return false;
    if (j->filled[j->depth])
        fputc(',', j->out);
    j->filled[j->depth] = true;
    if (key) {
        put_quoted(j, key, strlen(key));
        fputc(':', j->out);
    }
    return true;
}

static void open_with(struct json *j, const char *key, char opener, char closer)
{
    if (j->depth >= JSON_DEPTH_MAX)
        j->bad = true;
    if (!begin_value(j, key))
        return;
    fputc(opener, j->out);
    j->closers[j->depth++] = closer;
    j->filled[j->depth] = false;
}

void json_object(struct json *j, const char *key)
{
    open_with(j, key, '{', '}');
}

void json_array(struct json *j, const char *key)
{
    open_with(j, key, '[', ']');
}

void json_end(struct json *j)
{
    if (j->depth == 0)
        j->bad = true;
    else
        fputc(j->closers[--j->depth], j->out);
}

void json_string_n(struct json *j, const char *key, const void *bytes, size_t len)
{
    if (begin_value(j, key))
        put_quoted(j, bytes, len);
}

void json_string(struct json *j, const char *key, const char *value)
{
    json_string_n(j, key, value, strlen(value));
}

void json_u64(struct json *j, const char *key, uint64_t value)
{
    if (begin_value(j, key))
        fprintf(j->out, "%" PRIu64, value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    if (begin_value(j, key))
        fputs(value ? "true" : "false", j->out);
}

void json_null(struct json *j, const char *key)
{
    if (begin_value(j, key))
        fputs("null", j->out);
}

void json_hex(struct json *j, const char *key, uint64_t value)
{
    if (begin_value(j, key))
        fprintf(j->out, "\"0x%" PRIx64 "\"", value);
}

void json_time(struct json *j, const char *key, uint64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    char text[32];
    struct tm tm;
    if (wall_ns == 0 || !gmtime_r(&seconds, &tm) ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        json_null(j, key);
    else if (begin_value(j, key))
        fprintf(j->out, "\"%s.%09" PRIu64 "Z\"", text, wall_ns % 1000000000u);
}

void json_base64(struct json *j, const char *key, const void *bytes, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = bytes;
    if (!begin_value(j, key))
        return;
    fputc('"', j->out);
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits =
            (uint32_t)p[i] << 16 | (i + 1 < len ? p[i + 1] << 8 : 0) | (i + 2 < len ? p[i + 2] : 0);
        fputc(digits[bits >> 18], j->out);
        fputc(digits[bits >> 12 & 63], j->out);
        fputc(i + 1 < len ? digits[bits >> 6 & 63] : '=', j->out);
        fputc(i + 2 < len ? digits[bits & 63] : '=', j->out);
    }
    fputc('"', j->out);
}

void json_hex_bytes(struct json *j, const char *key, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    if (!begin_value(j, key))
        return;
    fputc('"', j->out);
    for (size_t i = 0; i < len; i++)
        fprintf(j->out, "%02x", p[i]);
    fputc('"', j->out);
}

int json_finish(struct json *j, struct err *err)
{
    while (j->depth)
        json_end(j);
    fputc('\n', j->out);
    if (j->bad || !j->filled[0])
        return err_set(err, EINVAL, "the JSON output was not put together well");
    if (ferror(j->out))
        return err_sys(err, EIO, "cannot write the JSON output");
    return 0;
}
