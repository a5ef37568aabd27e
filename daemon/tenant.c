/* See tenant.h. */
#include "daemon/tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/now.h"
#include "daemon/definition.h"
#include "daemon/spawn.h"
#include "daemon/tenant_owner.h"
#include "daemon/tenant_run.h"
#include "proto/frame.h"
#include "proto/utf8.h"

static const char *const ending_words[] = {
    [FERRY__END_KIND__END_NONE] = "ended",
    [FERRY__END_KIND__END_SHUTDOWN] = "switched off by the guest",
    [FERRY__END_KIND__END_KILLED] = "killed",
    [FERRY__END_KIND__END_TRIPLE_FAULT] = "triple fault",
    [FERRY__END_KIND__END_INTERNAL_ERROR] = "KVM internal error",
    [FERRY__END_KIND__END_FAIL_ENTRY] = "KVM refused the guest's state",
    [FERRY__END_KIND__END_WORKER_DIED] = "the worker died",
    [FERRY__END_KIND__END_START_FAILED] = "the start failed",
    [FERRY__END_KIND__END_MOVED] = "moved to another host",
};

void tenant_take_ending(struct tenant *t, const Ferry__Ending *ending)
{
    Ferry__Ending named = *ending;
    size_t kinds = sizeof(ending_words) / sizeof(ending_words[0]);
    if (named.text[0] == '\0')
        named.text = (char *)ending_words[(size_t)named.kind < kinds ? named.kind : 0];
    if (named.wall_ns == 0)
        named.wall_ns = now_wall_ns();
    tenant_set_ending(t, &named);
}

Ferry__VmState tenant_ended_state(const Ferry__Ending *ending)
{
    return ending->kind == FERRY__END_KIND__END_WORKER_DIED ? FERRY__VM_STATE__VM_CRASHED
                                                            : FERRY__VM_STATE__VM_STOPPED;
}

/* Where the worker's state leads from the tenant's; the tenant's own when nowhere. */
static Ferry__VmState target(const struct tenant *t, Ferry__WorkerState said)
{
    uint32_t standing =
        STATE_BIT(RUNNING) | STATE_BIT(PAUSED) | STATE_BIT(FAILED) | STATE_BIT(IN_DOUBT);
    if (said == FERRY__WORKER_STATE__WORKER_IN_DOUBT)
        return FERRY__VM_STATE__VM_IN_DOUBT;
    if (said == FERRY__WORKER_STATE__WORKER_FAILED)
        return FERRY__VM_STATE__VM_FAILED;
    if (said == FERRY__WORKER_STATE__WORKER_RUNNING && tenant_in(t, standing))
        return FERRY__VM_STATE__VM_RUNNING;
    if (said == FERRY__WORKER_STATE__WORKER_PAUSED && tenant_in(t, standing))
        return FERRY__VM_STATE__VM_PAUSED;
    return tenant_state(t);
}

/* A pause was on its way when the stop came. A guest that is to switch off has to run; that it was
 * told to already does no harm. */
static void keep_stopping(struct tenant *t)
{
    struct err err;
    if (tenant_ask(t, FERRY__WORKER_REQUEST__BODY_RESUME, WORKER_PATIENCE_MS, NULL, NULL, &err) < 0)
        log_warn("%s: it cannot be resumed to switch off: %s", t->name, err.text);
}

static void settle_definition(struct tenant *t);

/* Whoever asked for the start of a guest that comes from elsewhere may be a ferryd that is gone. */
static void arrive(struct tenant *t, Ferry__WorkerState state)
{
    if (state != FERRY__WORKER_STATE__WORKER_RUNNING && state != FERRY__WORKER_STATE__WORKER_PAUSED)
        return;
    settle_definition(t);
    tenant_move(t,
                state == FERRY__WORKER_STATE__WORKER_PAUSED ? FERRY__VM_STATE__VM_PAUSED
                                                            : FERRY__VM_STATE__VM_RUNNING,
                "");
}

