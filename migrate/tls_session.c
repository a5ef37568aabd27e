/* See tls_session.h. */
#include "migrate/tls_session.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/tls_error.h"

#define EXPORT_LABEL "EXPORTER-ferry-migration-1"

/* the peer's certificate ---------------------------------------------------------------------- */

/* Somebody else's text: letters that name hosts, and '?' for all others. */
static void put_name(struct tls_session *s, const ASN1_STRING *text)
{
    const unsigned char *at = ASN1_STRING_get0_data(text);
    int bytes = ASN1_STRING_length(text);
    size_t n = 0;
    for (int i = 0; i < bytes && n + 1 < sizeof(s->name); i++)
        s->name[n++] = (char)(isalnum(at[i]) || strchr(".-_*:", at[i] ? at[i] : ' ') ? at[i] : '?');
    s->name[n] = '\0';
}

/* Its first DNS name, else its common name. Tells whether it names addresses. */
static bool take_names(struct tls_session *s, X509 *certificate)
{
    bool has_address = false;
    X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    snprintf(s->name, sizeof(s->name), "?");
    if (at >= 0)
        put_name(s, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    for (int i = sk_GENERAL_NAME_num(names) - 1; i >= 0; i--) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        has_address = has_address || name->type == GEN_IPADD;
        if (name->type == GEN_DNS)
            put_name(s, name->d.dNSName);
    }
    GENERAL_NAMES_free(names);
    return has_address;
}

static bool is_host(const struct tls_session *s, X509 *certificate, bool has_address)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(s->host);
    bool by_address = address != NULL;
    ASN1_OCTET_STRING_free(address);
    if (by_address)
        return !has_address || X509_check_ip_asc(certificate, s->host, 0) == 1;
    return X509_check_host(certificate, s->host, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
}

int tls_session_verify(X509_STORE_CTX *chain, void *ctx)
{
    struct tls_session *s =
        SSL_get_app_data(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
    X509 *certificate = X509_STORE_CTX_get0_cert(chain);
    bool has_address = take_names(s, certificate);
    tls_identity_verify(chain, &s->problems);
    s->allowed = tls_identity_allows(s->identity, certificate);
    if (s->host && !s->allowed)
        tls_problems_add(&s->problems,
                         "its certificate is for '%s', which is not on our allow list", s->name);
    if (s->host && !is_host(s, certificate, has_address))
        tls_problems_add(&s->problems, "its certificate is for '%s', not for '%.80s'", s->name,
                         s->host);
    if (s->problems.count)
        X509_STORE_CTX_set_error(chain, s->problems.first ? s->problems.first
                                                          : X509_V_ERR_APPLICATION_VERIFICATION);
    return s->problems.count == 0;
}

/* one connection ------------------------------------------------------------------------------ */

static int open_session(struct tls_session *s, int fd, struct err *err)
{
    s->ssl = SSL_new(s->identity->context);
    if (!s->ssl || SSL_set_fd(s->ssl, fd) != 1)
        return tls_error(err, "no memory for TLS");
    SSL_set_app_data(s->ssl, s);
    SSL_set_verify(s->ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    if (s->host)
        SSL_set_connect_state(s->ssl);
    else
        SSL_set_accept_state(s->ssl);
    return 0;
}

struct tls_session *tls_session_new(const struct tls_identity *id, int fd, const char *host,
                                    struct err *err)
{
    struct tls_session *s = calloc(1, sizeof(*s));
    if (!s) {
        err_set(err, ENOMEM, "no memory for TLS");
        return NULL;
    }
    s->identity = id;
    s->host = host;
    if (open_session(s, fd, err) == 0)
        return s;
    tls_session_free(s);
    return NULL;
}

void tls_session_free(struct tls_session *s)
{
    if (!s)
        return;
    SSL_free(s->ssl);
    free(s);
}

/* A plain daemon closes the connection that begins with a greeting of TLS. */
static int ended_early(const struct tls_session *s, struct err *err)
{
    if (s->host && BIO_number_read(SSL_get_rbio(s->ssl)) == 0)
        return err_set(err, EPROTO,
                       "it closed the connection instead of greeting by TLS: it must have been "
                       "started with --tls, as this one");
    return err_set(err, ECONNRESET,
                   SSL_is_init_finished(s->ssl) ? "it closed the connection"
                                                : "it left in the middle of the TLS handshake");
}

static int explain(struct tls_session *s, int rc, short *want, struct err *err)
{
    int number = errno, why = SSL_get_error(s->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        *want = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
        return -EAGAIN;
    }
    if (s->problems.count) {
        ERR_clear_error();
        return err_set(err, EKEYREJECTED, "%s", s->problems.texts[0]);
    }
    bool ended =
        why == SSL_ERROR_ZERO_RETURN ||
        ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING ||
        (why == SSL_ERROR_SYSCALL && (number == 0 || number == ECONNRESET || number == EPIPE));
    if (ended) {
        ERR_clear_error();
        return ended_early(s, err);
    }
    if (why == SSL_ERROR_SYSCALL)
        return err_sys(err, number, "the connection broke");
    rc = tls_error(err, "TLS");
    if (rc == -EKEYREJECTED)
        tls_problems_add(&s->problems, "%.180s", err->text);
    return rc;
}

static void begin(void)
{
    ERR_clear_error();
    errno = 0;
}

int tls_session_greet(struct tls_session *s, short *want, struct err *err)
{
    begin();
    int rc = SSL_do_handshake(s->ssl);
    return rc == 1 ? 0 : explain(s, rc, want, err);
}

ssize_t tls_session_read(struct tls_session *s, void *to, size_t size, short *want, struct err *err)
{
    size_t done;
    begin();
    int rc = SSL_read_ex(s->ssl, to, size, &done);
    return rc == 1 ? (ssize_t)done : explain(s, rc, want, err);
}

ssize_t tls_session_write(struct tls_session *s, const void *data, size_t bytes, short *want,
                          struct err *err)
{
    size_t done;
    begin();
    int rc = SSL_write_ex(s->ssl, data, bytes, &done);
    return rc == 1 ? (ssize_t)done : explain(s, rc, want, err);
}

int tls_session_refusal(const struct tls_session *s, struct err *err)
{
    return s->allowed
               ? 0
               : err_set(err, EKEYREJECTED, "'%s' is not on the allow list of that host", s->name);
}

int tls_session_export(struct tls_session *s, struct tls_key *key, struct err *err)
{
    ERR_clear_error();
    if (SSL_export_keying_material(s->ssl, key->bytes, sizeof(key->bytes), EXPORT_LABEL,
                                   strlen(EXPORT_LABEL), NULL, 0, 0) != 1)
        return tls_error(err, "no key for the worker");
    key->len = sizeof(key->bytes);
    return 0;
}

int tls_key_take(struct tls_key *key, const uint8_t *bytes, size_t len, struct err *err)
{
    if (len && len != sizeof(key->bytes))
        return err_set(err, EINVAL, "the key of a migration has %zu bytes", len);
    if (len)
        memcpy(key->bytes, bytes, len);
    key->len = len;
    return 0;
}

void tls_key_forget(struct tls_key *key)
{
    OPENSSL_cleanse(key, sizeof(*key));
}
