/* See usage.h. */
#include "cli/usage.h"

#include <ctype.h>
#include <string.h>

#define WIDTH 80

void usage_print_wrapped(FILE *out, const char *text, size_t indent, size_t used, size_t width)
{
    const char *gap = "";
    while (*text) {
        size_t n = strcspn(text, " ");
        if (used + strlen(gap) + n > width && used > indent) {
            fprintf(out, "\n%*s", (int)indent, "");
            used = indent;
            gap = "";
        }
        fprintf(out, "%s%.*s", gap, (int)n, text);
        used += strlen(gap) + n;
        text += n + strspn(text + n, " ");
        gap = " ";
    }
    fputc('\n', out);
}

/* Broken only between options. */
void usage_print_synopsis(FILE *out, const struct command *command)
{
    size_t used = (size_t)fprintf(out, "usage: vmctl %s", command->name), indent = used;
    for (unsigned i = 0; i < ARGS_WORDS_MAX && command->words[i].name; i++)
        used += (size_t)fprintf(out, command->words[i].optional ? " [%s]" : " %s",
                                command->words[i].name);
    for (const struct option *o = command->options; o && o->name; o++) {
        size_t n = strlen(o->name) + (o->value ? strlen(o->value) + 1 : 0) + 5;
        if (used + n > WIDTH) {
            fprintf(out, "\n%*s", (int)indent, "");
            used = indent;
        }
        fprintf(out, " [--%s%s%s]", o->name, o->value ? " " : "", o->value ? o->value : "");
        used += n;
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct option *o)
{
    int n = fprintf(out, "  --%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    size_t used = n < 0 ? 0 : (size_t)n;
    if (used >= 20) {
        fputc('\n', out);
        used = 0;
    }
    fprintf(out, "%*s", (int)(20 - used), "");
    char text[512];
    snprintf(text, sizeof(text), "%s%s%s%s", o->help, o->fallback ? " Default " : "",
             o->fallback ? o->fallback : "", o->fallback ? "." : "");
    usage_print_wrapped(out, text, 20, 20, WIDTH);
}

void usage_print_command(FILE *out, const struct command *command)
{
    usage_print_synopsis(out, command);
    fprintf(out, "\n%c%s.\n", toupper((unsigned char)command->summary[0]), command->summary + 1);
    if (command->details)
        usage_print_wrapped(out, command->details, 0, 0, WIDTH);
    fputs("\noptions:\n", out);
    for (const struct option *o = command->options; o && o->name; o++)
        print_option(out, o);
    for (const struct option *o = common_options; o->name; o++)
        print_option(out, o);
}

static void print_line(FILE *out, const struct command *c)
{
    fprintf(out, "  %-18s", c->name);
    usage_print_wrapped(out, c->summary, 19, 19, WIDTH);
}

void usage_print_group(FILE *out, const struct command *group)
{
    int n = (int)command_first_len(group);
    fprintf(out, "usage: vmctl %.*s COMMAND ...\n\ncommands:\n", n, group->name);
    for (const struct command *c = group; c->name && command_same_first(c, group); c++)
        print_line(out, c);
    fprintf(out, "\n'vmctl help %.*s COMMAND' explains one.\n", n, group->name);
}

void usage_print_all(FILE *out)
{
    fputs("usage: vmctl [--run DIR] [--json] COMMAND ...\n\ncommands:\n", out);
    for (const struct command *c = commands; c->name; c++)
        print_line(out, c);
    fputs("\nEach word of a command may be shortened as long as it is unambiguous.\n"
          "'vmctl help COMMAND' explains one.\n",
          out);
}
