/*
 * The small library under every test guest: what a guest program may call.
 *
 * A guest defines guest_name and guest_main, which runs on CPU 0 at CPL 3 with interrupts off.
 * Everything in 0..4 GiB is mapped to itself, and every port is open.
 */
#ifndef GUESTS_GUEST_H
#define GUESTS_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

extern const char guest_name[];
void guest_main(void);
/* Runs before anything else, for a guest that has something to say at once. */
void guest_early(void);
/* False when call raised an exception. */
bool guest_survives(void (*call)(void *), void *arg);

/* ---- the CPU: cpu.c, gate.S ---- */

struct pvclock {
    uint32_t version;
    uint32_t pad;
    uint64_t tsc;
    uint64_t ns;
    uint32_t mul;
    int8_t shift;
    uint8_t flags;
    uint8_t pad2[2];
};

struct cpu {
    volatile uint32_t irqs[256]; /* how often each vector came: counted by the stubs */
    uint64_t recover_rip;
    uint64_t recover_rsp;
    uint32_t index;
    uint32_t apic_id;
    volatile struct pvclock pvclock __attribute__((aligned(64)));
};

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

int gate(uint64_t op, uint64_t a, uint64_t b, void *out);
struct cpu *cpu_at(unsigned index);
struct cpu *cpu_self(void);
int cpu_rdmsr(uint32_t msr, uint64_t *value); /* 0, or 1 when it faulted */
int cpu_wrmsr(uint32_t msr, uint64_t value);
uint64_t cpu_read_cr(unsigned nr);
int cpu_write_cr(unsigned nr, uint64_t value);
uint64_t cpu_read_dr(unsigned nr);
int cpu_write_dr(unsigned nr, uint64_t value);
struct cpuid cpu_id(uint32_t leaf, uint32_t subleaf); /* as the hypervisor tells CPL 0 */
void cpu_irqs_on(void);
void cpu_irqs_off(void);
/* Sleeps until an interrupt, or not at all when *counter is no longer seen. */
void cpu_wait(volatile uint32_t *counter, uint32_t seen);
void cpu_halt(void) __attribute__((noreturn));

static inline uint64_t cpu_tsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

/* ---- ports ---- */

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port) : "memory");
    return v;
}

static inline void outsb(uint16_t port, const void *bytes, size_t n)
{
    __asm__ volatile("rep outsb" : "+S"(bytes), "+c"(n) : "d"(port) : "memory");
}

/* ---- memory: mem.c ---- */

struct mem_run {
    uint64_t addr, bytes;
};

void *memset(void *dst, int c, size_t n);
void *memcpy(void *dst, const void *src, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void mem_init(const void *start_info);
uint64_t mem_total(void); /* all RAM that the loader tells of, 0 when it tells nothing */
/* Takes up to want bytes of free RAM, in at most max runs, mapped; returns how many runs. */
unsigned mem_take(uint64_t want, struct mem_run *runs, unsigned max);

/* ---- text: text.c, serial.c, cmdline.c ---- */

#define SERIAL_PORT 0x3f8
#define SERIAL_IRQ 4

void serial_init(void);
void serial_write(const char *bytes, size_t n);
size_t text_format_v(char *out, size_t size, const char *format, va_list ap);
size_t text_format(char *out, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* One line, prefixed with the name of the guest, whole even when several CPUs talk. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
size_t text_length(const char *s);
bool text_same(const char *a, const char *b);

void cmdline_init(const char *text);
const char *cmdline_get(void);
bool cmdline_has(const char *word);                          /* "spin" */
uint64_t cmdline_number(const char *key, uint64_t fallback); /* "mem=64M": K M G T; 0x.. */
bool cmdline_word(const char *key, char *out, size_t size);  /* "fill=random" */

/* ---- interrupts: irq.c, lapic.c ---- */

#define VECTOR_TIMER 0x30
#define VECTOR_IPI 0x31
#define VECTOR_CPU 0x80 /* and the index of the CPU that sends it */
#define VECTOR_PIN 0x40 /* and the number of the pin of the IOAPIC */

void irq_init(void);                                /* 8259s masked, LAPIC on */
void irq_route(unsigned pin, bool level, bool low); /* to this CPU, as VECTOR_PIN + pin */
void irq_mask(unsigned pin);

uint32_t lapic_read(unsigned reg);
void lapic_write(unsigned reg, uint32_t value);
void lapic_init(void);
uint32_t lapic_id(void);
void lapic_ipi(uint32_t apic_id, uint32_t command);
void lapic_ipi_others(uint32_t command);
uint64_t lapic_timer_hz(void); /* measured, with divisor 1 */
void lapic_timer(uint32_t ticks, bool periodic);
void lapic_timer_stop(void);

/* ---- time: clock.c ---- */

void clock_init_cpu(void);
uint64_t clock_ns(void); /* the kvmclock where there is one, else the TSC */
uint64_t clock_tsc_hz(void);
const char *clock_source(void);
void clock_sleep_until(uint64_t ns); /* in HLT */
void clock_spin_ns(uint64_t ns);

/* ---- the machine: acpi.c, power.c, cpus.c ---- */

void acpi_init(uint64_t rsdp);
unsigned acpi_cpus(uint32_t *apic_ids, unsigned max); /* 0 without a MADT */
uint16_t acpi_pm_event(void);
uint16_t acpi_pm_control(void);
uint8_t acpi_s5(void);
unsigned acpi_virtio(uint64_t *addrs, unsigned *pins, unsigned max); /* windows over MMIO */
uint64_t acpi_sleep_register(void); /* of a machine without PM1, else 0 */
/* Where the generation is and which pin of the IOAPIC tells of its change; false without one. */
bool acpi_generation(uint64_t *addr, unsigned *pin);

bool power_button(void); /* pressed since the last call */
void power_off(void) __attribute__((noreturn));
void power_reset(void) __attribute__((noreturn));
void power_triple_fault(void) __attribute__((noreturn));

extern volatile uint32_t cpus_next;
/* Starts every other CPU; they run main(cpu). Returns how many CPUs there are, this one too. */
unsigned cpus_start(void (*main)(struct cpu *));

struct lock {
    volatile uint32_t held;
};
void lock_take(struct lock *l);
void lock_drop(struct lock *l);

/* ---- the life of a guest that prints a line every period: life.c ---- */

struct life {
    uint64_t next_ns;
    uint64_t period_ns;
    uint64_t lines;
    uint64_t last_line; /* quit=N */
    uint64_t end_ns;    /* quit=Ns */
    uint64_t started_ns;
    uint64_t errors;
};

void life_begin(struct life *life, uint64_t default_period_ms);
/* True when it is time for a line. */
bool life_due(struct life *life, uint64_t now_ns);
/* After the line was printed: true when the guest should end, with life_finish. */
bool life_line(struct life *life);
/* True just before the line at which the guest should break something itself: inject=N. */
bool life_inject(struct life *life);
void life_finish(struct life *life) __attribute__((noreturn));
/* Counts an error and tells about the first few in detail. */
void life_error(struct life *life, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- reproducible data: random.c ---- */

uint64_t random_mix(uint64_t x); /* a bijection that spreads every bit */
uint64_t random_next(uint64_t *state);
uint64_t random_seed(void); /* seed= */
uint32_t crc32_update(uint32_t crc, const void *bytes, size_t n);

#endif
