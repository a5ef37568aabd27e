/* See vm.h. */
#include "cli/vm.h"

#include <errno.h>
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/client.h"
#include "cli/table.h"
#include "cli/text.h"

static const char *const state_names[] = {
    [FERRY__VM_STATE__VM_STOPPED] = "stopped",   [FERRY__VM_STATE__VM_STARTING] = "starting",
    [FERRY__VM_STATE__VM_RUNNING] = "running",   [FERRY__VM_STATE__VM_PAUSED] = "paused",
    [FERRY__VM_STATE__VM_STOPPING] = "stopping", [FERRY__VM_STATE__VM_FAILED] = "failed",
    [FERRY__VM_STATE__VM_CRASHED] = "crashed",   [FERRY__VM_STATE__VM_IN_DOUBT] = "in-doubt",
};

static const char *const end_names[] = {
    [FERRY__END_KIND__END_NONE] = "none",
    [FERRY__END_KIND__END_SHUTDOWN] = "shutdown",
    [FERRY__END_KIND__END_KILLED] = "killed",
    [FERRY__END_KIND__END_TRIPLE_FAULT] = "triple-fault",
    [FERRY__END_KIND__END_INTERNAL_ERROR] = "internal-error",
    [FERRY__END_KIND__END_FAIL_ENTRY] = "fail-entry",
    [FERRY__END_KIND__END_WORKER_DIED] = "worker-died",
    [FERRY__END_KIND__END_START_FAILED] = "start-failed",
    [FERRY__END_KIND__END_MOVED] = "moved",
};

static const char *name_of(const char *const *names, size_t count, int value)
{
    return value >= 0 && (size_t)value < count && names[value] ? names[value] : "unknown";
}

const char *vm_state_name(Ferry__VmState state)
{
    return name_of(state_names, sizeof(state_names) / sizeof(state_names[0]), (int)state);
}

const char *vm_end_name(Ferry__EndKind kind)
{
    return name_of(end_names, sizeof(end_names) / sizeof(end_names[0]), (int)kind);
}

bool vm_is_alive(Ferry__VmState state)
{
    return state == FERRY__VM_STATE__VM_STARTING || state == FERRY__VM_STATE__VM_RUNNING ||
           state == FERRY__VM_STATE__VM_PAUSED || state == FERRY__VM_STATE__VM_STOPPING ||
           state == FERRY__VM_STATE__VM_IN_DOUBT;
}

void vm_json_summary(struct json *j, const Ferry__VmSummary *s)
{
    json_string(j, "name", s->name);
    json_string(j, "state", vm_state_name(s->state));
    json_u64(j, "cpus", s->cpus);
    json_u64(j, "memory_bytes", s->memory_bytes);
    if (s->pid)
        json_u64(j, "pid", s->pid);
    else
        json_null(j, "pid");
    json_time(j, "boot_time", s->boot_wall_ns);
    if (*s->reason)
        json_string(j, "reason", s->reason);
    else
        json_null(j, "reason");
}

static void add_uptime(struct table *t, const Ferry__VmSummary *s, uint64_t now_wall_ns)
{
    char text[32] = "";
    if (s->boot_wall_ns && now_wall_ns > s->boot_wall_ns)
        units_format_time((now_wall_ns - s->boot_wall_ns) / 1000000u, text, sizeof(text));
    table_add(t, text);
}

static void add_pid(struct table *t, const Ferry__VmSummary *s)
{
    if (s->pid)
        table_addf(t, "%" PRIu32, s->pid);
    else
        table_add(t, "");
}

int vm_print_list(FILE *out, const Ferry__VmList *list, uint64_t now_wall_ns, struct err *err)
{
    static const struct table_column columns[] = {
        {"NAME"},         {"STATE"},     {"CPUS", true}, {"MEMORY", true},
        {"UPTIME", true}, {"PID", true}, {"REASON"},
    };
    CLEAN(table_fini) struct table t;
    char size[32];
    bool reasons = false;
    for (size_t i = 0; i < list->n_vms; i++)
        reasons |= *list->vms[i]->reason != '\0';
    unsigned count = sizeof(columns) / sizeof(columns[0]);
    table_init(&t, columns, reasons ? count : count - 1);
    for (size_t i = 0; i < list->n_vms; i++) {
        const Ferry__VmSummary *s = list->vms[i];
        table_add(&t, s->name);
        table_add(&t, vm_state_name(s->state));
        table_addf(&t, "%" PRIu32, s->cpus);
        table_add(&t, units_format_size(s->memory_bytes, size, sizeof(size)));
        add_uptime(&t, s, now_wall_ns);
        add_pid(&t, s);
        if (reasons)
            table_add(&t, s->reason);
    }
    return table_print(&t, out, err);
}

int vm_json_list(FILE *out, const Ferry__VmList *list, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_array(&j, "vms");
    for (size_t i = 0; i < list->n_vms; i++) {
        json_object(&j, NULL);
        vm_json_summary(&j, list->vms[i]);
        json_end(&j);
    }
    json_end(&j);
    json_end(&j);
    return json_finish(&j, err);
}

int vm_ask(const char *run, const char *name, Ferry__Reply **reply, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ShowRequest show = FERRY__SHOW_REQUEST__INIT;
    show.name = (char *)name;
    request.body_case = FERRY__REQUEST__BODY_SHOW;
    request.show = &show;
    int rc = client_ask(run, &request, FERRY__REPLY__BODY_VM, reply, err);
    if (rc == 0 && !(*reply)->vm->summary) {
        client_clean_reply(reply);
        return err_set(err, EPROTO, "ferryd described '%s' without a summary", name);
    }
    return rc;
}

int vm_report(const char *run, const char *name, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    struct json j;
    int rc = vm_ask(run, name, &reply, err);
    if (rc < 0)
        return rc;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    vm_json_summary(&j, reply->vm->summary);
    json_end(&j);
    return json_finish(&j, err);
}
