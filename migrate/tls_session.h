/*
 * TLS with certificates on both sides, between two daemons, over a socket that does not block: for
 * the few bytes that are said before workers take over with the key of tls_session_export
 * (stream_tls.h). It reads no byte more than it is asked for: what follows is for the worker.
 *
 * Who asks refuses a peer whose certificate is not from the CA, is out of its time, is not on the
 * allow list, or is for another host than the one that was called: by its name, or by its address
 * when the certificate names addresses. Who answers does the same but for the list, which
 * tls_session_refusal tells afterwards: so the caller can be told.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "migrate/tls_identity.h"

#define TLS_NAME_CHARS 80u
#define TLS_KEY_BYTES 32u

struct ssl_st;

/* What workers go on with; of no length where there is no TLS. */
struct tls_key {
    uint8_t bytes[TLS_KEY_BYTES];
    size_t len;
};

struct tls_session {
    const struct tls_identity *identity; /* borrowed */
    struct ssl_st *ssl;                  /* owned */
    const char *host;                    /* borrowed: what was called; NULL for who answers */
    char name[TLS_NAME_CHARS];           /* of the peer's certificate; empty before there is one */
    bool allowed;
    struct tls_problems problems;
};

/* `host` is what is called; NULL answers. The socket stays the caller's. */
struct tls_session *tls_session_new(const struct tls_identity *id, int fd, const char *host,
                                    struct err *err);
/* Says nothing to the peer. */
void tls_session_free(struct tls_session *s);

/* Each returns -EAGAIN when it cannot go on, with what to poll for in `want`. A failure for who one
 * of the two is has the code EKEYREJECTED. */
int tls_session_greet(struct tls_session *s, short *want, struct err *err);
ssize_t tls_session_read(struct tls_session *s, void *to, size_t size, short *want,
                         struct err *err);
ssize_t tls_session_write(struct tls_session *s, const void *data, size_t bytes, short *want,
                          struct err *err);

/* 0, or the sentence for a caller that is not on the list. */
int tls_session_refusal(const struct tls_session *s, struct err *err);

/* For the context of an identity: what OpenSSL asks about a peer's chain. */
int tls_session_verify(struct x509_store_ctx_st *chain, void *unused);

int tls_session_export(struct tls_session *s, struct tls_key *key, struct err *err);
/* One that somebody else has exported, or none. */
int tls_key_take(struct tls_key *key, const uint8_t *bytes, size_t len, struct err *err);
void tls_key_forget(struct tls_key *key);
