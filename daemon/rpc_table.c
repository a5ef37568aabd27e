/* See rpc_table.h. */
#include "daemon/rpc_table.h"

#include <errno.h>

#include "daemon/handlers.h"
#include "daemon/registry.h"

#define S(name) STATE_BIT(name)
#define BODY(name) FERRY__REQUEST__BODY_##name

/* Hello and cancel are the connection's own: see client.c. Start looks for its VM itself. */
// clang-format off
static const struct rpc_row rows[] = {
    [BODY(VERSION)]       = {"version",       handle_version,       PRIVILEGE_READ,   false, 0, false},
    [BODY(LIST)]          = {"list",          handle_list,          PRIVILEGE_READ,   false, 0, false},
    [BODY(EVENTS)]        = {"events",        handle_events,        PRIVILEGE_READ,   false, 0, true},
    [BODY(SHOW)]          = {"show",          handle_show,          PRIVILEGE_READ,   true, STATES_ALL, false},
    [BODY(STATS)]         = {"stats",         handle_stats,         PRIVILEGE_READ,   true, S(RUNNING) | S(PAUSED) | S(STOPPING) | S(FAILED), false},
    [BODY(CONSOLE)]       = {"console",       handle_console,       PRIVILEGE_MANAGE, true, STATES_ALL, true},
    [BODY(CONSOLE_INPUT)] = {"console_input", handle_console_input, PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED) | S(STOPPING), false},
    [BODY(START)]         = {"start",         handle_start,         PRIVILEGE_MANAGE, false, S(STOPPED) | S(FAILED) | S(CRASHED), false},
    [BODY(STOP)]          = {"stop",          handle_stop,          PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED) | S(STOPPING), false},
    [BODY(KILL)]          = {"kill",          handle_kill,          PRIVILEGE_MANAGE, true, STATES_LIVE, false},
    [BODY(RESET)]         = {"reset",         handle_reset,         PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED) | S(FAILED), false},
    [BODY(PAUSE)]         = {"pause",         handle_pause,         PRIVILEGE_MANAGE, true, S(RUNNING), false},
    [BODY(RESUME)]        = {"resume",        handle_resume,        PRIVILEGE_MANAGE, true, S(PAUSED), false},
    [BODY(SNAPSHOT_CREATE)] = {"snapshot", handle_snapshot_create,   PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED), true},
    [BODY(SNAPSHOT_LIST)]   = {"snapshot list", handle_snapshot_list, PRIVILEGE_READ, false, 0, false},
    [BODY(SNAPSHOT_SHOW)]   = {"snapshot show", handle_snapshot_show, PRIVILEGE_READ, false, 0, false},
    [BODY(SNAPSHOT_VERIFY)] = {"snapshot verify", handle_snapshot_verify, PRIVILEGE_READ, false, 0, true},
    [BODY(SNAPSHOT_UNTRACK)] = {"untrack", handle_snapshot_untrack, PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED) | S(FAILED), false},
    [BODY(SNAPSHOT_REMOVE)] = {"snapshot rm", handle_snapshot_remove, PRIVILEGE_MANAGE, false, 0, true},
    [BODY(SNAPSHOT_PRUNE)]  = {"snapshot prune", handle_snapshot_prune, PRIVILEGE_MANAGE, false, 0, true},
    [BODY(SNAPSHOT_EXPORT)] = {"snapshot export", handle_snapshot_export, PRIVILEGE_MANAGE, false, 0, true},
    [BODY(SNAPSHOT_IMPORT)] = {"snapshot import", handle_snapshot_import, PRIVILEGE_MANAGE, false, 0, true},
    [BODY(SNAPSHOT_IMPORT_DATA)] = {"snapshot import", handle_snapshot_import_data, PRIVILEGE_MANAGE, false, 0, false},
    [BODY(RESTORE)]         = {"restore",  handle_restore,           PRIVILEGE_MANAGE, false, 0, true},
    [BODY(MIGRATE)]           = {"migrate", handle_migrate, PRIVILEGE_MANAGE, true, S(RUNNING) | S(PAUSED), true},
    [BODY(MIGRATION_SHOW)]    = {"migration show", handle_migration_show, PRIVILEGE_READ, false, 0, false},
    [BODY(MIGRATION_CANCEL)]  = {"migration cancel", handle_migration_cancel, PRIVILEGE_MANAGE, true, STATES_ALL, false},
    [BODY(MIGRATION_RESOLVE)] = {"migration resolve", handle_migration_resolve, PRIVILEGE_MANAGE, true, S(IN_DOUBT) | S(STOPPED) | S(CRASHED), false},
    [BODY(REMOVE)]        = {"rm",            handle_remove,        PRIVILEGE_MANAGE, true, S(STOPPED) | S(FAILED) | S(CRASHED), false},
};

