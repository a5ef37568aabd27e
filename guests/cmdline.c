/* The kernel command line: words, and key=value. */
#include "guest.h"

static char text[2048];

void cmdline_init(const char *from)
{
    size_t n = 0;

    while (from && from[n] && n < sizeof(text) - 1) {
        text[n] = from[n];
        n++;
    }
    text[n] = 0;
}

const char *cmdline_get(void)
{
    return text;
}

/* The end of the word's name when it is the word at p, else NULL. */
static const char *match(const char *p, const char *name)
{
    while (*name && *p == *name) {
        p++;
        name++;
    }
    return *name ? NULL : p;
}

static const char *find(const char *name, char end)
{
    const char *p = text;

    while (*p) {
        const char *e = match(p, name);

        if (e && (*e == end || (end == 0 && *e == ' ')))
            return e;
        while (*p && *p != ' ')
            p++;
        while (*p == ' ')
            p++;
    }
    return NULL;
}

bool cmdline_has(const char *word)
{
    return find(word, 0) != NULL;
}

bool cmdline_word(const char *key, char *out, size_t size)
{
    const char *v = find(key, '=');
    size_t n = 0;

    if (!v)
        return false;
    for (v++; *v && *v != ' ' && n < size - 1; v++)
        out[n++] = *v;
    out[n] = 0;
    return true;
}

static unsigned digit(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a') + 10;
    return 99;
}

uint64_t cmdline_number(const char *key, uint64_t fallback)
{
    static const char units[] = "KMGT";
    const char *v = find(key, '=');
    uint64_t n = 0;
    unsigned base = 10;

    if (!v)
        return fallback;
    v++;
    if (v[0] == '0' && v[1] == 'x') {
        base = 16;
        v += 2;
    }
    for (; digit(*v) < base; v++)
        n = n * base + digit(*v);
    for (unsigned i = 0; units[i]; i++)
        if (*v == units[i])
            n <<= 10 * (i + 1);
    return n;
}
