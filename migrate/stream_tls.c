/* See stream_tls.h. */
#include "migrate/stream_tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/tls_error.h"

#define RECORD_BYTES 16384u
#define READ_BUFFER_BYTES (20u * RECORD_BYTES)
#define IDENTITY "ferry"

/* the stream below, as OpenSSL sees it -------------------------------------------------------- */

static int took(struct stream_tls *t, BIO *bio, ssize_t n, bool writing, size_t *done)
{
    BIO_clear_retry_flags(bio);
    if (n > 0) {
        *done = (size_t)n;
        return 1;
    }
    *done = 0;
    if (n == -ETIMEDOUT && writing)
        BIO_set_retry_write(bio);
    else if (n == -ETIMEDOUT)
        BIO_set_retry_read(bio);
    t->ended = n == 0;
    return 0;
}

static int below_write(BIO *bio, const char *data, size_t bytes, size_t *done)
{
    struct stream_tls *t = BIO_get_data(bio);
    const struct iovec iov = {(void *)(uintptr_t)data, bytes};
    return took(t, bio, t->below->ops->write(t->below->ctx, &iov, 1, t->until_ns, &t->failure),
                true, done);
}

static int below_read(BIO *bio, char *to, size_t bytes, size_t *done)
{
    struct stream_tls *t = BIO_get_data(bio);
    const struct iovec iov = {to, bytes};
    return took(t, bio, t->below->ops->read(t->below->ctx, &iov, 1, t->until_ns, &t->failure),
                false, done);
}

static long below_control(BIO *bio, int what, long number, void *pointer)
{
    struct stream_tls *t = BIO_get_data(bio);
    if (what == BIO_CTRL_EOF)
        return t->ended;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "stream");
    if (method && BIO_meth_set_write_ex(method, below_write) &&
        BIO_meth_set_read_ex(method, below_read) && BIO_meth_set_ctrl(method, below_control))
        return;
    BIO_meth_free(method);
    method = NULL;
}

static BIO *make_bio(struct stream_tls *t)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    BIO *bio = CRYPTO_THREAD_run_once(&once, make_method) && method ? BIO_new(method) : NULL;
    if (!bio)
        return NULL;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    return bio;
}

/* the key ------------------------------------------------------------------------------------- */

