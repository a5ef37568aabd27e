/*
 * The table of all commands: what drives dispatch, `help`, the completion scripts and the man page.
 */
#pragma once

#include "cli/options.h"

/* What `err.code` is when a command finds its words wrong: no errno, so that it meets none. */
#define COMMAND_USAGE 0x10000

enum word_kind {
    WORD_VM,       /* a VM's name; completed by asking ferryd */
    WORD_SNAPSHOT, /* a snapshot's, likewise */
    WORD_NEW_NAME, /* of what is not there yet */
    WORD_FILE,     /* a file, '-' or a URL */
    WORD_COMMAND,  /* the first word of one of this table */
    WORD_SECOND,   /* the second, behind a WORD_COMMAND */
    WORD_PEER,     /* another host's ferryd: HOST or HOST:PORT */
    WORD_CHOICE,   /* one of `choices` */
};

struct word {
    const char *name; /* as in help: "NAME"; NULL behind the last */
    enum word_kind kind;
    bool optional;
    const char *choices; /* separated by one space */
};

/*
 * A name has one word or two, with a space between: "snapshot create". Those that have the first of
 * two in common are a group and stand together in the table.
 */
struct command {
    const char *name;
    struct word words[ARGS_WORDS_MAX];
    const struct option *options; /* NULL for none */
    int (*run)(const struct args *args, struct err *err);
    const char *summary; /* for one line, no full stop */
    const char *details; /* sentences, or NULL */
};

extern const struct command commands[]; /* ends with a row without a name */
extern const struct option common_options[];

/*
 * By the first word of its name or a prefix that only it has; the error names the candidates. In a
 * group it is the first row.
 */
const struct command *command_find(const char *word, struct err *err);

/* Likewise by the second word, among those of a group. */
const struct command *command_find_second(const struct command *group, const char *word,
                                          struct err *err);

/* What to say when there is no second word: which there are. */
int command_need_second(const struct command *group, struct err *err);

/* The second word of its name, or NULL when it has one. */
const char *command_second(const struct command *c);

/* The length of the first. */
size_t command_first_len(const struct command *c);

/* Have the same first word. */
bool command_same_first(const struct command *a, const struct command *b);

/* The row begins a group, or is one by itself: for those who want each first word once. */
bool command_begins(const struct command *c);

/*
 * Reads a whole command line (without the program's name). With --help or --version *command may be
 * NULL, for none, or be a group whose second word is missing; then *group is true. Failures are
 * wrong usage.
 */
int command_parse(int argc, char **argv, const struct command **command, bool *group,
                  struct args *args, struct err *err);

/* cmd_*.c: 0, or -errno with a sentence, or -COMMAND_USAGE. */
int cmd_start(const struct args *args, struct err *err);
int cmd_list(const struct args *args, struct err *err);
int cmd_show(const struct args *args, struct err *err);
int cmd_stats(const struct args *args, struct err *err);
int cmd_events(const struct args *args, struct err *err);
int cmd_stop(const struct args *args, struct err *err);
int cmd_kill(const struct args *args, struct err *err);
int cmd_reset(const struct args *args, struct err *err);
int cmd_remove(const struct args *args, struct err *err);
int cmd_pause(const struct args *args, struct err *err);
int cmd_resume(const struct args *args, struct err *err);
int cmd_console(const struct args *args, struct err *err);
int cmd_snapshot_create(const struct args *args, struct err *err);
int cmd_snapshot_untrack(const struct args *args, struct err *err);
int cmd_snapshot_list(const struct args *args, struct err *err);
int cmd_snapshot_show(const struct args *args, struct err *err);
int cmd_snapshot_verify(const struct args *args, struct err *err);
int cmd_snapshot_remove(const struct args *args, struct err *err);
int cmd_snapshot_prune(const struct args *args, struct err *err);
int cmd_snapshot_export(const struct args *args, struct err *err);
int cmd_snapshot_import(const struct args *args, struct err *err);
int cmd_migrate(const struct args *args, struct err *err);
int cmd_migration_show(const struct args *args, struct err *err);
int cmd_migration_cancel(const struct args *args, struct err *err);
int cmd_migration_resolve(const struct args *args, struct err *err);
int cmd_restore(const struct args *args, struct err *err);
int cmd_version(const struct args *args, struct err *err);
int cmd_completion(const struct args *args, struct err *err);
int cmd_help(const struct args *args, struct err *err);

/* Explains `only`, all of its group, or, with NULL, lists them all. */
int help_print(const struct command *only, bool group, bool json, struct err *err);
