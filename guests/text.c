/* A small printf: %s %c %d %i %u %x %p %%, with l, ll and z, and a width that 0 may precede. */
#include "guest.h"

struct out {
    char *bytes;
    size_t size, used;
};

static struct lock say_lock;

static void out_char(struct out *o, char c)
{
    if (o->used < o->size)
        o->bytes[o->used++] = c;
}

static void out_text(struct out *o, const char *s, size_t width)
{
    size_t n = text_length(s);

    for (; width > n; width--)
        out_char(o, ' ');
    while (*s)
        out_char(o, *s++);
}

static void out_number(struct out *o, uint64_t v, unsigned base, size_t width, char pad, bool minus)
{
    char digits[24];
    size_t n = 0;

    do {
        digits[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    if (minus)
        digits[n++] = '-';
    for (; width > n; width--)
        out_char(o, pad);
    while (n)
        out_char(o, digits[--n]);
}

static void out_integer(struct out *o, char kind, bool wide, size_t width, char pad, va_list *ap)
{
    uint64_t v = wide ? va_arg(*ap, uint64_t) : va_arg(*ap, unsigned);
    bool minus = false;

    if (kind == 'd' || kind == 'i') {
        int64_t s = wide ? (int64_t)v : (int32_t)v;

        minus = s < 0;
        v = minus ? -(uint64_t)s : (uint64_t)s;
    }
    out_number(o, v, kind == 'x' || kind == 'p' ? 16 : 10, width, pad, minus);
}

/* One conversion; f stands behind the '%'. Returns where the text goes on. */
static const char *out_conversion(struct out *o, const char *f, va_list *ap)
{
    char pad = *f == '0' ? '0' : ' ';
    size_t width = 0;
    bool wide = false;

    for (; *f >= '0' && *f <= '9'; f++)
        width = width * 10 + (size_t)(*f - '0');
    for (; *f == 'l' || *f == 'z'; f++)
        wide = true;
    switch (*f) {
    case 's':
        out_text(o, va_arg(*ap, const char *), width);
        break;
    case 'c':
        out_char(o, (char)va_arg(*ap, int));
        break;
    case '%':
        out_char(o, '%');
        break;
    default:
        out_integer(o, *f, wide || *f == 'p', width, pad, ap);
    }
    return f + 1;
}

size_t text_format_v(char *out, size_t size, const char *format, va_list ap)
{
    struct out o = {out, size, 0};
    va_list copy;

    va_copy(copy, ap);
    while (*format) {
        if (*format == '%')
            format = out_conversion(&o, format + 1, &copy);
        else
            out_char(&o, *format++);
    }
    va_end(copy);
    return o.used;
}

size_t text_format(char *out, size_t size, const char *format, ...)
{
    va_list ap;
    size_t n;

    va_start(ap, format);
    n = text_format_v(out, size, format, ap);
    va_end(ap);
    return n;
}

void say(const char *format, ...)
{
    char line[512];
    size_t n = text_format(line, sizeof(line), "%s: ", guest_name);
    va_list ap;

    va_start(ap, format);
    n += text_format_v(line + n, sizeof(line) - 1 - n, format, ap);
    va_end(ap);
    line[n++] = '\n';
    lock_take(&say_lock);
    serial_write(line, n);
    lock_drop(&say_lock);
}

size_t text_length(const char *s)
{
    size_t n = 0;

    while (s[n])
        n++;
    return n;
}

bool text_same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}
