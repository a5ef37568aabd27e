/* zsh; see completion.h. */
#include <string.h>

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
    const char *action = o->kind == OPTION_FILE    ? "_files"
                         : o->kind == OPTION_FILES ? "_files"
                         : o->kind == OPTION_DIR   ? "_files -/"
                                                   : " ";
    const char *again = option_is_list(o) ? "*" : "";
    fprintf(out, "'%s--%s%s[", again, o->name, o->value ? "=" : "");
    print_escaped(out, o->help);
    fputc(']', out);
    if (o->kind == OPTION_CHOICE) {
        fputs(":which:(", out);
        completion_print_choices(out, o->value);
        fputc(')', out);
    } else if (o->value) {
        fputc(':', out);
        print_escaped(out, o->value);
        fprintf(out, ":%s", action);
    }
    fputs("' \\\n", out);
}

static void print_word(FILE *out, const struct word *word, unsigned number)
{
    const char *lister = completion_lister(word->kind);
    fprintf(out, "            '%u:%s:", number, word->name);
    if (lister)
        fprintf(out, "{_vmctl_names %s}", lister);
    else if (word->kind == WORD_CHOICE)
        fprintf(out, "(%s)", word->choices);
    else
        fputs(word->kind == WORD_COMMAND  ? "_vmctl_commands"
              : word->kind == WORD_FILE   ? "_files"
              : word->kind == WORD_SECOND ? "_vmctl_seconds"
                                          : " ",
              out);
    fputs("' \\\n", out);
}

static void print_command(FILE *out, const struct command *c)
{
    const char *second = command_second(c);
    fprintf(out, "    %s)\n        _arguments \\\n", second ? second : c->name);
    for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++)
        print_word(out, &c->words[i], i + 1);
    for (const struct option *o = c->options; o && o->name; o++) {
        fputs("            ", out);
        print_option(out, o);
    }
    fputs("            $common ;;\n", out);
}

static void print_described(FILE *out, const char *name, const char *summary)
{
    fprintf(out, "        '%s:", name);
    print_escaped(out, summary);
    fputs("'\n", out);
}

static void print_head(FILE *out)
{
    fputs("#compdef vmctl\n"
          "# zsh completion of vmctl, made by 'vmctl completion zsh'\n"
          "_vmctl_names() {\n"
          "    local -a names\n"
          "    names=(${(f)\"$(vmctl $vmctl_run $@ --names 2>/dev/null)\"})\n"
          "    compadd -a names\n"
          "}\n"
          "_vmctl_commands() {\n"
          "    local -a commands\n"
          "    commands=(\n",
          out);
    for (const struct command *c = commands; c->name; c++)
        if (!command_second(c))
            print_described(out, c->name, c->summary);
        else if (command_begins(c))
            fprintf(out, "        '%.*s'\n", (int)command_first_len(c), c->name);
    fputs("    )\n    _describe command commands\n}\n", out);
}

/* A group has a function that describes its second words, and one that completes behind them. */
static void print_group(FILE *out, const struct command *group)
{
    int n = (int)command_first_len(group);
    fprintf(out, "_vmctl_%.*s_commands() {\n    local -a commands\n    commands=(\n", n,
            group->name);
    for (const struct command *c = group; c->name && command_same_first(c, group); c++)
        print_described(out, command_second(c), c->summary);
    fputs("    )\n    _describe command commands\n}\n", out);
    fprintf(out,
            "_vmctl_%.*s() {\n"
            "    local curcontext=$curcontext state line\n"
            "    _arguments -C $common '1: :_vmctl_%.*s_commands' '*:: :->words'\n"
            "    [[ $state == words ]] || return\n"
            "    case $words[1] in\n",
            n, group->name, n, group->name);
    for (const struct command *c = group; c->name && command_same_first(c, group); c++)
        print_command(out, c);
    fputs("    esac\n}\n", out);
}

static void print_groups(FILE *out)
{
    for (const struct command *c = commands; c->name; c++)
        if (command_second(c) && command_begins(c))
            print_group(out, c);
    fputs("_vmctl_seconds() {\n    case $words[2] in\n", out);
    for (const struct command *c = commands; c->name; c++) {
        int n = (int)command_first_len(c);
        if (command_second(c) && command_begins(c))
            fprintf(out, "    %.*s) _vmctl_%.*s_commands ;;\n", n, c->name, n, c->name);
    }
    fputs("    esac\n}\n", out);
}

void completion_print_zsh(FILE *out)
{
    print_head(out);
    print_groups(out);
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
    for (const struct command *c = commands; c->name; c++) {
        int n = (int)command_first_len(c);
        if (!command_second(c))
            print_command(out, c);
        else if (command_begins(c))
            fprintf(out, "    %.*s) _vmctl_%.*s ;;\n", n, c->name, n, c->name);
    }
    fputs("    esac\n"
          "}\n"
          "if [[ $funcstack[1] == _vmctl ]]; then\n"
          "    _vmctl \"$@\"\n"
          "else\n"
          "    compdef _vmctl vmctl\n"
          "fi\n",
          out);
}
