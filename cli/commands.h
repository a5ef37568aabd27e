/*
 * The table of all commands: what drives dispatch, `help`, the completion scripts and the man page.
 */
#pragma once

#include "cli/options.h"

/* What `err.code` is when a command finds its words wrong: no errno, so that it meets none. */
#define COMMAND_USAGE 0x10000

enum word_kind {
    WORD_VM,      /* a VM's name; completed by asking ferryd */
    WORD_COMMAND, /* one of this table */
    WORD_CHOICE,  /* one of `choices` */
};

struct word {
    const char *name; /* as in help: "NAME"; NULL behind the last */
    enum word_kind kind;
    bool optional;
    const char *choices; /* separated by one space */
};

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

/* By its name or a prefix that only it has; the error names the candidates. */
const struct command *command_find(const char *name, struct err *err);

/*
 * Reads a whole command line (without the program's name). *command is NULL when there is none and
 * only --help or --version was asked for. Failures are wrong usage.
 */
int command_parse(int argc, char **argv, const struct command **command, struct args *args,
                  struct err *err);

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
int cmd_version(const struct args *args, struct err *err);
int cmd_completion(const struct args *args, struct err *err);
int cmd_help(const struct args *args, struct err *err);
