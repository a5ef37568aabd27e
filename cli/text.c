/* See text.h. */
#include "cli/text.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"

unsigned text_decode(const unsigned char *p, size_t left, unsigned *code)
{
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = left == 0           ? 0
                 : p[0] < 0x80       ? 1
                 : p[0] >> 5 == 0x06 ? 2
                 : p[0] >> 4 == 0x0e ? 3
                 : p[0] >> 3 == 0x1e ? 4
                                     : 0;
    if (n == 0 || n > left)
        return 0;
    *code = n == 1 ? p[0] : p[0] & (0xffu >> (n + 1));
    for (unsigned i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *code = *code << 6 | (p[i] & 0x3f);
    }
    bool surrogate = *code >= 0xd800 && *code <= 0xdfff;
    return *code < least[n] || *code > 0x10ffff || surrogate ? 0 : n;
}

/* Prints up to `end` or the NUL; returns the characters printed. `out` may be NULL. */
static size_t print_clean(FILE *out, const char *text, size_t left)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t cells = 0;
    while (left) {
        unsigned code = 0, n = text_decode(p, left, &code);
        bool space = n && (code == '\t' || code == '\n');
        bool bad = n == 0 || code < 0x20 || (code >= 0x7f && code < 0xa0);
        if (out && bad)
            fputc(space ? ' ' : '?', out);
        else if (out)
            fwrite(p, 1, n, out);
        n = n ? n : 1;
        p += n;
        left -= n;
        cells++;
    }
    return cells;
}

void text_print_line(FILE *out, const char *text)
{
    print_clean(out, text, strlen(text));
}

size_t text_width(const char *text)
{
    return print_clean(NULL, text, strlen(text));
}

void text_print_lines(FILE *out, const char *indent, const char *text)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        fputs(indent, out);
        print_clean(out, text, n);
        fputc('\n', out);
        text += n + (text[n] == '\n');
    }
}

void text_note(const char *fmt, ...)
{
    CLEAN(clean_free) char *raw = NULL;
    CLEAN(clean_free) char *line = NULL;
    size_t size;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&raw, fmt, args);
    va_end(args);
    if (n < 0) {
        raw = NULL;
        return;
    }
    CLEAN(clean_file) FILE *f = open_memstream(&line, &size);
    if (!f)
        return;
    fputs("vmctl: ", f);
    text_print_line(f, raw);
    fputc('\n', f);
    if (fflush(f) == 0 && write(STDERR_FILENO, line, size) < 0)
        return; /* nobody is left to be told */
}

const char *text_time(unsigned long long wall_ns, char *to, size_t size)
{
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm tm;
    if (wall_ns == 0 || !localtime_r(&seconds, &tm) ||
        strftime(to, size, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(to, size, "-");
    return to;
}
