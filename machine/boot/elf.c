/*
 * See elf.h.
 *
 * Zeroes behind a segment's file bytes (its BSS) are not written: RAM reads as zero when the
 * machine is new and again after a reset, which gives it back first, and nothing else writes there
 * since segments do not overlap each other or the loader's own structures.
 */
#include "machine/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/le.h"
#include "machine/layout.h"

#define XEN_NOTE_PHYS32_ENTRY 18
#define NOTE_HEADER 12u

bool elf_recognise(const uint8_t *head, size_t len)
{
    return len >= SELFMAG && memcmp(head, ELFMAG, SELFMAG) == 0;
}

static int check_ident(const Elf64_Ehdr *h, struct err *err)
{
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, ENOEXEC, "not an ELF file");
    if (h->e_ident[EI_CLASS] != ELFCLASS64)
        return err_set(err, ENOEXEC, "ELF class (EI_CLASS) is %u, not 64-bit (2)",
                       h->e_ident[EI_CLASS]);
    if (h->e_ident[EI_DATA] != ELFDATA2LSB)
        return err_set(err, ENOEXEC, "ELF byte order (EI_DATA) is %u, not little-endian (1)",
                       h->e_ident[EI_DATA]);
    if (h->e_ident[EI_VERSION] != EV_CURRENT || h->e_version != EV_CURRENT)
        return err_set(err, ENOEXEC, "ELF version (e_version) is %" PRIu32 ", not 1", h->e_version);
    return 0;
}

