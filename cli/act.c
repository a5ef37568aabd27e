/* See act.h. */
#include "cli/act.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/deadline.h"
#include "cli/interrupt.h"
#include "cli/vm.h"

#define PROGRESS_MS 1000
/* ferryd ends a cancelled request by itself, so this is long. */
#define CANCEL_MS 5000

static void show_progress(const struct act *act, uint64_t since_ns)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%s '%s' ... %" PRIu64 "s", act->doing, act->name,
                (now_ns() - since_ns) / 1000000000u);
}

static void clear_progress(uint64_t since_ns)
{
    if (isatty(STDERR_FILENO) && now_ns() - since_ns >= PROGRESS_MS * DEADLINE_MS)
        fputs("\r\033[K", stderr);
}

/* Waits for the reply, or 0 when a signal came before. */
static int wait_reply(const struct act *act, struct client *c, const struct interrupt *interrupt,
                      Ferry__Reply **reply, struct err *err)
{
    uint64_t since_ns = now_ns();
    int rc;
    while ((rc = client_wait(c, interrupt->fd, PROGRESS_MS, reply, err)) == 0 &&
           !interrupt_came(interrupt))
        show_progress(act, since_ns);
    clear_progress(since_ns);
    return rc;
}

/* Cancels `target`; its reply, which may as well say that it was done already, is *reply. */
static int cancel(const struct act *act, struct client *c, uint32_t target, Ferry__Reply **reply,
                  struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__CancelRequest body = FERRY__CANCEL_REQUEST__INIT;
    body.target = target;
    request.body_case = FERRY__REQUEST__BODY_CANCEL;
    request.cancel = &body;
    int rc = client_post(c, &request, err);
    while (rc == 0) {
        CLEAN(client_clean_reply) Ferry__Reply *got = NULL;
        rc = client_wait(c, -1, CANCEL_MS, &got, err);
        if (rc == 0)
            return err_set(err, ETIMEDOUT, "%s '%s' was cancelled, which ferryd has not answered",
                           act->doing, act->name);
        if (rc == 1 && got->id == target) {
            *reply = steal_ptr(&got);
            return 0;
        }
        rc = rc < 0 ? rc : 0;
    }
    return rc;
}

static int exchange(const struct act *act, struct client *c, Ferry__Request *request,
                    Ferry__Reply **reply, struct err *err)
{
    struct interrupt interrupt = INTERRUPT_NONE;
    int rc = client_post(c, request, err);
    if (rc == 0)
        rc = interrupt_open(&interrupt, true, err);
    if (rc < 0)
        return rc;
    rc = wait_reply(act, c, &interrupt, reply, err);
    if (rc == 0)
        rc = cancel(act, c, request->id, reply, err);
    interrupt_close(&interrupt);
    return rc < 0 ? rc : 0;
}

static int report_gone(const struct act *act, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "name", act->name);
    json_bool(&j, "removed", true);
    json_end(&j);
    return json_finish(&j, err);
}

int act_run(const struct act *act, const struct args *args, Ferry__Request *request,
            struct err *err)
{
    CLEAN(client_clean) struct client c = CLIENT_NONE;
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    int rc = client_connect(&c, args->run, err);
    if (rc == 0)
        rc = exchange(act, &c, request, &reply, err);
    if (rc < 0)
        return rc;
    if (reply->code == ECANCELED)
        return err_set(err, ECANCELED, "%s '%s' was cancelled; 'vmctl show %s' tells how it is now",
                       act->doing, act->name, act->name);
    rc = client_check(reply, err);
    if (rc < 0 || !args->json)
        return rc;
    return act->gone ? report_gone(act, err) : vm_report(args->run, act->name, err);
}
