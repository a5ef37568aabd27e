/*
 * One exchange with a server, by libcurl; see store.h.
 *
 * TLS is always verified, redirects are never followed by libcurl (store_redirect decides), and
 * whoever moves less than STALL_BYTES within the time for that has stalled, the time not counted
 * that vmctl keeps us waiting.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/now.h"
#include "proto/utf8.h"
#include "snapshot/store.h"

#define CONNECT_MS 15000L
#define BUFFER_BYTES (128L << 10)
#define STALL_BYTES 1024u
/* Older ones sign neither the hash of the body nor the session token. */
#define SIGNING_VERSION 0x075700u

struct exchange {
    struct store_http *h;
    const struct store_ask *ask;
    struct store_answer *a;
    uint64_t since_ns, moved; /* of the window in which something has to move */
};

int store_http_init(struct store_http *h, const struct store_config *c, struct store_link *l,
                    struct err *err)
{
    *h = (struct store_http){.config = c, .link = l};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, EIO, "libcurl does not start");
    h->curl = curl_easy_init();
    h->error = calloc(1, CURL_ERROR_SIZE);
    return h->curl && h->error ? 0 : err_set(err, ENOMEM, "no memory for a connection");
}

void store_http_fini(struct store_http *h)
{
    curl_easy_cleanup(h->curl);
    curl_global_cleanup();
    free(h->error);
}

void store_answer_fini(struct store_answer *a)
{
    buf_fini(&a->body);
}

/* callbacks ----------------------------------------------------------------------------------- */

/* Bytes moved at `before`; what came then has waited for vmctl, and does not count. */
static void moved(struct exchange *x, uint64_t before_ns, size_t bytes)
{
    x->since_ns += now_ns() - before_ns;
    x->moved += bytes;
}

static bool is_header(const char *line, size_t len, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':')
        return false;
    const char *a = line + n + 1, *b = line + len;
    while (a < b && (*a == ' ' || *a == '\t'))
        a++;
    while (b > a && (b[-1] == '\n' || b[-1] == '\r' || b[-1] == ' '))
        b--;
    if ((size_t)(b - a) >= size)
        return false;
    snprintf(value, size, "%.*s", (int)(b - a), a);
    return true;
}

/* "bytes 100-199/1000" */
static void take_range(struct store_answer *a, const char *value)
{
    unsigned long long from, to, total = 0;
    int n = sscanf(value, "bytes %llu-%llu/%llu", &from, &to, &total);
    a->has_range = n >= 2 && from <= to;
    a->range_from = a->has_range ? from : 0;
    a->range_total = n == 3 ? total : 0;
}

static size_t on_header(char *line, size_t size, size_t count, void *ctx)
{
    struct store_answer *a = ((struct exchange *)ctx)->a;
    size_t len = size * count;
    char value[256];
    if (len > 5 && strncmp(line, "HTTP/", 5) == 0) { /* also behind "100 Continue" */
        a->etag[0] = a->modified[0] = '\0';
        a->has_length = a->has_range = false;
        a->retry_after_ms = 0;
    }
    if (is_header(line, len, "etag", a->etag, sizeof(a->etag)) ||
        is_header(line, len, "last-modified", a->modified, sizeof(a->modified)))
        return len;
    if (is_header(line, len, "content-range", value, sizeof(value)))
        take_range(a, value);
    if (is_header(line, len, "content-length", value, sizeof(value))) {
        a->length = strtoull(value, NULL, 10);
        a->has_length = true;
    }
    if (is_header(line, len, "retry-after", value, sizeof(value))) {
        unsigned long s = strtoul(value, NULL, 10);
        a->retry_after_ms = s < 3600 ? (unsigned)s * 1000 : 3600000;
    }
    return len;
}

static size_t on_write(char *data, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    size_t len = size * count;
    uint64_t before_ns = now_ns();
    curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &x->a->status);
    if (x->ask->push && x->a->status / 100 == 2) {
        if (x->ask->push(x->ask->ctx, x->a, data, len, &x->a->stopped) < 0)
            return 0;
    } else if (buf_append(&x->a->body, data, len) < 0 && x->a->status / 100 == 2) {
        err_set(&x->a->stopped, EMSGSIZE, "the store's answer has more than %u bytes",
                STORE_BODY_MAX);
        return 0;
    }
    moved(x, before_ns, len);
    return len;
}

static size_t on_read(char *to, size_t size, size_t count, void *ctx)
{
    struct exchange *x = ctx;
    uint64_t before_ns = now_ns();
    ssize_t n = x->ask->pull(x->ask->ctx, to, size * count, &x->a->stopped);
    if (n < 0)
        return CURL_READFUNC_ABORT;
    moved(x, before_ns, (size_t)n);
    return (size_t)n;
}

/* libcurl asks at least once a second. */
static int on_progress(void *ctx, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                       curl_off_t ulnow)
{
    struct exchange *x = ctx;
    uint64_t now = now_ns(), all = (uint64_t)dlnow + (uint64_t)ulnow;
    if (x->h->link && store_link_alive(x->h->link, &x->a->stopped) < 0)
        return 1;
    if (all >= x->moved + STALL_BYTES) { /* what is read from memory calls nobody else */
        x->moved = all;
        x->since_ns = now;
    }
    if (now < x->since_ns || now - x->since_ns < x->h->config->stall_ms * 1000000ull)
        return 0;
    err_set(&x->a->failed, ETIMEDOUT, "the connection stalled for %u s",
            (x->h->config->stall_ms + 999) / 1000);
    return 1;
}

