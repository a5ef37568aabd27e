/* See link.h. */
#include "cli/link.h"

#include <errno.h>

#include "cli/deadline.h"
#include "cli/text.h"

int link_open(struct link *l, const char *run, struct err *err)
{
    *l = (struct link){.run = run, .client = CLIENT_NONE};
    return client_connect(&l->client, run, err);
}

void link_close(struct link *l)
{
    client_close(&l->client);
}

void link_clean(struct link *l)
{
    link_close(l);
}

int link_fd(const struct link *l)
{
    return l->client.fd;
}

int link_timeout_ms(const struct link *l)
{
    return l->client.fd < 0 ? deadline_left_ms(l->retry_ns) : client_timeout_ms(&l->client);
}

/* A failure of the connection: 0 when it is worth another try. */
static int lose(struct link *l, struct err *err)
{
    uint64_t now = now_ns();
    bool worth = l->client.lost && l->met;
    client_close(&l->client);
    if (!worth)
        return -err->code;
    if (!l->away) {
        l->away = true;
        l->give_up_ns = now + LINK_PATIENCE_MS * DEADLINE_MS;
        text_note("ferryd is gone; waiting for it to come back");
    }
    l->retry_ns = now + LINK_RETRY_MS * DEADLINE_MS;
    if (now < l->give_up_ns)
        return 0;
    return err_set(err, ECONNRESET, "ferryd went away and did not come back within %d s",
                   LINK_PATIENCE_MS / 1000);
}

static int reconnect(struct link *l, struct err *err)
{
    if (deadline_left_ms(l->retry_ns) > 0)
        return 0;
    return client_connect(&l->client, l->run, err) < 0 ? lose(l, err) : 1;
}

int link_pump(struct link *l, short revents, struct err *err)
{
    if (l->client.fd < 0)
        return reconnect(l, err);
    if (revents && client_pump(&l->client, revents, err) < 0)
        return lose(l, err);
    return 0;
}

int link_take(struct link *l, Ferry__Reply **reply, struct err *err)
{
    if (l->client.fd < 0)
        return 0;
    int rc = client_take(&l->client, reply, err);
    if (rc < 0)
        return lose(l, err);
    l->met |= l->client.ready;
    if (l->away && l->client.ready) {
        l->away = false;
        text_note("ferryd is back");
    }
    return rc;
}
