/* See err.h. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err->code = code > 0 ? code : EIO;
    vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
    return -err->code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    err->code = code > 0 ? code : EIO;
    int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
    va_end(args);
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
    if (n >= 0)
        append(err, (size_t)n, inner);
    return -err->code;
}
