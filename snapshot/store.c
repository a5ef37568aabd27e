/* One transfer from its first message to its result; see store.h. */
#include "snapshot/store.h"

#include <string.h>

#include "proto/frame.h"

static int move(struct store *s, bool put, struct err *err)
{
    if (!put)
        return store_get(s, err);
    return s->url.s3 ? store_put_s3(s, err) : store_put(s, err);
}

static int transfer(struct store_link *link, const Ferry__StoreBegin *begin, struct err *err)
{
    struct store s = {.link = link};
    int rc = store_config_read(&s.config, store_url_is_s3(begin->url), err);
    if (rc == 0)
        rc = store_url_read(&s.url, begin->url, &s.config, err);
    if (rc < 0)
        return rc;
    rc = store_http_init(&s.http, &s.config, link, err);
    if (rc == 0)
        rc = move(&s, begin->put, err);
    store_http_fini(&s.http);
    explicit_bzero(&s.config, sizeof(s.config));
    return rc;
}

int store_run(int fd)
{
    struct store_link link;
    Ferry__StoreMessage *begin = NULL;
    struct err result = {0};
    store_link_init(&link, fd);
    int rc = store_link_begin(&link, &begin, &result);
    if (rc == 0)
        rc = transfer(&link, begin->begin, &result);
    if (rc == 0)
        result.code = 0;
    rc = store_link_result(&link, &result);
    frame_free(begin ? &begin->base : NULL);
    store_link_fini(&link);
    return rc < 0 || result.code ? 1 : 0;
}
