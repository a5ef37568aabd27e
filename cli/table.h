/*
 * Lines of aligned columns for people. Cells are cleaned as text_print_line does; an empty cell is
 * shown as '-', but in a last column of words as nothing; no line ends in spaces.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

#define TABLE_COLUMNS_MAX 8

struct table_column {
    const char *title;
    bool right; /* numbers */
};

struct table {
    const struct table_column *columns; /* borrowed */
    unsigned count;
    struct buf cells; /* each with its NUL, row by row */
    unsigned next;    /* the column that the next cell is for */
    size_t width[TABLE_COLUMNS_MAX];
    bool failed;
};

void table_init(struct table *t, const struct table_column *columns, unsigned count);
void table_fini(struct table *t);
void table_add(struct table *t, const char *cell);
/* A row of two, the second of which is not empty; nothing when it is. */
void table_add_pair(struct table *t, const char *name, const char *value);
void table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* With a line of titles when any column has one. */
int table_print(const struct table *t, FILE *out, struct err *err);
