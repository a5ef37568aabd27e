/* See commands.h. */
#include "cli/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"
#include "proto/utf8.h"

#define RUN_DEFAULT "/run/ferry"

// clang-format off
const struct option common_options[] = {
    {"run", "DIR", OPTION_DIR, OPTION_STRING(run), .help =
     "The run directory of the ferryd to talk to. Without it $FERRY_RUN, else " RUN_DEFAULT "."},
    {"json", NULL, OPTION_FLAG, OPTION_BOOL(json), .help =
     "Print JSON instead of text for people."},
    {"help", NULL, OPTION_FLAG, OPTION_BOOL(help), .help =
     "Explain the command and do nothing."},
    {"version", NULL, OPTION_FLAG, OPTION_BOOL(version), .help =
     "Print vmctl's own version and do nothing."},
    {NULL},
};

static const struct option start_options[] = {
    {"kernel", "FILE", OPTION_FILE, OPTION_STRING(kernel), .help =
     "What to boot: a PVH ELF, a Linux vmlinux or bzImage. Defines the VM anew."},
    {"initrd", "FILE", OPTION_FILE, OPTION_STRING(initrd), .needs = "kernel", .help =
     "The initial RAM disk."},
    {"cmdline", "TEXT", OPTION_TEXT, OPTION_STRING(cmdline), .needs = "kernel", .help =
     "The kernel's command line."},
    {"memory", "SIZE", OPTION_SIZE, OPTION_U64(memory_bytes), 16ull << 20, 1ull << 40, "256M", "kernel",
     "The guest's RAM, as 512M or 4G."},
    {"cpus", "N", OPTION_NUMBER, OPTION_U64(cpus), 1, 64, "1", "kernel",
     "How many processors the guest has."},
    {"cpu", "PROFILE", OPTION_TEXT, OPTION_STRING(cpu), .fallback = "host", .needs = "kernel", .help =
     "Which processor the guest sees: host, or a baseline v1 to v4, and single features, as v2,-cx16,+aes."},
    {"disk", "FILE[,ro][,id=ID]", OPTION_FILES, OPTION_LIST(disks), .needs = "kernel", .help =
     "A raw file or a block device as the guest's next disk, with ro one that it cannot write; ID is "
     "its serial number. May be given several times."},
    {"net", "tap=DEV|bridge=BRIDGE[,mac=MAC]", OPTION_TEXTS, OPTION_LIST(nets), .needs = "kernel", .help =
     "A network card on a tap that is there and up, or, where ferryd is root, on a tap that it makes in a bridge. "
     "Without mac its address follows from the VM's uuid. May be given several times."},
    {"paused", NULL, OPTION_FLAG, OPTION_BOOL(paused), .help =
     "Stop before the first instruction; 'vmctl resume' lets it run."},
    {NULL},
};

static const struct option list_options[] = {
    {"names", NULL, OPTION_FLAG, OPTION_BOOL(names), .help =
     "Print only the names, one a line."},
    {NULL},
};

static const struct option events_options[] = {
    {"follow", NULL, OPTION_FLAG, OPTION_BOOL(follow), .help =
     "Also print those to come, until Ctrl-C."},
    {NULL},
};

static const struct option stop_options[] = {
    {"timeout", "TIME", OPTION_TIME, OPTION_U64(timeout_ms), 0, 86400000, "30s", .help =
     "How long the guest has for switching itself off, as 500ms or 2m."},
    {NULL},
};

static const struct option console_options[] = {
    {"log", NULL, OPTION_FLAG, OPTION_BOOL(log), .help =
     "Print what the guest said so far and end."},
    {NULL},
};

