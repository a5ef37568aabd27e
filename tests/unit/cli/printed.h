/* What a renderer printed, to be compared as one string. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

struct printed {
    FILE *out;
    char *text;
    size_t size;
};

static inline FILE *printed_begin(struct printed *p)
{
    p->text = NULL;
    p->out = open_memstream(&p->text, &p->size);
    return p->out;
}

static inline const char *printed_end(struct printed *p)
{
    fclose(p->out);
    p->out = NULL;
    return p->text;
}

static inline void printed_free(struct printed *p)
{
    free(p->text);
    p->text = NULL;
}

#define assert_printed(p, expected)                                                                \
    do {                                                                                           \
        assert_string_equal(printed_end(p), expected);                                             \
        printed_free(p);                                                                           \
    } while (0)
