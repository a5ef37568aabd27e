/* One VM with all that is known of it; see vm.h. */
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/net.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/vm.h"

static const char *const gpr_names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
#define GPRS (sizeof(gpr_names) / sizeof(gpr_names[0]))

static const struct table_column pair_columns[] = {{NULL}, {NULL}};

const char *vm_uuid_text(const ProtobufCBinaryData *bytes, char text[UUID_TEXT_SIZE])
{
    struct uuid uuid;
    text[0] = '\0';
    if (bytes->len == sizeof(uuid.bytes)) {
        memcpy(uuid.bytes, bytes->data, sizeof(uuid.bytes));
        uuid_format(&uuid, text);
    }
    return text;
}

void vm_add_devices(struct table *t, const Ferry__MachineConfig *c)
{
    for (size_t i = 0; i < c->n_disks; i++) {
        table_add(t, "disk");
        table_addf(t, "%s: %s%s", c->disks[i]->id, c->disks[i]->path,
                   c->disks[i]->readonly ? ", read-only" : "");
    }
    for (size_t i = 0; i < c->n_nets; i++) {
        char mac[NET_MAC_TEXT];
        const Ferry__NetConfig *n = c->nets[i];
        table_add(t, "net");
        table_addf(t, "%s %s, %s", n->tap[0] ? "tap" : "bridge", n->tap[0] ? n->tap : n->bridge,
                   net_mac_text(&n->mac, mac));
    }
}

static void add_config(struct table *t, const Ferry__MachineConfig *c)
{
    char text[UUID_TEXT_SIZE];
    if (!c)
        return;
    table_add_pair(t, "uuid", vm_uuid_text(&c->uuid, text));
    table_add_pair(t, "cpu", c->cpu_profile);
    table_add_pair(t, "kernel", c->kernel);
    table_add_pair(t, "initrd", c->initrd);
    table_add_pair(t, "cmdline", c->cmdline);
    vm_add_devices(t, c);
}

static void add_summary(struct table *t, const Ferry__VmSummary *s, uint64_t now_wall_ns)
{
    char text[32];
    table_add_pair(t, "name", s->name);
    table_add_pair(t, "state", vm_state_name(s->state));
    table_add_pair(t, "reason", s->reason);
    table_add(t, "cpus");
    table_addf(t, "%" PRIu32, s->cpus);
    table_add_pair(t, "memory", units_format_size(s->memory_bytes, text, sizeof(text)));
    if (s->boot_wall_ns && now_wall_ns > s->boot_wall_ns)
        table_add_pair(
            t, "uptime",
            units_format_time((now_wall_ns - s->boot_wall_ns) / 1000000u, text, sizeof(text)));
    if (s->pid) {
        table_add(t, "pid");
        table_addf(t, "%" PRIu32, s->pid);
    }
}

static void print_hex(FILE *out, const ProtobufCBinaryData *bytes)
{
    for (size_t i = 0; i < bytes->len; i++)
        fprintf(out, " %02x", bytes->data[i]);
}

static void print_cpu(FILE *out, const Ferry__CpuReport *c)
{
    fprintf(out, "  cpu %" PRIu32 "\n", c->cpu);
    fprintf(out, "  rip %016" PRIx64 "  rflags %08" PRIx64 "  cs %04" PRIx32 "  ss %04" PRIx32 "\n",
            c->rip, c->rflags, c->cs, c->ss);
    for (size_t i = 0; i < c->n_gpr && i < GPRS; i++)
        fprintf(out, "  %-3s %016" PRIx64 "%s", gpr_names[i], c->gpr[i],
                i % 4 == 3 || i + 1 == c->n_gpr ? "\n" : "");
    fprintf(out,
            "  cr0 %08" PRIx64 "  cr2 %016" PRIx64 "  cr3 %016" PRIx64 "  cr4 %08" PRIx64
            "  efer %04" PRIx64 "\n",
            c->cr0, c->cr2, c->cr3, c->cr4, c->efer);
    if (c->code.len) {
        fputs("  code", out);
        print_hex(out, &c->code);
        fputc('\n', out);
    }
    if (c->suberror || c->n_data) {
        fprintf(out, "  suberror %" PRIu32, c->suberror);
        for (size_t i = 0; i < c->n_data; i++)
            fprintf(out, " %016" PRIx64, c->data[i]);
        fputc('\n', out);
    }
}

static void print_ending(FILE *out, const Ferry__Ending *e)
{
    char text[TEXT_TIME_SIZE];
    if (!e || e->kind == FERRY__END_KIND__END_NONE)
        return;
    fprintf(out, "\nended %s: %s%s", text_time(e->wall_ns, text, sizeof(text)),
            vm_end_name(e->kind), *e->text ? ": " : "");
    text_print_line(out, e->text);
    fputc('\n', out);
    if (e->cpu)
        print_cpu(out, e->cpu);
}