static const struct option create_options[] = {
    {"parent", "SNAP", OPTION_NAME, OPTION_STRING(parent), .help =
     "Save only what changed since that snapshot. It has to be the one since which the guest's changes are "
     "tracked, or the one that the guest was restored from. They go on being tracked, so that the next one "
     "can stand on this."},
    {"full", NULL, OPTION_FLAG, OPTION_BOOL(full), .help =
     "Save all of the guest, as without --parent; with it, only where what changed since then is not known."},
    {"track", NULL, OPTION_FLAG, OPTION_BOOL(track), .help =
     "Track the guest's changes from here on, so that a snapshot with this one as --parent can follow. "
     "It costs the guest a fault of some microseconds for its first write to each page after a snapshot."},
    {"last", NULL, OPTION_FLAG, OPTION_BOOL(last), .needs = "parent", .help =
     "The last one of its chain: the guest's changes are not tracked any more."},
    {"pack", NULL, OPTION_FLAG, OPTION_BOOL(pack), .help =
     "Compress its memory, for keeping it: it takes longer to make and to start from."},
    {"stop", NULL, OPTION_FLAG, OPTION_BOOL(stop), .help =
     "End the guest where the snapshot stands, instead of letting it run on."},
    {NULL},
};

static const struct option snapshot_rm_options[] = {
    {"with-children", NULL, OPTION_FLAG, OPTION_BOOL(with_children), .help =
     "Also all snapshots that stand on it, and print what went."},
    {NULL},
};

static const struct option prune_options[] = {
    {"keep", "N", OPTION_NUMBER, OPTION_U64(keep_newest), 1, 65536, .help =
     "How many of each VM stay: the newest."},
    {"older", "TIME", OPTION_TIME, OPTION_U64(older_ms), 1, 3153600000000, .help =
     "Only what is older goes, as 12h or 7d."},
    {"dry-run", NULL, OPTION_FLAG, OPTION_BOOL(dry_run), .help =
     "Only tell what would go."},
    {NULL},
};

static const struct option export_options[] = {
    {"alone", NULL, OPTION_FLAG, OPTION_BOOL(alone), .help =
     "Only the snapshot itself, without what it stands on: who imports it must have its parent."},
    {NULL},
};

static const struct option restore_options[] = {
    {"name", "NEW", OPTION_NAME, OPTION_STRING(name), .help =
     "What the new VM is called. Without it as the one that was saved."},
    {"count", "N", OPTION_NUMBER, OPTION_U64(count), 1, 1000, "1", .help =
     "How many VMs to start; more than one are called NAME-1, NAME-2 and so on."},
    {"paused", NULL, OPTION_FLAG, OPTION_BOOL(paused), .help =
     "Stop before the next instruction; 'vmctl resume' lets it run."},
    {"clock", "advance|freeze", OPTION_CHOICE, OPTION_STRING(clock), .fallback = "advance", .help =
     "Whether the guest's clock goes on as if the time had passed, or from where it stood."},
    {"verify", NULL, OPTION_FLAG, OPTION_BOOL(verify), .help =
     "Read and check every byte of the snapshot, and of those it is based on, before anything starts."},
    {"replace", NULL, OPTION_FLAG, OPTION_BOOL(replace), .help =
     "Take the place of the VM that has the name: back in time in place. It runs on until the restored one is ready, and stays if that fails."},
    {"disk", "FILE[,ro][,id=ID]", OPTION_FILES, OPTION_LIST(disks), .help =
     "Instead of the machine's own disk, one as large: with id that of this id, else the next. It need not be as the "
     "guest left it. With --count, {} in FILE is the clone's number. May be given several times."},
    {"net", "tap=DEV|bridge=BRIDGE", OPTION_TEXTS, OPTION_LIST(nets), .help =
     "Instead of the machine's next network. The card keeps its address. With --count, {} in a name is the clone's "
     "number. May be given several times."},
    {"force", NULL, OPTION_FLAG, OPTION_BOOL(force), .help =
     "Use the machine's disks even if they were written since it was saved. Its file systems may break."},
    {NULL},
};

