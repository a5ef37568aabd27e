/* fish; see completion.h. */
#include "cli/commands.h"
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
    const char *action = o->kind == OPTION_FLAG   ? ""
                         : o->kind == OPTION_FILE ? " -r -F"
                         : o->kind == OPTION_DIR  ? " -x -a '(__fish_complete_directories)'"
                                                  : " -x";
    fputs("complete -c vmctl", out);
    if (command)
        fprintf(out, " -n '__vmctl_in %s'", command);
    fprintf(out, " -l %s%s -d ", o->name, action);
    print_quoted(out, o->help);
    fputc('\n', out);
}

static void print_word(FILE *out, const struct word *word, const char *command, unsigned before)
{
    fprintf(out, "complete -c vmctl -n '__vmctl_at %s %u' -a ", command, before);
    if (word->kind == WORD_VM)
        fputs("'(__vmctl_names)'", out);
    else if (word->kind == WORD_CHOICE)
        print_quoted(out, word->choices);
    else
        for (const struct command *c = commands; c->name; c++)
            fprintf(out, "%s%s%s", c == commands ? "'" : " ", c->name, c[1].name ? "" : "'");
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
          "    test \"$words[1]\" = $argv[1]\n"
          "end\n"
          "function __vmctl_at\n"
          "    set -l words (__vmctl_words)\n"
          "    test \"$words[1]\" = $argv[1]; and test (count $words) -eq (math $argv[2] + 1)\n"
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
          "    vmctl $run list --names 2>/dev/null\n"
          "end\n"
          "complete -c vmctl -f\n",
          out);
}

void completion_print_fish(FILE *out)
{
    print_functions(out);
    for (const struct option *o = common_options; o->name; o++)
        print_option(out, o, NULL);
    for (const struct command *c = commands; c->name; c++) {
        fprintf(out, "complete -c vmctl -n __vmctl_none -a %s -d ", c->name);
        print_quoted(out, c->summary);
        fputc('\n', out);
        for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++)
            print_word(out, &c->words[i], c->name, i);
        for (const struct option *o = c->options; o && o->name; o++)
            print_option(out, o, c->name);
    }
}
