/* bash, and what the shells have in common; see completion.h. */
#include "cli/completion.h"

const char *completion_lister(enum word_kind kind)
{
    return kind == WORD_VM ? "list" : kind == WORD_SNAPSHOT ? "snapshot list" : NULL;
}

void completion_print_firsts(FILE *out)
{
    for (const struct command *c = commands; c->name; c++)
        if (command_begins(c))
            fprintf(out, "%s%.*s", c == commands ? "" : " ", (int)command_first_len(c), c->name);
}

void completion_print_seconds(FILE *out, const struct command *group)
{
    for (const struct command *c = group; c->name && command_same_first(c, group); c++)
        fprintf(out, "%s%s", c == group ? "" : " ", command_second(c));
}

void completion_print_choices(FILE *out, const char *choices)
{
    for (; *choices; choices++)
        fputc(*choices == '|' ? ' ' : *choices, out);
}

/* "--kernel|--initrd": the options of the kinds in `kinds` (a bit each), with `between`. */
static void print_options_of(FILE *out, unsigned kinds, const char *between)
{
    const char *gap = "";
    for (const struct command *c = commands; c->name; c++)
        for (const struct option *o = c->options; o && o->name; o++)
            if (kinds >> o->kind & 1) {
                fprintf(out, "%s--%s", gap, o->name);
                gap = between;
            }
    for (const struct option *o = common_options; o->name; o++)
        if (kinds >> o->kind & 1) {
            fprintf(out, "%s--%s", gap, o->name);
            gap = between;
        }
}

static void print_bash_choices(FILE *out, const struct option *o)
{
    fprintf(out, "    --%s)\n        mapfile -t COMPREPLY < <(compgen -W '", o->name);
    completion_print_choices(out, o->value);
    fputs("' -- \"$cur\")\n        return ;;\n", out);
}

static void print_bash_values(FILE *out)
{
    unsigned text = 1u << OPTION_TEXT | 1u << OPTION_NAME | 1u << OPTION_SIZE | 1u << OPTION_TIME |
                    1u << OPTION_NUMBER | 1u << OPTION_TEXTS;
    fputs("    case $prev in\n", out);
    for (const struct command *c = commands; c->name; c++)
        for (const struct option *o = c->options; o && o->name; o++)
            if (o->kind == OPTION_CHOICE)
                print_bash_choices(out, o);
    fputs("    ", out);
    print_options_of(out, 1u << OPTION_FILE | 1u << OPTION_FILES, "|");
    fputs(")\n        compopt -o filenames\n"
          "        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n        return ;;\n    ",
          out);
    print_options_of(out, 1u << OPTION_DIR, "|");
    fputs(")\n        compopt -o filenames\n"
          "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")\n        return ;;\n    ",
          out);
    print_options_of(out, text, "|");
    fputs(")\n        return ;;\n    esac\n", out);
}

static void print_bash_options(FILE *out)
{
    fputs("    if [[ $cur == -* ]]; then\n        choices='", out);
    for (const struct option *o = common_options; o->name; o++)
        fprintf(out, "%s--%s", o == common_options ? "" : " ", o->name);
    fputs("'\n        case $command in\n", out);
    for (const struct command *c = commands; c->name; c++) {
        if (!c->options)
            continue;
        fprintf(out, "        '%s') choices+='", c->name);
        for (const struct option *o = c->options; o->name; o++)
            fprintf(out, " --%s", o->name);
        fputs("' ;;\n", out);
    }
    fputs("        esac\n", out);
}

/* What is behind the first word of a group. `last` is the word before the one completed. */
static void print_bash_seconds(FILE *out)
{
    fputs("case $last in", out);
    for (const struct command *c = commands; c->name; c++)
        if (command_second(c) && command_begins(c)) {
            fprintf(out, " %.*s) choices='", (int)command_first_len(c), c->name);
            completion_print_seconds(out, c);
            fputs("' ;;", out);
        }
    fputs(" esac", out);
}

static void print_bash_word(FILE *out, const struct word *word)
{
    const char *lister = completion_lister(word->kind);
    if (lister) {
        fprintf(out, "choices=$(\"${COMP_WORDS[0]}\" \"${run[@]}\" %s --names 2>/dev/null)",
                lister);
    } else if (word->kind == WORD_CHOICE) {
        fprintf(out, "choices='%s'", word->choices);
    } else if (word->kind == WORD_FILE) {
        fputs("mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); return", out);
    } else if (word->kind == WORD_COMMAND) {
        fputs("choices='", out);
        completion_print_firsts(out);
        fputc('\'', out);
    } else if (word->kind == WORD_SECOND) {
        print_bash_seconds(out);
    }
}

static void print_bash_words(FILE *out)
{
    fputs("    elif [[ -z $command ]]; then\n        choices='", out);
    completion_print_firsts(out);
    fputs("'\n    else\n        case $command:$words in\n", out);
    for (const struct command *c = commands; c->name; c++) {
        if (command_second(c) && command_begins(c)) {
            fprintf(out, "        '%.*s:0') choices='", (int)command_first_len(c), c->name);
            completion_print_seconds(out, c);
            fputs("' ;;\n", out);
        }
        for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++) {
            if (c->words[i].kind == WORD_NEW_NAME || c->words[i].kind == WORD_PEER)
                continue;
            fprintf(out, "        '%s:%u') ", c->name, i);
            print_bash_word(out, &c->words[i]);
            fputs(" ;;\n", out);
        }
    }
    fputs("        esac\n    fi\n", out);
}

static void print_bash_groups(FILE *out)
{
    const char *gap = "";
    for (const struct command *c = commands; c->name; c++)
        if (command_second(c) && command_begins(c)) {
            fprintf(out, "%s%.*s", gap, (int)command_first_len(c), c->name);
            gap = "|";
        }
}

void completion_print_bash(FILE *out)
{
    unsigned valued = ~(1u << OPTION_FLAG);
    fputs("# bash completion of vmctl, made by 'vmctl completion bash'\n"
          "_vmctl() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local command='' choices='' last='' words=0 i\n"
          "    local -a run=()\n"
          "    COMPREPLY=()\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        [[ ${COMP_WORDS[i]} == --run ]] && run=(--run \"${COMP_WORDS[i + 1]}\")\n"
          "        case ${COMP_WORDS[i]} in\n"
          "        ",
          out);
    print_options_of(out, valued, "|");
    fputs(") ((i++)) ;;\n"
          "        -*) ;;\n"
          "        *)\n"
          "            last=${COMP_WORDS[i]}\n"
          "            case $command in\n"
          "            '') command=$last ;;\n"
          "            ",
          out);
    print_bash_groups(out);
    fputs(") command+=\" $last\" ;;\n"
          "            *) ((words++)) ;;\n"
          "            esac ;;\n"
          "        esac\n"
          "    done\n",
          out);
    print_bash_values(out);
    print_bash_options(out);
    print_bash_words(out);
    fputs("    mapfile -t COMPREPLY < <(compgen -W \"$choices\" -- \"$cur\")\n"
          "}\n"
          "complete -F _vmctl vmctl\n",
          out);
}