static const struct option migrate_options[] = {
    {"downtime", "TIME", OPTION_TIME, OPTION_U64(downtime_ms), 1, 60000, "50ms", .help =
     "How long the guest may stand still."},
    {"timeout", "TIME", OPTION_TIME, OPTION_U64(timeout_ms), 1, 7ull * 86400000, .help =
     "How long all of it may take. Without it as long as it gets on."},
    {"bandwidth", "RATE", OPTION_SIZE, OPTION_U64(bandwidth), 1ull << 16, 1ull << 50, .help =
     "Send no more than this a second, as 100M. Without it as fast as it goes."},
    {"streams", "N", OPTION_NUMBER, OPTION_U64(streams), 1, 8, .help =
     "How many connections the memory goes by. Without it half as many as this host has CPUs, four at most."},
    {"compress", "auto|zstd|off", OPTION_CHOICE, OPTION_STRING(compress), .fallback = "auto", .help =
     "Pack memory on its way with zstd: when the connection is slower than that, which is measured all the time, "
     "always, or never."},
    {"on-stall", "throttle|cancel|force", OPTION_CHOICE, OPTION_STRING(on_stall), .fallback = "throttle", .help =
     "When the guest writes faster than it can be sent: slow it down step by step, give up, or stop it "
     "for as long as it takes."},
    {"check", NULL, OPTION_FLAG, OPTION_BOOL(check), .help =
     "Only say what stands against it, all of it at once."},
    {"detach", NULL, OPTION_FLAG, OPTION_BOOL(detach), .help =
     "Leave it to ferryd as soon as it has begun; 'vmctl migration show' tells how it goes."},
    {NULL},
};

static const struct option resolve_options[] = {
    {"keep", NULL, OPTION_FLAG, OPTION_BOOL(keep), .help =
     "The guest goes on here. If it runs at its peer, there are two of it then."},
    {"discard", NULL, OPTION_FLAG, OPTION_BOOL(discard), .help =
     "The guest is given up here. If it does not run at its peer, it is lost."},
    {NULL},
};

#define VM {"NAME", WORD_VM}
#define SNAPSHOT {"SNAP", WORD_SNAPSHOT}

