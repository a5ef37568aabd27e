/* See options.h. */
#include "cli/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/name.h"
#include "base/units.h"
#include "proto/utf8.h"

static const struct option *find(const struct option *table, const char *name, size_t len)
{
    for (; table && table->name; table++)
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
            return table;
    return NULL;
}

bool option_is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    while (*choices) {
        size_t n = strcspn(choices, " |");
        if (n == len && memcmp(choices, text, n) == 0)
            return n > 0;
        choices += n + (choices[n] != '\0');
    }
    return false;
}

static int check_range(const struct option *row, const char *text, uint64_t value, struct err *err)
{
    char least[32], most[32];
    const char *(*format)(uint64_t, char *, size_t) =
        row->kind == OPTION_SIZE ? units_format_size : units_format_time;
    if (row->max == 0 || (value >= row->min && value <= row->max))
        return 0;
    return err_set(err, EINVAL, "--%s is '%s', which is not from %s to %s", row->name, text,
                   format(row->min, least, sizeof(least)), format(row->max, most, sizeof(most)));
}

bool option_is_list(const struct option *row)
{
    return row->kind == OPTION_FILES || row->kind == OPTION_TEXTS;
}

static int set_number(const struct option *row, const char *text, uint64_t *value, struct err *err)
{
    char what[64];
    if (row->kind == OPTION_NUMBER) {
        snprintf(what, sizeof(what), "--%s", row->name);
        return units_parse_number(text, row->min, row->max, what, value, err);
    }
    int rc = row->kind == OPTION_SIZE ? units_parse_size(text, value, err)
                                      : units_parse_time(text, value, err);
    return rc < 0 ? err_wrap(err, "--%s", row->name) : check_range(row, text, *value, err);
}

static int check_name(const struct option *row, const char *text, struct err *err)
{
    char what[96];
    snprintf(what, sizeof(what), "--%.20s '%.64s'", row->name, text);
    return name_check(text, what, err);
}

static int check_choice(const struct option *row, const char *text, struct err *err)
{
    if (option_is_choice(row->value, text))
        return 0;
    return err_set(err, EINVAL, "--%s is '%s', which is none of %s", row->name, text, row->value);
}

static int add_value(const struct option *row, const char *text, struct arg_list *list,
                     struct err *err)
{
    if (!*text || *text == ',')
        return err_set(err, EINVAL, "--%s has no %s; it needs %s", row->name,
                       row->kind == OPTION_FILES ? "file" : "value", row->value);
    if (!utf8_valid(text))
        return err_set(err, EINVAL, "--%s is not clean UTF-8 text", row->name);
    if (list->count == ARGS_LIST_MAX)
        return err_set(err, EINVAL, "--%s is given more than %d times", row->name, ARGS_LIST_MAX);
    list->items[list->count++] = text;
    return 0;
}

static int set_value(const struct option *row, const char *text, struct args *args, struct err *err)
{
    char *slot = (char *)args + row->member;
    int rc = 0;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)slot = true;
        return 0;
    case OPTION_FILES:
    case OPTION_TEXTS:
        return add_value(row, text, (struct arg_list *)slot, err);
    case OPTION_FILE:
    case OPTION_DIR:
        if (!*text)
            return err_set(err, EINVAL, "--%s is empty; it needs a %s", row->name, row->value);
        /* fall through */
    case OPTION_TEXT:
        if (!utf8_valid(text))
            return err_set(err, EINVAL, "--%s is not clean UTF-8 text", row->name);
        *(const char **)slot = text;
        return 0;
    case OPTION_NAME:
    case OPTION_CHOICE:
        rc = row->kind == OPTION_NAME ? check_name(row, text, err) : check_choice(row, text, err);
        *(const char **)slot = text;
        return rc;
    case OPTION_SIZE:
    case OPTION_TIME:
    case OPTION_NUMBER:
        break;
    }
    return set_number(row, text, (uint64_t *)slot, err);
}

/* The value of `row`, behind '=' or in the next word; NULL for a flag. */
static int take_value(struct options *o, const struct option *row, const char *equals,
                      const char **value, struct err *err)
{
    *value = equals ? equals + 1 : NULL;
    if (row->kind == OPTION_FLAG)
        return equals ? err_set(err, EINVAL, "--%s takes no value", row->name) : 0;
    if (!*value && o->at < o->argc)
        *value = o->argv[o->at++];
    if (!*value)
        return err_set(err, EINVAL, "--%s needs a value: --%s %s", row->name, row->name,
                       row->value);
    return 0;
}

static int take_option(struct options *o, const char *word, const struct option *own,
                       const struct option *common, struct args *args, struct err *err)
{
    const char *name = word + 2, *equals = strchr(name, '='), *value;
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *row = find(own, name, len);
    if (row) {
        uint64_t bit = 1ull << (row - own);
        if ((o->given & bit) && !option_is_list(row))
            return err_set(err, EINVAL, "--%s is given twice", row->name);
        o->given |= bit;
    } else {
        row = find(common, name, len);
    }
    if (!row)
        return err_set(err, EINVAL, "unknown option '%.*s'", (int)(len + 2), word);
    int rc = take_value(o, row, equals, &value, err);
    return rc < 0 ? rc : set_value(row, value, args, err);
}

int options_next(struct options *o, const struct option *own, const struct option *common,
                 struct args *args, const char **word, struct err *err)
{
    if (o->at >= o->argc)
        return 2;
    const char *at = o->argv[o->at++];
    if (o->plain || at[0] != '-' || at[1] == '\0') {
        *word = at;
        return 1;
    }
    if (strcmp(at, "--") == 0) {
        o->plain = true;
        return 0;
    }
    if (strcmp(at, "-h") == 0) {
        args->help = true;
        return 0;
    }
    if (at[1] != '-')
        return err_set(err, EINVAL, "unknown option '%s'", at);
    return take_option(o, at, own, common, args, err);
}

int options_finish(const struct options *o, const struct option *own, struct args *args,
                   struct err *err)
{
    int rc = 0;
    for (const struct option *row = own; rc == 0 && row && row->name; row++) {
        bool given = o->given >> (row - own) & 1;
        const struct option *needed = row->needs ? find(own, row->needs, strlen(row->needs)) : NULL;
        if (given && needed && !(o->given >> (needed - own) & 1))
            return err_set(err, EINVAL, "--%s needs --%s", row->name, row->needs);
        if (!given && row->fallback)
            rc = set_value(row, row->fallback, args, err);
    }
    return rc;
}