static SSL_SESSION *make_session(SSL *ssl)
{
    static const unsigned char cipher[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */
    const struct stream_tls *t = SSL_get_app_data(ssl);
    const SSL_CIPHER *found = SSL_CIPHER_find(ssl, cipher);
    SSL_SESSION *session = SSL_SESSION_new();
    if (session && found && SSL_SESSION_set1_master_key(session, t->key, sizeof(t->key)) &&
        SSL_SESSION_set_cipher(session, found) &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int on_use_key(SSL *ssl, const EVP_MD *hash, const unsigned char **id, size_t *id_bytes,
                      SSL_SESSION **session)
{
    *id = (const unsigned char *)IDENTITY;
    *id_bytes = strlen(IDENTITY);
    *session = make_session(ssl);
    return *session != NULL;
}

/* Without a session there is nothing else to show, and the handshake ends. */
static int on_find_key(SSL *ssl, const unsigned char *id, size_t id_bytes, SSL_SESSION **session)
{
    bool known = id_bytes == strlen(IDENTITY) && memcmp(id, IDENTITY, id_bytes) == 0;
    *session = known ? make_session(ssl) : NULL;
    return !known || *session;
}

static int prepare(struct stream_tls *t, enum stream_tls_role role, struct err *err)
{
    SSL_CTX *c = t->context = tls_context_new(err);
    if (!c)
        return -err->code;
    SSL_CTX_set_psk_use_session_callback(c, on_use_key);
    SSL_CTX_set_psk_find_session_callback(c, on_find_key);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_default_read_buffer_len(c, READ_BUFFER_BYTES);
    if (SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256") != 1)
        return tls_error(err, "cannot set a cipher");
    t->session = SSL_new(c);
    BIO *bio = t->session ? make_bio(t) : NULL;
    if (!bio)
        return tls_error(err, "no memory for TLS");
    SSL_set_bio(t->session, bio, bio);
    SSL_set_app_data(t->session, t);
    if (role == STREAM_TLS_ASKS)
        SSL_set_connect_state(t->session);
    else
        SSL_set_accept_state(t->session);
    return 0;
}

/* writing and reading ------------------------------------------------------------------------- */

static void begin(struct stream_tls *t, uint64_t until_ns)
{
    ERR_clear_error();
    t->until_ns = until_ns;
    t->failure = (struct err){0};
    t->ended = false;
}

/* Why a call moved nothing: -ETIMEDOUT, 0 for the peer's end, or a failure. */
static ssize_t explain(struct stream_tls *t, int rc, struct err *err)
{
    int why = SSL_get_error(t->session, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return err_set(err, ETIMEDOUT, "the peer does not answer");
    if (t->failure.code) {
        *err = t->failure;
        return -err->code;
    }
    if (why == SSL_ERROR_ZERO_RETURN || t->ended)
        return 0;
    return tls_error(err, "the connection to the peer is not as it must be");
}

/* What goes into one call: a long piece as it lies, short ones together. The same pieces give the
 * same bytes, as a call has to be repeated after a timeout. */
static struct iovec gather(struct stream_tls *t, const struct iovec *iov, unsigned count)
{
    size_t n = 0;
    if (iov->iov_len >= RECORD_BYTES)
        return *iov;
    for (; count && n < RECORD_BYTES; iov++, count--) {
        size_t step = iov->iov_len < RECORD_BYTES - n ? iov->iov_len : RECORD_BYTES - n;
        memcpy(t->room + n, iov->iov_base, step);
        n += step;
    }
    return (struct iovec){t->room, n};
}

static void count_written(struct stream_tls *t, size_t bytes)
{
    t->written += bytes;
    if (t->written < t->rekey_bytes)
        return;
    t->written = 0;
    SSL_key_update(t->session, SSL_KEY_UPDATE_NOT_REQUESTED);
}

static ssize_t tls_write(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                         struct err *err)
{
    struct stream_tls *t = ctx;
    size_t done = 0;
    struct iovec piece = gather(t, iov, count);
    begin(t, until_ns);
    int rc = SSL_write_ex(t->session, piece.iov_base, piece.iov_len, &done);
    if (rc == 1) {
        count_written(t, done);
        return (ssize_t)done;
    }
    ssize_t n = explain(t, rc, err);
    return n == 0 ? err_set(err, EPIPE, "the peer closed the connection") : n;
}

static ssize_t tls_read(void *ctx, const struct iovec *iov, unsigned count, uint64_t until_ns,
                        struct err *err)
{
    struct stream_tls *t = ctx;
    size_t done = 0;
    begin(t, until_ns);
    int rc = SSL_read_ex(t->session, iov->iov_base, iov->iov_len, &done);
    return rc == 1 ? (ssize_t)done : explain(t, rc, err);
}

static uint64_t tls_now(void *ctx)
{
    const struct stream_tls *t = ctx;
    return stream_now_ns(t->below);
}

static const struct stream_ops ops = {.write = tls_write, .read = tls_read, .now_ns = tls_now};

int stream_tls_init(struct stream_tls *t, const struct stream *below, enum stream_tls_role role,
                    const uint8_t key[STREAM_TLS_KEY_BYTES], struct err *err)
{
    *t = (struct stream_tls){
        .stream = {.ops = &ops, .ctx = t}, .below = below, .rekey_bytes = STREAM_TLS_REKEY_BYTES};
    memcpy(t->key, key, sizeof(t->key));
    t->room = malloc(RECORD_BYTES);
    int rc = t->room ? prepare(t, role, err) : err_set(err, ENOMEM, "no memory for TLS");
    if (rc < 0)
        stream_tls_fini(t);
    return rc;
}

void stream_tls_fini(struct stream_tls *t)
{
    SSL_free(t->session);
    SSL_CTX_free(t->context);
    free(t->room);
    OPENSSL_cleanse(t->key, sizeof(t->key));
    t->session = NULL;
    t->context = NULL;
    t->room = NULL;
}
