/* vmctl console. */
#include "cli/commands.h"
#include "cli/console.h"

int cmd_console(const struct args *args, struct err *err)
{
    return args->log ? console_print_log(args, err) : console_attach(args, err);
}
