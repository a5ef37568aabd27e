/* See mem.h. */
#include "machine/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static void lay_out(struct mem *mem)
{
    uint64_t low = mem->size < MEM_LOW_MAX ? mem->size : MEM_LOW_MAX;
    mem->regions[0] = (struct mem_region){.gpa = 0, .size = low, .offset = 0};
    mem->nregions = 1;
    if (mem->size > low) {
        mem->regions[1] =
            (struct mem_region){.gpa = MEM_HIGH_BASE, .size = mem->size - low, .offset = low};
        mem->nregions = 2;
    }
}

static int make_backing(struct mem *mem, struct err *err)
{
    mem->fd = memfd_create("guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (mem->fd < 0 || ftruncate(mem->fd, (off_t)mem->size) < 0)
        return err_sys(err, errno, "cannot make %" PRIu64 " MiB of guest memory", mem->size / MIB);
    /* Nobody who gets this descriptor later may shrink it under a running guest. */
    if (fcntl(mem->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return err_sys(err, errno, "cannot seal guest memory");
    void *p = mmap(NULL, mem->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, mem->fd, 0);
    if (p == MAP_FAILED)
        return err_sys(err, errno, "cannot map %" PRIu64 " MiB of guest memory", mem->size / MIB);
    mem->base = p;
    return 0;
}

static int check_size(uint64_t size, struct err *err)
{
    if (size < MEM_MIN || size > MEM_MAX || size % MIB)
        return err_set(err, EINVAL, "memory must be 16M to 1T in whole MiB, not %" PRIu64 " bytes",
                       size);
    return 0;
}

int mem_init(struct mem *mem, uint64_t size, struct err *err)
{
    *mem = (struct mem){.fd = -1, .size = size};
    int rc = check_size(size, err);
    if (rc < 0)
        return rc;
    lay_out(mem);
    rc = make_backing(mem, err);
    if (rc == 0)
        rc = bitmap_init(&mem->written, size / MEM_PAGE, err);
    if (rc < 0)
        mem_fini(mem);
    return rc;
}

/* Within RAM, whole pages, within the file: a mapping behind a file's end would kill us where the
 * guest touches it. */
static int check_extent(const struct mem *mem, const struct mem_extent *e, struct err *err)
{
    struct stat st;
    if ((e->offset | e->bytes | e->at) % MEM_PAGE || e->bytes == 0 || e->offset > mem->size ||
        e->bytes > mem->size - e->offset)
        return err_set(err, EINVAL,
                       "the piece of memory at 0x%" PRIx64 " with %" PRIu64
                       " bytes is out of place",
                       e->offset, e->bytes);
    if (e->fd == MEM_EXTENT_ZERO)
        return 0;
    if (fstat(e->fd, &st) < 0)
        return err_sys(err, errno, "cannot look at a memory file");
    if (e->at > (uint64_t)st.st_size || e->bytes > (uint64_t)st.st_size - e->at)
        return err_set(err, ENODATA, "a memory file of %lld bytes ends before byte %" PRIu64,
                       (long long)st.st_size, e->at + e->bytes);
    return 0;
}

static int map_extents(struct mem *mem, const struct mem_extent *extents, size_t count,
                       struct err *err)
{
    const int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    for (size_t i = 0; i < count; i++) {
        const struct mem_extent *e = &extents[i];
        int rc = check_extent(mem, e, err);
        if (rc < 0)
            return rc;
        bool zero = e->fd == MEM_EXTENT_ZERO;
        if (mmap(mem->base + e->offset, e->bytes, PROT_READ | PROT_WRITE,
                 zero ? flags | MAP_ANONYMOUS : flags, zero ? -1 : e->fd,
                 (off_t)e->at) == MAP_FAILED)
            return err_sys(err, errno, "cannot map a piece of a memory file");
    }
    return 0;
}

int mem_init_from(struct mem *mem, uint64_t size, const struct mem_extent *extents, size_t count,
                  struct err *err)
{
    *mem = (struct mem){.fd = -1, .size = size};
    int rc = check_size(size, err);
    if (rc == 0 && count > MEM_EXTENTS_MAX)
        rc = err_set(err, E2BIG, "memory in %zu pieces is more than %u", count, MEM_EXTENTS_MAX);
    if (rc < 0)
        return rc;
    lay_out(mem);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return err_sys(err, errno, "cannot map %" PRIu64 " MiB of guest memory", size / MIB);
    mem->base = p;
    rc = map_extents(mem, extents, count, err);
    if (rc == 0)
        rc = bitmap_init(&mem->written, size / MEM_PAGE, err);
    if (rc < 0)
        mem_fini(mem);
    return rc;
}

void mem_fini(struct mem *mem)
{
    bitmap_fini(&mem->written);
    if (mem->base)
        munmap(mem->base, mem->size);
    if (mem->fd >= 0)
        close(mem->fd);
    *mem = (struct mem){.fd = -1};
}

int mem_offset(const struct mem *mem, uint64_t gpa, uint64_t len, uint64_t *offset)
{
    for (unsigned i = 0; i < mem->nregions; i++) {
        const struct mem_region *r = &mem->regions[i];
        if (gpa >= r->gpa && gpa - r->gpa <= r->size && len <= r->size - (gpa - r->gpa)) {
            *offset = r->offset + (gpa - r->gpa);
            return 0;
        }
    }
    return -1;
}

static int refuse(uint64_t gpa, uint64_t len, struct err *err)
{
    return err_set(err, EFAULT,
                   "guest address 0x%" PRIx64 " with %" PRIu64 " bytes is outside of guest memory",
                   gpa, len);
}

static void mark(struct mem *mem, uint64_t offset, uint64_t len)
{
    if (len == 0)
        return;
    uint64_t first = offset / MEM_PAGE, last = (offset + len - 1) / MEM_PAGE;
    if (first == last)
        bitmap_set(&mem->written, first);
    else
        bitmap_set_range(&mem->written, first, last - first + 1);
}

int mem_read(const struct mem *mem, uint64_t gpa, void *to, uint64_t len, struct err *err)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) < 0)
        return refuse(gpa, len, err);
    memcpy(to, mem->base + offset, len);
    return 0;
}

