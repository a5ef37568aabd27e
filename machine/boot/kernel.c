/* See kernel.h. */
#include "machine/boot/kernel.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/boot/bzimage.h"
#include "machine/boot/elf.h"
#include "machine/boot/linux_params.h"
#include "machine/boot/unpack.h"
#include "machine/layout.h"

#define HEAD_BYTES 4096u
#define ENTRY64_OFFSET 0x200u

static int set_entry(struct kernel *kernel, const struct elf_image *image, const struct mem *mem,
                     const char *what, uint64_t entry, struct err *err)
{
    if (entry > UINT32_MAX || !elf_holds(image, entry))
        return err_set(err, ENOEXEC, "%s 0x%" PRIx64 " is outside of its segments or above 4 GiB",
                       what, entry);
    kernel->rip = entry;
    kernel->end = elf_end_below(image, mem->regions[0].size);
    return 0;
}

static int load_elf(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err)
{
    struct elf_image image;
    bool pvh = false;
    uint64_t entry;
    int rc = elf_open(&image, in, mem, err);
    if (rc == 0)
        rc = elf_find_pvh(&image, in, &pvh, &entry, err);
    if (rc < 0)
        return rc;
    kernel->protocol = pvh ? BOOT_PVH : BOOT_LINUX64;
    rc = pvh ? set_entry(kernel, &image, mem, "the PVH entry", entry, err)
             : set_entry(kernel, &image, mem, "the entry (e_entry)", image.entry, err);
    return rc < 0 ? rc : elf_load(&image, in, mem, err);
}

/*
 * An ELF file that arrives in pieces: its first bytes are kept until the headers can be read from
 * them, everything goes where the segments say.
 */
struct arriving {
    struct mem *mem;
    struct kernel *kernel;
    struct elf_image image;
    uint64_t at, bytes; /* of the whole file: how much has arrived, and its size */
    bool parsed;
    size_t head_bytes;
    uint8_t head[HEAD_BYTES];
};

static int read_head(void *ctx, uint64_t at, void *to, size_t len, struct err *err)
{
    const struct arriving *a = ctx;
    if (at > a->head_bytes || len > a->head_bytes - at)
        return err_set(err, ENOEXEC,
                       "the program headers (e_phoff 0x%" PRIx64 ") are behind the first %u bytes",
                       at, HEAD_BYTES);
    memcpy(to, a->head + at, len);
    return 0;
}

static int parse_head(struct arriving *a, struct err *err)
{
    struct elf_reader reader = {.read = read_head, .ctx = a, .bytes = a->bytes};
    int rc = elf_parse(&a->image, &reader, err);
    if (rc == 0)
        rc = elf_check(&a->image, a->mem, err);
    if (rc == 0)
        rc = set_entry(a->kernel, &a->image, a->mem, "the entry (e_entry)", a->image.entry, err);
    a->parsed = true;
    return rc < 0 ? rc : elf_take(&a->image, a->mem, 0, a->head, a->head_bytes, err);
}

static int take_piece(void *ctx, const uint8_t *data, size_t len, struct err *err)
{
    struct arriving *a = ctx;
    if (!a->parsed) {
        size_t room = HEAD_BYTES - a->head_bytes, n = len < room ? len : room;
        memcpy(a->head + a->head_bytes, data, n);
        a->head_bytes += n;
        a->at += n;
        data += n;
        len -= n;
        if (a->head_bytes < HEAD_BYTES && a->at < a->bytes)
            return 0;
        int rc = parse_head(a, err);
        if (rc < 0)
            return rc;
    }
    int rc = elf_take(&a->image, a->mem, a->at, data, len, err);
    a->at += len;
    return rc;
}

static int load_packed(struct mem *mem, const struct unpacker *unpacker, const struct input *in,
                       struct kernel *kernel, struct err *err)
{
    struct arriving a = {.mem = mem, .kernel = kernel};
    struct unpack_sink sink = {.take = take_piece, .ctx = &a};
    int rc = unpack_size(in, mem->size, &a.bytes, err);
    if (rc == 0)
        rc = unpack_run(unpacker, in, a.bytes, &sink, err);
    if (rc == 0 && !a.parsed)
        rc = err_set(err, ENODATA, "%s data unpacks to nothing", unpack_name(unpacker));
    return rc < 0 ? err_wrap(err, "the packed kernel in it") : 0;
}

static int load_unpacking_itself(struct mem *mem, const struct bzimage *image,
                                 struct kernel *kernel, struct err *err)
{
    uint64_t gpa, room;
    int rc = bzimage_place(image, mem->regions[0].size, &gpa, &room, err);
    if (rc < 0)
        return rc;
    if (image->code.bytes <= ENTRY64_OFFSET)
        return err_set(err, ENOEXEC,
                       "the protected-mode part (syssize) of %" PRIu64
                       " bytes ends before the 64-bit entry",
                       image->code.bytes);
    kernel->rip = gpa + ENTRY64_OFFSET;
    kernel->end = gpa + room;
    kernel->header.code32_start = (uint32_t)gpa;
    return mem_write_from_fd(mem, gpa, image->code.fd, image->code.at, image->code.bytes, err);
}

static int load_bzimage(struct mem *mem, const struct input *in, struct kernel *kernel,
                        struct err *err)
{
    struct bzimage image;
    uint8_t magic[UNPACK_MAGIC_MAX];
    const struct unpacker *unpacker = NULL;
    int rc = bzimage_open(&image, in, err);
    if (rc == 0 && image.payload.bytes >= sizeof(magic)) {
        rc = input_read(&image.payload, 0, magic, sizeof(magic), err);
        unpacker = unpack_find(magic);
    }
    if (rc < 0)
        return rc;
    kernel->protocol = BOOT_LINUX64;
    kernel->header = image.header;
    kernel->initrd_max = image.header.initrd_addr_max;
    kernel->cmdline_max = image.header.cmdline_size;
    return unpacker ? load_packed(mem, unpacker, &image.payload, kernel, err)
                    : load_unpacking_itself(mem, &image, kernel, err);
}

static const struct kind {
    bool (*recognise)(const uint8_t *head, size_t len);
    int (*load)(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err);
} kinds[] = {
    {elf_recognise, load_elf},
    {bzimage_recognise, load_bzimage},
};

static int refuse(const uint8_t *head, size_t len, struct err *err)
{
    const struct unpacker *unpacker = len >= UNPACK_MAGIC_MAX ? unpack_find(head) : NULL;
    if (len == 0)
        return err_set(err, ENODATA, "the file is empty");
    if (unpacker)
        return err_set(err, ENOEXEC, "a bare %s file; give it unpacked", unpack_name(unpacker));
    return err_set(err, ENOEXEC, "neither an ELF file nor a Linux bzImage");
}

int kernel_load(struct mem *mem, const struct input *in, struct kernel *kernel, struct err *err)
{
    uint8_t head[HEAD_BYTES];
    size_t len = in->bytes < sizeof(head) ? in->bytes : sizeof(head);
    *kernel = (struct kernel){.initrd_max = UINT32_MAX, .cmdline_max = LAYOUT_CMDLINE_MAX - 1};
    linux_params_default_header(&kernel->header);
    int rc = input_read(in, 0, head, len, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (kinds[i].recognise(head, len))
            return kinds[i].load(mem, in, kernel, err);
    return refuse(head, len, err);
}
