/* See uffd.h. */
#include "machine/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

#ifndef USERFAULTFD_IOC_NEW /* headers of before Linux 6.1 */
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define PAGE 4096u

int uffd_open(int device, struct err *err)
{
    const int flags = O_CLOEXEC | O_NONBLOCK;
    struct uffdio_api api = {.api = UFFD_API};
    CLEAN(clean_fd) int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, flags) : -1;
    if (fd < 0)
        fd = (int)syscall(SYS_userfaultfd, flags);
    if (fd < 0)
        return err_sys(err, errno, "no userfaultfd for KVM's use");
    if (ioctl(fd, UFFDIO_API, &api) < 0)
        return err_sys(err, errno, "userfaultfd has another interface");
    return steal_fd(&fd);
}

int uffd_register(int uffd, void *at, uint64_t bytes, struct err *err)
{
    const uint64_t needed = 1ull << _UFFDIO_COPY | 1ull << _UFFDIO_ZEROPAGE;
    struct uffdio_register range = {.range = {.start = (uintptr_t)at, .len = bytes},
                                    .mode = UFFDIO_REGISTER_MODE_MISSING};
    if (ioctl(uffd, UFFDIO_REGISTER, &range) < 0)
        return err_sys(err, errno, "userfaultfd does not watch guest memory");
    if ((range.ioctls & needed) != needed)
        return err_set(err, ENOTSUP, "userfaultfd cannot fill guest memory");
    return 0;
}

/* One call's answer: how many bytes were done, or why it stopped. EAGAIN: the memory map of the
 * process just changed. */
static int step(int uffd, int64_t done, int code, uintptr_t at, uint64_t *step_bytes,
                struct err *err)
{
    struct uffdio_range page = {.start = at, .len = PAGE};
    *step_bytes = done > 0 ? (uint64_t)done : 0;
    if (code == 0 || done > 0 || code == EAGAIN || code == EINTR)
        return 0;
    if (code != EEXIST)
        return err_sys(err, code, "userfaultfd does not fill guest memory");
    *step_bytes = PAGE;
    ioctl(uffd, UFFDIO_WAKE, &page);
    return 0;
}

int uffd_copy(int uffd, void *to, const void *from, uint64_t bytes, struct err *err)
{
    int rc = 0;
    for (uint64_t done = 0, n; rc == 0 && done < bytes; done += n) {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)to + done, .src = (uintptr_t)from + done, .len = bytes - done};
        int code = ioctl(uffd, UFFDIO_COPY, &copy) < 0 ? errno : 0;
        rc = step(uffd, copy.copy, code, (uintptr_t)copy.dst, &n, err);
    }
    return rc;
}

int uffd_zero(int uffd, void *to, uint64_t bytes, struct err *err)
{
    int rc = 0;
    for (uint64_t done = 0, n; rc == 0 && done < bytes; done += n) {
        struct uffdio_zeropage zero = {
            .range = {.start = (uintptr_t)to + done, .len = bytes - done}};
        int code = ioctl(uffd, UFFDIO_ZEROPAGE, &zero) < 0 ? errno : 0;
        rc = step(uffd, zero.zeropage, code, (uintptr_t)zero.range.start, &n, err);
    }
    return rc;
}

int uffd_next_fault(int uffd, uint64_t *address, struct err *err)
{
    struct uffd_msg msg;
    for (;;) {
        ssize_t n = read(uffd, &msg, sizeof(msg));
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n != (ssize_t)sizeof(msg))
            return err_sys(err, n < 0 ? errno : EIO, "cannot read from userfaultfd");
        if (msg.event != UFFD_EVENT_PAGEFAULT)
            continue;
        *address = msg.arg.pagefault.address;
        return 1;
    }
}
