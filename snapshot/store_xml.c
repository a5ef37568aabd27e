/* The little of XML that is in an answer of S3: one element's text; see store.h. */
#include <stdlib.h>
#include <string.h>

#include "snapshot/store.h"

static const struct {
    const char *name;
    char is;
} entities[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};

/* What `at` (behind the '&') stands for, and how long it is; 0 for none that is known. */
static size_t entity(const char *at, size_t left, char *is)
{
    for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++) {
        size_t n = strlen(entities[i].name);
        *is = entities[i].is;
        if (n <= left && memcmp(at, entities[i].name, n) == 0)
            return n;
    }
    char digits[8] = "";
    size_t n = 0;
    *is = '&';
    while (n < left && n < sizeof(digits) - 1 && at[n] != ';')
        n++;
    if (n == left || at[n] != ';' || n < 2 || at[0] != '#')
        return 0;
    memcpy(digits, at + 1, n - 1);
    long code = digits[0] == 'x' ? strtol(digits + 1, NULL, 16) : strtol(digits, NULL, 10);
    *is = '?';
    if (code >= 0x20 && code < 0x7f)
        *is = (char)code;
    return n + 1;
}

static bool resolve(const char *at, size_t len, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        if (c == '&')
            i += entity(at + i + 1, len - i - 1, &c);
        if (used + 1 >= size)
            return false;
        to[used++] = c;
    }
    to[used] = '\0';
    return true;
}

bool store_xml_find(const uint8_t *text, size_t len, const char *element, char *to, size_t size)
{
    const char *end = (const char *)text + len;
    size_t n = strlen(element);
    for (const char *at = (const char *)text; at && at < end; at++) {
        at = memchr(at, '<', (size_t)(end - at));
        if (!at || (size_t)(end - at) < n + 2)
            return false;
        if (memcmp(at + 1, element, n) != 0 || at[n + 1] != '>')
            continue;
        at += n + 2;
        const char *close = memchr(at, '<', (size_t)(end - at));
        return close && resolve(at, (size_t)(close - at), to, size);
    }
    return false;
}
