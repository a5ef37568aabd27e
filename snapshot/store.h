/*
 * Stores: snapshots as objects behind a URL, http://, https:// or s3://bucket/key.
 *
 * All of it runs in a process of its own, ferry-store, which vmctl starts: with the rights, the
 * environment and the credentials of whoever runs vmctl, so that ferryd needs none, and what comes
 * from the network is parsed where nothing can be lost. It only moves bytes; ferryd verifies them.
 *
 *     vmctl ◄── store_link: messages, both ways ──► store_get / store_put ◄── store_http ──► server
 *
 * The happy path: store_run reads `begin` and gets or puts. A broken connection, a stall, 5xx and
 * 429 are tried again with longer and longer waits; a download goes on where it was, if the object
 * is still the same; an upload by PUT asks for the bytes once more; of one to S3 only the part is
 * sent again. Whatever else is wrong ends it with one sentence, and nothing is left in the store.
 * When vmctl is gone it is given up likewise. [one thread]
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "proto/store.pb-c.h"

/* vmctl ------------------------------------------------------------------------------------------
 * The socket to it. Sending and receiving wait; a vmctl that is gone is -ECANCELED. */

struct store_link {
    int fd; /* borrowed */
    struct buf in, out;
    Ferry__StoreMessage *data; /* owned; a piece of it is still to be taken */
    size_t taken;
    bool ended; /* all has come, and is whole */
};

void store_link_init(struct store_link *l, int fd);
void store_link_fini(struct store_link *l);
int store_link_begin(struct store_link *l, Ferry__StoreMessage **begin, struct err *err);

/* Up to `max` bytes to upload; 0 when all came. */
ssize_t store_link_take(struct store_link *l, void *to, size_t max, struct err *err);

/* Asks for all bytes once more; those on the way are dropped. */
int store_link_again(struct store_link *l, struct err *err);

int store_link_data(struct store_link *l, const void *data, size_t len, struct err *err);
int store_link_end(struct store_link *l, struct err *err);
int store_link_news(struct store_link *l, uint64_t total, const char *note, struct err *err);
int store_link_result(struct store_link *l, const struct err *result);

/* -ECANCELED when vmctl is gone; never waits. */
int store_link_alive(const struct store_link *l, struct err *err);

/* Waits so long, or until vmctl is gone. */
int store_link_pause(const struct store_link *l, unsigned ms, struct err *err);

/* where and who ----------------------------------------------------------------------------------
 */

#define STORE_URL_MAX 2048u
#define STORE_WORD_MAX 1024u

/* What the environment says, and the files that it names: docs/stores.md. */
struct store_config {
    char key_id[STORE_WORD_MAX], secret[STORE_WORD_MAX], token[4 * STORE_WORD_MAX];
    char region[64], endpoint[STORE_URL_MAX];
    char ca[STORE_WORD_MAX], netrc[STORE_WORD_MAX];
    unsigned tries, wait_ms, stall_ms;
};

/* The credentials are only looked for when they are needed: of s3. */
int store_config_read(struct store_config *c, bool s3, struct err *err);

/* One [section] of a file of `name = value` lines: copies the value, or leaves `to` as it is. */
void store_config_find(const char *text, size_t len, const char *section, const char *name,
                       char *to, size_t size);

struct store_url {
    bool s3;
    char url[4 * STORE_URL_MAX]; /* of the object, as it is asked for */
};

/* Refuses other schemes, and credentials in the URL. */
int store_url_read(struct store_url *u, const char *text, const struct store_config *c,
                   struct err *err);
bool store_url_is_s3(const char *text);

/* Letters, digits, '-', '_', '.', '~' and, if asked, '/' stay; false when it does not fit. */
bool store_url_escape(const char *text, bool slashes, char *to, size_t size);

/* trying again -----------------------------------------------------------------------------------
 */

