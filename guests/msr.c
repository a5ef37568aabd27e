/*
 * Writes model specific, debug and control registers, and reads them again and again.
 *
 * At the start each register of the tables is tried: one that faults, or does not keep what is
 * written, is listed and left out. The others get new values every few lines; a register
 * without any of its own is only watched.
 */
#include "msr.h"

#define MAX_REGS 64
#define NAP_NS 2000000
#define LINES_PER_PASS 3

enum bank { BANK_MSR, BANK_DR, BANK_CR };

struct watched {
    const struct reg *reg;
    enum bank bank;
    uint64_t want;
};

const char guest_name[] = "msr";

static struct life life;
static uint64_t seed, pass, reads;
static struct watched watched[MAX_REGS];
static unsigned nr_watched, nr_written;
static char skipped[400];
static size_t skipped_used;
static bool have_selectors;

static int reg_read(enum bank bank, uint32_t nr, uint64_t *value)
{
    *value = 0;
    if (bank == BANK_MSR)
        return cpu_rdmsr(nr, value);
    *value = bank == BANK_DR ? cpu_read_dr(nr) : cpu_read_cr(nr);
    return 0;
}

static int reg_write(enum bank bank, uint32_t nr, uint64_t value)
{
    if (bank == BANK_MSR)
        return cpu_wrmsr(nr, value);
    return bank == BANK_DR ? cpu_write_dr(nr, value) : cpu_write_cr(nr, value);
}

static bool reg_writes(const struct reg *r)
{
    return r->bits || r->make;
}

static uint64_t reg_value(const struct reg *r, enum bank bank)
{
    uint64_t random = random_mix(seed ^ random_mix(pass << 36 ^ (uint64_t)bank << 32 ^ r->nr));

    if (r->make)
        return r->make(random);
    if (r->canonical)
        random = (uint64_t)((int64_t)(random << 17) >> 17);
    return (random & r->bits) | r->fixed;
}

static void skip(const char *name, const char *why)
{
    skipped_used += text_format(skipped + skipped_used, sizeof(skipped) - 1 - skipped_used,
                                " %s(%s)", name, why);
}

/* Two different values must come back, or the register is not one to rely on. */
static bool reg_holds(const struct reg *r, enum bank bank)
{
    uint64_t value;

    for (pass = 100; pass < 102; pass++)
        if (reg_write(bank, r->nr, reg_value(r, bank)) || reg_read(bank, r->nr, &value) ||
            value != reg_value(r, bank))
            return false;
    return true;
}

static void try_table(const struct reg *table, enum bank bank)
{
    for (const struct reg *r = table; r->name && nr_watched < MAX_REGS; r++) {
        uint64_t value;
        bool writes = reg_writes(r);

        if (reg_read(bank, r->nr, &value)) {
            skip(r->name, "faults");
            continue;
        }
        if (writes && !reg_holds(r, bank)) {
            skip(r->name, "forgets");
            reg_write(bank, r->nr, value);
            continue;
        }
        nr_written += writes;
        watched[nr_watched++] = (struct watched){r, bank, value};
    }
}

static void write_all(void)
{
    pass++;
    for (unsigned i = 0; i < nr_watched; i++) {
        struct watched *w = &watched[i];

        if (!reg_writes(w->reg))
            continue;
        w->want = reg_value(w->reg, w->bank);
        if (reg_write(w->bank, w->reg->nr, w->want))
            life_error(&life, "%s: writing 0x%lx faults", w->reg->name, w->want);
    }
}

static void check_all(void)
{
    for (unsigned i = 0; i < nr_watched; i++) {
        struct watched *w = &watched[i];
        uint64_t have;

        reads++;
        if (reg_read(w->bank, w->reg->nr, &have))
            life_error(&life, "%s: reading faults", w->reg->name);
        else if (have != w->want)
            life_error(&life, "%s nr=0x%x have=0x%lx want=0x%lx pass=%lu", w->reg->name, w->reg->nr,
                       have, w->want, pass);
    }
}

static bool selectors_hold(void)
{
    uint16_t ds, es;

    __asm__ volatile("mov %%ds, %0; mov %%es, %1" : "=r"(ds), "=r"(es));
    return ds == SEL_USER_DATA && es == SEL_USER_DATA;
}

/* DS and ES mean nothing in 64-bit mode, but keep what was loaded; not under every hypervisor. */
static void try_selectors(void)
{
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(SEL_USER_DATA));
    clock_sleep_until(clock_ns() + NAP_NS);
    have_selectors = selectors_hold();
    if (!have_selectors)
        skip("selectors", "forgets");
}

static void check_selectors(void)
{
    if (have_selectors && !selectors_hold())
        life_error(&life, "selectors ds and es changed");
}

static void begin(void)
{
    try_selectors();
    try_table(msr_table, BANK_MSR);
    try_table(dr_table, BANK_DR);
    try_table(cr_table, BANK_CR);
    pass = 0;
    skipped[skipped_used] = 0;
    say("skipped:%s", skipped_used ? skipped : " none");
    write_all();
}

void guest_main(void)
{
    say("ready");
    irq_init();
    clock_init_cpu();
    lapic_timer_hz();
    seed = random_seed();
    begin();
    life_begin(&life, 100);
    for (;;) {
        check_all();
        check_selectors();
        clock_sleep_until(clock_ns() + NAP_NS);
        if (!life_due(&life, clock_ns()))
            continue;
        if (life_inject(&life)) {
            cpu_wrmsr(0xc0000082, 0);
            cpu_write_dr(1, 0);
            check_all();
        }
        say("ms=%lu registers=%u written=%u pass=%lu reads=%lu errors=%lu",
            (clock_ns() - life.started_ns) / 1000000, nr_watched, nr_written, pass, reads,
            life.errors);
        if (life_line(&life))
            life_finish(&life);
        if (life.lines % LINES_PER_PASS == 0)
            write_all();
    }
}
