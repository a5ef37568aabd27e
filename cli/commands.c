/* See commands.h. */
#include "cli/commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/name.h"

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

#define VM {"NAME", WORD_VM}

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
     "Removes its definition, state and log. Kernel and initrd are not touched."},
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
    {"version", {{NULL}}, NULL, cmd_version,
     "print the versions of vmctl, ferryd and KVM",
     "Fails when no ferryd answers; '--version' asks none."},
    {"completion", {{"SHELL", WORD_CHOICE, .choices = "bash zsh fish man"}}, NULL, cmd_completion,
     "print a completion script for a shell, or this manual's source",
     "For bash: 'source <(vmctl completion bash)'."},
    {"help", {{"COMMAND", WORD_COMMAND, .optional = true}}, NULL, cmd_help,
     "explain a command", NULL},
    {NULL},
};
// clang-format on

/* "start, stats, stop": the commands that begin with `prefix`. Returns how many. */
static unsigned candidates(const char *prefix, const struct command **only, char *to, size_t size)
{
    unsigned count = 0;
    size_t len = strlen(prefix), used = 0;
    for (const struct command *c = commands; c->name; c++) {
        if (strncmp(c->name, prefix, len) != 0)
            continue;
        *only = c;
        int n = snprintf(to + used, size - used, "%s%s", count++ ? ", " : "", c->name);
        if (n > 0 && (size_t)n < size - used)
            used += (size_t)n;
    }
    return count;
}

const struct command *command_find(const char *name, struct err *err)
{
    const struct command *found = NULL;
    char list[256] = "";
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(c->name, name) == 0)
            return c;
    unsigned count = *name ? candidates(name, &found, list, sizeof(list)) : 0;
    if (count == 1)
        return found;
    if (count > 1)
        err_set(err, EINVAL, "'%s' may be any of: %s", name, list);
    else
        err_set(err, EINVAL, "unknown command '%s'", name);
    return NULL;
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strcspn(text, " ");
    for (const char *at = choices; len && !text[len] && at; at = strchr(at, ' '), at += at ? 1 : 0)
        if (strncmp(at, text, len) == 0 && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

static int check_word(const struct word *word, const char *text, struct err *err)
{
    char what[96];
    snprintf(what, sizeof(what), "'%.80s'", text);
    if (word->kind == WORD_VM)
        return name_check(text, what, err);
    if (word->kind == WORD_CHOICE && !is_choice(word->choices, text))
        return err_set(err, EINVAL, "%s is none of: %s", what, word->choices);
    return 0;
}

static int check_words(const struct command *command, const struct args *args, struct err *err)
{
    for (unsigned i = 0; i < ARGS_WORDS_MAX && command->words[i].name; i++) {
        const struct word *word = &command->words[i];
        if (!args->words[i] && !word->optional)
            return err_set(err, EINVAL, "'%s' needs a %s", command->name, word->name);
        if (args->words[i] && check_word(word, args->words[i], err) < 0)
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

int command_parse(int argc, char **argv, const struct command **command, struct args *args,
                  struct err *err)
{
    struct options o = {.argc = argc, .argv = argv};
    const char *word;
    int rc;
    *command = NULL;
    *args = (struct args){0};
    for (;;) {
        const struct option *own = *command ? (*command)->options : NULL;
        rc = options_next(&o, own, common_options, args, &word, err);
        if (rc == 2)
            break;
        if (rc == 1 && *command)
            rc = add_word(*command, args, word, err);
        else if (rc == 1)
            rc = (*command = command_find(word, err)) ? 0 : -EINVAL;
        if (rc < 0)
            return rc;
    }
    choose_run(args);
    if (args->help || args->version)
        return 0;
    if (!*command)
        return err_set(err, EINVAL, "no command is given");
    rc = options_finish(&o, (*command)->options, args, err);
    return rc < 0 ? rc : check_words(*command, args, err);
}