/* What to do about a state that is not fit, unless the request has a better word (below). */
static const char *const advice[] = {
    [FERRY__VM_STATE__VM_STOPPED]  = "start it first",
    [FERRY__VM_STATE__VM_STARTING] = "wait until it runs, or kill it",
    [FERRY__VM_STATE__VM_RUNNING]  = "there is nothing to do",
    [FERRY__VM_STATE__VM_PAUSED]   = "resume it first",
    [FERRY__VM_STATE__VM_STOPPING] = "wait until it is off, or kill it",
    [FERRY__VM_STATE__VM_FAILED]   = "show tells how; reset, kill or rm it",
    [FERRY__VM_STATE__VM_CRASHED]  = "show tells how; start it again or rm it",
    [FERRY__VM_STATE__VM_IN_DOUBT] = "it is asked for at its peer; migration resolve decides when nobody answers",
};
// clang-format on

const struct rpc_row *rpc_table_find(Ferry__Request__BodyCase body)
{
    if ((size_t)body >= sizeof(rows) / sizeof(rows[0]) || !rows[body].handle)
        return NULL;
    return &rows[body];
}

/* All of these messages have the name as their first field. */
const char *rpc_table_vm(const Ferry__Request *request)
{
    const Ferry__ShowRequest *body = request->show;
    return body->name;
}

_Static_assert(offsetof(Ferry__StatsRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__ConsoleRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__ConsoleInput, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__StopRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__KillRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__ResetRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__PauseRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__ResumeRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__SnapshotCreateRequest, name) == offsetof(Ferry__ShowRequest, name),
               "name");
_Static_assert(offsetof(Ferry__SnapshotUntrackRequest, name) == offsetof(Ferry__ShowRequest, name),
               "name");
_Static_assert(offsetof(Ferry__MigrateRequest, name) == offsetof(Ferry__ShowRequest, name), "name");
_Static_assert(offsetof(Ferry__MigrationCancelRequest, name) == offsetof(Ferry__ShowRequest, name),
               "name");
_Static_assert(offsetof(Ferry__MigrationResolveRequest, name) == offsetof(Ferry__ShowRequest, name),
               "name");
_Static_assert(offsetof(Ferry__RemoveRequest, name) == offsetof(Ferry__ShowRequest, name), "name");

int rpc_table_refuse_state(const struct rpc_row *row, const char *vm, Ferry__VmState state,
                           struct err *err)
{
    const char *what = tenant_state_name(state);
    uint32_t is = SM_TO(state);
    bool removes = row->handle == handle_remove, starts = row->handle == handle_start;
    if (removes)
        return err_set(err, EBUSY, "'%s' is %s: stop or kill it first", vm, what);
    if (starts)
        return err_set(err, EEXIST, "'%s' is %s already", vm, what);
    if (row->handle == handle_pause && (is & S(PAUSED)))
        return err_set(err, EALREADY, "'%s' is paused already", vm);
    if (row->handle == handle_resume && (is & S(RUNNING)))
        return err_set(err, EALREADY, "'%s' is not paused", vm);
    if (!(is & STATES_LIVE) && (row->states & STATES_LIVE) == STATES_LIVE)
        return err_set(err, EALREADY, "'%s' does not run: it is %s", vm, what);
    return err_set(err, EPERM, "'%s' is %s: %s", vm, what, advice[state]);
}
