/*
 * Uploads by PUT, whose length nobody knows beforehand; see store.h. What broke is sent once more
 * from the first byte, which vmctl has ferryd make again. Without the end of its last piece a
 * server keeps nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "snapshot/store.h"

struct put {
    struct store *s;
    bool begun; /* bytes were taken */
};

static ssize_t pull(void *ctx, void *to, size_t max, struct err *err)
{
    struct put *p = ctx;
    p->begun = true;
    return store_link_take(p->s->link, to, max, err);
}

/* 1 when it is there, 0 to send again. */
static int look(struct put *p, const struct store_answer *a, struct store_retry *retry, char *url,
                unsigned *hops, struct err *err)
{
    if (!a->broken && a->status / 100 == 2)
        return p->s->link->ended ? 1 : err_set(err, EPROTO, "the store did not wait for all of it");
    if (!a->broken && a->status / 100 == 3)
        return store_redirect(a, url, hops, url, err);
    return a->transient ? store_retry(retry, a, "uploading", err)
                        : store_answer_refuse(a, "uploading", err);
}

int store_put(struct store *s, struct err *err)
{
    struct put p = {.s = s};
    struct store_retry retry = {.config = &s->config, .link = s->link};
    char url[sizeof(s->url.url)];
    unsigned hops = 0;
    int rc = 0;
    snprintf(url, sizeof(url), "%s", s->url.url);
    while (rc == 0) {
        struct store_answer a;
        const struct store_ask ask = {.method = "PUT", .url = url, .pull = pull, .ctx = &p};
        p.begun = false;
        rc = store_http_do(&s->http, &ask, &a, err);
        if (rc == 0)
            rc = look(&p, &a, &retry, url, &hops, err);
        if (rc == 0 && p.begun)
            rc = store_link_again(s->link, err);
        store_answer_fini(&a);
    }
    return rc == 1 ? 0 : rc;
}
