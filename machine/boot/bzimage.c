/* See bzimage.h. The names are those of the kernel's boot protocol document. */
#include "machine/boot/bzimage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/layout.h"

#define BOOT_FLAG 0xaa55u
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define MAGIC_AT 0x202u
#define JUMP_TARGET_AT 0x201u /* the header ends at 0x202 + this byte */
#define SECTOR 512u
#define DEFAULT_SECTORS 4u

#define VERSION_PAYLOAD 0x208u
#define VERSION_XLOADFLAGS 0x20cu
#define PAYLOAD_FIELDS_END 0x250u

bool bzimage_recognise(const uint8_t *head, size_t len)
{
    return len >= MAGIC_AT + 4 && memcmp(head + MAGIC_AT, "HdrS", 4) == 0;
}

static int read_header(struct bzimage *image, const struct input *in, struct err *err)
{
    uint8_t jump;
    int rc = input_read(in, JUMP_TARGET_AT, &jump, 1, err);
    if (rc < 0)
        return rc;
    size_t end = MAGIC_AT + jump, len = sizeof(image->header);
    if (end < PAYLOAD_FIELDS_END)
        return err_set(err, ENOEXEC, "setup header ends at 0x%zx (jump), before payload_length",
                       end);
    if (end - BZIMAGE_HEADER_AT < len)
        len = end - BZIMAGE_HEADER_AT;
    return input_read(in, BZIMAGE_HEADER_AT, &image->header, len, err);
}

static int check_header(const struct setup_header *h, struct err *err)
{
    if (h->boot_flag != BOOT_FLAG)
        return err_set(err, ENOEXEC, "boot sector mark (boot_flag) is 0x%x, not 0xaa55",
                       h->boot_flag);
    if (h->header != HEADER_MAGIC)
        return err_set(err, ENOEXEC, "setup header's mark (header) is not HdrS");
    if (h->version < VERSION_PAYLOAD)
        return err_set(err, ENOEXEC, "boot protocol version %u.%02u is too old, 2.08 is needed",
                       h->version >> 8, h->version & 0xff);
    if (!(h->loadflags & LOADED_HIGH))
        return err_set(err, ENOEXEC, "a zImage, not a bzImage (loadflags lacks LOADED_HIGH)");
    if (h->version >= VERSION_XLOADFLAGS && !(h->xloadflags & XLF_KERNEL_64))
        return err_set(err, ENOEXEC,
                       "a 32-bit kernel (xloadflags lacks XLF_KERNEL_64); 64-bit is needed");
    return 0;
}

int bzimage_open(struct bzimage *image, const struct input *in, struct err *err)
{
    struct input rest;
    *image = (struct bzimage){0};
    int rc = read_header(image, in, err);
    if (rc == 0)
        rc = check_header(&image->header, err);
    if (rc < 0)
        return rc;
    const struct setup_header *h = &image->header;
    uint64_t at = ((h->setup_sects ? h->setup_sects : DEFAULT_SECTORS) + 1u) * SECTOR;
    rc = input_part(in, at, (uint64_t)h->syssize * 16, "the protected-mode part (syssize)",
                    &image->code, err);
    if (rc == 0)
        rc = input_part(in, at, in->bytes - at, "the protected-mode part", &rest, err);
    if (rc < 0 || h->payload_length == 0)
        return rc;
    return input_part(&rest, h->payload_offset, h->payload_length,
                      "the packed kernel (payload_offset, payload_length)", &image->payload, err);
}

static bool fits(uint64_t gpa, uint64_t room, uint64_t ram_end)
{
    return gpa >= LAYOUT_HIGH_LOAD && gpa <= ram_end && room <= ram_end - gpa;
}

int bzimage_place(const struct bzimage *image, uint64_t ram_end, uint64_t *gpa, uint64_t *room,
                  struct err *err)
{
    const struct setup_header *h = &image->header;
    if (h->version < VERSION_XLOADFLAGS)
        return err_set(err, ENOEXEC,
                       "packed in an unknown way, and its boot protocol 2.%02u has no 64-bit entry "
                       "to unpack itself",
                       h->version & 0xff);
    *room = h->init_size > image->code.bytes ? h->init_size : image->code.bytes;
    *gpa = h->pref_address;
    if (fits(*gpa, *room, ram_end))
        return 0;
    uint64_t align = h->kernel_alignment ? h->kernel_alignment : 1;
    *gpa = (LAYOUT_HIGH_LOAD + align - 1) / align * align;
    if (h->relocatable_kernel && fits(*gpa, *room, ram_end))
        return 0;
    return err_set(err, ENOSPC,
                   "needs 0x%" PRIx64 " bytes (init_size) at 0x%" PRIx64
                   " (pref_address), which the RAM below 0x%" PRIx64 " does not hold",
                   *room, (uint64_t)h->pref_address, ram_end);
}
