/* See act.h. */
#include "cli/act.h"

#include <errno.h>

#include "base/cleanup.h"
#include "cli/deadline.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/vm.h"

#define TICK_MS 1000
/* ferryd ends a cancelled request by itself, and only its disk may hold that up: so this is long.
 */
#define CANCEL_MS 30000

/* One request on its way. */
struct exchange {
    const struct act *act;
    struct client client;
    struct progress progress;
    uint32_t id;
};

/* 1 with the last reply, 0 when `timeout_ms` or a byte in `also_fd` came before, or other news. */
static int wait_news(struct exchange *x, int also_fd, int timeout_ms, Ferry__Reply **reply,
                     struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
    int rc = client_wait(&x->client, also_fd, timeout_ms, &got, err);
    if (rc == 0)
        progress_tick(&x->progress);
    if (rc <= 0 || got->id != x->id)
        return rc < 0 ? rc : 0;
    if (got->last) {
        *reply = steal_ptr(&got);
        return 1;
    }
    if (got->body_case != FERRY__REPLY__BODY_PROGRESS && x->act->part)
        return x->act->part(x->act->ctx, got, err);
    if (got->body_case != FERRY__REPLY__BODY_PROGRESS)
        return err_set(err, EPROTO, "ferryd answered in parts where one was asked");
    progress_update(&x->progress, got->progress);
    return 0;
}

/* Its reply may as well say that it was done already. */
static int cancel(struct exchange *x, Ferry__Reply **reply, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__CancelRequest body = FERRY__CANCEL_REQUEST__INIT;
    uint64_t until_ns = now_ns() + CANCEL_MS * DEADLINE_MS;
    body.target = x->id;
    request.body_case = FERRY__REQUEST__BODY_CANCEL;
    request.cancel = &body;
    int rc = client_post(&x->client, &request, err);
    while (rc == 0) {
        int left_ms = deadline_left_ms(until_ns);
        if (left_ms == 0)
            return err_set(err, ETIMEDOUT, "%s '%s' was cancelled, which ferryd has not answered",
                           x->act->doing, x->act->name);
        rc = wait_news(x, -1, deadline_sooner(left_ms, TICK_MS), reply, err);
    }
    return rc;
}

static int wait_last(struct exchange *x, Ferry__Reply **reply, struct err *err)
{
    struct interrupt interrupt = INTERRUPT_NONE;
    int rc = interrupt_open(&interrupt, true, err);
    if (rc < 0)
        return rc;
    progress_begin(&x->progress, x->act->doing, x->act->name);
    while (rc == 0 && !interrupt_came(&interrupt))
        rc = wait_news(x, interrupt.fd, TICK_MS, reply, err);
    if (rc == 0)
        rc = cancel(x, reply, err);
    progress_end(&x->progress);
    interrupt_close(&interrupt);
    return rc < 0 ? rc : 0;
}

static int check(const struct act *act, const Ferry__Reply *reply, Ferry__Reply__BodyCase body,
                 struct err *err)
{
    if (reply->code == ECANCELED && act->undone)
        return err_set(err, ECANCELED, "%s '%s' was cancelled; %s", act->doing, act->name,
                       act->undone);
    if (reply->code == ECANCELED)
        return err_set(err, ECANCELED, "%s '%s' was cancelled; 'vmctl show %s' tells how it is now",
                       act->doing, act->name, act->name);
    int rc = client_check(reply, err);
    if (rc == 0 && body != FERRY__REPLY__BODY__NOT_SET && reply->body_case != body)
        return err_set(err, EPROTO, "ferryd answered something else than what was asked");
    return rc;
}

int act_ask(const struct act *act, const char *run, Ferry__Request *request,
            Ferry__Reply__BodyCase body, Ferry__Reply **reply, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
    struct exchange x = {.act = act, .client = CLIENT_NONE};
    int rc = client_connect(&x.client, run, err);
    if (rc == 0)
        rc = client_post(&x.client, request, err);
    x.id = request->id;
    if (rc == 0)
        rc = wait_last(&x, &got, err);
    client_close(&x.client);
    if (rc == 0)
        rc = check(act, got, body, err);
    if (rc == 0)
        *reply = steal_ptr(&got);
    return rc;
}

int act_report_done(const char *name, const char *done, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "name", name);
    json_bool(&j, done, true);
    json_end(&j);
    return json_finish(&j, err);
}

int act_run(const struct act *act, const struct args *args, Ferry__Request *request,
            struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    int rc = act_ask(act, args->run, request, FERRY__REPLY__BODY__NOT_SET, &reply, err);
    if (rc < 0 || !args->json)
        return rc;
    return act->gone ? act_report_done(act->name, "removed", err)
                     : vm_report(args->run, act->name, err);
}
