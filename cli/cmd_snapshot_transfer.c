/* vmctl snapshot export, import: a snapshot as one file, here or in a store. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/units.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/json.h"
#include "cli/snapshot.h"
#include "cli/text.h"
#include "cli/transfer.h"

static int json_exported(const struct transfer *t, const char *to, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "name", t->name);
    json_string(&j, "to", to);
    json_u64(&j, "bytes", t->bytes);
    return json_finish(&j, err);
}

static int print_exported(const struct transfer *t, const char *to)
{
    char size[32];
    printf("%s: %s written to ", t->name, units_format_size(t->bytes, size, sizeof(size)));
    text_print_line(stdout, to);
    putchar('\n');
    return 0;
}

/* Where the bytes go to or come from. */
struct place {
    struct transfer_file file;
    struct transfer_store store;
};

static int open_place(struct place *p, struct transfer *t, const char *where, bool put,
                      struct err *err)
{
    bool url = transfer_is_url(where);
    t->end = url ? &p->store.end : &p->file.end;
    if (url)
        return transfer_store_open(&p->store, where, put, err);
    return put ? transfer_file_create(&p->file, where, err)
               : transfer_file_open(&p->file, where, err);
}

int cmd_snapshot_export(const struct args *args, struct err *err)
{
    const char *to = args->words[1];
    struct place place;
    struct transfer t = {
        .run = args->run, .name = args->words[0], .undone = "nothing is left of it"};
    bool piped = strcmp(to, "-") == 0;
    if (piped && args->json)
        return err_set(err, COMMAND_USAGE, "--json and '-' both want standard output");
    int rc = open_place(&place, &t, to, true, err);
    if (rc == 0)
        rc = transfer_export(&t, args->alone, err);
    if (rc < 0 || piped)
        return rc;
    return args->json ? json_exported(&t, to, err) : print_exported(&t, to);
}

int cmd_snapshot_import(const struct args *args, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    const char *from = args->words[0];
    struct place place;
    struct transfer t = {.run = args->run,
                         .name = args->words[1] ? args->words[1] : from,
                         .undone = "nothing of it is in the catalogue"};
    int rc = open_place(&place, &t, from, false, err);
    if (rc == 0)
        rc = transfer_import(&t, args->words[1], &reply, err);
    if (rc < 0)
        return rc;
    return args->json ? snapshot_json_detail(stdout, reply->snapshot, err)
                      : snapshot_print_imported(stdout, reply->snapshot);
}
