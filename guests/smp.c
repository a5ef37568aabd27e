/*
 * Every CPU watches the others.
 *
 * In each step a CPU beats, draws a ticket, counts under a lock, passes a message to its
 * neighbour and interrupts another CPU. Nothing of that may be lost or come twice, however the
 * machine was stopped in between; a CPU that does not come back is noticed by its neighbour.
 *
 *   spin      no sleep between two steps      stall=MS   how long a CPU may stand still, 5000
 */
#include "guest.h"

#define NS_PER_MS 1000000ul
#define NAP_NS NS_PER_MS

struct mail {
    volatile uint64_t sent, taken; /* so many messages */
    uint64_t from, payload;
};

struct member {
    volatile uint64_t beats, tickets, locked, messages, ipis;
    uint64_t last_ticket;
    uint32_t target;              /* of the IPI that is under way, or came last */
    uint32_t ipis_to[MAX_CPUS];   /* sent to each */
    uint64_t ipi_ns;              /* when the last was sent */
    uint64_t seen_beats, seen_ns; /* of the neighbour */
    uint64_t told_beats;          /* in the line before */
    volatile bool stopped;
    struct mail mail __attribute__((aligned(64))); /* into this box */
} __attribute__((aligned(64)));

const char guest_name[] = "smp";

static struct member members[MAX_CPUS];
static unsigned nr_cpus;
static struct life life;
static uint64_t seed, stall_ns;
static bool spin;
static volatile bool started, stop;
static volatile uint64_t next_ticket __attribute__((aligned(64)));
static struct lock count_lock __attribute__((aligned(64)));
static volatile uint64_t count;

static void draw_ticket(struct cpu *cpu, struct member *m)
{
    uint64_t ticket = __atomic_add_fetch(&next_ticket, 1, __ATOMIC_SEQ_CST);

    if (ticket <= m->last_ticket)
        life_error(&life, "cpu=%u ticket=%lu after %lu", cpu->index, ticket, m->last_ticket);
    m->last_ticket = ticket;
    m->tickets++;
}

static void count_locked(struct member *m)
{
    lock_take(&count_lock);
    count++;
    lock_drop(&count_lock);
    m->locked++;
}

static uint64_t payload(uint64_t from, uint64_t number)
{
    return random_mix(seed + (from << 48) + number);
}

static void send_message(struct cpu *cpu)
{
    struct mail *mail = &members[(cpu->index + 1) % nr_cpus].mail;

    if (mail->taken != mail->sent)
        return;
    mail->from = cpu->index;
    mail->payload = payload(cpu->index, mail->sent + 1);
    __atomic_store_n(&mail->sent, mail->sent + 1, __ATOMIC_RELEASE);
}

static void take_message(struct cpu *cpu, struct member *m)
{
    uint64_t number = __atomic_load_n(&m->mail.sent, __ATOMIC_ACQUIRE);
    uint64_t from = (cpu->index + nr_cpus - 1) % nr_cpus;

    if (number == m->mail.taken)
        return;
    if (number != m->mail.taken + 1 || m->mail.from != from ||
        m->mail.payload != payload(from, number))
        life_error(&life, "cpu=%u message=%lu after %lu from=%lu payload=0x%lx want=0x%lx",
                   cpu->index, number, m->mail.taken, m->mail.from, m->mail.payload,
                   payload(from, number));
    m->messages++;
    __atomic_store_n(&m->mail.taken, number, __ATOMIC_RELEASE);
}

/* One IPI of a CPU is under way at a time, and its vector tells who sent it: so each counts. */
static void send_ipi(struct cpu *cpu, struct member *m)
{
    uint32_t got = cpu_at(m->target)->irqs[VECTOR_CPU + cpu->index];

    if (got > m->ipis_to[m->target] || (uint64_t)clock_ns() - m->ipi_ns > stall_ns) {
        if (got != m->ipis_to[m->target])
            life_error(&life, "cpu=%u has %u IPIs of cpu=%u, which sent %u", m->target, got,
                       cpu->index, m->ipis_to[m->target]);
        m->ipis_to[m->target] = got;
    }
    if (got != m->ipis_to[m->target])
        return;
    do {
        m->target = (m->target + 1) % nr_cpus;
    } while (m->target == cpu->index);
    m->ipis_to[m->target]++;
    m->ipis++;
    m->ipi_ns = clock_ns();
    lapic_ipi(cpu_at(m->target)->apic_id, VECTOR_CPU + cpu->index);
}

