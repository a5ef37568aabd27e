/*
 * State with right checksums that says what no machine ever was: forbidden MSRs, garbage in every
 * chip, control registers that cannot be. A machine is refused with a sentence that names what, or
 * it runs as well as such a machine can; and the next one, from good state, is right again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/state.h"
#include "machine/vcpu_state.h"
#include "machine/vm_state.h"
#include "tests/kvm/host.h"
#include "tests/kvm/rig.h"

#define MEMORY (16ull << 20)
#define FLIPS 60
#define FLIPS_LONG 2000

/* One good machine taken apart: KVM's sections as values, all others as bytes. */
struct parts {
    struct vm_state vm;
    struct vcpu_state vcpu;
    struct buf others;
};

struct hostile {
    const char *what;
    void (*change)(struct parts *p);
    const char *refused; /* the sentence has this; NULL when KVM may also take it */
};

static void take_apart(const struct buf *state, struct parts *p)
{
    struct span in = {.at = state->data, .left = state->len};
    struct section s;
    struct err err = {0};
    memset(p, 0, sizeof(*p));
    buf_init(&p->others, STATE_BYTES_MAX);
    while (section_read(&in, &s, &err) == 1) {
        int rc = 0;
        if (strcmp(s.name, vm_state_desc.name) == 0)
            rc = section_load(&s, &vm_state_desc, &p->vm, NULL, &err);
        else if (strcmp(s.name, vcpu_state_desc.name) == 0)
            rc = section_load(&s, &vcpu_state_desc, &p->vcpu, NULL, &err);
        else
            rc = section_write(&s, &p->others, &err);
        assert_int_equal(rc, 0);
    }
    assert_int_equal(err.code, 0);
}

static void put_together(const struct parts *p, struct buf *out)
{
    struct err err = {0};
    buf_init(out, STATE_BYTES_MAX);
    if (section_save(&vm_state_desc, 0, SECTION_CRITICAL, &p->vm, out, &err) < 0 ||
        section_save(&vcpu_state_desc, 0, SECTION_CRITICAL, &p->vcpu, out, &err) < 0 ||
        buf_append(out, p->others.data, p->others.len) < 0)
        fail_msg("%s", err.text);
}

/* what nobody ever was ------------------------------------------------------------------------ */

static void forbidden_msr(struct parts *p)
{
    p->vcpu.msrs.list[p->vcpu.msrs.count++] = (struct msr){.index = 0xdead0001u, .value = 5};
}

static void msr_flood(struct parts *p)
{
    p->vcpu.msrs.count = MSRS_MAX;
    for (uint32_t i = 0; i < MSRS_MAX; i++)
        p->vcpu.msrs.list[i] = (struct msr){.index = 0xdead0000u + i, .value = ~0ull};
}

static void msr_not_canonical(struct parts *p)
{
    p->vcpu.msrs.list[p->vcpu.msrs.count++] =
        (struct msr){.index = 0xc0000100u, .value = 0x8000dead00000000u}; /* FS_BASE */
}

static void same_msr_again(struct parts *p)
{
    p->vcpu.msrs.count = MSRS_MAX;
    for (uint32_t i = 0; i < MSRS_MAX; i++)
        p->vcpu.msrs.list[i] = (struct msr){.index = 0xc0000100u, .value = i};
}

static void xsave_unknown_part(struct parts *p)
{
    p->vcpu.xsave[129] |= 1u << 30; /* of xstate_bv, at byte 512 */
}

static void xsave_compacted(struct parts *p)
{
    p->vcpu.xsave[130] = 0xffffffffu;
    p->vcpu.xsave[131] = 0xffffffffu; /* of xcomp_bv */
}

static void xsave_mxcsr(struct parts *p)
{
    p->vcpu.xsave[6] = 0xffffffffu;
    p->vcpu.xsave[128] |= 2;
}

static void xsave_garbage(struct parts *p)
{
    memset(p->vcpu.xsave, 0xff, sizeof(p->vcpu.xsave));
}

static void xsave_larger(struct parts *p)
{
    p->vcpu.xsave_words = VCPU_XSAVE_WORDS;
    p->vcpu.xsave[VCPU_XSAVE_WORDS - 1] = 1;
}

static void xcr0_without_x87(struct parts *p)
{
    p->vcpu.xcrs.nr_xcrs = 1;
    p->vcpu.xcrs.xcrs[0].xcr = 0;
    p->vcpu.xcrs.xcrs[0].value = 4;
}

