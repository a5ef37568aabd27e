/* The other CPUs: those of the MADT one by one, or whoever answers when all are called. */
#include "guest.h"

#define INIT 0x4500
#define SIPI (0x4600 | TRAMPOLINE >> 12)
#define NS_PER_MS 1000000ul

extern const unsigned char trampoline[], trampoline_end[];
volatile uint32_t cpus_next = 1;
static volatile uint32_t nr_online = 1;
static void (*cpu_main)(struct cpu *);

void cpus_entry(struct cpu *cpu) __attribute__((noreturn));
void cpus_entry(struct cpu *cpu)
{
    lapic_init();
    cpu->apic_id = lapic_id();
    clock_init_cpu();
    __atomic_add_fetch(&nr_online, 1, __ATOMIC_SEQ_CST);
    cpu_main(cpu);
    cpu_halt();
}

static bool wait_online(uint32_t count, uint64_t ms)
{
    uint64_t start = clock_ns();

    while (nr_online < count && clock_ns() - start < ms * NS_PER_MS)
        cpu_relax();
    return nr_online >= count;
}

static void start_one(uint32_t apic_id)
{
    uint32_t want = nr_online + 1;

    lapic_ipi(apic_id, INIT);
    clock_spin_ns(100000);
    for (int tries = 0; tries < 2; tries++) {
        lapic_ipi(apic_id, SIPI);
        if (wait_online(want, 1000))
            return;
    }
    say("FAIL cpu with apic_id=%u does not start", apic_id);
}

static void start_all(uint32_t want)
{
    uint32_t seen;

    lapic_ipi_others(INIT);
    clock_spin_ns(100000);
    lapic_ipi_others(SIPI);
    if (want && !wait_online(want, 5000))
        say("FAIL only %u of %u cpus start", nr_online, want);
    do {
        seen = nr_online;
    } while (wait_online(seen + 1, 200));
}

unsigned cpus_start(void (*main)(struct cpu *))
{
    uint32_t ids[MAX_CPUS], self = lapic_id();
    unsigned n = acpi_cpus(ids, MAX_CPUS);
    uint32_t want = (uint32_t)cmdline_number("cpus", 0);

    cpu_main = main;
    cpu_self()->apic_id = self;
    memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
    if (!n && want != 1)
        start_all(want);
    for (unsigned i = 0; i < n; i++)
        if (ids[i] != self && (!want || nr_online < want))
            start_one(ids[i]);
    return nr_online;
}

void lock_take(struct lock *l)
{
    while (__atomic_exchange_n(&l->held, 1, __ATOMIC_ACQUIRE))
        cpu_relax();
}

void lock_drop(struct lock *l)
{
    __atomic_store_n(&l->held, 0, __ATOMIC_RELEASE);
}
