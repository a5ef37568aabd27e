/* The registers of the msr guest: what a VMM has to save, and a guest may change freely. */
#include "msr.h"

#define ALL UINT64_MAX
#define PHYS_PAGES 0x0000000ffffff000ul /* of 36 bits of address, which every CPU has */

static volatile uint32_t wall_clock[3] __attribute__((aligned(16)));

/* Eight memory types, each of 0, 1, 4, 5, 6, 7. */
static uint64_t make_pat(uint64_t random)
{
    static const uint8_t types[] = {0, 1, 4, 5, 6, 7, 6, 6};
    uint64_t pat = 0;

    for (int i = 0; i < 8; i++)
        pat |= (uint64_t)types[random >> (8 * i) & 7] << (8 * i);
    return pat;
}

/* Eight types of a fixed range, each of 0, 1, 4, 5, 6. */
static uint64_t make_fixed(uint64_t random)
{
    static const uint8_t types[] = {0, 1, 4, 5, 6, 6, 6, 6};
    uint64_t fixed = 0;

    for (int i = 0; i < 8; i++)
        fixed |= (uint64_t)types[random >> (8 * i) & 7] << (8 * i);
    return fixed;
}

static uint64_t make_base(uint64_t random)
{
    return (random & PHYS_PAGES) | 6;
}

static uint64_t make_mask(uint64_t random)
{
    return (PHYS_PAGES & ~((1ul << (12 + random % 24)) - 1)) | (random >> 20 & 0x800);
}

static uint64_t make_wall_clock(uint64_t random)
{
    (void)random;
    return (uintptr_t)wall_clock;
}

const struct reg msr_table[] = {
    {"STAR", 0xc0000081, ALL, 0, false, NULL},
    {"LSTAR", 0xc0000082, ALL, 0, true, NULL},
    {"CSTAR", 0xc0000083, ALL, 0, true, NULL},
    {"FMASK", 0xc0000084, 0xffffffff, 0, false, NULL},
    {"FS_BASE", 0xc0000100, ALL, 0, true, NULL},
    {"GS_BASE", 0xc0000101, ALL, 0, true, NULL},
    {"KERNEL_GS_BASE", 0xc0000102, ALL, 0, true, NULL},
    {"TSC_AUX", 0xc0000103, 0xffffffff, 0, false, NULL},
    {"SYSENTER_CS", 0x174, 0xffff, 0, false, NULL},
    {"SYSENTER_ESP", 0x175, ALL, 0, true, NULL},
    {"SYSENTER_EIP", 0x176, ALL, 0, true, NULL},
    {"PAT", 0x277, 0, 0, false, make_pat},
    {"MTRR_BASE0", 0x200, 0, 0, false, make_base},
    {"MTRR_MASK0", 0x201, 0, 0, false, make_mask},
    {"MTRR_BASE1", 0x202, 0, 0, false, make_base},
    {"MTRR_MASK1", 0x203, 0, 0, false, make_mask},
    {"MTRR_BASE7", 0x20e, 0, 0, false, make_base},
    {"MTRR_MASK7", 0x20f, 0, 0, false, make_mask},
    {"MTRR_FIX64K", 0x250, 0, 0, false, make_fixed},
    {"MTRR_FIX16K_8", 0x258, 0, 0, false, make_fixed},
    {"MTRR_FIX16K_A", 0x259, 0, 0, false, make_fixed},
    {"MTRR_FIX4K_C0", 0x268, 0, 0, false, make_fixed},
    {"MTRR_FIX4K_F8", 0x26f, 0, 0, false, make_fixed},
    {"KVM_WALL_CLOCK", 0x4b564d00, 0, 0, false, make_wall_clock},
    {"KVM_POLL_CONTROL", 0x4b564d05, 1, 0, false, NULL},
    {"XSS", 0xda0, 0, 0, false, NULL},
    {"UMWAIT_CONTROL", 0xe1, 0xfffffffd, 0, false, NULL},
    {"MCG_STATUS", 0x17a, 3, 0, false, NULL},
    {"MC0_ADDR", 0x402, ALL, 0, false, NULL},
    {"MC0_MISC", 0x403, ALL, 0, false, NULL},
    {"APIC_BASE", 0x1b, 0, 0, false, NULL},
    {"FEATURE_CONTROL", 0x3a, 0, 0, false, NULL},
    {"TSC_ADJUST", 0x3b, 0, 0, false, NULL},
    {"SPEC_CTRL", 0x48, 0, 0, false, NULL},
    {"UCODE_REV", 0x8b, 0, 0, false, NULL},
    {"PLATFORM_INFO", 0xce, 0, 0, false, NULL},
    {"MTRR_CAP", 0xfe, 0, 0, false, NULL},
    {"ARCH_CAPABILITIES", 0x10a, 0, 0, false, NULL},
    {"MCG_CAP", 0x179, 0, 0, false, NULL},
    {"MISC_ENABLE", 0x1a0, 0, 0, false, NULL},
    {"DEBUGCTL", 0x1d9, 0, 0, false, NULL},
    {"MTRR_DEF_TYPE", 0x2ff, 0, 0, false, NULL},
    {"EFER", 0xc0000080, 0, 0, false, NULL},
    {"KVM_SYSTEM_TIME", 0x4b564d01, 0, 0, false, NULL},
    {"KVM_ASYNC_PF_EN", 0x4b564d02, 0, 0, false, NULL},
    {"KVM_STEAL_TIME", 0x4b564d03, 0, 0, false, NULL},
    {"KVM_PV_EOI", 0x4b564d04, 0, 0, false, NULL},
    {"KVM_ASYNC_PF_INT", 0x4b564d06, 0, 0, false, NULL},
    {NULL, 0, 0, 0, false, NULL},
};

/* Breakpoints on addresses that nobody uses: DR7 arms some, for data, of any length. */
static uint64_t make_address(uint64_t random)
{
    return 0xffff900000000000ul | (random & 0xffffffff8);
}

static uint64_t make_dr7(uint64_t random)
{
    return 0x400 | 0x33330000 | (random & 0xcccc0000) | (random & 0xff);
}

const struct reg dr_table[] = {
    {"dr0", 0, 0, 0, false, make_address},
    {"dr1", 1, 0, 0, false, make_address},
    {"dr2", 2, 0, 0, false, make_address},
    {"dr3", 3, 0, 0, false, make_address},
    {"dr6", 6, 0xf, 0xffff0ff0, false, NULL},
    {"dr7", 7, 0, 0, false, make_dr7},
    {NULL, 0, 0, 0, false, NULL},
};

/* Of CR8 only what lets the timer through. */
const struct reg cr_table[] = {
    {"cr0", 0, 0, 0, false, NULL}, {"cr2", 2, ALL, 0, false, NULL}, {"cr3", 3, 0, 0, false, NULL},
    {"cr4", 4, 0, 0, false, NULL}, {"cr8", 8, 1, 0, false, NULL},   {NULL, 0, 0, 0, false, NULL},
};
