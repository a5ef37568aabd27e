/* See console_file.h. */
#include "daemon/console_file.h"

#include <errno.h>

#include "base/scroll.h"

int console_file_range(int fd, uint64_t *begin, uint64_t *end, struct err *err)
{
    struct scroll scroll;
    *begin = *end = 0;
    int rc = scroll_open_file(&scroll, fd, err);
    if (rc < 0)
        return rc == -ENODATA ? 0 : rc;
    *begin = scroll_begin(&scroll);
    *end = scroll_end(&scroll);
    scroll_fini(&scroll);
    return 0;
}

ssize_t console_file_read(int fd, uint64_t *offset, void *to, size_t max, struct err *err)
{
    struct scroll scroll;
    uint64_t missed;
    int rc = scroll_open_file(&scroll, fd, err);
    if (rc < 0)
        return rc == -ENODATA ? 0 : rc;
    size_t n = scroll_read(&scroll, offset, to, max, &missed);
    *offset -= n;
    scroll_fini(&scroll);
    return (ssize_t)n;
}
