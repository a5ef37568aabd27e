/* Certificates that live as long as a test. Every function fails the test when it cannot. */
#pragma once

#include <stdbool.h>

struct authority;

/* A CA of its own. */
struct authority *authority_new(const char *name);
void authority_free(struct authority *a);

struct identity {
    const char *name;                      /* common name and DNS name */
    const char *address;                   /* may be NULL */
    long from_days, until_days;            /* from now; both 0: valid */
    const struct authority *from, *trusts; /* borrowed */
    const char *allow;                     /* content of that file; NULL for no file */
};

/* Writes what ferryd --tls wants into `dir`, which is made when it is missing. */
void identity_write(const struct identity *i, const char *dir);