static int check_header(const Elf64_Ehdr *h, struct err *err)
{
    int rc = check_ident(h, err);
    if (rc < 0)
        return rc;
    if (h->e_machine != EM_X86_64)
        return err_set(err, ENOEXEC, "ELF machine (e_machine) is %u, not x86-64 (62)",
                       h->e_machine);
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return err_set(err, ENOEXEC, "ELF type (e_type) is %u, not a program (2 or 3)", h->e_type);
    if (h->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(err, ENOEXEC, "size of a program header (e_phentsize) is %u, not %zu",
                       h->e_phentsize, sizeof(Elf64_Phdr));
    if (h->e_phnum == 0 || h->e_phnum > ELF_HEADERS_MAX)
        return err_set(err, ENOEXEC, "number of program headers (e_phnum) is %u, not 1 to %u",
                       h->e_phnum, ELF_HEADERS_MAX);
    return 0;
}

static int check_file_range(const Elf64_Phdr *p, unsigned i, uint64_t file_bytes, struct err *err)
{
    if (p->p_offset > file_bytes || p->p_filesz > file_bytes - p->p_offset)
        return err_set(err, ENODATA,
                       "truncated: program header %u wants 0x%" PRIx64
                       " bytes (p_filesz) at 0x%" PRIx64
                       " (p_offset), but the file has only 0x%" PRIx64,
                       i, p->p_filesz, p->p_offset, file_bytes);
    return 0;
}

static int add_segment(struct elf_image *image, const Elf64_Phdr *p, unsigned i,
                       uint64_t file_bytes, struct err *err)
{
    if (p->p_filesz > p->p_memsz)
        return err_set(err, ENOEXEC,
                       "program header %u: p_filesz 0x%" PRIx64 " is more than p_memsz 0x%" PRIx64,
                       i, p->p_filesz, p->p_memsz);
    if (p->p_memsz == 0)
        return 0;
    if (p->p_paddr + (p->p_memsz - 1) < p->p_paddr)
        return err_set(err, ENOEXEC,
                       "program header %u: p_paddr 0x%" PRIx64 " and p_memsz 0x%" PRIx64 " wrap", i,
                       p->p_paddr, p->p_memsz);
    image->segments[image->nsegments++] = (struct elf_segment){.gpa = p->p_paddr,
                                                               .mem_bytes = p->p_memsz,
                                                               .offset = p->p_offset,
                                                               .file_bytes = p->p_filesz};
    return p->p_filesz ? check_file_range(p, i, file_bytes, err) : 0;
}

static int add_header(struct elf_image *image, const Elf64_Phdr *p, unsigned i, uint64_t file_bytes,
                      struct err *err)
{
    if (p->p_type == PT_LOAD)
        return add_segment(image, p, i, file_bytes, err);
    if (p->p_type != PT_NOTE)
        return 0;
    image->notes[image->nnotes++] = (struct elf_note){
        .offset = p->p_offset, .bytes = p->p_filesz, .align = p->p_align == 8 ? 8 : 4};
    return check_file_range(p, i, file_bytes, err);
}

int elf_parse(struct elf_image *image, const struct elf_reader *reader, struct err *err)
{
    Elf64_Ehdr h;
    Elf64_Phdr table[ELF_HEADERS_MAX];
    *image = (struct elf_image){0};
    if (reader->bytes < sizeof(h))
        return err_set(err, ENODATA, "truncated: %" PRIu64 " bytes are less than an ELF header",
                       reader->bytes);
    int rc = reader->read(reader->ctx, 0, &h, sizeof(h), err);
    if (rc == 0)
        rc = check_header(&h, err);
    if (rc < 0)
        return rc;
    uint64_t table_bytes = h.e_phnum * sizeof(table[0]);
    if (h.e_phoff > reader->bytes || table_bytes > reader->bytes - h.e_phoff)
        return err_set(err, ENODATA,
                       "truncated: the program headers (e_phoff 0x%" PRIx64
                       ", e_phnum %u) end behind the file's 0x%" PRIx64 " bytes",
                       h.e_phoff, h.e_phnum, reader->bytes);
    rc = reader->read(reader->ctx, h.e_phoff, table, table_bytes, err);
    image->entry = h.e_entry;
    for (unsigned i = 0; rc == 0 && i < h.e_phnum; i++)
        rc = add_header(image, &table[i], i, reader->bytes, err);
    if (rc == 0 && image->nsegments == 0)
        rc = err_set(err, ENOEXEC, "no program header is a PT_LOAD with p_memsz above 0");
    return rc;
}

static int check_place(const struct elf_segment *s, const struct mem *mem, struct err *err)
{
    uint64_t offset, last = s->gpa + (s->mem_bytes - 1);
    if (s->gpa < LAYOUT_HIGH_LOAD)
        return err_set(err, ENOEXEC,
                       "segment 0x%" PRIx64 "-0x%" PRIx64
                       " (p_paddr) begins below 1 MiB, where the boot structures are",
                       s->gpa, last);
    if (mem_offset(mem, s->gpa, s->mem_bytes, &offset) < 0)
        return err_set(err, ENOSPC,
                       "segment 0x%" PRIx64 "-0x%" PRIx64
                       " (p_paddr, p_memsz) is outside of the guest's %" PRIu64 " MiB of RAM",
                       s->gpa, last, mem->size >> 20);
    return 0;
}

static bool overlap(const struct elf_segment *a, const struct elf_segment *b)
{
    return a->gpa < b->gpa + b->mem_bytes && b->gpa < a->gpa + a->mem_bytes;
}

int elf_check(const struct elf_image *image, const struct mem *mem, struct err *err)
{
    for (unsigned i = 0; i < image->nsegments; i++) {
        const struct elf_segment *s = &image->segments[i];
        int rc = check_place(s, mem, err);
        if (rc < 0)
            return rc;
        for (unsigned j = 0; j < i; j++)
            if (overlap(s, &image->segments[j]))
                return err_set(err, ENOEXEC,
                               "segments at 0x%" PRIx64 " and 0x%" PRIx64 " (p_paddr) overlap",
                               image->segments[j].gpa, s->gpa);
    }
    return 0;
}

static int read_input(void *ctx, uint64_t at, void *to, size_t len, struct err *err)
{
    return input_read(ctx, at, to, len, err);
}

int elf_open(struct elf_image *image, const struct input *in, const struct mem *mem,
             struct err *err)
{
    struct input copy = *in;
    struct elf_reader reader = {.read = read_input, .ctx = &copy, .bytes = in->bytes};
    int rc = elf_parse(image, &reader, err);
    return rc < 0 ? rc : elf_check(image, mem, err);
}

int elf_load(const struct elf_image *image, const struct input *in, struct mem *mem,
             struct err *err)
{
    for (unsigned i = 0; i < image->nsegments; i++) {
        const struct elf_segment *s = &image->segments[i];
        int rc = mem_write_from_fd(mem, s->gpa, in->fd, in->at + s->offset, s->file_bytes, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int elf_take(const struct elf_image *image, struct mem *mem, uint64_t at, const uint8_t *data,
             size_t len, struct err *err)
{
    for (unsigned i = 0; i < image->nsegments; i++) {
        const struct elf_segment *s = &image->segments[i];
        uint64_t from = s->offset > at ? s->offset : at;
        uint64_t seg_end = s->offset + s->file_bytes, end = at + len;
        uint64_t to = seg_end < end ? seg_end : end;
        if (from >= to)
            continue;
        int rc = mem_write(mem, s->gpa + (from - s->offset), data + (from - at), to - from, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

bool elf_holds(const struct elf_image *image, uint64_t gpa)
{
    for (unsigned i = 0; i < image->nsegments; i++)
        if (gpa >= image->segments[i].gpa &&
            gpa - image->segments[i].gpa < image->segments[i].mem_bytes)
            return true;
    return false;
}

uint64_t elf_end_below(const struct elf_image *image, uint64_t limit)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < image->nsegments; i++) {
        const struct elf_segment *s = &image->segments[i];
        if (s->gpa < limit && s->gpa + s->mem_bytes > end)
            end = s->gpa + s->mem_bytes;
    }
    return end;
}

static uint64_t round_up(uint64_t value, uint64_t align)
{
    return (value + align - 1) & ~(align - 1);
}

static int take_entry(const uint8_t *desc, uint32_t desc_bytes, bool *found, uint64_t *entry,
                      struct err *err)
{
    if (desc_bytes != 4 && desc_bytes != 8)
        return err_set(err, ENOEXEC,
                       "PVH note: its value (n_descsz) has %" PRIu32 " bytes, not 4 or 8",
                       desc_bytes);
    *found = true;
    *entry = le_get(desc, desc_bytes);
    return 0;
}

/*
 * A note: u32 n_namesz, n_descsz, n_type; the name; the value; the two padded to `align`. What
 * does not fit is no note: the search ends there, as other loaders do.
 */
static int search_notes(const uint8_t *at, uint64_t left, uint64_t align, bool *found,
                        uint64_t *entry, struct err *err)
{
    while (left >= NOTE_HEADER) {
        uint32_t name_bytes = (uint32_t)le_get(at, 4), desc_bytes = (uint32_t)le_get(at + 4, 4);
        uint64_t desc_at = round_up(NOTE_HEADER + (uint64_t)name_bytes, align);
        uint64_t next = round_up(desc_at + desc_bytes, align);
        if (desc_at + desc_bytes > left)
            return 0;
        if (le_get(at + 8, 4) == XEN_NOTE_PHYS32_ENTRY && name_bytes == 4 &&
            memcmp(at + NOTE_HEADER, "Xen", 4) == 0)
            return take_entry(at + desc_at, desc_bytes, found, entry, err);
        if (next > left)
            return 0;
        at += next;
        left -= next;
    }
    return 0;
}

int elf_find_pvh(const struct elf_image *image, const struct input *in, bool *found,
                 uint64_t *entry, struct err *err)
{
    *found = false;
    for (unsigned i = 0; i < image->nnotes && !*found; i++) {
        const struct elf_note *n = &image->notes[i];
        if (n->bytes > ELF_NOTE_MAX)
            return err_set(err, ENOEXEC,
                           "a PT_NOTE has 0x%" PRIx64 " bytes (p_filesz), more than 0x%x", n->bytes,
                           ELF_NOTE_MAX);
        CLEAN(clean_free) uint8_t *bytes = malloc(n->bytes + 1);
        if (!bytes)
            return err_set(err, ENOMEM, "out of memory");
        int rc = input_read(in, n->offset, bytes, n->bytes, err);
        if (rc == 0)
            rc = search_notes(bytes, n->bytes, n->align, found, entry, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}
