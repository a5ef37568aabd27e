/* See path.h. */
#include "cli/path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

int path_absolute(const char *path, char **out, struct err *err)
{
    CLEAN(clean_free) char *here = NULL;
    *out = NULL;
    if (!path)
        return 0;
    if (path[0] == '/') {
        *out = strdup(path);
    } else {
        here = getcwd(NULL, 0);
        if (!here)
            return err_sys(err, errno, "cannot tell the working directory, needed for '%s'", path);
        if (asprintf(out, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path) < 0)
            *out = NULL;
    }
    return *out ? 0 : err_set(err, ENOMEM, "no memory for a path");
}
