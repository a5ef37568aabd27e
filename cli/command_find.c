/* Commands by the words of their names; see commands.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

size_t command_first_len(const struct command *c)
{
    return strcspn(c->name, " ");
}

const char *command_second(const struct command *c)
{
    size_t n = command_first_len(c);
    return c->name[n] ? c->name + n + 1 : NULL;
}

bool command_same_first(const struct command *a, const struct command *b)
{
    size_t n = command_first_len(a);
    return n == command_first_len(b) && memcmp(a->name, b->name, n) == 0;
}

bool command_begins(const struct command *c)
{
    return c == commands || !command_same_first(c - 1, c);
}

/* What the search compares: a second word in `group`, or else a first one. NULL: not this row. */
static const char *word_of(const struct command *c, const struct command *group, size_t *len)
{
    const char *word = c->name;
    if (group)
        word = command_same_first(c, group) ? command_second(c) : NULL;
    else if (!command_begins(c))
        word = NULL;
    *len = word ? strcspn(word, " ") : 0;
    return word;
}

/* "start, stats, stop": those that begin with `prefix`, or the one that is it. Returns how many. */
static unsigned candidates(const struct command *group, const char *prefix,
                           const struct command **only, char *to, size_t size)
{
    unsigned count = 0;
    size_t len = strlen(prefix), used = 0, n;
    for (const struct command *c = commands; c->name; c++) {
        const char *word = word_of(c, group, &n);
        if (!word || n < len || memcmp(word, prefix, len) != 0)
            continue;
        *only = c;
        if (n == len)
            return 1;
        int more = snprintf(to + used, size - used, "%s%.*s", count++ ? ", " : "", (int)n, word);
        if (more > 0 && (size_t)more < size - used)
            used += (size_t)more;
    }
    return count;
}

const struct command *command_find(const char *word, struct err *err)
{
    const struct command *found = NULL;
    char list[256] = "";
    unsigned count = *word ? candidates(NULL, word, &found, list, sizeof(list)) : 0;
    if (count == 1)
        return found;
    if (count > 1)
        err_set(err, EINVAL, "'%s' may be any of: %s", word, list);
    else
        err_set(err, EINVAL, "unknown command '%s'", word);
    return NULL;
}

int command_need_second(const struct command *group, struct err *err)
{
    const struct command *any;
    char list[256] = "";
    candidates(group, "", &any, list, sizeof(list));
    return err_set(err, EINVAL, "'%.*s' needs one of: %s", (int)command_first_len(group),
                   group->name, list);
}

const struct command *command_find_second(const struct command *group, const char *word,
                                          struct err *err)
{
    const struct command *found = NULL;
    int first_len = (int)command_first_len(group);
    char list[256] = "";
    unsigned count = candidates(group, word, &found, list, sizeof(list));
    if (*word && count == 1)
        return found;
    if (*word && count > 1) {
        err_set(err, EINVAL, "'%.*s %s' may be any of: %s", first_len, group->name, word, list);
        return NULL;
    }
    candidates(group, "", &found, list, sizeof(list));
    err_set(err, EINVAL, "'%.*s %s' is none of: %s", first_len, group->name, word, list);
    return NULL;
}
