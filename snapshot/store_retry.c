/* When and whether to try again; see store.h. */
#include <poll.h>
#include <stdio.h>

#include "snapshot/store.h"

#define WAIT_MAX_MS 60000u
#define ASKED_MAX_MS 120000u

unsigned store_retry_wait_ms(unsigned wait_ms, unsigned failed, unsigned retry_after_ms,
                             uint64_t random)
{
    uint64_t wait = wait_ms;
    for (unsigned i = 1; i < failed && wait < WAIT_MAX_MS; i++)
        wait *= 2;
    if (wait > WAIT_MAX_MS)
        wait = WAIT_MAX_MS;
    wait = wait / 2 + random % (wait / 2 + 1);
    uint64_t asked = retry_after_ms < ASKED_MAX_MS ? retry_after_ms : ASKED_MAX_MS;
    return (unsigned)(wait > asked ? wait : asked);
}

static uint64_t next_random(struct store_retry *r)
{
    if (!r->random)
        r->random = (uint64_t)(uintptr_t)r ^ 0x9e3779b97f4a7c15ull;
    r->random = r->random * 6364136223846793005ull + 1442695040888963407ull;
    return r->random >> 33;
}

int store_retry(struct store_retry *r, const struct store_answer *a, const char *what,
                struct err *err)
{
    char note[sizeof(err->text) + 80];
    store_answer_refuse(a, what, err);
    if (++r->failed >= r->config->tries)
        return err_wrap(err, "given up after %u tries", r->failed);
    unsigned ms =
        store_retry_wait_ms(r->config->wait_ms, r->failed, a->retry_after_ms, next_random(r));
    snprintf(note, sizeof(note), "%s; trying again in %u.%u s", err->text, ms / 1000,
             ms / 100 % 10);
    if (!r->link) /* vmctl is gone, and this is tidying up */
        return poll(NULL, 0, (int)ms) < 0 ? err_wrap(err, "interrupted") : 0;
    int rc = store_link_news(r->link, 0, note, err);
    return rc < 0 ? rc : store_link_pause(r->link, ms, err);
}