/* While it starts only the answer to the start counts, and once it is killed nothing does. */
void tenant_apply(struct tenant *t, const Ferry__WorkerStatus *status)
{
    struct tenant_run *run = t->run;
    run->said = status->state;
    t->boot_wall_ns = status->boot_wall_ns;
    t->resets = status->resets;
    t->has_generation = status->generation.len == sizeof(t->generation.bytes);
    if (t->has_generation)
        memcpy(t->generation.bytes, status->generation.data, sizeof(t->generation.bytes));
    snapshot_ref_take(&t->origin, status->origin);
    snapshot_ref_take(&t->tracked, status->tracked);
    if (run->killing)
        return;
    if (status->ending && status->ending->kind != FERRY__END_KIND__END_NONE)
        tenant_take_ending(t, status->ending);
    if (tenant_in(t, STATE_BIT(STOPPING)) && status->state == FERRY__WORKER_STATE__WORKER_PAUSED)
        keep_stopping(t);
    Ferry__VmState to = target(t, status->state);
    if (tenant_in(t, STATE_BIT(STARTING)) && run->arriving)
        arrive(t, status->state);
    if (tenant_in(t, STATE_BIT(STARTING)) || to == tenant_state(t))
        return;
    tenant_move(t, to, to == FERRY__VM_STATE__VM_FAILED ? tenant_ending_text(t) : "");
}

/* From here on the VM exists also for a host that goes down. */
static void settle_definition(struct tenant *t)
{
    struct err err;
    if (t->transient && definition_sync(t->dirfd, &err) < 0)
        log_warn("%s: %s", t->name, err.text);
    t->transient = false;
}

static void on_started(void *ctx, const Ferry__WorkerReply *reply, const struct err *err)
{
    struct tenant *t = ctx;
    struct tenant_run *run = t->run;
    if (err && err->code == ECONNRESET) /* its death tells more */
        return;
    if (err || run->killing) {
        if (err)
            run->start_failed = *err;
        tenant_run_quit(run);
        return;
    }
    if (reply->body_case == FERRY__WORKER_REPLY__BODY_STATUS)
        tenant_apply(t, reply->status);
    if (t->boot_wall_ns == 0)
        t->boot_wall_ns = now_wall_ns();
    settle_definition(t);
    bool paused = run->paused || run->said == FERRY__WORKER_STATE__WORKER_PAUSED;
    tenant_move(t, paused ? FERRY__VM_STATE__VM_PAUSED : FERRY__VM_STATE__VM_RUNNING, "");
    if (t->run == run && run->said == FERRY__WORKER_STATE__WORKER_FAILED)
        tenant_move(t, FERRY__VM_STATE__VM_FAILED, tenant_ending_text(t));
}

/* From here on a failure takes the way of a worker that fails. */
static void hand_over(struct tenant *t, struct spawn *s, bool paused,
                      const struct spawn_saved *saved)
{
    struct tenant_run *run = t->run;
    struct err err = {0};
    run->paused = paused;
    int rc = spawn_send(s, t->config, paused, saved, &err);
    if (rc == 0)
        rc = worker_link_expect(run->link, SPAWN_START_ID, on_started, t, &err);
    if (rc == 0)
        rc = worker_link_open(run->link, steal_fd(&s->socket), false, &err);
    if (rc == 0)
        return;
    run->start_failed = err;
    run->closed = true;
    process_kill(&t->process);
}

/* A process, watched; on failure nothing of it is left. */
static int spawn(struct daemon *d, struct tenant *t, struct spawn *s, struct err *err)
{
    struct err ignored;
    int rc = spawn_make_files(s, &d->root, t->dirfd, t->name, err);
    if (rc == 0)
        rc = spawn_run(s, d->options.worker, t->dirfd, t->config->name, d->options.log_level,
                       &t->process, err);
    if (rc == 0) {
        rc = tenant_run_new(&d->loop, t, err);
        if (rc < 0)
            process_kill(&t->process);
    }
    if (rc == 0)
        return 0;
    root_remove_run(&d->root, t->name, &ignored);
    process_close(&t->process);
    return rc;
}