const struct command commands[] = {
    {"start", {VM}, start_options, cmd_start,
     "define and start a VM, or start a stopped one again",
     "With --kernel the VM is defined and started. 'start NAME' alone starts a stopped VM again as it "
     "was defined. Ends when the guest runs. Paths may be relative; they are looked up on this host."},
    {"list", {{NULL}}, list_options, cmd_list,
     "list the VMs",
     "A line for each VM: its state, processors, memory, how long it has been up, its process, and why "
     "it does not run when it does not."},
    {"show", {VM}, NULL, cmd_show,
     "show all about a VM",
     "Its definition and state, how it ended, with the registers and the instruction bytes after a "
     "fault, and the last lines of its log."},
    {"stats", {VM}, NULL, cmd_stats,
     "print a VM's counters",
     "They count from the start of its process and only grow."},
    {"events", {{"NAME", WORD_VM, .optional = true}}, events_options, cmd_events,
     "print what happened, of all VMs or of one",
     "The last 1024 events are kept. With --follow a restart of ferryd is waited for and no event is "
     "lost by it."},
    {"stop", {VM}, stop_options, cmd_stop,
     "press the power button, and kill the guest if it stays on",
     "Ends when the guest is off. Ctrl-C stops waiting, and the guest is then not killed."},
    {"kill", {VM}, NULL, cmd_kill,
     "end a guest at once",
     "As if its power were cut. What it did not write is lost."},
    {"reset", {VM}, NULL, cmd_reset,
     "restart a guest at once, as its reset button would", NULL},
    {"rm", {VM}, NULL, cmd_remove,
     "forget a VM that does not run",
     "Removes its definition, state and log. Kernel, initrd and disks are not touched."},
    {"pause", {VM}, NULL, cmd_pause,
     "hold a guest; 'vmctl resume' lets it go on", NULL},
    {"resume", {VM}, NULL, cmd_resume,
     "let a paused guest go on", NULL},
    {"console", {VM}, console_options, cmd_console,
     "attach to a guest's serial port; Ctrl-] leaves",
     "On a terminal it shows the last lines and then what comes; every key goes to the guest, but "
     "Ctrl-]. Without a terminal all that is kept is printed first, standard input is sent "
     "to the guest as fast as it takes it, and it goes on until the guest ends or a signal comes. When "
     "ferryd is restarted, the console goes on where it was."},
    {"snapshot create", {VM, {"SNAP", WORD_NEW_NAME}}, create_options, cmd_snapshot_create,
     "save a running or paused guest",
     "The guest runs on while its memory is copied and stands still only for the last of it. Ends when "
     "the snapshot is safe on disk and tells what it takes there, how long the guest stood still and "
     "how long all of it took. Ctrl-C gives up, and nothing is left of it. "
     "A chain begins with a snapshot with --track and goes on with --parent, each on the one before: "
     "'create web mon --track', 'create web tue --parent mon', 'create web wed --parent tue'. It is over "
     "with --last or --stop, with 'snapshot untrack', and when the guest is reset or its process ends."},
    {"snapshot untrack", {VM}, NULL, cmd_snapshot_untrack,
     "end a chain of snapshots",
     "The guest's changes are not tracked any more, which 'snapshot create' began with --track or "
     "--parent. 'show' tells whether they are. Removing the snapshot since which they are tracked ends it, "
     "too."},
    {"snapshot list", {{NULL}}, list_options, cmd_snapshot_list,
     "list the snapshots",
     "A line for each snapshot: the VM it is of, its age, the guest's memory, what it takes on disk, "
     "and the snapshot it is based on. What lies among them and is none is told on standard error."},
    {"snapshot show", {SNAPSHOT}, NULL, cmd_snapshot_show,
     "show all about a snapshot",
     "The machine that was saved, the processor it needs, and the files."},
    {"snapshot verify", {SNAPSHOT}, NULL, cmd_snapshot_verify,
     "read a snapshot and check every byte",
     "Also of the snapshots that it stands on. Fails with the file and the offset of the first damage."},
    {"snapshot rm", {SNAPSHOT}, snapshot_rm_options, cmd_snapshot_remove,
     "remove a snapshot",
     "Refused while another snapshot needs it."},
    {"snapshot prune", {{"NAME", WORD_VM, .optional = true}}, prune_options, cmd_snapshot_prune,
     "remove old snapshots, of all VMs or of one",
     "Needs --keep or --older; with both only goes what both let go. What another snapshot needs that "
     "stays, or cannot be read, stays too. Prints what went, and what stays and why."},
    {"snapshot export", {SNAPSHOT, {"FILE", WORD_FILE}}, export_options, cmd_snapshot_export,
     "write a snapshot, with all that it stands on, into one file",
     "FILE is a new file, '-' for standard output, or a URL: https://, http:// or s3://bucket/key. It is "
     "there when it is whole, and else nothing is. 'snapshot import' reads it, on any host. vmctl writes "
     "it, not ferryd: with the rights and the credentials of whoever runs it."},
    {"snapshot import", {{"FILE", WORD_FILE}, {"SNAP", WORD_NEW_NAME, .optional = true}}, NULL,
     cmd_snapshot_import,
     "read such a file into the catalogue",
     "FILE is a file, '-' for standard input, or a URL as of 'snapshot export'. A download that breaks "
     "goes on where it was. Every byte is verified before anything of it is in the catalogue. SNAP is what the snapshot is called then; without it as it was. What it stands on and "
     "is in the catalogue already is not written again."},
    {"restore", {SNAPSHOT}, restore_options, cmd_restore,
     "start VMs from a snapshot",
     "They go on where it was taken, each a machine of its own. Ends when they do, or, with --paused, "
     "when they are about to. Memory is read when it is touched: of a raw image as it is on disk, unless "
     "--verify checks it first; of a packed one checked piece by piece, in the background. A guest "
     "whose memory turns out to be damaged ends at once. The kernel's file is needed only for a reset."},
    {"migrate", {VM, {"HOST[:PORT]", WORD_PEER}}, migrate_options, cmd_migrate,
     "move a guest to another host while it runs",
     "Its memory is copied while it runs; then it stands still for the last of it and goes on there, under "
     "the same name. Nothing but a record stays here. Ends when it runs there, and tells how long it "
     "stood still and for what. Until that moment Ctrl-C gives up, and the guest runs on here. Without "
     "a port it is 7001."},
    {"migration show", {VM}, NULL, cmd_migration_show,
     "tell how a migration goes, or how the last one went", NULL},
    {"migration cancel", {VM}, NULL, cmd_migration_cancel,
     "give up a migration; the guest runs on here",
     "Fails when it comes too late."},
    {"migration resolve", {VM}, resolve_options, cmd_migration_resolve,
     "decide about a guest that is in doubt",
     "A guest is in doubt when it was handed off and its peer does not say whether it runs there. It "
     "stands still here, and ferryd asks the peer again and again; when that can never answer, "
     "this decides. Look at the other host first. When its worker has died meanwhile, it can be neither "
     "started nor removed before that; kept, it is started again without its memory."},
    {"version", {{NULL}}, NULL, cmd_version,
     "print the versions of vmctl, ferryd and KVM",
     "Fails when no ferryd answers; '--version' asks none."},
    {"completion", {{"SHELL", WORD_CHOICE, .choices = "bash zsh fish man"}}, NULL, cmd_completion,
     "print a completion script for a shell, or this manual's source",
     "For bash: 'source <(vmctl completion bash)'."},
    {"help", {{"COMMAND", WORD_COMMAND, .optional = true}, {"SECOND", WORD_SECOND, .optional = true}},
     NULL, cmd_help,
     "explain a command",
     "SECOND is the second word of a command that has two, as in 'help snapshot create'."},
    {NULL},
};
// clang-format on

