/* See name.h. */
#include "base/name.h"

#include <errno.h>
#include <string.h>

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool name_valid(const char *name)
{
    size_t n = strnlen(name, NAME_MAX_CHARS + 1);
    if (n == 0 || n > NAME_MAX_CHARS || !is_alnum(name[0]))
        return false;
    for (size_t i = 1; i < n; i++)
        if (!is_alnum(name[i]) && !strchr("._-", name[i]))
            return false;
    return true;
}

int name_check(const char *name, const char *what, struct err *err)
{
    if (name_valid(name))
        return 0;
    return err_set(err, EINVAL,
                   "%s is not a name: use up to %d letters, digits, '.', '_' or '-', "
                   "beginning with a letter or digit",
                   what, NAME_MAX_CHARS);
}
