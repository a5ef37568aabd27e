/* What all use of OpenSSL here shares: contexts of TLS 1.3 alone, and its errors as sentences. */
#pragma once

#include "base/err.h"

struct ssl_ctx_st;

/* TLS 1.3, no tickets, no renegotiation, partial writes; freed with SSL_CTX_free. */
struct ssl_ctx_st *tls_context_new(struct err *err);

/* The newest of OpenSSL's errors of this thread, behind `what`; clears them. An alert of the peer
 * and a peer that speaks no TLS have sentences of their own. Returns -err->code. */
int tls_error(struct err *err, const char *what);
