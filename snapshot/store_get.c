/*
 * Downloads; see store.h. A broken one goes on at the byte where it broke. If-Range and what the
 * answer says of itself tell an object that was changed meanwhile: half of the one and half of the
 * other is never passed on as one.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "snapshot/store.h"

/* What has to come before failures are counted anew: a server that gives a byte and breaks must not
 * keep us for ever. */
#define PROGRESS_BYTES (64u << 10)

struct get {
    struct store *s;
    uint64_t at, skip; /* bytes passed on; of this answer to be passed over */
    uint64_t total, marked;
    bool known;     /* the total */
    bool begun;     /* this answer's first byte came */
    char same[300]; /* "If-Range: ..." */
    char etag[256], modified[64];
};

static int changed(struct err *err)
{
    return err_set(err, ESTALE, "the object was changed while it was read");
}

/* What has a name of its content: a weak ETag has not. */
static bool is_strong(const char *etag)
{
    return etag[0] == '"';
}

static int remember(struct get *g, const struct store_answer *a, struct err *err)
{
    snprintf(g->etag, sizeof(g->etag), "%s", a->etag);
    snprintf(g->modified, sizeof(g->modified), "%s", a->modified);
    if (is_strong(a->etag))
        snprintf(g->same, sizeof(g->same), "If-Range: %s", a->etag);
    else if (*a->modified)
        snprintf(g->same, sizeof(g->same), "If-Range: %s", a->modified);
    g->known = a->has_length;
    g->total = a->length;
    return g->known ? store_link_news(g->s->link, g->total, "", err) : 0;
}

/* A first answer, or one that must be of the same object, from where it broke or from its start. */
static int on_begin(struct get *g, const struct store_answer *a, struct err *err)
{
    g->begun = true;
    g->skip = 0;
    if (g->at == 0)
        return a->status == 200 ? remember(g, a, err) : changed(err);
    if (strcmp(a->etag, g->etag) != 0 || strcmp(a->modified, g->modified) != 0)
        return changed(err);
    uint64_t total = a->status == 206 ? a->range_total : a->has_length ? a->length : 0;
    if (g->known && total && total != g->total)
        return changed(err);
    if (a->status == 206)
        return a->has_range && a->range_from == g->at
                   ? 0
                   : err_set(err, EPROTO, "the store sends another range than was asked");
    g->skip = g->at; /* a server without ranges */
    return g->known || *g->etag ? 0 : changed(err);
}

static int push(void *ctx, const struct store_answer *a, const void *data, size_t len,
                struct err *err)
{
    struct get *g = ctx;
    const char *from = data;
    if (!g->begun && on_begin(g, a, err) < 0)
        return -err->code;
    size_t over = g->skip < len ? (size_t)g->skip : len;
    g->skip -= over;
    len -= over;
    if (len == 0)
        return 0;
    if (g->known && len > g->total - g->at)
        return err_set(err, EPROTO, "the store sends more than it said");
    g->at += len;
    return store_link_data(g->s->link, from + over, len, err);
}

static bool is_redirect(const struct store_answer *a)
{
    return a->status / 100 == 3 && a->status != 304;
}

static bool is_whole(const struct get *g, const struct store_answer *a)
{
    return !a->broken && a->status / 100 == 2 && (!g->known || g->at == g->total);
}

/* 1 when all has come, 0 to ask again. */
static int look(struct get *g, struct store_answer *a, struct store_retry *retry, char *url,
                unsigned *hops, struct err *err)
{
    if (is_whole(g, a)) /* an object without a byte was never begun */
        return 1;
    if (!a->broken && is_redirect(a) && !g->s->url.s3)
        return store_redirect(a, url, hops, url, err);
    if (!a->broken && a->status / 100 == 2) { /* it ends early, and says nothing of that */
        a->broken = a->transient = true;
        err_set(&a->failed, EIO, "the connection ended at byte %llu of %llu",
                (unsigned long long)g->at, (unsigned long long)g->total);
    }
    if (!a->transient)
        return store_answer_refuse(a, "downloading", err);
    if (g->at >= g->marked + PROGRESS_BYTES) {
        g->marked = g->at;
        retry->failed = 0;
    }
    return store_retry(retry, a, "downloading", err);
}

int store_get(struct store *s, struct err *err)
{
    struct get g = {.s = s};
    struct store_retry retry = {.config = &s->config, .link = s->link};
    char nothing[SHA256_HEX_SIZE], url[sizeof(s->url.url)];
    unsigned hops = 0;
    int rc = 0;
    sha256_hex("", 0, nothing);
    snprintf(url, sizeof(url), "%s", s->url.url);
    while (rc == 0) {
        struct store_answer a;
        const struct store_ask ask = {.method = "GET",
                                      .url = url,
                                      .headers = {g.at && g.same[0] ? g.same : NULL},
                                      .sign = s->url.s3,
                                      .body_sha256 = nothing,
                                      .has_range = g.at > 0,
                                      .range_from = g.at,
                                      .push = push,
                                      .ctx = &g};
        g.begun = false;
        rc = store_http_do(&s->http, &ask, &a, err);
        if (rc == 0)
            rc = look(&g, &a, &retry, url, &hops, err);
        store_answer_fini(&a);
    }
    return rc == 1 ? store_link_end(s->link, err) : rc;
}
