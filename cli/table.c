/* See table.h. */
#include "cli/table.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "cli/text.h"

/* Far more than a reply of FRAME_BODY_MAX can fill. */
#define TABLE_BYTES_MAX (16u << 20)

void table_init(struct table *t, const struct table_column *columns, unsigned count)
{
    *t = (struct table){.columns = columns, .count = count};
    buf_init(&t->cells, TABLE_BYTES_MAX);
    for (unsigned i = 0; i < count; i++)
        t->width[i] = columns[i].title ? strlen(columns[i].title) : 0;
}

void table_fini(struct table *t)
{
    buf_fini(&t->cells);
}

void table_add(struct table *t, const char *cell)
{
    bool remark = t->next + 1 == t->count && !t->columns[t->next].right;
    if (!*cell && !remark)
        cell = "-";
    size_t width = text_width(cell);
    if (width > t->width[t->next])
        t->width[t->next] = width;
    t->next = (t->next + 1) % t->count;
    if (buf_append(&t->cells, cell, strlen(cell) + 1) < 0)
        t->failed = true;
}

void table_add_pair(struct table *t, const char *name, const char *value)
{
    if (!*value)
        return;
    table_add(t, name);
    table_add(t, value);
}

void table_addf(struct table *t, const char *fmt, ...)
{
    char cell[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(cell, sizeof(cell), fmt, args);
    va_end(args);
    table_add(t, cell);
}

/* Spaces are printed only before a cell that is there: `gap` of them are owed. */
static void print_cell(const struct table *t, unsigned column, const char *cell, size_t *gap,
                       FILE *out)
{
    size_t width = t->width[column], own = text_width(cell);
    size_t before = t->columns[column].right ? width - own : 0;
    if (!*cell) {
        *gap += width + 2;
        return;
    }
    fprintf(out, "%*s", (int)(*gap + before), "");
    text_print_line(out, cell);
    *gap = 2 + width - own - before;
}

static const char *print_row(const struct table *t, const char *at, FILE *out)
{
    size_t gap = 0;
    for (unsigned i = 0; i < t->count; i++, at += strlen(at) + 1)
        print_cell(t, i, at, &gap, out);
    fputc('\n', out);
    return at;
}

static void print_titles(const struct table *t, FILE *out)
{
    size_t gap = 0;
    for (unsigned i = 0; i < t->count; i++)
        print_cell(t, i, t->columns[i].title, &gap, out);
    fputc('\n', out);
}

int table_print(const struct table *t, FILE *out, struct err *err)
{
    const char *at = (const char *)t->cells.data;
    const char *end = at + t->cells.len;
    if (t->failed || t->next)
        return err_set(err, ENOMEM, "no memory for the table");
    if (t->columns[0].title)
        print_titles(t, out);
    while (at < end)
        at = print_row(t, at, out);
    return 0;
}
