/* See events.h. */
#include "cli/events.h"

#include "cli/json.h"
#include "cli/text.h"
#include "cli/vm.h"

/* A stream cannot wait for its longest line: columns as wide as most need. */
#define NAME_CELLS 10
#define WORDS_CELLS 15

/* What JSON calls it, and what people read; the state's own name where that says more. */
static const struct kind_row {
    const char *json, *words;
} kind_rows[] = {
    [FERRY__EVENT_KIND__EVENT_NONE] = {"none", "nothing"},
    [FERRY__EVENT_KIND__EVENT_STATE] = {"state", NULL},
    [FERRY__EVENT_KIND__EVENT_RESET] = {"reset", "reset"},
    [FERRY__EVENT_KIND__EVENT_DEFINED] = {"defined", "defined"},
    [FERRY__EVENT_KIND__EVENT_REMOVED] = {"removed", "removed"},
    [FERRY__EVENT_KIND__EVENT_ADOPTED] = {"adopted", "found running"},
    [FERRY__EVENT_KIND__EVENT_DAEMON_STARTED] = {"daemon-started", "daemon started"},
    [FERRY__EVENT_KIND__EVENT_SNAPSHOT_CREATED] = {"snapshot-created", "snapshot"},
    [FERRY__EVENT_KIND__EVENT_SNAPSHOT_FAILED] = {"snapshot-failed", "no snapshot"},
    [FERRY__EVENT_KIND__EVENT_SNAPSHOT_REMOVED] = {"snapshot-removed", "snapshot gone"},
    [FERRY__EVENT_KIND__EVENT_RESTORED] = {"restored", "restored"},
};

static const struct kind_row *kind_of(const Ferry__Event *event)
{
    static const struct kind_row unknown = {"unknown", "unknown event"};
    size_t kind = (size_t)event->kind;
    return kind < sizeof(kind_rows) / sizeof(kind_rows[0]) ? &kind_rows[kind] : &unknown;
}

int events_print(FILE *out, const Ferry__Event *event)
{
    char time[TEXT_TIME_SIZE];
    const char *vm = *event->vm ? event->vm : "-";
    const char *words = kind_of(event)->words;
    if (!words)
        words = vm_state_name(event->state);
    size_t width = text_width(vm);
    fprintf(out, "%s  ", text_time(event->wall_ns, time, sizeof(time)));
    text_print_line(out, vm);
    fprintf(out, "%*s  ", width < NAME_CELLS ? (int)(NAME_CELLS - width) : 0, "");
    fprintf(out, "%-*s", *event->text ? WORDS_CELLS : 0, words);
    text_print_line(out, event->text);
    fputc('\n', out);
    return 0;
}

int events_json(FILE *out, const Ferry__Event *event, struct err *err)
{
    const struct kind_row *kind = kind_of(event);
    struct json j;
    json_begin(&j, out);
    json_object(&j, NULL);
    json_u64(&j, "seq", event->seq);
    json_time(&j, "time", event->wall_ns);
    json_string(&j, "kind", kind->json);
    if (*event->vm)
        json_string(&j, "vm", event->vm);
    else
        json_null(&j, "vm");
    if (event->kind == FERRY__EVENT_KIND__EVENT_STATE)
        json_string(&j, "state", vm_state_name(event->state));
    else
        json_null(&j, "state");
    json_string(&j, "text", event->text);
    return json_finish(&j, err);
}
