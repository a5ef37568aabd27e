/* Where an object is; see store.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshot/store.h"

#define S3_SCHEME "s3://"
#define BUCKET_MAX 63u
#define KEY_MAX 1024u

bool store_url_is_s3(const char *text)
{
    return strncasecmp(text, S3_SCHEME, strlen(S3_SCHEME)) == 0;
}

bool store_url_escape(const char *text, bool slashes, char *to, size_t size)
{
    size_t used = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        bool plain = isalnum(*c) || (*c && strchr("-_.~", *c)) || (slashes && *c == '/');
        if (used + 4 > size)
            return false;
        used += (size_t)snprintf(to + used, size - used, plain ? "%c" : "%%%02X", *c);
    }
    to[used < size ? used : size - 1] = '\0';
    return true;
}

static int check_bucket(const char *bucket, struct err *err)
{
    size_t len = strlen(bucket);
    bool good = len >= 3 && isalnum((unsigned char)bucket[0]);
    for (size_t i = 0; i < len; i++)
        good = good && (islower((unsigned char)bucket[i]) || isdigit((unsigned char)bucket[i]) ||
                        bucket[i] == '-' || bucket[i] == '.');
    if (good && !strstr(bucket, ".."))
        return 0;
    return err_set(err, EINVAL,
                   "'%s' is no name of a bucket: 3 to 63 small letters, digits, '-' or '.'",
                   bucket);
}

/* Servers disagree about '+', and a client may have tidied up "..". */
static int check_key(const char *key, struct err *err)
{
    if (!*key || strlen(key) > KEY_MAX)
        return err_set(err, EINVAL, "a key has 1 to %u bytes: s3://bucket/key", KEY_MAX);
    if (strchr(key, '+'))
        return err_set(err, EINVAL, "the key '%s' has a '+', which stores read differently", key);
    for (const char *at = key; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL) {
        size_t n = strcspn(at, "/");
        if ((n == 1 && at[0] == '.') || (n == 2 && at[0] == '.' && at[1] == '.'))
            return err_set(err, EINVAL, "the key '%s' has '.' or '..' between slashes", key);
    }
    return 0;
}

static int read_s3(struct store_url *u, const char *text, const struct store_config *c,
                   struct err *err)
{
    const char *rest = text + strlen(S3_SCHEME);
    size_t n = strcspn(rest, "/");
    char bucket[BUCKET_MAX + 1], key[3 * KEY_MAX + 8];
    if (n > BUCKET_MAX)
        return err_set(err, EINVAL, "the name of a bucket has 3 to %u characters", BUCKET_MAX);
    snprintf(bucket, sizeof(bucket), "%.*s", (int)n, rest);
    int rc = check_bucket(bucket, err);
    if (rc == 0)
        rc = check_key(rest[n] ? rest + n + 1 : "", err);
    if (rc < 0)
        return rc;
    if (!store_url_escape(rest + n + 1, true, key, sizeof(key)))
        return err_set(err, EINVAL, "the key is too long");
    if (c->endpoint[0]) /* buckets in the path: what other stores than Amazon's understand */
        snprintf(u->url, sizeof(u->url), "%s/%s/%s", c->endpoint, bucket, key);
    else if (strchr(bucket, '.')) /* no certificate covers more than one label */
        snprintf(u->url, sizeof(u->url), "https://s3.%s.amazonaws.com/%s/%s", c->region, bucket,
                 key);
    else
        snprintf(u->url, sizeof(u->url), "https://%s.s3.%s.amazonaws.com/%s", bucket, c->region,
                 key);
    return 0;
}

static int check_http(const char *text, struct err *err)
{
    const char *host = strstr(text, "://") + 3;
    size_t n = strcspn(host, "/?#");
    if (n == 0)
        return err_set(err, EINVAL, "'%s' names no host", text);
    if (memchr(host, '@', n))
        return err_set(err, EINVAL,
                       "no password belongs on a command line: put it into ~/.netrc, and leave it "
                       "out of the URL");
    return strchr(text, '#') ? err_set(err, EINVAL, "'%s' has a '#', which no server sees", text)
                             : 0;
}

int store_url_read(struct store_url *u, const char *text, const struct store_config *c,
                   struct err *err)
{
    u->s3 = store_url_is_s3(text);
    if (strlen(text) >= STORE_URL_MAX)
        return err_set(err, EINVAL, "the URL has more than %u bytes", STORE_URL_MAX - 1);
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f || (*at == ' ' && !u->s3))
            return err_set(err, EINVAL, "the URL has a blank or a control character");
    if (u->s3)
        return read_s3(u, text, c, err);
    if (strncasecmp(text, "http://", 7) != 0 && strncasecmp(text, "https://", 8) != 0)
        return err_set(err, EINVAL, "'%.80s' is none of https://, http:// and s3://", text);
    snprintf(u->url, sizeof(u->url), "%s", text);
    return check_http(text, err);
}