/* The mark comes after the write: a harvest between the two must not lose the page. */
int mem_write(struct mem *mem, uint64_t gpa, const void *from, uint64_t len, struct err *err)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) < 0)
        return refuse(gpa, len, err);
    memcpy(mem->base + offset, from, len);
    mark(mem, offset, len);
    return 0;
}

int mem_zero(struct mem *mem, uint64_t gpa, uint64_t len, struct err *err)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) < 0)
        return refuse(gpa, len, err);
    memset(mem->base + offset, 0, len);
    mark(mem, offset, len);
    return 0;
}

int mem_write_from_fd(struct mem *mem, uint64_t gpa, int fd, uint64_t at, uint64_t len,
                      struct err *err)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) < 0)
        return refuse(gpa, len, err);
    int rc = 0;
    uint64_t done = 0;
    while (rc == 0 && done < len) {
        ssize_t n = pread(fd, mem->base + offset + done, len - done, (off_t)(at + done));
        if (n > 0)
            done += (uint64_t)n;
        else if (n == 0)
            rc = err_set(err, ENODATA, "the file ends early, at byte %" PRIu64, at + done);
        else if (errno != EINTR)
            rc = err_sys(err, errno, "cannot read the file");
    }
    mark(mem, offset, done); /* also what came before a failure */
    return rc;
}

void *mem_borrow(struct mem *mem, uint64_t gpa, uint64_t len, bool writable, struct err *err)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) < 0) {
        refuse(gpa, len, err);
        return NULL;
    }
    if (writable)
        mark(mem, offset, len);
    return mem->base + offset;
}

void mem_mark_written(struct mem *mem, uint64_t gpa, uint64_t len)
{
    uint64_t offset;
    if (mem_offset(mem, gpa, len, &offset) == 0)
        mark(mem, offset, len);
}

int mem_clear(struct mem *mem, struct err *err)
{
    if (fallocate(mem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)mem->size) < 0)
        return err_sys(err, errno, "cannot clear guest memory");
    mark(mem, 0, mem->size);
    return 0;
}
