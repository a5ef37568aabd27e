/*
 * Who a daemon is for other hosts and whom it trusts: a directory with
 *
 *     ca.pem     the CA (or several) from which the others have their certificates
 *     cert.pem   our certificate, and what lies between it and the CA
 *     key.pem    its private key, without a passphrase
 *     allow      the names of the hosts that may come and that guests may go to, one a line; '#'
 *                begins a comment; '*' alone is everybody with a certificate of the CA
 *
 * A certificate is for both, client and server. Its names are its alternative names (DNS and
 * address), or its common name when it has none; they stand on the list as they are, without
 * wildcards. Read once: a change needs a new daemon, which stops no guest.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

#define TLS_ALLOW_MAX 1024u
#define TLS_PROBLEMS_MAX 6u
#define TLS_PROBLEM_CHARS 200u

struct ssl_ctx_st;
struct x509_st;
struct x509_store_ctx_st;

/* What is wrong with a certificate: all of it, each once. */
struct tls_problems {
    char texts[TLS_PROBLEMS_MAX][TLS_PROBLEM_CHARS];
    unsigned count;
    int first; /* OpenSSL's number of the first; 0 when it has none */
};

struct tls_identity {
    struct ssl_ctx_st *context;
    char *allowed[TLS_ALLOW_MAX]; /* owned */
    unsigned count;
    bool everybody;
};

/* `note` says what peers will not like of our own certificate (code 0 otherwise). */
struct tls_identity *tls_identity_load(const char *dir, struct err *note, struct err *err);
void tls_identity_free(struct tls_identity *id);

/* A name of it is on the list. */
bool tls_identity_allows(const struct tls_identity *id, const struct x509_st *certificate);

/* Goes through all of a chain, as X509_verify_cert does, and notes every problem. */
void tls_identity_verify(struct x509_store_ctx_st *chain, struct tls_problems *problems);

void tls_problems_add(struct tls_problems *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
