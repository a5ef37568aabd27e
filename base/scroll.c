/* See scroll.h. */
#include "base/scroll.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map(struct scroll *s, int fd, int prot, size_t size, struct err *err)
{
    int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *p = mmap(NULL, SCROLL_HEAD_BYTES + size, prot, flags, fd, 0);
    if (p == MAP_FAILED)
        return err_sys(err, errno, "cannot map a scrollback of %zu bytes", size);
    *s = (struct scroll){.head = p, .data = (uint8_t *)p + SCROLL_HEAD_BYTES, .size = size};
    return 0;
}

int scroll_init(struct scroll *s, size_t size, struct err *err)
{
    *s = (struct scroll){0};
    return map(s, -1, PROT_READ | PROT_WRITE, size, err);
}

int scroll_init_file(struct scroll *s, int fd, size_t size, struct err *err)
{
    *s = (struct scroll){0};
    if (ftruncate(fd, 0) < 0)
        return err_sys(err, errno, "cannot empty the scrollback's file");
    int rc = posix_fallocate(fd, 0, (off_t)(SCROLL_HEAD_BYTES + size));
    if (rc != 0)
        return err_sys(err, rc, "cannot reserve %zu bytes for a scrollback", size);
    rc = map(s, fd, PROT_READ | PROT_WRITE, size, err);
    if (rc == 0) {
        s->head->magic = SCROLL_MAGIC;
        s->head->size = size;
    }
    return rc;
}

int scroll_open_file(struct scroll *s, int fd, struct err *err)
{
    struct scroll_head head;
    struct stat st;
    int rc;
    *s = (struct scroll){0};
    if (fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot look at the scrollback's file");
    if (st.st_size == 0)
        return err_set(err, ENODATA, "the scrollback's file is empty");
    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) || head.magic != SCROLL_MAGIC ||
        head.size == 0 || head.size > SCROLL_SIZE_MAX ||
        (uint64_t)st.st_size != SCROLL_HEAD_BYTES + head.size)
        return err_set(err, EBADMSG, "the scrollback's file makes no sense");
    rc = map(s, -1, PROT_READ | PROT_WRITE, head.size, err);
    if (rc == 0 && pread(fd, s->head, (size_t)st.st_size, 0) != st.st_size) {
        scroll_fini(s);
        rc = err_set(err, EBADMSG, "the scrollback's file was cut short");
    }
    if (rc == 0)
        s->head->size = head.size; /* it may have changed between the two reads */
    return rc;
}

void scroll_fini(struct scroll *s)
{
    if (s->head)
        munmap(s->head, SCROLL_HEAD_BYTES + s->size);
    *s = (struct scroll){0};
}

/* Bytes from ring position `pos` to the wrap or to `n`, whichever comes first. */
static size_t run_at(const struct scroll *s, size_t pos, size_t n)
{
    return n < s->size - pos ? n : s->size - pos;
}

void scroll_restart(struct scroll *s, uint64_t offset)
{
    memset(s->data, 0, s->size);
    atomic_store_explicit(&s->head->end, offset, memory_order_release);
}

/* The end moves last, so that a process that dies in between leaves whole bytes only. */
void scroll_append(struct scroll *s, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t end = scroll_end(s);
    if (len > s->size) {
        end += len - s->size;
        p += len - s->size;
        len = s->size;
    }
    while (len) {
        size_t pos = end % s->size;
        size_t n = run_at(s, pos, len);
        memcpy(s->data + pos, p, n);
        end += n;
        p += n;
        len -= n;
    }
    atomic_store_explicit(&s->head->end, end, memory_order_release);
}

uint64_t scroll_end(const struct scroll *s)
{
    return atomic_load_explicit(&s->head->end, memory_order_acquire);
}

uint64_t scroll_begin(const struct scroll *s)
{
    uint64_t end = scroll_end(s);
    return end > s->size ? end - s->size : 0;
}

size_t scroll_read(const struct scroll *s, uint64_t *offset, void *to, size_t max, uint64_t *missed)
{
    uint64_t end = scroll_end(s), begin = scroll_begin(s);
    *missed = *offset < begin ? begin - *offset : 0;
    *offset += *missed;
    if (*offset > end)
        *offset = end;
    size_t total = end - *offset < max ? (size_t)(end - *offset) : max;
    for (size_t done = 0; done < total;) {
        size_t pos = *offset % s->size;
        size_t n = run_at(s, pos, total - done);
        memcpy((uint8_t *)to + done, s->data + pos, n);
        *offset += n;
        done += n;
    }
    return total;
}
