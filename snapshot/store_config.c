/*
 * What the environment says about stores; see store.h and docs/stores.md.
 *
 * Names and files are those that other tools for S3 use, so that who has them set up needs nothing
 * more. Nothing secret is ever told in an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "snapshot/store.h"

#define FILE_MAX (1u << 20)
#define TRIES 8u
#define WAIT_MS 500u
#define STALL_MS 30000u

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value ? value : "";
}

static int take(const char *name, char *to, size_t size, struct err *err)
{
    const char *value = variable(name);
    if (strlen(value) >= size)
        return err_set(err, EINVAL, "$%s has more than %zu bytes", name, size - 1);
    if (*value)
        snprintf(to, size, "%s", value);
    return 0;
}

/* [a, b) without blanks at its ends. */
static void trim(const char **a, const char **b)
{
    while (*a < *b && (**a == ' ' || **a == '\t'))
        (*a)++;
    while (*a < *b && ((*b)[-1] == ' ' || (*b)[-1] == '\t' || (*b)[-1] == '\r'))
        (*b)--;
}

static bool is(const char *a, const char *b, const char *word)
{
    return (size_t)(b - a) == strlen(word) && memcmp(a, word, (size_t)(b - a)) == 0;
}

/* "name = value" of that name. */
static void take_line(const char *a, const char *b, const char *name, char *to, size_t size)
{
    const char *equals = memchr(a, '=', (size_t)(b - a)), *end = equals;
    if (!equals)
        return;
    trim(&a, &end);
    if (!is(a, end, name))
        return;
    const char *value = equals + 1;
    trim(&value, &b);
    if ((size_t)(b - value) < size)
        snprintf(to, size, "%.*s", (int)(b - value), value);
}

void store_config_find(const char *text, size_t len, const char *section, const char *name,
                       char *to, size_t size)
{
    bool inside = false;
    for (const char *at = text, *end = text + len; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *a = at, *b = newline ? newline : end;
        at = b + 1;
        trim(&a, &b);
        if (a == b || *a == '#' || *a == ';')
            continue;
        if (*a == '[' && b[-1] == ']')
            inside = is(a + 1, b - 1, section);
        else if (inside)
            take_line(a, b, name, to, size);
    }
}

/* A file that is not there says nothing. */
static int read_text(const char *path, struct buf *text, struct err *err)
{
    buf_init(text, FILE_MAX);
    if (access(path, F_OK) < 0)
        return 0;
    return fs_read_file(AT_FDCWD, path, text, err);
}

static void path_of(const char *name, const char *fallback, char *to, size_t size)
{
    const char *given = variable(name);
    if (*given)
        snprintf(to, size, "%s", given);
    else
        snprintf(to, size, "%s/%s", variable("HOME"), fallback);
}

static const char *profile(void)
{
    const char *name = variable("AWS_PROFILE");
    return *name ? name : "default";
}

static int read_credentials(struct store_config *c, struct err *err)
{
    char path[STORE_WORD_MAX];
    struct buf text;
    if (c->key_id[0] && c->secret[0])
        return 0;
    path_of("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", path, sizeof(path));
    int rc = read_text(path, &text, err);
    if (rc == 0) {
        const char *in = (const char *)text.data;
        store_config_find(in, text.len, profile(), "aws_access_key_id", c->key_id,
                          sizeof(c->key_id));
        store_config_find(in, text.len, profile(), "aws_secret_access_key", c->secret,
                          sizeof(c->secret));
        store_config_find(in, text.len, profile(), "aws_session_token", c->token, sizeof(c->token));
    }
    buf_fini(&text);
    if (rc == 0 && !(c->key_id[0] && c->secret[0]))
        rc = err_set(err, EACCES,
                     "no credentials for s3: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                     "write the profile '%.64s' into %.200s",
                     profile(), path);
    return rc;
}

