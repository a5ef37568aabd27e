/* Time: the kvmclock of this CPU, or the TSC measured against the PIT. */
#include "guest.h"

#define MSR_KVM_SYSTEM_TIME 0x4b564d01
#define KVM_FEATURE_CLOCK 8
#define NS_PER_S 1000000000ul
#define PIT_HZ 1193182ul
#define PIT_TICKS 59659ul /* 50 ms */

static bool have_kvmclock;
static uint64_t tsc_hz, tsc_base;

static uint64_t measure_tsc(void)
{
    uint64_t start;

    outb(0x61, (inb(0x61) & ~2) | 1); /* gate of channel 2 on, speaker off */
    outb(0x43, 0xb0);                 /* channel 2, low and high byte, mode 0 */
    outb(0x42, PIT_TICKS & 0xff);
    outb(0x42, PIT_TICKS >> 8);
    start = cpu_tsc();
    while (!(inb(0x61) & 0x20))
        cpu_relax();
    return (cpu_tsc() - start) * PIT_HZ / PIT_TICKS;
}

static bool kvm_offers_clock(void)
{
    struct cpuid id = cpu_id(0x40000000, 0);

    return id.ebx == 0x4b4d564b && id.ecx == 0x564b4d56 && id.edx == 0x4d &&
           cpu_id(0x40000001, 0).eax & KVM_FEATURE_CLOCK;
}

static uint64_t kvmclock_hz(const volatile struct pvclock *pv)
{
    uint64_t hz = (NS_PER_S << 32) / pv->mul;

    return pv->shift < 0 ? hz << -pv->shift : hz >> pv->shift;
}

void clock_init_cpu(void)
{
    struct cpu *cpu = cpu_self();

    if (cpu->index == 0) {
        tsc_base = cpu_tsc();
        have_kvmclock = kvm_offers_clock();
    }
    if (have_kvmclock &&
        (cpu_wrmsr(MSR_KVM_SYSTEM_TIME, (uintptr_t)&cpu->pvclock | 1) || !cpu->pvclock.version)) {
        if (cpu->index)
            say("FAIL cpu=%u has no kvmclock, cpu=0 has", cpu->index);
        have_kvmclock = false;
    }
    if (cpu->index == 0)
        tsc_hz = have_kvmclock ? kvmclock_hz(&cpu->pvclock) : measure_tsc();
}

static uint64_t kvmclock_ns(const volatile struct pvclock *pv)
{
    uint32_t version;
    uint64_t ns, delta;

    do {
        version = pv->version & ~1u;
        __asm__ volatile("" : : : "memory");
        delta = cpu_tsc() - pv->tsc;
        delta = pv->shift < 0 ? delta >> -pv->shift : delta << pv->shift;
        ns = pv->ns + (uint64_t)((unsigned __int128)delta * pv->mul >> 32);
        __asm__ volatile("" : : : "memory");
    } while (pv->version != version);
    return ns;
}

uint64_t clock_ns(void)
{
    if (have_kvmclock)
        return kvmclock_ns(&cpu_self()->pvclock);
    return (uint64_t)((unsigned __int128)(cpu_tsc() - tsc_base) * ((NS_PER_S << 32) / tsc_hz) >>
                      32);
}

uint64_t clock_tsc_hz(void)
{
    return tsc_hz;
}

const char *clock_source(void)
{
    return have_kvmclock ? "kvmclock" : "tsc";
}

void clock_sleep_until(uint64_t ns)
{
    struct cpu *cpu = cpu_self();

    for (;;) {
        uint32_t seen = cpu->irqs[VECTOR_TIMER];
        uint64_t now = clock_ns(), left = ns - now;

        if (now >= ns)
            break;
        if (left > NS_PER_S)
            left = NS_PER_S;
        lapic_timer((uint32_t)(left * lapic_timer_hz() / NS_PER_S) + 1, false);
        cpu_wait(&cpu->irqs[VECTOR_TIMER], seen);
    }
    lapic_timer_stop();
}

void clock_spin_ns(uint64_t ns)
{
    uint64_t start = clock_ns();

    while (clock_ns() - start < ns)
        cpu_relax();
}
