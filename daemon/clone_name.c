/* See clone_name.h. */
#include "daemon/clone_name.h"

#include <stdio.h>
#include <string.h>

#define NUMBER "{}"

char *clone_name(const char *text, unsigned number)
{
    const char *at = number ? strstr(text, NUMBER) : NULL;
    char *made = NULL;
    if (!at)
        return strdup(text);
    int len = asprintf(&made, "%.*s%u%s", (int)(at - text), text, number, at + strlen(NUMBER));
    return len < 0 ? NULL : made;
}