static void xcrs_flood(struct parts *p)
{
    p->vcpu.xcrs.nr_xcrs = KVM_MAX_XCRS;
    for (unsigned i = 0; i < KVM_MAX_XCRS; i++)
        p->vcpu.xcrs.xcrs[i] = (struct kvm_xcr){.xcr = i * 77, .value = ~0ull};
}

static void lapic_garbage(struct parts *p)
{
    memset(p->vcpu.lapic.regs, 0xff, sizeof(p->vcpu.lapic.regs));
}

static void ioapic_garbage(struct parts *p)
{
    memset(&p->vm.ioapic, 0xff, sizeof(p->vm.ioapic));
}

static void pic_garbage(struct parts *p)
{
    memset(&p->vm.pic_master, 0xff, sizeof(p->vm.pic_master));
    memset(&p->vm.pic_slave, 0xff, sizeof(p->vm.pic_slave));
}

static void pit_garbage(struct parts *p)
{
    memset(&p->vm.pit, 0xff, sizeof(p->vm.pit));
}

static void clock_garbage(struct parts *p)
{
    p->vm.clock = (struct vm_clock){~0ull, true, true, ~0ull, ~0ull};
}

static void cpuid_flood(struct parts *p)
{
    p->vcpu.cpuid.count = CPUID_ENTRIES_MAX;
    for (unsigned i = 0; i < CPUID_ENTRIES_MAX; i++)
        p->vcpu.cpuid.entries[i] = (struct kvm_cpuid_entry2){
            .function = 0x40000000u + i, .flags = ~0u, .eax = ~0u, .ebx = ~0u, .ecx = ~0u};
}

static void cpuid_none(struct parts *p)
{
    p->vcpu.cpuid.count = 0;
}

static void cpuid_address_bits(struct parts *p)
{
    for (uint32_t i = 0; i < p->vcpu.cpuid.count; i++)
        if (p->vcpu.cpuid.entries[i].function == 0x80000008u)
            p->vcpu.cpuid.entries[i].eax = 0xffff;
}

static void paging_without_protection(struct parts *p)
{
    p->vcpu.sregs.cr0 = 1ull << 31;
}

static void cr0_upper_half(struct parts *p)
{
    p->vcpu.sregs.cr0 |= 1ull << 40;
}

static void cr4_reserved(struct parts *p)
{
    p->vcpu.sregs.cr4 |= 1ull << 31;
}

static void long_mode_without_pae(struct parts *p)
{
    p->vcpu.sregs.cr0 |= 1ull << 31 | 1;
    p->vcpu.sregs.efer |= 1 << 8 | 1 << 10;
    p->vcpu.sregs.cr4 &= ~(1ull << 5);
}

static void efer_reserved(struct parts *p)
{
    p->vcpu.sregs.efer |= 1ull << 45;
}

static void apic_base_reserved(struct parts *p)
{
    p->vcpu.sregs.apic_base |= 0xfull << 56;
}

static void cr3_outside(struct parts *p)
{
    p->vcpu.sregs.cr3 = 0x7fffff000ull;
}

static void interrupt_bitmap(struct parts *p)
{
    memset(&p->vcpu.sregs.gdt, 0xff, sizeof(p->vcpu.sregs.gdt));
    memset(&p->vcpu.sregs.tr, 0xff, sizeof(p->vcpu.sregs.tr));
    memset(&p->vcpu.sregs.cs, 0xff, sizeof(p->vcpu.sregs.cs));
}

static void registers_garbage(struct parts *p)
{
    memset(&p->vcpu.regs, 0xff, sizeof(p->vcpu.regs));
    p->vcpu.regs.rip = 0x8000dead00000000u;
}

static void dr7_upper_half(struct parts *p)
{
    p->vcpu.debugregs.dr7 = 1ull << 40;
}

static void debug_flags(struct parts *p)
{
    p->vcpu.debugregs.flags = ~0ull;
}

static void exception_number(struct parts *p)
{
    p->vcpu.events.exception.injected = 1;
    p->vcpu.events.exception.nr = 200;
}

static void events_flags(struct parts *p)
{
    p->vcpu.events.flags = ~0u;
}

static void mp_state(struct parts *p)
{
    p->vcpu.mp_state = 77;
}

static void nested_size(struct parts *p)
{
    p->vcpu.nested_bytes = 3;
}

static void nested_garbage(struct parts *p)
{
    p->vcpu.nested_bytes = VCPU_NESTED_BYTES;
    memset(p->vcpu.nested, 0xff, sizeof(p->vcpu.nested));
}

static void tsc_rate(struct parts *p)
{
    p->vcpu.tsc_khz = p->vcpu.tsc_khz * 2 + 1;
}

