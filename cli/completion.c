/* bash; see completion.h. */
#include "cli/completion.h"

#include "cli/commands.h"

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

static void print_commands(FILE *out)
{
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "%s%s", c == commands ? "" : " ", c->name);
}

static void print_bash_values(FILE *out)
{
    unsigned text = 1u << OPTION_TEXT | 1u << OPTION_SIZE | 1u << OPTION_TIME | 1u << OPTION_NUMBER;
    fputs("    case $prev in\n    ", out);
    print_options_of(out, 1u << OPTION_FILE, "|");
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
        fprintf(out, "        %s) choices+='", c->name);
        for (const struct option *o = c->options; o->name; o++)
            fprintf(out, " --%s", o->name);
        fputs("' ;;\n", out);
    }
    fputs("        esac\n", out);
}

static void print_bash_words(FILE *out)
{
    fputs("    elif [[ -z $command ]]; then\n        choices='", out);
    print_commands(out);
    fputs("'\n    else\n        case $command:$words in\n", out);
    for (const struct command *c = commands; c->name; c++)
        for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++) {
            fprintf(out, "        %s:%u) choices=", c->name, i);
            if (c->words[i].kind == WORD_VM)
                fputs("$(\"${COMP_WORDS[0]}\" \"${run[@]}\" list --names 2>/dev/null)", out);
            else if (c->words[i].kind == WORD_CHOICE)
                fprintf(out, "'%s'", c->words[i].choices);
            else
                fputc('\'', out), print_commands(out), fputc('\'', out);
            fputs(" ;;\n", out);
        }
    fputs("        esac\n    fi\n", out);
}

void completion_print_bash(FILE *out)
{
    unsigned valued = ~(1u << OPTION_FLAG);
    fputs("# bash completion of vmctl, made by 'vmctl completion bash'\n"
          "_vmctl() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local command='' choices='' words=0 i\n"
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
          "            if [[ -z $command ]]; then\n"
          "                command=${COMP_WORDS[i]}\n"
          "            else\n"
          "                ((words++))\n"
          "            fi ;;\n"
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
