/* vmctl help and completion: the table, printed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/json.h"
#include "cli/man.h"
#include "cli/usage.h"

static const struct printer {
    const char *name;
    void (*print)(FILE *out);
} printers[] = {
    {"bash", completion_print_bash},
    {"zsh", completion_print_zsh},
    {"fish", completion_print_fish},
    {"man", man_print},
};

static int print_script_json(const struct printer *p, struct err *err)
{
    CLEAN(clean_free) char *text = NULL;
    size_t size;
    struct json j;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return err_sys(err, errno, "no memory for the script");
    p->print(f);
    if (fclose(f) != 0)
        return err_sys(err, errno, "no memory for the script");
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_string(&j, "shell", p->name);
    json_string_n(&j, "script", text, size);
    return json_finish(&j, err);
}

int cmd_completion(const struct args *args, struct err *err)
{
    for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
        if (strcmp(printers[i].name, args->words[0]) != 0)
            continue;
        if (args->json)
            return print_script_json(&printers[i], err);
        printers[i].print(stdout);
        return 0;
    }
    return err_set(err, COMMAND_USAGE, "there is no completion for '%s'", args->words[0]);
}

static void json_options(struct json *j, const struct option *o)
{
    json_array(j, "options");
    for (; o && o->name; o++) {
        json_object(j, NULL);
        json_string(j, "name", o->name);
        if (o->value)
            json_string(j, "value", o->value);
        else
            json_null(j, "value");
        if (o->fallback)
            json_string(j, "default", o->fallback);
        else
            json_null(j, "default");
        json_string(j, "help", o->help);
        json_end(j);
    }
    json_end(j);
}

static void json_command(struct json *j, const struct command *c)
{
    json_object(j, NULL);
    json_string(j, "name", c->name);
    json_string(j, "summary", c->summary);
    json_array(j, "words");
    for (unsigned i = 0; i < ARGS_WORDS_MAX && c->words[i].name; i++) {
        json_object(j, NULL);
        json_string(j, "name", c->words[i].name);
        json_bool(j, "optional", c->words[i].optional);
        json_end(j);
    }
    json_end(j);
    json_options(j, c->options);
    json_end(j);
}

static bool is_meant(const struct command *c, const struct command *only, bool group)
{
    return !only || c == only || (group && command_same_first(c, only));
}

static int print_help_json(const struct command *only, bool group, struct err *err)
{
    struct json j;
    json_begin(&j, stdout);
    json_object(&j, NULL);
    json_array(&j, "commands");
    for (const struct command *c = commands; c->name; c++)
        if (is_meant(c, only, group))
            json_command(&j, c);
    json_end(&j);
    json_options(&j, common_options);
    return json_finish(&j, err);
}

int help_print(const struct command *only, bool group, bool json, struct err *err)
{
    if (json)
        return print_help_json(only, group, err);
    if (!only)
        usage_print_all(stdout);
    else if (group)
        usage_print_group(stdout, only);
    else
        usage_print_command(stdout, only);
    return 0;
}

static int find_words(const struct args *args, const struct command **only, bool *group,
                      struct err *err)
{
    const char *first = args->words[0], *second = args->words[1];
    if (!first)
        return 0;
    *only = command_find(first, err);
    *group = *only && command_second(*only);
    if (*only && second && !*group)
        return err_set(err, EINVAL, "'%s' is a command of one word, without '%s'", (*only)->name,
                       second);
    if (*group && second) {
        *only = command_find_second(*only, second, err);
        *group = false;
    }
    return *only ? 0 : -EINVAL;
}

int cmd_help(const struct args *args, struct err *err)
{
    const struct command *only = NULL;
    bool group = false;
    if (find_words(args, &only, &group, err) < 0) {
        err->code = COMMAND_USAGE;
        return -COMMAND_USAGE;
    }
    return help_print(only, group, args->json, err);
}
