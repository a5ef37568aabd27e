/* See tenant_run.h. */
#include "daemon/tenant_run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/record.h"
#include "daemon/tenant.h"
#include "daemon/tenant_owner.h"
#include "proto/frame.h"

#define CLOSE_MS 1000u              /* how long a connection may outlive its process */
#define EXIT_MS 5000u               /* and a process its connection */
#define RESET_NEWS_NS 1000000000ull /* a guest that resets in a loop makes an event a second */

/* What the worker wrote down last; NULL when there is nothing. */
static Ferry__WorkerStatus *last_record(const struct tenant *t)
{
    struct err ignored;
    Ferry__WorkerStatus *status = NULL;
    CLEAN(clean_fd) int fd = openat(t->dirfd, "record", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || record_read(fd, NULL, &status, &ignored) < 0)
        return NULL;
    return status;
}

/* The start did not succeed: the worker's own sentence, or what it died of and said before. */
static void end_start(struct tenant *t, const struct err *failed, const char *epitaph)
{
    char text[ERR_TEXT_MAX], log[200];
    tenant_log_tail(t, log, sizeof(log));
    char *line = strrchr(log, '\n');
    if (failed->code)
        snprintf(text, sizeof(text), "%.500s", failed->text);
    else
        snprintf(text, sizeof(text), "the worker died at its start: %.150s%s%.190s", epitaph,
                 log[0] ? "; its log ends: " : "", line && line[1] ? line + 1 : log);
    t->gone_code = failed->code ? failed->code : EIO;
    tenant_end(t, FERRY__END_KIND__END_START_FAILED, text);
}

static bool is_last_word(const Ferry__WorkerStatus *record)
{
    return record && record->state == FERRY__WORKER_STATE__WORKER_ENDED && record->ending;
}

/* Says how the tenant ended, from what was asked of it, what it wrote, what it died of. */
static Ferry__VmState judge(struct tenant *t, const struct tenant_run *run)
{
    Ferry__VmState to = FERRY__VM_STATE__VM_CRASHED;
    Ferry__WorkerStatus *record = last_record(t);
    if (run->killing) {
        t->gone_code = ECANCELED;
        tenant_end(t, FERRY__END_KIND__END_KILLED, run->why);
        to = FERRY__VM_STATE__VM_STOPPED;
    } else if (tenant_in(t, STATE_BIT(STARTING)) && (run->start_failed.code || !run->broken)) {
        struct err failed = run->start_failed;
        if (!failed.code && is_last_word(record))
            err_set(&failed, EIO, "%s", record->ending->text);
        end_start(t, &failed, run->epitaph);
        to = FERRY__VM_STATE__VM_STOPPED;
    } else if (is_last_word(record)) {
        tenant_take_ending(t, record->ending);
        to = tenant_ended_state(record->ending);
        t->gone_code = to == FERRY__VM_STATE__VM_CRASHED ? EIO : t->gone_code;
    } else {
        t->gone_code = EIO;
        tenant_end(t, FERRY__END_KIND__END_WORKER_DIED, run->broken ? run->why : run->epitaph);
    }
    to = tenant_owner_judge(t, record, to);
    frame_free((ProtobufCMessage *)record);
    return to;
}

/* A start that came to nothing leaves nothing behind when it was to define the VM as well. */
static void forget_transient(struct tenant *t)
{
    struct err err;
    if (!t->transient || t->run)
        return;
    t->transient = false;
    if (registry_remove(t, &err) < 0)
        log_error("%s: %s", t->name, err.text);
}

static void finish(struct tenant_run *run)
{
    char text[ERR_TEXT_MAX];
    struct err err;
    struct tenant *t = run->tenant;
    Ferry__VmState to = judge(t, run);
    tenant_release(t);
    if (root_remove_run(t->registry->root, t->name, &err) < 0)
        log_warn("%s: %s", t->name, err.text);
    t->boot_wall_ns = 0;
    t->has_generation = false;
    snprintf(text, sizeof(text), "%s", tenant_ending_text(t));
    if (t->ending && t->ending->kind == FERRY__END_KIND__END_MOVED)
        t->transient = true; /* its home is elsewhere: nothing of it stays */
    tenant_move(t, to, text);
    forget_transient(t);
}

static void check_over(struct tenant_run *run)
{
    if (run->dead && run->closed)
        finish(run);
}

static void on_close_limit(void *ctx)
{
    struct tenant_run *run = ctx;
    worker_link_cut(run->link, "the connection outlived its worker");
}

static void on_exit_limit(void *ctx)
{
    struct tenant_run *run = ctx;
    process_kill(&run->tenant->process);
}

