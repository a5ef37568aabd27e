/* See err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Takes back the front half of a letter that the end of the room has cut in two. */
static void trim(char *text)
{
    size_t len = strnlen(text, ERR_TEXT_MAX - 1), tail = 0;
    while (tail < 3 && tail < len && ((unsigned char)text[len - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (tail == len)
        return;
    unsigned char lead = (unsigned char)text[len - 1 - tail];
    size_t wants = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (wants > tail)
        text[len - 1 - tail] = '\0';
}

/* Puts ": more" behind the first `len` bytes, as far as there is room. */
static void append(struct err *err, size_t len, const char *more)
{
    if (!more)
        more = "unknown error";
    if (len + 2 >= sizeof(err->text))
        return;
    size_t n = strnlen(more, sizeof(err->text) - len - 3);
    memcpy(err->text + len, ": ", 2);
    memcpy(err->text + len + 2, more, n);
    err->text[len + 2 + n] = '\0';
    trim(err->text);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err->code = code > 0 ? code : EIO;
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    trim(err->text);
    return -err->code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err->code = code > 0 ? code : EIO;
    int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    trim(err->text);
    if (n >= 0)
        append(err, (size_t)n, strerrordesc_np(err->code));
    return -err->code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
    char inner[ERR_TEXT_MAX];
    va_list args;
    memcpy(inner, err->text, sizeof(inner));
    va_start(args, fmt);
    int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    trim(err->text);
    if (n >= 0)
        append(err, (size_t)n, inner);
    return -err->code;
}
