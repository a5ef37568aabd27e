/* See man.h. */
#include "cli/man.h"

#include <ctype.h>
#include <string.h>

#include "cli/commands.h"

#define WIDTH 72

/* One word, and whether it may begin a line as it is: roff has its own meaning for . and '. */
static size_t print_word(FILE *out, const char *word, size_t n, bool first)
{
    if (first && strchr(".'", word[0]))
        fputs("\\&", out);
    for (size_t i = 0; i < n; i++) {
        if (word[i] == '-')
            fputs("\\-", out);
        else if (word[i] == '\\')
            fputs("\\e", out);
        else
            fputc(word[i], out);
    }
    return n + 1;
}

/* Each sentence begins a line, as roff wants it, and long ones are broken. */
static void print_words(FILE *out, const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column && column + n > WIDTH) {
            fputc('\n', out);
            column = 0;
        } else if (column) {
            fputc(' ', out);
        }
        column += print_word(out, text, n, column == 0);
        if (text[n - 1] == '.' && text[n])
            column = WIDTH;
        text += n + strspn(text + n, " ");
    }
}

static void print_text(FILE *out, const char *text)
{
    print_words(out, text);
    fputc('\n', out);
}

static void print_option(FILE *out, const struct option *o)
{
    fprintf(out, ".TP\n\\fB\\-\\-%s\\fR", o->name);
    if (o->value)
        fprintf(out, " \\fI%s\\fR", o->value);
    fputc('\n', out);
    print_text(out, o->help);
    if (o->fallback)
        fprintf(out, "Default %s.\n", o->fallback);
    if (o->needs)
        fprintf(out, "Needs \\fB\\-\\-%s\\fR.\n", o->needs);
}

static void print_command(FILE *out, const struct command *c)
{
    fprintf(out, ".SS vmctl %s", c->name);
    for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++)
        fprintf(out, c->words[i].optional ? " [\\fI%s\\fP]" : " \\fI%s\\fP", c->words[i].name);
    fprintf(out, "\n%c", toupper((unsigned char)c->summary[0]));
    print_words(out, c->summary + 1);
    fputs(".\n", out);
    if (c->details) {
        fputs(".PP\n", out);
        print_text(out, c->details);
    }
    for (const struct option *o = c->options; o && o->name; o++)
        print_option(out, o);
}

static const char head[] =
    ".TH VMCTL 1 \"\" \"Ferry\" \"User Commands\"\n"
    ".SH NAME\n"
    "vmctl \\- control the virtual machines of ferryd\n"
    ".SH SYNOPSIS\n"
    ".B vmctl\n"
    "[\\fB\\-\\-run\\fR \\fIDIR\\fR] [\\fB\\-\\-json\\fR] \\fICOMMAND\\fR ...\n"
    ".SH DESCRIPTION\n"
    ".B vmctl\n"
    "asks\n"
    ".BR ferryd (8)\n"
    "to start, watch, save and stop virtual machines.\n"
    "Each word of a command may be shortened as long as it is unambiguous:\n"
    ".B vmctl sh web\n"
    "shows.\n"
    "Success is silent unless something was asked for.\n"
    ".PP\n"
    "Sizes are written as 512M or 4G (powers of 1024), times as 50ms, 30s or 5m.\n"
    "The name of a VM or snapshot is a letter or digit, then letters, digits, '.', '_' or\n"
    "\\&'\\-'; at most 64.\n"
    ".SH OPTIONS\n"
    "These go with every command, before or behind it.\n";

static const char tail[] =
    ".SH EXIT STATUS\n"
    ".TP\n"
    ".B 0\n"
    "Done.\n"
    "Also when a signal or Ctrl\\-C ended \\fBevents \\-\\-follow\\fR or \\fBconsole\\fR.\n"
    ".TP\n"
    ".B 1\n"
    "Refused or failed; one sentence on standard error says why and what to do.\n"
    ".TP\n"
    ".B 2\n"
    "Wrong usage; nothing was asked of ferryd.\n"
    ".SH ENVIRONMENT\n"
    ".TP\n"
    ".B FERRY_RUN\n"
    "The run directory of the ferryd to talk to, when \\fB\\-\\-run\\fR is not given.\n"
    ".TP\n"
    ".BR FERRY_STORE_CA \", \" NETRC \", \" AWS_ACCESS_KEY_ID \", ...\"\n"
    "What URLs of \\fBsnapshot export\\fR and \\fBsnapshot import\\fR need: which certificates to "
    "trust,\n"
    "names and passwords (else in \\fI~/.netrc\\fR), and for s3:// keys, region and endpoint as "
    "other tools\n"
    "have them (else in \\fI~/.aws/credentials\\fR and \\fI~/.aws/config\\fR).\n"
    ".TP\n"
    ".BR FERRY_STORE_TRIES \", \" FERRY_STORE_WAIT \", \" FERRY_STORE_STALL\n"
    "How often in a row something is tried with a store (8), the first wait before trying again, "
    "which is\n"
    "doubled each time (500ms), and how long a connection may move nothing (30s).\n"
    ".SH FILES\n"
    ".TP\n"
    ".I /run/ferry/ferryd.sock\n"
    "The socket that ferryd listens on, in its run directory.\n"
    ".SH EXAMPLES\n"
    "Define and start a VM, watch its console, switch it off:\n"
    ".PP\n"
    ".nf\n"
    ".RS\n"
    "vmctl start web \\-\\-kernel vmlinux \\-\\-initrd initrd.img \\-\\-memory 512M \\-\\-cpus 2 "
    "\\e\n"
    "    \\-\\-cmdline \\(aqconsole=ttyS0\\(aq\n"
    "vmctl console web\n"
    "vmctl stop web\n"
    ".RE\n"
    ".fi\n"
    ".PP\n"
    "Save it while it runs, and start three from what was saved:\n"
    ".PP\n"
    ".nf\n"
    ".RS\n"
    "vmctl snapshot create web base\n"
    "vmctl restore base \\-\\-name copy \\-\\-count 3\n"
    ".RE\n"
    ".fi\n"
    ".PP\n"
    "The names of all VMs that run:\n"
    ".PP\n"
    ".nf\n"
    ".RS\n"
    "vmctl list \\-\\-json | jq \\-r \\(aq.vms[] | select(.state == \"running\").name\\(aq\n"
    ".RE\n"
    ".fi\n"
    ".SH SEE ALSO\n"
    ".BR ferryd (8)\n";

void man_print(FILE *out)
{
    fputs(".\\\" Made by 'vmctl completion man' from the table of commands.\n", out);
    fputs(head, out);
    for (const struct option *o = common_options; o->name; o++)
        print_option(out, o);
    fputs(".SH COMMANDS\n", out);
    for (const struct command *c = commands; c->name; c++)
        print_command(out, c);
    fputs(tail, out);
}
