/* A VM as ferryd describes it, for people and as JSON: what the commands have in common. */
#pragma once

#include <stdio.h>

#include "base/err.h"
#include "base/uuid.h"
#include "cli/json.h"
#include "proto/ferry.pb-c.h"

/* "running"; "unknown" for one that this vmctl does not know. */
const char *vm_state_name(Ferry__VmState state);

/* "triple-fault" and the like; "unknown" as above. */
const char *vm_end_name(Ferry__EndKind kind);

/* A guest is inside: running, paused or on its way. */
bool vm_is_alive(Ferry__VmState state);

/* "6ba7b810-..."; empty for what is no UUID. Returns `text`. */
const char *vm_uuid_text(const ProtobufCBinaryData *bytes, char text[UUID_TEXT_SIZE]);

/* The members of an open object, as docs/json.md lists them: those of a summary, `uuid`, `config`.
 */
void vm_json_summary(struct json *j, const Ferry__VmSummary *summary);
void vm_json_uuid(struct json *j, const char *name, const ProtobufCBinaryData *bytes);
/* A snapshot, or null. */
void vm_json_ref(struct json *j, const char *key, const Ferry__SnapshotRef *ref);
/* A row for each disk and network of a definition. */
struct table;
void vm_add_devices(struct table *t, const Ferry__MachineConfig *c);
void vm_json_config(struct json *j, const Ferry__MachineConfig *config);

/* Renderers; `now` is the time of the host, since 1970. */
int vm_print_list(FILE *out, const Ferry__VmList *list, uint64_t now_wall_ns, struct err *err);
int vm_print_detail(FILE *out, const Ferry__VmDetail *vm, uint64_t now_wall_ns, struct err *err);
int vm_json_list(FILE *out, const Ferry__VmList *list, struct err *err);
int vm_json_detail(FILE *out, const Ferry__VmDetail *vm, struct err *err);

/* Asks for one VM; the reply's summary is there. */
int vm_ask(const char *run, const char *name, Ferry__Reply **reply, struct err *err);

/* With --json: the VM as it is now, one summary object. */
int vm_report(const char *run, const char *name, struct err *err);