static void watch_neighbour(struct cpu *cpu, struct member *m)
{
    unsigned neighbour = (cpu->index + 1) % nr_cpus;
    uint64_t beats = members[neighbour].beats, now = clock_ns();

    if (beats < m->seen_beats)
        life_error(&life, "cpu=%u has beats=%lu, had %lu", neighbour, beats, m->seen_beats);
    if (beats == m->seen_beats && now - m->seen_ns > stall_ns)
        life_error(&life, "cpu=%u stands still at beats=%lu for ms=%lu", neighbour, beats,
                   (now - m->seen_ns) / NS_PER_MS);
    if (beats != m->seen_beats || now - m->seen_ns > stall_ns) {
        m->seen_beats = beats;
        m->seen_ns = now;
    }
}

static void step(struct cpu *cpu, struct member *m)
{
    m->beats++;
    draw_ticket(cpu, m);
    count_locked(m);
    if (nr_cpus > 1) {
        send_message(cpu);
        take_message(cpu, m);
        send_ipi(cpu, m);
        watch_neighbour(cpu, m);
    }
    if (!spin)
        clock_sleep_until(clock_ns() + NAP_NS);
}

static void begin(struct member *m, unsigned index)
{
    m->target = (index + 1) % nr_cpus;
    m->seen_ns = m->ipi_ns = clock_ns();
    cpu_irqs_on();
}

static void other_main(struct cpu *cpu)
{
    struct member *m = &members[cpu->index];

    while (!started)
        cpu_relax();
    if (cmdline_has("triple"))
        power_triple_fault();
    begin(m, cpu->index);
    while (!stop)
        step(cpu, m);
    m->stopped = true;
}

/* What all CPUs counted for themselves against what they counted together. */
static void check_sums(bool exact)
{
    uint64_t tickets = 0, locked = 0, drawn, counted;

    for (unsigned i = 0; i < nr_cpus; i++) {
        tickets += members[i].tickets;
        locked += members[i].locked;
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    drawn = next_ticket;
    counted = count;
    if (tickets > drawn || (exact && drawn > tickets))
        life_error(&life, "tickets drawn=%lu counted by the cpus=%lu", drawn, tickets);
    if (locked > counted || (exact && counted > locked))
        life_error(&life, "counted under the lock=%lu by the cpus=%lu", counted, locked);
}

static uint64_t total(size_t offset)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < nr_cpus; i++)
        sum += *(volatile uint64_t *)((char *)&members[i] + offset);
    return sum;
}

static void print_line(uint64_t now)
{
    char beats[320];
    size_t n = 0;

    for (unsigned i = 0; i < nr_cpus && n < sizeof(beats) - 16; i++) {
        uint64_t b = members[i].beats;

        n += text_format(beats + n, sizeof(beats) - 1 - n, "%s%lu", i ? "," : "",
                         b - members[i].told_beats);
        members[i].told_beats = b;
    }
    beats[n] = 0;
    say("ms=%lu cpus=%u tickets=%lu messages=%lu ipis=%lu beats=%s errors=%lu",
        (now - life.started_ns) / NS_PER_MS, nr_cpus, next_ticket,
        total(offsetof(struct member, messages)), total(offsetof(struct member, ipis)), beats,
        life.errors);
}

static void finish(void)
{
    uint64_t start = clock_ns();

    stop = true;
    members[0].stopped = true;
    for (unsigned i = 0; i < nr_cpus; i++) {
        while (!members[i].stopped && clock_ns() - start < stall_ns)
            cpu_relax();
        if (!members[i].stopped)
            life_error(&life, "cpu=%u does not stop", i);
    }
    check_sums(true);
    life_finish(&life);
}

static void break_something(void)
{
    members[nr_cpus - 1].mail.payload ^= 1;
    next_ticket = next_ticket / 2;
}

void guest_main(void)
{
    struct cpu *self = cpu_self();

    say("ready");
    irq_init();
    clock_init_cpu();
    lapic_timer_hz();
    seed = random_seed();
    spin = cmdline_has("spin");
    stall_ns = cmdline_number("stall", 5000) * NS_PER_MS;
    nr_cpus = cpus_start(other_main);
    say("started cpus=%u clock=%s", nr_cpus, clock_source());
    life_begin(&life, 100);
    begin(&members[0], 0);
    started = true;
    if (cmdline_has("triple"))
        power_triple_fault();
    for (;;) {
        uint64_t now = clock_ns();

        step(self, &members[0]);
        if (!life_due(&life, now))
            continue;
        if (life_inject(&life))
            break_something();
        check_sums(false);
        print_line(now);
        if (life_line(&life))
            finish();
    }
}
