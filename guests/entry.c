/* Where C begins, on every CPU, at CPL 3. */
#include "guest.h"

#define START_MAGIC 0x336ec578

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t module_list, cmdline, rsdp;
};

extern unsigned char bss_start[], bss_end[];
void cpus_entry(struct cpu *cpu) __attribute__((noreturn));

__attribute__((weak)) void guest_early(void)
{
}

/* The start info, or NULL when another kind of loader left nothing behind. */
static const struct start_info *start_info_at(uint32_t addr)
{
    const struct start_info *info = (const void *)(uintptr_t)addr;

    return addr % 4 == 0 && addr && info->magic == START_MAGIC ? info : NULL;
}

static void init_cpu(struct cpu *cpu, unsigned index)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->index = index;
}

void guest_entry(unsigned index, uint32_t info_addr) __attribute__((noreturn));
void guest_entry(unsigned index, uint32_t info_addr)
{
    const struct start_info *info;

    init_cpu(cpu_at(index), index);
    if (index)
        cpus_entry(cpu_at(index));
    serial_init();
    guest_early();
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    info = start_info_at(info_addr);
    cmdline_init(info ? (const char *)(uintptr_t)info->cmdline : NULL);
    acpi_init(info ? info->rsdp : 0);
    mem_init(info);
    guest_main();
    power_off();
}
