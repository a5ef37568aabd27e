/*
 * Uploads to S3; see store.h. What fits into one part is one PUT. More is a multipart upload: each
 * part is kept in memory until it was taken, so that it can be sent again by itself, with its hash,
 * by which the store checks it. An upload that fails is aborted: nothing stays, also no parts that
 * somebody would pay for.
 *
 *     POST ?uploads=  ─►  PUT ?partNumber=N&uploadId=ID ...  ─►  POST ?uploadId=ID
 *                                                            └►  DELETE ?uploadId=ID
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "snapshot/store.h"

#define PARTS_MAX 10000u
#define PART_BYTES (8u << 20)
#define PART_BYTES_MAX (128u << 20)
#define PARTS_OF_A_SIZE 1000u
#define ID_MAX 1024u

struct upload {
    struct store *s;
    uint8_t *part; /* owned */
    size_t room, len;
    uint64_t total;
    unsigned count;
    char id[3 * ID_MAX]; /* as in a query */
    struct buf list;     /* the parts, as the store wants them told */
};

/* 10000 parts are enough for a terabyte, and the first ones are small. */
static size_t part_size(unsigned number)
{
    size_t size = PART_BYTES;
    for (unsigned i = PARTS_OF_A_SIZE; i < number && size < PART_BYTES_MAX; i += PARTS_OF_A_SIZE)
        size *= 2;
    return size;
}

/* As much as a part has, or all that is left. */
static int fill(struct upload *u, struct err *err)
{
    size_t size = part_size(u->count + 1);
    if (size > u->room) {
        uint8_t *part = realloc(u->part, size);
        if (!part)
            return err_set(err, ENOMEM, "no memory for a part of %zu bytes", size);
        u->part = part;
        u->room = size;
    }
    u->len = 0;
    ssize_t n = 1;
    while (n > 0 && u->len < size) {
        n = store_link_take(u->s->link, u->part + u->len, size - u->len, err);
        u->len += n > 0 ? (size_t)n : 0;
    }
    u->total += u->len;
    return n < 0 ? (int)n : 0;
}

static int call(struct upload *u, const char *method, const char *query, const void *body,
                size_t len, struct store_answer *a, struct err *err)
{
    *a = (struct store_answer){.status = 0};
    char url[sizeof(u->s->url.url) + sizeof(u->id) + 64], hash[SHA256_HEX_SIZE];
    snprintf(url, sizeof(url), "%s%s%s", u->s->url.url, *query ? "?" : "", query);
    const struct store_ask ask = {.method = method,
                                  .url = url,
                                  .sign = true,
                                  .body = body,
                                  .body_len = len,
                                  .body_sha256 = sha256_hex(body ? body : "", len, hash)};
    return store_http_call(&u->s->http, &ask, a, "uploading", err);
}

static bool is_good(const struct store_answer *a)
{
    return !a->broken && a->status / 100 == 2;
}

static int put_whole(struct upload *u, struct err *err)
{
    struct store_answer a;
    int rc = call(u, "PUT", "", u->part ? u->part : (const void *)"", u->len, &a, err);
    if (rc == 0 && !is_good(&a))
        rc = store_answer_refuse(&a, "uploading", err);
    store_answer_fini(&a);
    return rc;
}

static int begin(struct upload *u, struct err *err)
{
    struct store_answer a;
    char id[ID_MAX];
    int rc = call(u, "POST", "uploads=", "", 0, &a, err);
    if (rc == 0 && !is_good(&a))
        rc = store_answer_refuse(&a, "uploading", err);
    else if (rc == 0 && (!store_xml_find(a.body.data, a.body.len, "UploadId", id, sizeof(id)) ||
                         !*id || !store_url_escape(id, false, u->id, sizeof(u->id))))
        rc = err_set(err, EPROTO, "the store gives no id to an upload in parts");
    store_answer_fini(&a);
    return rc;
}