static int open_inputs(struct daemon *d, struct tenant *t, struct spawn *s,
                       const struct spawn_saved *saved, struct err *err)
{
    struct err missing;
    if (!saved || saved->incoming)
        return spawn_open_inputs(s, d->options.kvm, t->config, err);
    int rc = spawn_open_for_saved(s, d->options.kvm, t->config, &missing, err);
    if (rc == 0 && missing.code)
        log_warn("%s: it is restored, but cannot be reset: %s", t->name, missing.text);
    return rc;
}

int tenant_start(struct daemon *d, struct tenant *t, bool paused, const struct spawn_saved *saved,
                 struct err *err)
{
    CLEAN(spawn_fini) struct spawn s = SPAWN_EMPTY;
    bool comes = saved && saved->incoming;
    int rc = comes ? 0 : tenant_owner_check(t, err);
    if (rc == 0)
        rc = open_inputs(d, t, &s, saved, err);
    if (rc == 0)
        rc = spawn_check_free(t->dirfd, t->name, err);
    if (rc == 0)
        rc = spawn(d, t, &s, err);
    if (rc < 0)
        return rc;
    t->gone_code = 0;
    t->resets = 0;
    t->boot_wall_ns = 0;
    t->has_generation = false;
    t->origin = t->tracked = (struct snapshot_ref){.name = ""};
    tenant_move(t, FERRY__VM_STATE__VM_STARTING, "");
    hand_over(t, &s, paused, saved);
    return 0;
}

void tenant_kill(struct tenant *t, const char *why)
{
    struct tenant_run *run = t->run;
    if (!run || run->killing)
        return;
    run->killing = true;
    snprintf(run->why, sizeof(run->why), "%s", why);
    process_kill(&t->process);
}

bool tenant_is_killed(const struct tenant *t)
{
    return t->run && t->run->killing;
}

int tenant_call(struct tenant *t, Ferry__WorkerRequest *request, uint64_t limit_ms,
                worker_link_answer *answer, void *ctx, struct err *err)
{
    if (!t->run)
        return err_set(err, ECONNRESET, "'%s' has no worker", t->name);
    return worker_link_call(t->run->link, request, limit_ms, answer, ctx, err);
}

int tenant_ask(struct tenant *t, Ferry__WorkerRequest__BodyCase what, uint64_t limit_ms,
               worker_link_answer *answer, void *ctx, struct err *err)
{
    if (!t->run)
        return err_set(err, ECONNRESET, "'%s' has no worker", t->name);
    return worker_link_ask(t->run->link, what, limit_ms, answer, ctx, err);
}

void tenant_forget(struct tenant *t, const void *ctx)
{
    if (t->run)
        worker_link_forget(t->run->link, ctx);
}

/* Whole lines from `n` bytes of log; what is no printable UTF-8 becomes '?'. */
static void clean_log(char *to, bool cut)
{
    char *line = cut ? strchr(to, '\n') : NULL;
    if (line && line[1])
        memmove(to, line + 1, strlen(line + 1) + 1);
    bool ascii_only = !utf8_valid(to);
    for (char *at = to; *at; at++)
        if (ascii_only && ((*at & 0x80) || (*at < ' ' && *at != '\n') || *at == 0x7f))
            *at = '?';
    size_t len = strlen(to);
    while (len && to[len - 1] == '\n')
        to[--len] = '\0';
}

void tenant_log_tail(const struct tenant *t, char *to, size_t size)
{
    CLEAN(clean_fd) int fd = openat(t->dirfd, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? 0 : fs_read_tail(fd, to, size - 1);
    to[n > 0 ? n : 0] = '\0';
    clean_log(to, n == (ssize_t)size - 1);
}