static void on_exited(uv_poll_t *poll, int status, int events)
{
    struct tenant_run *run = poll->data;
    uv_poll_stop(poll);
    run->dead = true;
    process_epitaph(&run->tenant->process, run->epitaph, sizeof(run->epitaph));
    if (!run->closed)
        timeout_set(&run->patience, poll->loop, CLOSE_MS, on_close_limit, run);
    check_over(run);
}

static void on_ready(void *ctx, const Ferry__WorkerHello *hello)
{
    struct tenant_run *run = ctx;
    char why[ERR_TEXT_MAX];
    if (strcmp(hello->vm_name, run->tenant->config->name) != 0 && hello->vm_name[0]) {
        snprintf(why, sizeof(why), "the worker says that it runs '%.64s'", hello->vm_name);
        tenant_run_break(run, why);
        return;
    }
    log_debug("%s: worker %s, pid %" PRIu32, run->tenant->name, hello->release, hello->pid);
    if (run->ready)
        run->ready(run->tenant);
}

static void tell_reset(struct tenant_run *run, const Ferry__WorkerGuestReset *reset)
{
    char text[128];
    struct tenant *t = run->tenant;
    uint64_t now = now_ns();
    t->resets = reset->resets;
    t->boot_wall_ns = now_wall_ns();
    if (run->reset_told_ns && now - run->reset_told_ns < RESET_NEWS_NS)
        return;
    run->reset_told_ns = now;
    snprintf(text, sizeof(text), "reset number %" PRIu32 ", by %.80s", reset->resets,
             reset->by[0] ? reset->by : "the guest");
    log_info("%s: %s", t->name, text);
    tenant_store(t);
    tenant_event(t, FERRY__EVENT_KIND__EVENT_RESET, text);
}

static void on_news(void *ctx, const Ferry__WorkerReply *news)
{
    struct tenant_run *run = ctx;
    if (news->body_case == FERRY__WORKER_REPLY__BODY_STATUS)
        tenant_apply(run->tenant, news->status);
    else if (news->body_case == FERRY__WORKER_REPLY__BODY_GUEST_RESET)
        tell_reset(run, news->guest_reset);
}

static void on_closed(void *ctx, bool broken, const char *why)
{
    struct tenant_run *run = ctx;
    run->closed = true;
    if (!run->dead && broken)
        tenant_run_break(run, why);
    else if (!run->dead && !run->killing)
        timeout_set(&run->patience, run->exited.loop, EXIT_MS, on_exit_limit, run);
    check_over(run);
}

static const struct worker_link_ops run_ops = {
    .ready = on_ready, .news = on_news, .closed = on_closed};

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int tenant_run_new(uv_loop_t *loop, struct tenant *t, struct err *err)
{
    struct tenant_run *run = calloc(1, sizeof(*run));
    if (!run)
        return err_set(err, ENOMEM, "no memory for a worker");
    run->tenant = t;
    run->link = worker_link_new(loop, &run_ops, run, err);
    int rc = run->link ? uv_poll_init(loop, &run->exited, t->process.pidfd) : -err->code;
    if (rc < 0) {
        worker_link_free(&run->link);
        free(run);
        return err_set(err, -rc, "cannot watch the worker");
    }
    run->exited.data = run;
    uv_poll_start(&run->exited, UV_READABLE, on_exited);
    t->run = run;
    return 0;
}

void tenant_run_adopt(struct tenant *t)
{
    if (!t->run)
        return;
    t->run->tenant = t;
    worker_link_end_calls(t->run->link, "another worker took its place");
}

void tenant_release(struct tenant *t)
{
    struct tenant_run *run = t->run;
    if (!run)
        return;
    t->run = NULL;
    run->tenant = NULL;
    timeout_cancel(&run->patience);
    worker_link_free(&run->link);
    uv_close((uv_handle_t *)&run->exited, on_poll_closed);
    process_close(&t->process);
}

void tenant_run_quit(struct tenant_run *run)
{
    struct err err;
    if (run->dead)
        return;
    if (worker_link_ask(run->link, FERRY__WORKER_REQUEST__BODY_QUIT, 0, NULL, NULL, &err) < 0)
        process_kill(&run->tenant->process);
    else
        timeout_set(&run->patience, run->exited.loop, TENANT_QUIT_MS, on_exit_limit, run);
}

void tenant_run_break(struct tenant_run *run, const char *why)
{
    if (!run->broken && !run->killing) {
        run->broken = true;
        snprintf(run->why, sizeof(run->why), "%s", why);
        log_warn("%s: %s: it is killed", run->tenant->name, why);
    }
    process_kill(&run->tenant->process);
}