static int read_place(struct store_config *c, struct err *err)
{
    char path[STORE_WORD_MAX], section[128] = "default";
    struct buf text;
    path_of("AWS_CONFIG_FILE", ".aws/config", path, sizeof(path));
    if (strcmp(profile(), "default") != 0)
        snprintf(section, sizeof(section), "profile %.100s", profile());
    int rc = read_text(path, &text, err);
    if (rc == 0) {
        const char *in = (const char *)text.data;
        store_config_find(in, text.len, section, "region", c->region, sizeof(c->region));
        store_config_find(in, text.len, section, "endpoint_url", c->endpoint, sizeof(c->endpoint));
    }
    buf_fini(&text);
    static const char *const words[] = {"AWS_DEFAULT_REGION", "AWS_REGION"};
    static const char *const places[] = {"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"};
    for (unsigned i = 0; rc == 0 && i < 2; i++) {
        rc = take(words[i], c->region, sizeof(c->region), err);
        if (rc == 0)
            rc = take(places[i], c->endpoint, sizeof(c->endpoint), err);
    }
    return rc;
}

/* An endpoint is http:// or https:// and a host, without anything behind. */
static int check_place(struct store_config *c, struct err *err)
{
    size_t n = strlen(c->endpoint);
    if (!c->region[0])
        snprintf(c->region, sizeof(c->region), "us-east-1");
    if (strspn(c->region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(c->region))
        return err_set(err, EINVAL, "the region '%.64s' is no name", c->region);
    while (n && c->endpoint[n - 1] == '/')
        c->endpoint[--n] = '\0';
    bool http = strncmp(c->endpoint, "http://", 7) == 0;
    if (n && !http && strncmp(c->endpoint, "https://", 8) != 0)
        return err_set(err, EINVAL, "the endpoint '%.80s' is neither http:// nor https://",
                       c->endpoint);
    if (n && (strpbrk(c->endpoint + 8, "@?#/ ") || !c->endpoint[http ? 7 : 8]))
        return err_set(err, EINVAL, "the endpoint '%.80s' is more than a host and a port",
                       c->endpoint);
    return 0;
}

static int take_time(const char *name, unsigned fallback, unsigned *ms, struct err *err)
{
    uint64_t value = fallback;
    if (*variable(name) && units_parse_time(variable(name), &value, err) < 0)
        return err_wrap(err, "$%s", name);
    if (value < 1 || value > 3600000)
        return err_set(err, EINVAL, "$%s is not from 1ms to 1h", name);
    *ms = (unsigned)value;
    return 0;
}

static int read_patience(struct store_config *c, struct err *err)
{
    uint64_t tries = TRIES;
    const char *said = variable("FERRY_STORE_TRIES");
    int rc = *said ? units_parse_number(said, 1, 100, "$FERRY_STORE_TRIES", &tries, err) : 0;
    if (rc == 0)
        rc = take_time("FERRY_STORE_WAIT", WAIT_MS, &c->wait_ms, err);
    if (rc == 0)
        rc = take_time("FERRY_STORE_STALL", STALL_MS, &c->stall_ms, err);
    c->tries = (unsigned)tries;
    return rc;
}

static int read_s3(struct store_config *c, struct err *err)
{
    int rc = take("AWS_ACCESS_KEY_ID", c->key_id, sizeof(c->key_id), err);
    if (rc == 0)
        rc = take("AWS_SECRET_ACCESS_KEY", c->secret, sizeof(c->secret), err);
    if (rc == 0)
        rc = take("AWS_SESSION_TOKEN", c->token, sizeof(c->token), err);
    if (rc == 0)
        rc = read_credentials(c, err);
    if (rc == 0)
        rc = read_place(c, err);
    return rc < 0 ? rc : check_place(c, err);
}

int store_config_read(struct store_config *c, bool s3, struct err *err)
{
    *c = (struct store_config){.tries = TRIES};
    int rc = take("SSL_CERT_FILE", c->ca, sizeof(c->ca), err);
    if (rc == 0 && s3)
        rc = take("AWS_CA_BUNDLE", c->ca, sizeof(c->ca), err);
    if (rc == 0)
        rc = take("FERRY_STORE_CA", c->ca, sizeof(c->ca), err);
    if (rc == 0)
        rc = take("NETRC", c->netrc, sizeof(c->netrc), err);
    if (rc == 0)
        rc = read_patience(c, err);
    return rc < 0 || !s3 ? rc : read_s3(c, err);
}