// clang-format off
static const struct hostile hostiles[] = {
    {"an MSR that there is not",           forbidden_msr,             "MSR 0xdead0001"},
    {"512 MSRs that there are not",        msr_flood,                 "MSR 0xdead0000"},
    {"an MSR with an impossible value",    msr_not_canonical,         NULL},
    {"an MSR 512 times",                   same_msr_again,            NULL},
    {"XSAVE with an unknown component",    xsave_unknown_part,        "XSAVE"},
    {"XSAVE in another layout",            xsave_compacted,           "XSAVE"},
    {"MXCSR with reserved bits",           xsave_mxcsr,               "XSAVE"},
    {"XSAVE of ones",                      xsave_garbage,             "XSAVE"},
    {"XSAVE larger than the host's",       xsave_larger,              "XSAVE"},
    {"XCR0 without x87",                   xcr0_without_x87,          "XCRs"},
    {"16 XCRs",                            xcrs_flood,                "XCRs"},
    {"a LAPIC of ones",                    lapic_garbage,             NULL},
    {"an IOAPIC of ones",                  ioapic_garbage,            NULL},
    {"PICs of ones",                       pic_garbage,               NULL},
    {"a PIT of ones",                      pit_garbage,               NULL},
    {"clocks at their end",                clock_garbage,             NULL},
    {"256 leaves of CPUID",                cpuid_flood,               NULL},
    {"no leaf of CPUID",                   cpuid_none,                NULL},
    {"255 address bits",                   cpuid_address_bits,        NULL},
    {"paging without protection",          paging_without_protection, NULL},
    {"the upper half of CR0",              cr0_upper_half,            NULL},
    {"a reserved bit of CR4",              cr4_reserved,              "system registers"},
    {"long mode without PAE",              long_mode_without_pae,     "system registers"},
    {"a reserved bit of EFER",             efer_reserved,             NULL},
    {"a reserved bit of the APIC's base",  apic_base_reserved,        NULL},
    {"page tables outside of memory",      cr3_outside,               NULL},
    {"segments of ones",                   interrupt_bitmap,          NULL},
    {"registers of ones",                  registers_garbage,         NULL},
    {"the upper half of DR7",              dr7_upper_half,            "debug registers"},
    {"unknown flags of debug registers",   debug_flags,               "debug registers"},
    {"exception 200",                      exception_number,          "events"},
    {"unknown flags of events",            events_flags,              "events"},
    {"an MP state that there is not",      mp_state,                  "MP state"},
    {"nested state of 3 bytes",            nested_size,               "nested state"},
    {"nested state of ones",               nested_garbage,            "nested state"},
    {"a TSC of twice the rate",            tsc_rate,                  NULL},
};
// clang-format on

/* One attempt. A machine that comes to be runs for a moment, is saved again and goes. */
static bool attempt(struct rig *r, int memory, const struct buf *state, struct err *err)
{
    struct mem_extent whole = {.offset = 0, .bytes = MEMORY, .fd = memory, .at = 0};
    struct machine_saved saved = {.extents = &whole,
                                  .count = 1,
                                  .state = {.at = state->data, .left = state->len},
                                  .clock = CLOCK_FREEZE};
    struct machine_config config = r->config;
    struct buf again;
    struct err unused;
    config.saved = &saved;
    *err = (struct err){0};
    struct machine *m = machine_new(&config, &r->host, err);
    if (!m)
        return false;
    machine_resume(m);
    machine_pause(m);
    buf_init(&again, STATE_BYTES_MAX);
    state_save(m, &again, &unused);
    buf_fini(&again);
    machine_free(m);
    return true;
}

/* A guest in the middle of its work, and its memory as a file. */
static int begin(struct rig *r, struct buf *state)
{
    rig_start(
        r, &(struct rig_options){.guest = "fpu", .cmdline = "period=10", .memory_bytes = MEMORY});
    rig_expect(r, NULL, "errors=0", 20000);
    machine_pause(r->machine);
    rig_save(r, state);
    struct mem *mem = machine_mem(r->machine);
    int fd = memfd_create("hostile", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)MEMORY), 0);
    assert_int_equal(pwrite(fd, mem->base, MEMORY, 0), MEMORY);
    return fd;
}

/* The good state still makes a good machine. */
static void end(struct rig *r, int memory, struct buf *state)
{
    rig_move(r, state, CLOCK_FREEZE);
    machine_resume(r->machine);
    static char said[CONSOLE_SCROLL_BYTES + 1];
    uint64_t from = console_end(&r->console), offset = from, missed;
    rig_expect(r, &offset, "errors=0", 20000);
    rig_expect(r, &offset, "errors=0", 20000);
    said[console_read(&r->console, &from, said, CONSOLE_SCROLL_BYTES, &missed)] = '\0';
    if (strstr(said, "FAIL"))
        fail_msg("the guest found an error: %s", said);
    close(memory);
    buf_fini(state);
    rig_stop(r);
}

