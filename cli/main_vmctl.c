/*
 * vmctl: one command to ferryd.
 *
 * The words are read by the table of commands, its row runs, and what went wrong is told here, in
 * one sentence. Exit status: 0 done, 1 refused or failed, 2 wrong usage.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/text.h"
#include "cli/usage.h"

enum { DONE = 0, FAILED = 1, WRONG_USAGE = 2 };

static int tell_usage(const struct command *command, bool group, const struct err *err)
{
    size_t len = command && group ? command_first_len(command)
                 : command        ? strlen(command->name)
                                  : 0;
    if (command)
        text_note("%s; 'vmctl help %.*s' tells how", err->text, (int)len, command->name);
    else
        text_note("%s; 'vmctl help' lists the commands", err->text);
    return WRONG_USAGE;
}

/* Output that could not be written is a failure, which only a flush tells. */
static int close_output(struct err *err)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    return err_sys(err, errno, "cannot write the output");
}

static int run(const struct command *command, bool group, const struct args *args, struct err *err)
{
    int rc;
    if (args->version)
        rc = printf("vmctl " FERRY_VERSION "\n") < 0 ? -EIO : 0;
    else
        rc = args->help ? help_print(command, group, args->json, err) : command->run(args, err);
    return rc == 0 ? close_output(err) : rc;
}

int main(int argc, char **argv)
{
    const struct command *command;
    struct args args;
    struct err err;
    bool group;
    if (argc < 2) {
        usage_print_all(stderr);
        return WRONG_USAGE;
    }
    if (command_parse(argc - 1, argv + 1, &command, &group, &args, &err) < 0)
        return tell_usage(command, group, &err);
    int rc = run(command, group, &args, &err);
    if (rc == 0)
        return DONE;
    if (err.code == COMMAND_USAGE)
        return tell_usage(command, group, &err);
    fflush(stdout);
    text_note("%s", err.text);
    return FAILED;
}
