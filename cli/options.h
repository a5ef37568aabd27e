/*
 * The words behind `vmctl`: options and arguments, read by const tables.
 *
 * A row names an option, the member of `struct args` that it fills and what its value may be, so
 * that parsing, help, completion and the man page cannot disagree. Everything wrong here is wrong
 * usage: the caller ends with status 2 and the sentence in `err`.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define ARGS_WORDS_MAX 2

#define ARGS_LIST_MAX 16

/* The values of an option that may be given several times, in their order. */
struct arg_list {
    const char *items[ARGS_LIST_MAX];
    size_t count;
};

/* All that a command line can say; which of it counts is in the command's tables. */
struct args {
    const char *run; /* never NULL after parsing */
    bool json, help, version;
    const char *words[ARGS_WORDS_MAX]; /* the arguments, in order; NULL behind the last */
    const char *kernel, *initrd, *cmdline, *cpu, *name, *clock, *parent, *on_stall, *compress;
    uint64_t memory_bytes, cpus, timeout_ms, count, downtime_ms, bandwidth, streams, keep_newest,
        older_ms;
    bool paused, follow, log, names, stop, full, track, last, pack, check, detach, keep, discard;
    bool with_children, dry_run, alone, verify, replace, force;
    struct arg_list disks, nets;
};

enum option_kind {
    OPTION_FLAG,   /* bool, no value */
    OPTION_TEXT,   /* const char *, may be empty */
    OPTION_FILE,   /* const char *, not empty */
    OPTION_DIR,    /* the same, a directory */
    OPTION_FILES,  /* struct arg_list: each begins with a file; may be given several times */
    OPTION_TEXTS,  /* struct arg_list: not empty; may be given several times */
    OPTION_NAME,   /* const char *, as base/name.h has it */
    OPTION_CHOICE, /* const char *, one of those in `value`, with '|' between */
    OPTION_SIZE,   /* uint64_t bytes, min..max */
    OPTION_TIME,   /* uint64_t milliseconds, min..max */
    OPTION_NUMBER, /* uint64_t, min..max */
};

struct option {
    const char *name;  /* without the dashes; NULL ends a table */
    const char *value; /* what stands for the value in help; NULL for a flag */
    enum option_kind kind;
    size_t member; /* offset in struct args */
    uint64_t min, max;
    const char *fallback; /* the value when the option is not given, or NULL */
    const char *needs;    /* an option of the same table without which this one means nothing */
    const char *help;
};

/* The offset of a member, checked to have the type that the kind says. */
#define OPTION_MEMBER(member_, type)                                                               \
    (offsetof(struct args, member_) +                                                              \
     0 * sizeof(struct {                                                                           \
         int unused;                                                                               \
         _Static_assert(                                                                           \
             __builtin_types_compatible_p(__typeof__(((struct args *)0)->member_), type),          \
             #member_ " has another type than its option");                                        \
     }))
#define OPTION_BOOL(m) OPTION_MEMBER(m, bool)
#define OPTION_STRING(m) OPTION_MEMBER(m, const char *)
#define OPTION_U64(m) OPTION_MEMBER(m, uint64_t)
#define OPTION_LIST(m) OPTION_MEMBER(m, struct arg_list)

/* Whether `text` is one of `choices`, which are separated by a space or '|'. */
bool option_is_choice(const char *choices, const char *text);

/* Whether it may be given several times. */
bool option_is_list(const struct option *row);

/* A walk over argv. */
struct options {
    int argc, at;
    char **argv;
    bool plain;     /* "--" was seen: only words follow */
    uint64_t given; /* bit n: row n of the command's own table */
};

/*
 * Takes the next word. Returns 1 with *word when it is an argument, 0 when it was an option (found
 * in `own`, which may be NULL, or `common`) and is now in `args`, 2 at the end, or -errno.
 */
int options_next(struct options *o, const struct option *own, const struct option *common,
                 struct args *args, const char **word, struct err *err);

/* After the last word: fallbacks, and options that lack the one they need. */
int options_finish(const struct options *o, const struct option *own, struct args *args,
                   struct err *err);
