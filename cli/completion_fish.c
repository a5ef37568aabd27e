/* fish; see completion.h. */
#include "cli/completion.h"

static void print_quoted(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

static void print_option(FILE *out, const struct option *o, const char *command)
{
    const char *action = o->kind == OPTION_FLAG     ? ""
                         : o->kind == OPTION_CHOICE ? " -x -a '"
                         : o->kind == OPTION_FILE   ? " -r -F"
                         : o->kind == OPTION_FILES  ? " -r -F"
                         : o->kind == OPTION_DIR    ? " -x -a '(__fish_complete_directories)'"
                                                    : " -x";
    fputs("complete -c vmctl", out);
    if (command)
        fprintf(out, " -n '__vmctl_in %s'", command);
    fprintf(out, " -l %s%s", o->name, action);
    if (o->kind == OPTION_CHOICE) {
        completion_print_choices(out, o->value);
        fputc('\'', out);
    }
    fputs(" -d ", out);
    print_quoted(out, o->help);
    fputc('\n', out);
}

/* `at` words stand before it, beginning with those of `command` and `more`. */
static void print_at(FILE *out, unsigned at, const char *command, const struct command *more)
{
    fprintf(out, "complete -c vmctl -n '__vmctl_at %u %s", at, command);
    if (more)
        fprintf(out, " %.*s", (int)command_first_len(more), more->name);
    fputs("' -a ", out);
}

static void print_seconds(FILE *out, const char *command, unsigned at)
{
    for (const struct command *c = commands; c->name; c++)
        if (command_second(c) && command_begins(c)) {
            print_at(out, at, command, c);
            fputc('\'', out);
            completion_print_seconds(out, c);
            fputs("'\n", out);
        }
}

static void print_word(FILE *out, const struct command *c, unsigned i)
{
    const struct word *word = &c->words[i];
    const char *lister = completion_lister(word->kind);
    unsigned at = i + (command_second(c) ? 2 : 1);
    if (word->kind == WORD_SECOND)
        print_seconds(out, c->name, at);
    if (word->kind == WORD_SECOND || word->kind == WORD_NEW_NAME || word->kind == WORD_PEER)
        return;
    if (word->kind == WORD_FILE) {
        print_at(out, at, c->name, NULL);
        fputs("'(__fish_complete_path)'\n", out);
        return;
    }
    print_at(out, at, c->name, NULL);
    if (lister) {
        fprintf(out, "'(__vmctl_names %s)'", lister);
    } else if (word->kind == WORD_CHOICE) {
        print_quoted(out, word->choices);
    } else {
        fputc('\'', out);
        completion_print_firsts(out);
        fputc('\'', out);
    }
    fputc('\n', out);
}

/* The words of the line without options and their values, and what is asked of them. */
static void print_functions(FILE *out)
{
    fputs("# fish completion of vmctl, made by 'vmctl completion fish'\n"
          "function __vmctl_words\n"
          "    set -l skip 1\n"
          "    for word in (commandline -opc)\n"
          "        if test $skip = 1\n"
          "            set skip 0\n"
          "            continue\n"
          "        end\n"
          "        switch $word\n"
          "            case",
          out);
    for (const struct command *c = commands; c->name; c++)
        for (const struct option *o = c->options; o && o->name; o++)
            if (o->value)
                fprintf(out, " --%s", o->name);
    for (const struct option *o = common_options; o->name; o++)
        if (o->value)
            fprintf(out, " --%s", o->name);
    fputs("\n                set skip 1\n"
          "            case '-*'\n"
          "            case '*'\n"
          "                echo $word\n"
          "        end\n"
          "    end\n"
          "end\n"
          "function __vmctl_in\n"
          "    set -l words (__vmctl_words)\n"
          "    set -l n (count $argv)\n"
          "    test (count $words) -ge $n; and test \"$words[1..$n]\" = \"$argv\"\n"
          "end\n"
          "function __vmctl_at\n"
          "    set -l words (__vmctl_words)\n"
          "    test (count $words) -eq $argv[1]; and __vmctl_in $argv[2..-1]\n"
          "end\n"
          "function __vmctl_none\n"
          "    test (count (__vmctl_words)) -eq 0\n"
          "end\n"
          "function __vmctl_names\n"
          "    set -l line (commandline -opc)\n"
          "    set -l run\n"
          "    if set -l at (contains -i -- --run $line)\n"
          "        set run --run $line[(math $at + 1)]\n"
          "    end\n"
          "    vmctl $run $argv --names 2>/dev/null\n"
          "end\n"
          "complete -c vmctl -f\n",
          out);
}

/* A group is explained by its commands: its first word alone stands once, and without a text. */
static void print_name(FILE *out, const struct command *c)
{
    int first_len = (int)command_first_len(c);
    const char *second = command_second(c);
    if (second && command_begins(c))
        fprintf(out, "complete -c vmctl -n __vmctl_none -a %.*s\n", first_len, c->name);
    if (second)
        fprintf(out, "complete -c vmctl -n '__vmctl_at 1 %.*s' -a %s -d ", first_len, c->name,
                second);
    else
        fprintf(out, "complete -c vmctl -n __vmctl_none -a %s -d ", c->name);
    print_quoted(out, c->summary);
    fputc('\n', out);
}

void completion_print_fish(FILE *out)
{
    print_functions(out);
    for (const struct option *o = common_options; o->name; o++)
        print_option(out, o, NULL);
    for (const struct command *c = commands; c->name; c++) {
        print_name(out, c);
        for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++)
            print_word(out, c, i);
        for (const struct option *o = c->options; o && o->name; o++)
            print_option(out, o, c->name);
    }
}
