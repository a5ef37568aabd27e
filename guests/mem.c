/*
 * RAM: which there is, what of it is free, and its mapping above 4 GiB.
 *
 * Everything that the loader left in RAM (command line, memory map, ACPI tables) has been read
 * and copied before the first mem_take, so all RAM behind the image may be given out.
 */
#include "guest.h"

#define MAX_RUNS 64
#define PAGE 4096ul
#define RAM 1
#define GIB (1ul << 30)
#define PAGE_DIRECTORY_FLAGS 0x27
#define HUGE_PAGE_FLAGS 0xe7

struct start_info_map {
    uint32_t magic, version;
    uint64_t unused[4];
    uint64_t map;
    uint32_t entries;
};

struct map_entry {
    uint64_t addr, size;
    uint32_t type, reserved;
};

extern unsigned char image_end[];
static struct mem_run free_runs[MAX_RUNS];
static unsigned nr_runs;
static uint64_t total_bytes;
static uint64_t mapped_gib = 4; /* 0 .. this are mapped */

void *memset(void *dst, int c, size_t n)
{
    void *d = dst;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return dst;
}

void *memcpy(void *dst, const void *src, size_t n)
{
    void *d = dst;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
    return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *p = a, *q = b;

    for (size_t i = 0; i < n; i++)
        if (p[i] != q[i])
            return p[i] < q[i] ? -1 : 1;
    return 0;
}

static void add_run(uint64_t addr, uint64_t end)
{
    uint64_t first = ((uintptr_t)image_end + PAGE - 1) & ~(PAGE - 1);

    addr = (addr + PAGE - 1) & ~(PAGE - 1);
    end &= ~(PAGE - 1);
    if (addr < first)
        addr = first;
    if (addr < end && nr_runs < MAX_RUNS)
        free_runs[nr_runs++] = (struct mem_run){addr, end - addr};
}

void mem_init(const void *start_info)
{
    const struct start_info_map *info = start_info;
    const struct map_entry *e;

    if (!info || info->version < 1)
        return;
    e = (const struct map_entry *)(uintptr_t)info->map;
    for (uint32_t i = 0; i < info->entries; i++, e++) {
        if (e->type != RAM)
            continue;
        total_bytes += e->size;
        add_run(e->addr, e->addr + e->size);
    }
}

uint64_t mem_total(void)
{
    return total_bytes;
}

/* A zeroed page below 4 GiB, or 0. */
static uint64_t *take_table(void)
{
    for (unsigned i = 0; i < nr_runs; i++) {
        struct mem_run *r = &free_runs[i];

        if (r->bytes < PAGE || r->addr >= 4 * GIB)
            continue;
        r->addr += PAGE;
        r->bytes -= PAGE;
        return memset((void *)(uintptr_t)(r->addr - PAGE), 0, PAGE);
    }
    return NULL;
}

static uint64_t *table_behind(volatile uint64_t *entry)
{
    uint64_t *table;

    if (*entry & 1)
        return (uint64_t *)(uintptr_t)(*entry & ~0xffful);
    table = take_table();
    if (table)
        *entry = (uintptr_t)table + PAGE_DIRECTORY_FLAGS;
    return table;
}

static bool map_gib(uint64_t gib)
{
    volatile uint64_t *pml4 = (volatile uint64_t *)PML4_BASE;
    uint64_t *pdpt = table_behind(&pml4[gib >> 9]);
    uint64_t *pd = pdpt ? take_table() : NULL;

    if (!pd)
        return false;
    for (uint64_t i = 0; i < 512; i++)
        pd[i] = gib * GIB + (i << 21) + HUGE_PAGE_FLAGS;
    *(volatile uint64_t *)&pdpt[gib & 511] = (uintptr_t)pd + PAGE_DIRECTORY_FLAGS;
    return true;
}

static bool map_up_to(uint64_t end)
{
    while (mapped_gib * GIB < end) {
        if (!map_gib(mapped_gib))
            return false;
        mapped_gib++;
    }
    return true;
}

unsigned mem_take(uint64_t want, struct mem_run *runs, unsigned max)
{
    uint64_t above = cmdline_number("above", 0);
    unsigned n = 0;

    want = want > UINT64_MAX - PAGE ? want : (want + PAGE - 1) & ~(PAGE - 1);
    for (unsigned i = 0; i < nr_runs && want && n < max; i++) {
        struct mem_run *r = &free_runs[i];
        uint64_t part = r->bytes < want ? r->bytes : want;

        if (!part || r->addr + r->bytes <= above || !map_up_to(r->addr + part))
            continue;
        part = r->bytes < part ? r->bytes : part; /* page tables may have come out of it */
        runs[n++] = (struct mem_run){r->addr, part};
        r->addr += part;
        r->bytes -= part;
        want -= part;
    }
    return n;
}
