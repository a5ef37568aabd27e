/* See tls_identity.h. */
#include "migrate/tls_identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "migrate/tls_error.h"
#include "migrate/tls_session.h"

#define PATH_CHARS 4096
#define ALLOW_BYTES_MAX 65536u
#define CHAIN_MAX 8

void tls_problems_add(struct tls_problems *p, const char *fmt, ...)
{
    char text[TLS_PROBLEM_CHARS];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    for (unsigned i = 0; i < p->count; i++)
        if (strcmp(p->texts[i], text) == 0)
            return;
    if (p->count < TLS_PROBLEMS_MAX)
        memcpy(p->texts[p->count++], text, sizeof(text));
}

/* verifying ----------------------------------------------------------------------------------- */

/* One that is its own CA is not from ours, and neither is one whose CA cannot be found. */
static const char *problem_text(int problem)
{
    switch (problem) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "its certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "its certificate is not valid yet";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
        return "its certificate is not from our CA";
    case X509_V_ERR_INVALID_PURPOSE:
        return "its certificate is not for clients and servers";
    default:
        return NULL;
    }
}

/* Always goes on, so that all is found; who asked counts. */
static int on_look(int fine, X509_STORE_CTX *chain)
{
    struct tls_problems *p = X509_STORE_CTX_get_app_data(chain);
    int problem = X509_STORE_CTX_get_error(chain);
    const char *text = problem_text(problem);
    if (!fine && !p->first)
        p->first = problem;
    if (!fine && text)
        tls_problems_add(p, "%s", text);
    else if (!fine)
        tls_problems_add(p, "its certificate is refused: %s",
                         X509_verify_cert_error_string(problem));
    return 1;
}

void tls_identity_verify(X509_STORE_CTX *chain, struct tls_problems *problems)
{
    X509_STORE_CTX_set_app_data(chain, problems);
    X509_STORE_CTX_set_verify_cb(chain, on_look);
    if (X509_verify_cert(chain) <= 0 && problems->count == 0)
        tls_problems_add(problems, "its certificate cannot be checked");
}

bool tls_identity_allows(const struct tls_identity *id, const X509 *certificate)
{
    X509 *c = (X509 *)(uintptr_t)certificate;
    for (unsigned i = 0; i < id->count; i++)
        if (X509_check_host(c, id->allowed[i], 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1 ||
            X509_check_ip_asc(c, id->allowed[i], 0) == 1)
            return true;
    return id->everybody;
}

/* loading ------------------------------------------------------------------------------------- */

static int no_passphrase(char *to, int size, int writing, void *ctx)
{
    return -1;
}

static int load_files(SSL_CTX *c, const char *dir, struct err *err)
{
    char ca[PATH_CHARS], cert[PATH_CHARS], key[PATH_CHARS];
    struct stat st;
    const char *names[] = {ca, cert, key};
    snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
    snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
    snprintf(key, sizeof(key), "%s/key.pem", dir);
    for (unsigned i = 0; i < 3; i++)
        if (stat(names[i], &st) < 0)
            return err_sys(err, errno, "%s", names[i]);
    if (st.st_mode & S_IROTH)
        return err_set(err, EPERM, "%s: everybody on this host can read it: chmod 600", key);
    SSL_CTX_set_default_passwd_cb(c, no_passphrase);
    if (SSL_CTX_load_verify_locations(c, ca, NULL) != 1)
        return tls_error(err, "ca.pem is no certificate");
    if (SSL_CTX_use_certificate_chain_file(c, cert) != 1)
        return tls_error(err, "cert.pem is no certificate");
    if (SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) == 1)
        return 0;
    if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH)
        return tls_error(err, "key.pem is not the key of cert.pem");
    return tls_error(err, "key.pem is no private key without a passphrase");
}

static int take_line(struct tls_identity *id, char *line, struct err *err)
{
    line[strcspn(line, "#")] = '\0';
    for (char *save, *word = strtok_r(line, " \t\r", &save); word;
         word = strtok_r(NULL, " \t\r", &save)) {
        if (strcmp(word, "*") == 0) {
            id->everybody = true;
            continue;
        }
        if (strchr(word, '*'))
            return err_set(err, EINVAL, "allow: '%.100s': only a whole name, or '*' alone", word);
        if (id->count == TLS_ALLOW_MAX)
            return err_set(err, E2BIG, "allow: more than %u names", TLS_ALLOW_MAX);
        id->allowed[id->count] = strdup(word);
        if (!id->allowed[id->count++])
            return err_set(err, ENOMEM, "no memory for a name");
    }
    return 0;
}

static int load_allowed(struct tls_identity *id, const char *dir, struct err *err)
{
    struct buf text;
    CLEAN(clean_fd) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, errno, "cannot open it");
    buf_init(&text, ALLOW_BYTES_MAX);
    int rc = fs_read_file(fd, "allow", &text, err);
    if (rc < 0)
        err_wrap(err, "allow, which names the hosts that may come, one a line");
    if (rc == 0 && (memchr(text.data ? text.data : (uint8_t *)"", 0, text.len) ||
                    buf_append(&text, "", 1) < 0))
        rc = err_set(err, EINVAL, "allow is no text");
    char *save = NULL;
    for (char *line = rc == 0 ? strtok_r((char *)text.data, "\n", &save) : NULL; line && rc == 0;
         line = strtok_r(NULL, "\n", &save))
        rc = take_line(id, line, err);
    buf_fini(&text);
    if (rc == 0 && id->count == 0 && !id->everybody)
        rc = err_set(err, EINVAL, "allow names nobody");
    return rc;
}

/* Ours as a peer would see it. */
static void look_at_ours(SSL_CTX *c, struct err *note)
{
    struct tls_problems problems = {0};
    STACK_OF(X509) *chain = NULL;
    X509_STORE_CTX *look = X509_STORE_CTX_new();
    SSL_CTX_get0_chain_certs(c, &chain);
    if (look &&
        X509_STORE_CTX_init(look, SSL_CTX_get_cert_store(c), SSL_CTX_get0_certificate(c), chain))
        tls_identity_verify(look, &problems);
    X509_STORE_CTX_free(look);
    ERR_clear_error();
    if (problems.count)
        err_set(note, EKEYREJECTED, "hosts with our CA will refuse us: of our own %s",
                problems.texts[0] + strlen("its "));
}

static int load(struct tls_identity *id, const char *dir, struct err *note, struct err *err)
{
    id->context = tls_context_new(err);
    if (!id->context)
        return -err->code;
    SSL_CTX_set_verify_depth(id->context, CHAIN_MAX);
    SSL_CTX_set_cert_verify_callback(id->context, tls_session_verify, NULL);
    int rc = load_files(id->context, dir, err);
    if (rc == 0)
        rc = load_allowed(id, dir, err);
    if (rc == 0)
        look_at_ours(id->context, note);
    return rc;
}

struct tls_identity *tls_identity_load(const char *dir, struct err *note, struct err *err)
{
    *note = (struct err){0};
    struct tls_identity *id = calloc(1, sizeof(*id));
    if (!id) {
        err_set(err, ENOMEM, "no memory for TLS");
        return NULL;
    }
    if (load(id, dir, note, err) == 0)
        return id;
    err_wrap(err, "--tls %s", dir);
    tls_identity_free(id);
    return NULL;
}

void tls_identity_free(struct tls_identity *id)
{
    if (!id)
        return;
    SSL_CTX_free(id->context);
    for (unsigned i = 0; i < id->count; i++)
        free(id->allowed[i]);
    free(id);
}
