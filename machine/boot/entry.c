/*
 * See entry.h.
 *
 * Both protocols get the same flat segments: code at selector 0x10, data at 0x18, an empty task
 * segment. PVH asks for no GDT, but a kernel that reloads a segment before it has its own then
 * finds what it expects.
 */
#include "machine/boot/entry.h"

#include <string.h>

#include "base/le.h"
#include "machine/layout.h"

#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TSS 0x20
#define GDT_SLOTS 5u

#define DESCRIPTOR_CODE32 0x00cf9b000000ffffu
#define DESCRIPTOR_CODE64 0x00af9b000000ffffu
#define DESCRIPTOR_DATA 0x00cf93000000ffffu
#define DESCRIPTOR_TSS 0x00008b0000000067u

#define CR0_PE 0x1u
#define CR0_ET 0x10u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define RFLAGS_FIXED 0x2u

#define TABLE_BYTES 4096u
#define DIRECTORIES 4u  /* of 1 GiB each */
#define PAGE_TABLE 0x3u /* present, writable */
#define PAGE_2M 0x83u

static int write_gdt(struct mem *mem, enum boot_protocol protocol, struct err *err)
{
    uint8_t gdt[GDT_SLOTS * 8] = {0};
    bool wide = protocol == BOOT_LINUX64;
    le_put(gdt + SELECTOR_CODE, wide ? DESCRIPTOR_CODE64 : DESCRIPTOR_CODE32, 8);
    le_put(gdt + SELECTOR_DATA, DESCRIPTOR_DATA, 8);
    le_put(gdt + SELECTOR_TSS, DESCRIPTOR_TSS, 8);
    return mem_write(mem, LAYOUT_BOOT_GDT, gdt, sizeof(gdt), err);
}

static int write_page_tables(struct mem *mem, struct err *err)
{
    uint64_t pdpt = LAYOUT_BOOT_PAGES + TABLE_BYTES, pd = pdpt + TABLE_BYTES;
    uint8_t *to = mem_borrow(mem, LAYOUT_BOOT_PAGES, (2 + DIRECTORIES) * TABLE_BYTES, true, err);
    if (!to)
        return -err->code;
    le_put(to, pdpt | PAGE_TABLE, 8);
    for (unsigned i = 0; i < DIRECTORIES; i++)
        le_put(to + TABLE_BYTES + 8 * i, (pd + i * TABLE_BYTES) | PAGE_TABLE, 8);
    for (uint64_t i = 0; i < DIRECTORIES * 512; i++)
        le_put(to + 2 * TABLE_BYTES + 8 * i, (i << 21) | PAGE_2M, 8);
    return 0;
}

int entry_write(struct mem *mem, enum boot_protocol protocol, struct err *err)
{
    int rc = write_gdt(mem, protocol, err);
    return rc == 0 && protocol == BOOT_LINUX64 ? write_page_tables(mem, err) : rc;
}

static void set_segments(struct kvm_sregs *sregs, bool wide)
{
    struct kvm_segment code = {.limit = 0xffffffff,
                               .selector = SELECTOR_CODE,
                               .type = 0xb,
                               .present = 1,
                               .db = !wide,
                               .s = 1,
                               .l = wide,
                               .g = 1};
    struct kvm_segment data = code;
    data.selector = SELECTOR_DATA;
    data.type = 0x3;
    data.db = 1;
    data.l = 0;
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
    sregs->tr =
        (struct kvm_segment){.limit = 0x67, .selector = SELECTOR_TSS, .type = 0xb, .present = 1};
    sregs->gdt.base = LAYOUT_BOOT_GDT;
    sregs->gdt.limit = GDT_SLOTS * 8 - 1;
    sregs->idt.base = 0;
    sregs->idt.limit = 0;
}

void entry_regs(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    bool wide = entry->protocol == BOOT_LINUX64;
    *regs = (struct kvm_regs){.rip = entry->rip, .rflags = RFLAGS_FIXED};
    if (wide)
        regs->rsi = entry->info;
    else
        regs->rbx = entry->info;
    set_segments(sregs, wide);
    sregs->cr0 = CR0_PE | CR0_ET | (wide ? CR0_PG : 0);
    sregs->cr3 = wide ? LAYOUT_BOOT_PAGES : 0;
    sregs->cr4 = wide ? CR4_PAE : 0;
    sregs->efer = wide ? EFER_LME | EFER_LMA : 0;
}
