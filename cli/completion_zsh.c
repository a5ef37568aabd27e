/* zsh; see completion.h. */
#include <string.h>

#include "cli/commands.h"
#include "cli/completion.h"

/* Inside '...': a quote ends and reopens it, and what _arguments gives a meaning is escaped. */
static void print_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\'", out);
        else if (strchr("[]:\\", *text))
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void print_option(FILE *out, const struct option *o)
{
    const char *action = o->kind == OPTION_FILE  ? "_files"
                         : o->kind == OPTION_DIR ? "_files -/"
                                                 : " ";
    fprintf(out, "'--%s%s[", o->name, o->value ? "=" : "");
    print_escaped(out, o->help);
    fputc(']', out);
    if (o->value)
        fprintf(out, ":%s:%s", o->value, action);
    fputs("' \\\n", out);
}

static void print_word(FILE *out, const struct word *word, unsigned number)
{
    fprintf(out, "            '%u:%s:", number, word->name);
    if (word->kind == WORD_VM)
        fputs("_vmctl_names", out);
    else if (word->kind == WORD_CHOICE)
        fprintf(out, "(%s)", word->choices);
    else
        fputs("_vmctl_commands", out);
    fputs("' \\\n", out);
}

static void print_command(FILE *out, const struct command *c)
{
    fprintf(out, "    %s)\n        _arguments \\\n", c->name);
    for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++)
        print_word(out, &c->words[i], i + 1);
    for (const struct option *o = c->options; o && o->name; o++) {
        fputs("            ", out);
        print_option(out, o);
    }
    fputs("            $common ;;\n", out);
}

static void print_head(FILE *out)
{
    fputs("#compdef vmctl\n"
          "# zsh completion of vmctl, made by 'vmctl completion zsh'\n"
          "_vmctl_names() {\n"
          "    local -a names\n"
          "    names=(${(f)\"$(vmctl $vmctl_run list --names 2>/dev/null)\"})\n"
          "    compadd -a names\n"
          "}\n"
          "_vmctl_commands() {\n"
          "    local -a commands\n"
          "    commands=(\n",
          out);
    for (const struct command *c = commands; c->name; c++) {
        fprintf(out, "        '%s:", c->name);
        print_escaped(out, c->summary);
        fputs("'\n", out);
    }
    fputs("    )\n    _describe command commands\n}\n", out);
}

void completion_print_zsh(FILE *out)
{
    print_head(out);
    fputs("_vmctl() {\n"
          "    local curcontext=$curcontext state line i\n"
          "    local -a common vmctl_run\n"
          "    typeset -A opt_args\n"
          "    for ((i = 2; i < CURRENT; i++)); do\n"
          "        [[ $words[i] == --run ]] && vmctl_run=(--run ${(Q)words[i + 1]})\n"
          "        [[ $words[i] == --run=* ]] && vmctl_run=(${(Q)words[i]})\n"
          "    done\n"
          "    common=(\n",
          out);
    for (const struct option *o = common_options; o->name; o++) {
        fputs("        ", out);
        print_option(out, o);
    }
    fputs("    )\n"
          "    _arguments -C $common '1: :_vmctl_commands' '*:: :->words'\n"
          "    [[ $state == words ]] || return\n"
          "    case $words[1] in\n",
          out);
    for (const struct command *c = commands; c->name; c++)
        print_command(out, c);
    fputs("    esac\n"
          "}\n"
          "if [[ $funcstack[1] == _vmctl ]]; then\n"
          "    _vmctl \"$@\"\n"
          "else\n"
          "    compdef _vmctl vmctl\n"
          "fi\n",
          out);
}