/* setting up ---------------------------------------------------------------------------------- */

static void set_common(struct exchange *x)
{
    CURL *curl = x->h->curl;
    const struct store_config *c = x->h->config;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, x->ask->url);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->h->error);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "ferry/" FERRY_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                     c->stall_ms < CONNECT_MS ? (long)c->stall_ms : CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (c->ca[0])
        curl_easy_setopt(curl, CURLOPT_CAINFO, c->ca);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, x);
}

static void set_who(const struct exchange *x)
{
    CURL *curl = x->h->curl;
    const struct store_config *c = x->h->config;
    char service[128];
    if (!x->ask->sign) { /* by host: a redirect to another one gets what is meant for that */
        curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
        if (c->netrc[0])
            curl_easy_setopt(curl, CURLOPT_NETRC_FILE, c->netrc);
        return;
    }
    snprintf(service, sizeof(service), "aws:amz:%s:s3", c->region);
    curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, service);
    curl_easy_setopt(curl, CURLOPT_USERNAME, c->key_id);
    curl_easy_setopt(curl, CURLOPT_PASSWORD, c->secret);
}

static void set_body(struct exchange *x)
{
    CURL *curl = x->h->curl;
    const struct store_ask *ask = x->ask;
    char range[32];
    if (strcmp(ask->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else if (ask->pull) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, x);
    } else if (ask->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)ask->body_len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, ask->body);
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, ask->method);
    } else if (strcmp(ask->method, "GET") != 0)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, ask->method);
    if (ask->has_range) {
        snprintf(range, sizeof(range), "%llu-", (unsigned long long)ask->range_from);
        curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
}

static int add(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);
    if (longer)
        *list = longer;
    return longer ? 0 : -ENOMEM;
}

/* The hash and the token must be among what is signed, so they are headers of ours. */
static int add_headers(const struct exchange *x, struct curl_slist **list)
{
    const struct store_config *c = x->h->config;
    const struct store_ask *ask = x->ask;
    char text[sizeof(c->token) + 64];
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < 4 && ask->headers[i]; i++)
        rc = add(list, ask->headers[i]);
    if (rc == 0 && ask->sign) {
        snprintf(text, sizeof(text), "x-amz-content-sha256: %s", ask->body_sha256);
        rc = add(list, text);
    }
    if (rc == 0 && ask->sign && c->token[0]) {
        snprintf(text, sizeof(text), "x-amz-security-token: %s", c->token);
        rc = add(list, text);
    }
    if (rc == 0 && ask->body)
        rc = add(list, "Content-Type: application/octet-stream");
    if (rc == 0 && ask->pull)
        rc = add(list, "Transfer-Encoding: chunked");
    return rc;
}

/* what came ------------------------------------------------------------------------------------
 */

static bool worth_another(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

static int judge(struct exchange *x, CURLcode code, struct err *err)
{
    struct store_answer *a = x->a;
    const char *said = x->h->error;
    char *redirect = NULL;
    curl_easy_getinfo(x->h->curl, CURLINFO_RESPONSE_CODE, &a->status);
    curl_easy_getinfo(x->h->curl, CURLINFO_REDIRECT_URL, &redirect);
    if (redirect && strlen(redirect) < sizeof(a->redirect))
        snprintf(a->redirect, sizeof(a->redirect), "%s", redirect);
    if (a->stopped.code) {
        *err = a->stopped;
        return -err->code;
    }
    a->transient = a->failed.code || worth_another(code) || a->status == 429 || a->status == 408 ||
                   (a->status >= 500 && a->status != 501 && a->status != 505);
    a->broken = a->failed.code || code != CURLE_OK;
    if (a->broken && !a->failed.code)
        err_set(&a->failed, EIO, "%s", *said ? said : curl_easy_strerror(code));
    utf8_clean(a->failed.text);
    return 0;
}

int store_http_do(struct store_http *h, const struct store_ask *ask, struct store_answer *a,
                  struct err *err)
{
    struct exchange x = {.h = h, .ask = ask, .a = a, .since_ns = now_ns()};
    struct curl_slist *headers = NULL;
    *a = (struct store_answer){.status = 0};
    buf_init(&a->body, STORE_BODY_MAX);
    if (ask->sign && curl_version_info(CURLVERSION_NOW)->version_num < SIGNING_VERSION)
        return err_set(err, ENOTSUP, "libcurl %s signs wrongly for s3: 7.87 or newer is needed",
                       curl_version_info(CURLVERSION_NOW)->version);
    set_common(&x);
    set_who(&x);
    set_body(&x);
    int rc = add_headers(&x, &headers);
    if (rc == 0) {
        curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, headers);
        *(char *)h->error = '\0';
        rc = judge(&x, curl_easy_perform(h->curl), err);
    } else {
        err_set(err, ENOMEM, "no memory for a request");
    }
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    return rc;
}

int store_http_call(struct store_http *h, const struct store_ask *ask, struct store_answer *a,
                    const char *what, struct err *err)
{
    struct store_retry retry = {.config = h->config, .link = h->link};
    for (;;) {
        int rc = store_http_do(h, ask, a, err);
        if (rc == 0 && a->transient)
            rc = store_retry(&retry, a, what, err);
        else
            return rc;
        if (rc < 0)
            return rc;
        store_answer_fini(a);
    }
}
