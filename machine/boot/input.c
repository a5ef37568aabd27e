/* See input.h. */
#include "machine/boot/input.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

int input_init(struct input *in, int fd, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the file");
    if (!S_ISREG(st.st_mode))
        return err_set(err, EINVAL, "not a plain file");
    *in = (struct input){.fd = fd, .bytes = (uint64_t)st.st_size};
    return 0;
}

int input_part(const struct input *in, uint64_t at, uint64_t bytes, const char *what,
               struct input *part, struct err *err)
{
    if (at > in->bytes || bytes > in->bytes - at)
        return err_set(err, ENODATA,
                       "truncated: %s (%" PRIu64 " bytes at 0x%" PRIx64
                       ") ends behind the file's %" PRIu64 " bytes",
                       what, bytes, at, in->bytes);
    *part = (struct input){.fd = in->fd, .at = in->at + at, .bytes = bytes};
    return 0;
}

int input_read(const struct input *in, uint64_t at, void *to, size_t len, struct err *err)
{
    uint8_t *next = to;
    if (at > in->bytes || len > in->bytes - at)
        return err_set(err, ENODATA, "truncated: the file has only %" PRIu64 " bytes", in->bytes);
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(in->fd, next + done, len - done, (off_t)(in->at + at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, errno, "cannot read the file");
        if (n == 0)
            return err_set(err, ENODATA, "truncated: the file became shorter while it was read");
        done += (size_t)n;
    }
    return 0;
}
