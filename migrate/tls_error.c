/* See tls_error.h. */
#include "migrate/tls_error.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

/* An alert that came is the reason SSL_AD_REASON_OFFSET + its number. EKEYREJECTED: it is about who
 * one is. */
// clang-format off
static const struct {
    int reason, code;
    const char *text;
} rows[] = {
    {SSL_AD_REASON_OFFSET + SSL_AD_UNKNOWN_CA, EKEYREJECTED, "it does not know the CA of our certificate"},
    {SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_EXPIRED, EKEYREJECTED, "it says that our certificate has expired"},
    {SSL_AD_REASON_OFFSET + SSL_AD_BAD_CERTIFICATE, EKEYREJECTED, "it refuses our certificate"},
    {SSL_AD_REASON_OFFSET + SSL_AD_UNSUPPORTED_CERTIFICATE, EKEYREJECTED,
     "it refuses our certificate, which is not for clients and servers"},
    {SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_UNKNOWN, EKEYREJECTED, "it refuses our certificate"},
    {SSL_AD_REASON_OFFSET + SSL_AD_DECRYPT_ERROR, EKEYREJECTED, "it says that our key does not fit"},
    {SSL_AD_REASON_OFFSET + SSL_AD_ACCESS_DENIED, EKEYREJECTED, "it refuses us"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, EKEYREJECTED, "it asks for a certificate, and got none"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, EKEYREJECTED, "it shows no certificate"},
    {SSL_R_WRONG_VERSION_NUMBER, EPROTO, "it does not speak TLS"},
    {SSL_R_HTTP_REQUEST, EPROTO, "it does not speak TLS"},
    {SSL_R_UNEXPECTED_EOF_WHILE_READING, ECONNRESET, "it left in the middle of the TLS handshake"},
    {SSL_AD_REASON_OFFSET + SSL_AD_PROTOCOL_VERSION, EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_UNSUPPORTED_PROTOCOL, EPROTO, "it does not speak TLS 1.3"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, EBADMSG, "bytes were changed on the way"},
    {SSL_R_BAD_RECORD_TYPE, EBADMSG, "bytes were changed on the way"},
    {SSL_R_BINDER_DOES_NOT_VERIFY, EKEYREJECTED, "the peer has another key"},
};
// clang-format on

int tls_error(struct err *err, const char *what)
{
    unsigned long e = ERR_peek_error();
    int reason = ERR_GET_REASON(e);
    const char *text = ERR_reason_error_string(e);
    bool ours = ERR_GET_LIB(e) == ERR_LIB_SSL;
    ERR_clear_error();
    for (size_t i = 0; ours && i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].reason == reason)
            return err_set(err, rows[i].code, "%s: %s", what, rows[i].text);
    return err_set(err, EPROTO, "%s: %s", what, text ? text : "TLS does not say why");
}

/* Nothing is read from files: what a worker needs must work when it can open none. */
struct ssl_ctx_st *tls_context_new(struct err *err)
{
    SSL_CTX *c =
        OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) ? SSL_CTX_new(TLS_method()) : NULL;
    if (!c || !SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION)) {
        SSL_CTX_free(c);
        tls_error(err, "no memory for TLS");
        return NULL;
    }
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return c;
}