static void named_nonsense(void **state)
{
    struct rig r;
    struct buf good, bad;
    static struct parts whole, parts;
    struct err err;
    int memory = begin(&r, &good);
    take_apart(&good, &whole);
    put_together(&whole, &bad);
    assert_true(attempt(&r, memory, &bad, &err)); /* put together as it was, it is one */
    buf_fini(&bad);
    struct host_usage before = host_usage(getpid());
    for (size_t i = 0; i < sizeof(hostiles) / sizeof(hostiles[0]); i++) {
        const struct hostile *h = &hostiles[i];
        parts = whole;
        h->change(&parts);
        put_together(&parts, &bad);
        bool runs = attempt(&r, memory, &bad, &err);
        if (h->refused && (runs || !strstr(err.text, h->refused)))
            fail_msg("%s: %s", h->what, runs ? "is taken" : err.text);
        if (!runs)
            assert_true(err.code > 0 && err.text[0]);
        buf_fini(&bad);
    }
    assert_int_equal(host_usage(getpid()).fds, before.fds);
    assert_int_equal(host_usage(getpid()).threads, before.threads);
    buf_fini(&whole.others);
    end(&r, memory, &good);
}

/* Right sections of another machine: a CPU more, one less, one twice. */
static void another_machine(void **state)
{
    static const struct {
        const char *what, *refused;
        unsigned count, instances[2];
    } machines[] = {
        {"a second vCPU", "vcpu", 2, {0, 1}},
        {"no vCPU", "vcpu", 0, {0}},
        {"vCPU 0 twice", "vcpu", 2, {0, 0}},
        {"vCPU 4294967295", "vcpu", 1, {0xffffffffu}},
    };
    struct rig r;
    struct buf good, bad;
    static struct parts whole;
    struct err err = {0};
    int memory = begin(&r, &good);
    take_apart(&good, &whole);
    for (unsigned i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        buf_init(&bad, STATE_BYTES_MAX);
        section_save(&vm_state_desc, 0, SECTION_CRITICAL, &whole.vm, &bad, &err);
        for (unsigned k = 0; k < machines[i].count; k++)
            section_save(&vcpu_state_desc, machines[i].instances[k], SECTION_CRITICAL, &whole.vcpu,
                         &bad, &err);
        assert_int_equal(buf_append(&bad, whole.others.data, whole.others.len), 0);
        if (attempt(&r, memory, &bad, &err) || !strstr(err.text, machines[i].refused))
            fail_msg("%s: %s", machines[i].what, err.text);
        buf_fini(&bad);
    }
    buf_fini(&whole.others);
    end(&r, memory, &good);
}

/* Anywhere in KVM's values. */
static void random_nonsense(void **state)
{
    struct rig r;
    struct buf good, bad;
    static struct parts whole, parts;
    struct err err;
    unsigned seed = 4242, refused = 0, flips = getenv("FERRY_LONG") ? FLIPS_LONG : FLIPS;
    int memory = begin(&r, &good);
    take_apart(&good, &whole);
    for (unsigned i = 0; i < flips; i++) {
        parts = whole;
        uint8_t *at = i % 4 ? (uint8_t *)&parts.vcpu : (uint8_t *)&parts.vm;
        size_t size = i % 4 ? sizeof(parts.vcpu) : sizeof(parts.vm);
        for (unsigned k = 0; k < 1u << i % 7; k++)
            at[(size_t)rand_r(&seed) % size] ^= (uint8_t)(1u << rand_r(&seed) % 8);
        buf_init(&bad, STATE_BYTES_MAX);
        if (section_save(&vm_state_desc, 0, SECTION_CRITICAL, &parts.vm, &bad, &err) == 0 &&
            section_save(&vcpu_state_desc, 0, SECTION_CRITICAL, &parts.vcpu, &bad, &err) == 0 &&
            buf_append(&bad, parts.others.data, parts.others.len) == 0)
            refused += !attempt(&r, memory, &bad, &err);
        buf_fini(&bad);
    }
    assert_true(refused > 0 && refused < flips);
    buf_fini(&whole.others);
    end(&r, memory, &good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(named_nonsense),
        cmocka_unit_test(another_machine),
        cmocka_unit_test(random_nonsense),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
