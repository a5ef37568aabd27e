/* See initrd.h. */
#include "machine/boot/initrd.h"

#include <errno.h>
#include <inttypes.h>

int initrd_load(struct mem *mem, const struct input *in, const struct initrd_room *room,
                uint64_t *gpa, struct err *err)
{
    uint64_t top = mem->regions[0].size, floor = room->floor;
    if (in->bytes == 0)
        return err_set(err, ENODATA, "the file is empty");
    if (room->max < top - 1)
        top = room->max + 1;
    if (in->bytes > top || floor > ((top - in->bytes) & ~(uint64_t)(MEM_PAGE - 1)))
        return err_set(err, ENOSPC,
                       "%" PRIu64 " bytes do not fit between the kernel's end at 0x%" PRIx64
                       " and 0x%" PRIx64 ": the guest needs more memory",
                       in->bytes, floor, top);
    *gpa = (top - in->bytes) & ~(uint64_t)(MEM_PAGE - 1);
    return mem_write_from_fd(mem, *gpa, in->fd, in->at, in->bytes, err);
}