static int check_word(const char *name, const struct word *word, const char *text, struct err *err)
{
    char what[96];
    snprintf(what, sizeof(what), "'%.80s'", text);
    if (word->kind == WORD_VM || word->kind == WORD_SNAPSHOT || word->kind == WORD_NEW_NAME)
        return name_check(text, what, err);
    if (word->kind == WORD_FILE && (!*text || !utf8_valid(text)))
        return err_set(err, EINVAL, "'%s' needs a %s, which is clean text", name, word->name);
    if (word->kind == WORD_CHOICE && !option_is_choice(word->choices, text))
        return err_set(err, EINVAL, "%s is none of: %s", what, word->choices);
    return 0;
}

static int check_words(const struct command *command, const struct args *args, struct err *err)
{
    for (unsigned i = 0; i < ARGS_WORDS_MAX && command->words[i].name; i++) {
        const struct word *word = &command->words[i];
        if (!args->words[i] && !word->optional)
            return err_set(err, EINVAL, "'%s' needs a %s", command->name, word->name);
        if (args->words[i] && check_word(command->name, word, args->words[i], err) < 0)
            return -EINVAL;
    }
    return 0;
}

static int add_word(const struct command *command, struct args *args, const char *text,
                    struct err *err)
{
    for (unsigned i = 0; i < ARGS_WORDS_MAX && command->words[i].name; i++)
        if (!args->words[i]) {
            args->words[i] = text;
            return 0;
        }
    return err_set(err, EINVAL, "'%s' does not take '%s'", command->name, text);
}

static void choose_run(struct args *args)
{
    const char *run = getenv("FERRY_RUN");
    if (!args->run)
        args->run = run && *run ? run : RUN_DEFAULT;
}

/* A word of the name, while that is not whole, or else an argument. */
static int take_word(const struct command **command, bool *group, struct args *args,
                     const char *word, struct err *err)
{
    if (*command && !*group)
        return add_word(*command, args, word, err);
    const struct command *found =
        *group ? command_find_second(*command, word, err) : command_find(word, err);
    if (!found)
        return -EINVAL;
    *group = !*group && command_second(found);
    *command = found;
    return 0;
}

int command_parse(int argc, char **argv, const struct command **command, bool *group,
                  struct args *args, struct err *err)
{
    struct options o = {.argc = argc, .argv = argv};
    const char *word;
    int rc;
    *command = NULL;
    *group = false;
    *args = (struct args){0};
    for (;;) {
        const struct option *own = *command && !*group ? (*command)->options : NULL;
        rc = options_next(&o, own, common_options, args, &word, err);
        if (rc == 2)
            break;
        if (rc == 1)
            rc = take_word(command, group, args, word, err);
        if (rc < 0)
            return rc;
    }
    choose_run(args);
    if (args->help || args->version)
        return 0;
    if (!*command)
        return err_set(err, EINVAL, "no command is given");
    if (*group)
        return command_need_second(*command, err);
    rc = options_finish(&o, (*command)->options, args, err);
    return rc < 0 ? rc : check_words(*command, args, err);
}