static int note_part(struct upload *u, const char *etag, struct err *err)
{
    char text[512];
    if (!*etag || strpbrk(etag, "<>&"))
        return err_set(err, EPROTO, "the store gives part %u no ETag", u->count);
    int n = snprintf(text, sizeof(text), "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>",
                     u->count, etag);
    return buf_append(&u->list, text, (size_t)n) < 0
               ? err_set(err, ENOMEM, "no memory for a list of %u parts", u->count)
               : 0;
}

static int put_part(struct upload *u, struct err *err)
{
    struct store_answer a;
    char query[sizeof(u->id) + 64];
    if (++u->count > PARTS_MAX)
        return err_set(err, EFBIG, "the snapshot has more than %u parts", PARTS_MAX);
    snprintf(query, sizeof(query), "partNumber=%u&uploadId=%s", u->count, u->id);
    int rc = call(u, "PUT", query, u->part, u->len, &a, err);
    if (rc == 0)
        rc = is_good(&a) ? note_part(u, a.etag, err) : store_answer_refuse(&a, "uploading", err);
    store_answer_fini(&a);
    return rc;
}

/* Whether the object is there with all its bytes: the answer that said so may have been lost. */
static bool is_there(struct upload *u)
{
    struct store_answer a;
    struct err ignored;
    char hash[SHA256_HEX_SIZE];
    const struct store_ask ask = {.method = "HEAD",
                                  .url = u->s->url.url,
                                  .sign = true,
                                  .body_sha256 = sha256_hex("", 0, hash)};
    bool there = store_http_call(&u->s->http, &ask, &a, "uploading", &ignored) == 0 &&
                 is_good(&a) && a.has_length && a.length == u->total;
    store_answer_fini(&a);
    return there;
}

/* A failure of this may come with the status of a success. */
static int complete(struct upload *u, struct err *err)
{
    struct store_answer a;
    char query[sizeof(u->id) + 16], tag[256];
    snprintf(query, sizeof(query), "uploadId=%s", u->id);
    if (buf_append(&u->list, "</CompleteMultipartUpload>", 26) < 0)
        return err_set(err, ENOMEM, "no memory for a list of %u parts", u->count);
    int rc = call(u, "POST", query, u->list.data, u->list.len, &a, err);
    bool done =
        rc == 0 && is_good(&a) && store_xml_find(a.body.data, a.body.len, "ETag", tag, sizeof(tag));
    if (rc == 0 && !done && !(a.status == 404 && is_there(u)))
        rc = store_answer_refuse(&a, "uploading", err);
    store_answer_fini(&a);
    return rc;
}

/* Also when vmctl is gone: what is left of its patience is for this. */
static void abort_upload(struct upload *u)
{
    struct store_answer a;
    struct err ignored;
    char query[sizeof(u->id) + 16];
    u->s->http.link = NULL;
    snprintf(query, sizeof(query), "uploadId=%s", u->id);
    call(u, "DELETE", query, NULL, 0, &a, &ignored);
    store_answer_fini(&a);
}

static int put_parts(struct upload *u, struct err *err)
{
    static const char head[] = "<CompleteMultipartUpload>";
    int rc = begin(u, err);
    if (rc < 0)
        return rc;
    buf_append(&u->list, head, sizeof(head) - 1);
    do {
        rc = put_part(u, err);
        if (rc == 0)
            rc = fill(u, err);
    } while (rc == 0 && u->len);
    if (rc == 0)
        rc = complete(u, err);
    if (rc < 0)
        abort_upload(u);
    return rc;
}

int store_put_s3(struct store *s, struct err *err)
{
    struct upload u = {.s = s};
    buf_init(&u.list, 8u << 20);
    int rc = fill(&u, err);
    if (rc == 0)
        rc = s->link->ended ? put_whole(&u, err) : put_parts(&u, err);
    buf_fini(&u.list);
    free(u.part);
    return rc;
}
