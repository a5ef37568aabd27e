/* See scroll.h. */
#include "base/scroll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int scroll_init(struct scroll *s, size_t size, struct err *err)
{
    *s = (struct scroll){.size = size, .data = malloc(size)};
    if (!s->data)
        return err_set(err, ENOMEM, "no memory for a scrollback of %zu bytes", size);
    return 0;
}

void scroll_fini(struct scroll *s)
{
    free(s->data);
    *s = (struct scroll){0};
}

/* Bytes from ring position `pos` to the wrap or to `n`, whichever comes first. */
static size_t run_at(const struct scroll *s, size_t pos, size_t n)
{
    return n < s->size - pos ? n : s->size - pos;
}

void scroll_append(struct scroll *s, const void *data, size_t len)
{
    const uint8_t *p = data;
    if (len > s->size) {
        s->end += len - s->size;
        p += len - s->size;
        len = s->size;
    }
    while (len) {
        size_t pos = s->end % s->size;
        size_t n = run_at(s, pos, len);
        memcpy(s->data + pos, p, n);
        s->end += n;
        p += n;
        len -= n;
    }
}

uint64_t scroll_begin(const struct scroll *s)
{
    return s->end > s->size ? s->end - s->size : 0;
}

size_t scroll_read(const struct scroll *s, uint64_t *offset, void *to, size_t max, uint64_t *missed)
{
    uint64_t begin = scroll_begin(s);
    *missed = *offset < begin ? begin - *offset : 0;
    *offset += *missed;
    if (*offset > s->end)
        *offset = s->end;
    size_t total = s->end - *offset < max ? (size_t)(s->end - *offset) : max;
    for (size_t done = 0; done < total;) {
        size_t pos = *offset % s->size;
        size_t n = run_at(s, pos, total - done);
        memcpy((uint8_t *)to + done, s->data + pos, n);
        *offset += n;
        done += n;
    }
    return total;
}