int vm_print_detail(FILE *out, const Ferry__VmDetail *vm, uint64_t now_wall_ns, struct err *err)
{
    char generation[UUID_TEXT_SIZE];
    CLEAN(table_fini) struct table t;
    table_init(&t, pair_columns, 2);
    add_summary(&t, vm->summary, now_wall_ns);
    add_config(&t, vm->config);
    table_add(&t, "resets");
    table_addf(&t, "%" PRIu32, vm->resets);
    table_add_pair(&t, "generation", vm_uuid_text(&vm->generation, generation));
    table_add_pair(&t, "origin", vm->origin ? vm->origin->name : "");
    if (vm->tracked) {
        table_add(&t, "tracked");
        table_addf(&t, "since %.64s", vm->tracked->name);
    }
    table_add_pair(&t, "definition", vm->definition_path);
    table_add_pair(&t, "log", vm->log_path);
    int rc = table_print(&t, out, err);
    if (rc < 0)
        return rc;
    print_ending(out, vm->ending);
    if (*vm->log_tail) {
        fputs("\nlog\n", out);
        text_print_lines(out, "  ", vm->log_tail);
    }
    return 0;
}

void vm_json_uuid(struct json *j, const char *name, const ProtobufCBinaryData *bytes)
{
    char text[UUID_TEXT_SIZE];
    if (*vm_uuid_text(bytes, text))
        json_string(j, name, text);
    else
        json_null(j, name);
}

void vm_json_ref(struct json *j, const char *key, const Ferry__SnapshotRef *ref)
{
    if (!ref) {
        json_null(j, key);
        return;
    }
    json_object(j, key);
    json_string(j, "name", ref->name);
    vm_json_uuid(j, "uuid", &ref->uuid);
    json_end(j);
}

static void json_nets(struct json *j, const Ferry__MachineConfig *c)
{
    char mac[NET_MAC_TEXT];
    json_array(j, "nets");
    for (size_t i = 0; i < c->n_nets; i++) {
        json_object(j, NULL);
        json_string(j, "tap", c->nets[i]->tap);
        json_string(j, "bridge", c->nets[i]->bridge);
        json_string(j, "mac", net_mac_text(&c->nets[i]->mac, mac));
        json_end(j);
    }
    json_end(j);
}

void vm_json_config(struct json *j, const Ferry__MachineConfig *c)
{
    if (!c) {
        json_null(j, "config");
        return;
    }
    json_object(j, "config");
    vm_json_uuid(j, "uuid", &c->uuid);
    json_u64(j, "memory_bytes", c->memory_bytes);
    json_u64(j, "cpus", c->cpus);
    json_string(j, "cpu_profile", c->cpu_profile);
    json_string(j, "kernel", c->kernel);
    json_string(j, "initrd", c->initrd);
    json_string(j, "cmdline", c->cmdline);
    json_array(j, "disks");
    for (size_t i = 0; i < c->n_disks; i++) {
        json_object(j, NULL);
        json_string(j, "path", c->disks[i]->path);
        json_string(j, "id", c->disks[i]->id);
        json_bool(j, "readonly", c->disks[i]->readonly);
        json_end(j);
    }
    json_end(j);
    json_nets(j, c);
    json_end(j);
}

static void json_cpu(struct json *j, const Ferry__CpuReport *c)
{
    json_object(j, "cpu");
    json_u64(j, "cpu", c->cpu);
    json_hex(j, "rip", c->rip);
    json_hex(j, "rflags", c->rflags);
    for (size_t i = 0; i < c->n_gpr && i < GPRS; i++)
        json_hex(j, gpr_names[i], c->gpr[i]);
    json_hex(j, "cr0", c->cr0);
    json_hex(j, "cr2", c->cr2);
    json_hex(j, "cr3", c->cr3);
    json_hex(j, "cr4", c->cr4);
    json_hex(j, "efer", c->efer);
    json_hex(j, "cs", c->cs);
    json_hex(j, "ss", c->ss);
    json_hex_bytes(j, "code", c->code.data, c->code.len);
    json_u64(j, "suberror", c->suberror);
    json_array(j, "data");
    for (size_t i = 0; i < c->n_data; i++)
        json_hex(j, NULL, c->data[i]);
    json_end(j);
    json_end(j);
}

static void json_ending(struct json *j, const Ferry__Ending *e)
{
    if (!e || e->kind == FERRY__END_KIND__END_NONE) {
        json_null(j, "ending");
        return;
    }
    json_object(j, "ending");
    json_string(j, "kind", vm_end_name(e->kind));
    json_string(j, "text", e->text);
    json_time(j, "time", e->wall_ns);
    if (e->cpu)
        json_cpu(j, e->cpu);
    else
        json_null(j, "cpu");
    json_end(j);
}

int vm_json_detail(FILE *out, const Ferry__VmDetail *vm, struct err *err)
{
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    vm_json_summary(&j, vm->summary);
    vm_json_config(&j, vm->config);
    json_ending(&j, vm->ending);
    json_u64(&j, "resets", vm->resets);
    vm_json_uuid(&j, "generation", &vm->generation);
    vm_json_ref(&j, "restored_from", vm->origin);
    vm_json_ref(&j, "tracked_since", vm->tracked);
    json_string(&j, "log_tail", vm->log_tail);
    json_string(&j, "definition_path", vm->definition_path);
    json_string(&j, "log_path", vm->log_path);
    json_end(&j);
    return json_finish(&j, err);
}
