/* See certificates.h. */
#include "tests/kvm/certificates.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define PATH_CHARS 200
#define DAY 86400l

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(certificate, e, -1), 1);
    X509_EXTENSION_free(e);
}

static X509 *make(EVP_PKEY *key, const char *name, long from_days, long until_days)
{
    static long serial;
    X509 *c = X509_new();
    assert_non_null(c);
    assert_int_equal(X509_set_version(c, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(c), from_days * DAY);
    X509_gmtime_adj(X509_getm_notAfter(c), until_days * DAY);
    assert_int_equal(X509_set_pubkey(c, key), 1);
    assert_int_equal(X509_NAME_add_entry_by_txt(X509_get_subject_name(c), "CN", MBSTRING_UTF8,
                                                (const unsigned char *)name, -1, -1, 0),
                     1);
    return c;
}

struct authority *authority_new(const char *name)
{
    struct authority *a = calloc(1, sizeof(*a));
    assert_non_null(a);
    a->key = EVP_EC_gen("P-256");
    a->certificate = make(a->key, name, -30, 30);
    assert_int_equal(X509_set_issuer_name(a->certificate, X509_get_subject_name(a->certificate)),
                     1);
    add_extension(a->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(a->certificate, NID_key_usage, "critical,keyCertSign");
    assert_true(X509_sign(a->certificate, a->key, EVP_sha256()) > 0);
    return a;
}

void authority_free(struct authority *a)
{
    EVP_PKEY_free(a->key);
    X509_free(a->certificate);
    free(a);
}

static FILE *create(const char *dir, const char *name)
{
    char path[PATH_CHARS];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(chmod(path, 0600), 0);
    return f;
}

static void write_certificate(const char *dir, const char *name, X509 *certificate)
{
    FILE *f = create(dir, name);
    assert_int_equal(PEM_write_X509(f, certificate), 1);
    fclose(f);
}

static void write_rest(const struct identity *i, const char *dir, EVP_PKEY *key)
{
    FILE *f = create(dir, "key.pem");
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    if (!i->allow)
        return;
    f = create(dir, "allow");
    assert_true(fputs(i->allow, f) >= 0);
    fclose(f);
}

void identity_write(const struct identity *i, const char *dir)
{
    char names[PATH_CHARS];
    bool dated = i->from_days || i->until_days;
    assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = make(key, i->name, dated ? i->from_days : -1, dated ? i->until_days : 1);
    snprintf(names, sizeof(names), "DNS:%s%s%s", i->name, i->address ? ",IP:" : "",
             i->address ? i->address : "");
    add_extension(c, NID_subject_alt_name, names);
    assert_int_equal(X509_set_issuer_name(c, X509_get_subject_name(i->from->certificate)), 1);
    assert_true(X509_sign(c, i->from->key, EVP_sha256()) > 0);
    write_certificate(dir, "ca.pem", i->trusts->certificate);
    write_certificate(dir, "cert.pem", c);
    write_rest(i, dir, key);
    X509_free(c);
    EVP_PKEY_free(key);
}