struct store_retry {
    const struct store_config *config; /* borrowed */
    struct store_link *link;           /* borrowed */
    unsigned failed;                   /* in a row */
    uint64_t random;
};

struct store_answer;

/* How long to wait after so many failures: doubled each time, up to a minute, and at random between
 * half of that and all. `retry_after_ms`, what the server asked for (0: nothing), is the least, up
 * to two minutes. */
unsigned store_retry_wait_ms(unsigned wait_ms, unsigned failed, unsigned retry_after_ms,
                             uint64_t random);

/* Waits, or fails with what went wrong when that has been tried often enough. `what` is what is
 * told to people meanwhile. */
int store_retry(struct store_retry *r, const struct store_answer *a, const char *what,
                struct err *err);

/* one exchange -----------------------------------------------------------------------------------
 */

#define STORE_BODY_MAX (1u << 20)

struct store_ask {
    const char *method; /* GET, PUT, POST, DELETE, HEAD */
    const char *url;
    const char *headers[4]; /* "Name: value"; NULL behind the last */
    bool sign;              /* for S3 */
    bool has_range;
    uint64_t range_from; /* GET: from here to the end */
    const void *body;    /* of a POST or PUT; borrowed */
    size_t body_len;
    const char *body_sha256;
    /* A PUT whose body is pulled: bytes, 0 at the end, -errno. */
    ssize_t (*pull)(void *ctx, void *to, size_t max, struct err *err);
    /* The body of a 2xx answer; without it, it goes into the answer. */
    int (*push)(void *ctx, const struct store_answer *a, const void *data, size_t len,
                struct err *err);
    void *ctx;
};

struct store_answer {
    long status;        /* 0 when none came */
    bool transient;     /* worth another try */
    bool broken;        /* the connection ended too early, or stalled; `failed` says how */
    struct err failed;  /* code 0: an answer came, whatever it says */
    struct err stopped; /* by pull, push or vmctl: not to be tried again */
    char etag[256], modified[64], redirect[STORE_URL_MAX];
    unsigned retry_after_ms;
    bool has_length, has_range;
    uint64_t length, range_from, range_total; /* range_total 0: not told */
    struct buf body; /* up to STORE_BODY_MAX of an answer that nobody pushes */
};

struct store_http {
    void *curl, *error;                /* owned */
    const struct store_config *config; /* borrowed */
    struct store_link *link;           /* borrowed */
};

int store_http_init(struct store_http *h, const struct store_config *c, struct store_link *l,
                    struct err *err);
void store_http_fini(struct store_http *h);

/* -errno only when it is to be given up; else `a` tells. Ends with store_answer_fini. */
int store_http_do(struct store_http *h, const struct store_ask *ask, struct store_answer *a,
                  struct err *err);
void store_answer_fini(struct store_answer *a);

/* The same until it is answered by something that is not transient. The body must be in memory. */
int store_http_call(struct store_http *h, const struct store_ask *ask, struct store_answer *a,
                    const char *what, struct err *err);

/* "the store answers 403 AccessDenied: ..." */
int store_answer_refuse(const struct store_answer *a, const char *what, struct err *err);

/* Where a redirect may lead: `to` gets it. Bounded by *hops, and never from https to http. */
int store_redirect(const struct store_answer *a, const char *from, unsigned *hops,
                   char to[STORE_URL_MAX], struct err *err);

/* The text of the first such element, entities resolved; false when there is none or no room. */
bool store_xml_find(const uint8_t *text, size_t len, const char *element, char *to, size_t size);

/* the engines ------------------------------------------------------------------------------------
 */

struct store {
    struct store_config config;
    struct store_url url;
    struct store_link *link; /* borrowed */
    struct store_http http;
};

int store_get(struct store *s, struct err *err);
int store_put(struct store *s, struct err *err);
int store_put_s3(struct store *s, struct err *err);

/* All of it: over that socket, until the result was told. */
int store_run(int fd);
