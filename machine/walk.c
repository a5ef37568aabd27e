/* See walk.h. */
#include "machine/walk.h"

#include <stdbool.h>

#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define EFER_LMA (1ull << 10)
#define ENTRY_PRESENT 1ull
#define ENTRY_LARGE (1ull << 7)
#define ADDRESS_MASK 0x000ffffffffff000ull

/* How one paging mode cuts an address. */
struct shape {
    unsigned levels, bits, entry_bytes; /* bits of index a level */
    unsigned large_levels;              /* lowest levels (without the last) that may end the walk */
};

static struct shape shape_of(const struct walk_mode *m)
{
    if (m->efer & EFER_LMA)
        return (struct shape){
            .levels = m->cr4 & CR4_LA57 ? 5 : 4, .bits = 9, .entry_bytes = 8, .large_levels = 2};
    if (m->cr4 & CR4_PAE)
        return (struct shape){.levels = 3, .bits = 9, .entry_bytes = 8, .large_levels = 1};
    return (struct shape){
        .levels = 2, .bits = 10, .entry_bytes = 4, .large_levels = m->cr4 & CR4_PSE ? 1 : 0};
}

/* 4 MiB pages of the 2-level mode keep address bits 32..39 in entry bits 13..20. */
static uint64_t large_base(const struct shape *s, uint64_t entry, unsigned shift)
{
    if (s->entry_bytes == 4)
        return (entry & 0xffc00000u) | (entry >> 13 & 0xff) << 32;
    return entry & ADDRESS_MASK & ~((1ull << shift) - 1);
}

int walk_translate(const struct mem *mem, const struct walk_mode *m, uint64_t va, uint64_t *gpa)
{
    struct err ignored;
    if (!(m->cr0 & CR0_PG)) {
        *gpa = va & 0xffffffffu;
        return 0;
    }
    struct shape s = shape_of(m);
    uint64_t table = s.levels == 3 ? m->cr3 & 0xffffffe0u : m->cr3 & ADDRESS_MASK;
    for (unsigned level = s.levels; level > 0; level--) {
        unsigned shift = 12 + s.bits * (level - 1);
        uint64_t index = va >> shift & ((1ull << s.bits) - 1), entry = 0;
        if (mem_read(mem, table + index * s.entry_bytes, &entry, s.entry_bytes, &ignored) < 0 ||
            !(entry & ENTRY_PRESENT))
            return -1;
        bool large = level > 1 && level - 1 <= s.large_levels && (entry & ENTRY_LARGE);
        if (large || level == 1) {
            uint64_t base = large ? large_base(&s, entry, shift) : entry & ADDRESS_MASK;
            *gpa = base | (va & ((1ull << shift) - 1));
            return 0;
        }
        table = entry & ADDRESS_MASK;
    }
    return -1;
}

size_t walk_read(const struct mem *mem, const struct walk_mode *mode, uint64_t va, void *to,
                 size_t len)
{
    struct err ignored;
    for (size_t i = 0; i < len; i++) {
        uint64_t gpa;
        if (walk_translate(mem, mode, va + i, &gpa) < 0 ||
            mem_read(mem, gpa, (uint8_t *)to + i, 1, &ignored) < 0)
            return i;
    }
    return len;
}
