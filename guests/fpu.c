/*
 * Every register of the FPU and the vector units, held for a while and looked at again.
 *
 * Every hold has new values, on each CPU its own. Holds that run undisturbed take turns with holds
 * that leave for the VMM all the time.
 *
 *   level=sse|avx|avx512   no more than this       hold=US   how long, 5000
 */
#include "guest.h"

#define CR4_OSXSAVE (1ul << 18)
#define XCR0_AVX 0x7
#define XCR0_AVX512 0xe7
#define CPUID_XSAVE (1u << 26)
#define CPUID_AVX (1u << 28)
#define CPUID_AVX512_F_BW (1u << 16 | 1u << 30)

struct fpu_image {
    uint8_t x87[8][16];
    uint32_t mxcsr;
    uint16_t control, pad;
    uint64_t masks[8];
    uint8_t pad2[56];
    uint8_t vectors[32][64];
};

_Static_assert(offsetof(struct fpu_image, mxcsr) == 128, "fpu_hold.S");
_Static_assert(offsetof(struct fpu_image, masks) == 136, "fpu_hold.S");
_Static_assert(offsetof(struct fpu_image, vectors) == 256, "fpu_hold.S");

void fpu_hold(const struct fpu_image *want, struct fpu_image *got, uint64_t until_tsc,
              unsigned level, unsigned exits);

const char guest_name[] = "fpu";

static const char *const level_names[] = {"sse", "avx", "avx512"};
static struct life life;
static unsigned level;
static uint64_t seed, hold_ticks;
static volatile uint64_t holds[MAX_CPUS];

/* What the CPU has, and the hypervisor lets XCR0 enable. */
static unsigned find_level(uint64_t xcr0)
{
    struct cpuid id1 = cpu_id(1, 0), id7 = cpu_id(7, 0);

    if (!(id1.ecx & CPUID_AVX) || (xcr0 & XCR0_AVX) != XCR0_AVX)
        return 0;
    if ((id7.ebx & CPUID_AVX512_F_BW) != CPUID_AVX512_F_BW || (xcr0 & XCR0_AVX512) != XCR0_AVX512)
        return 1;
    return 2;
}

static uint64_t xcr0_read(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* Returns XCR0 with all that is offered switched on, 0 where there is no XSAVE. */
static uint64_t enable_xsave(void)
{
    uint64_t offered;

    if (!(cpu_id(1, 0).ecx & CPUID_XSAVE))
        return 0;
    if (cpu_write_cr(4, cpu_read_cr(4) | CR4_OSXSAVE))
        return 0;
    offered = cpu_id(0xd, 0).eax & XCR0_AVX512;
    gate(GATE_XSETBV, 0, offered, NULL);
    return xcr0_read();
}

static void make_image(struct fpu_image *image, uint64_t key)
{
    uint64_t *vectors = (uint64_t *)image->vectors, r = random_next(&key);
    static const uint8_t precision[] = {0, 2, 3, 3};

    for (unsigned i = 0; i < 8; i++) {
        uint64_t mantissa = random_next(&key) | 1ul << 63;
        uint16_t exponent = (uint16_t)(0x3000 + (random_next(&key) & 0x8fff));

        memcpy(image->x87[i], &mantissa, 8);
        memcpy(image->x87[i] + 8, &exponent, 2);
        image->masks[i] = random_next(&key);
    }
    for (unsigned i = 0; i < sizeof(image->vectors) / 8; i++)
        vectors[i] = random_next(&key);
    image->mxcsr = 0x1f80 | (r & 0xe07f);
    image->control = (uint16_t)(0x7f | precision[r >> 16 & 3] << 8 | (r >> 20 & 3) << 10);
}

static void check_bytes(const char *what, unsigned nr, const void *want, const void *got, size_t n)
{
    const uint8_t *w = want, *g = got;
    uint64_t want_word = 0, got_word = 0;
    size_t at = 0;

    if (!memcmp(want, got, n))
        return;
    while (w[at] == g[at])
        at++;
    at &= ~(size_t)7;
    memcpy(&want_word, w + at, n - at < 8 ? n - at : 8);
    memcpy(&got_word, g + at, n - at < 8 ? n - at : 8);
    life_error(&life, "cpu=%u %s%u byte=%lu have=0x%lx want=0x%lx", cpu_self()->index, what, nr, at,
               got_word, want_word);
}

static void compare(const struct fpu_image *want, const struct fpu_image *got)
{
    static const uint8_t widths[] = {16, 32, 64};
    static const char *const names[] = {"xmm", "ymm", "zmm"};

    for (unsigned i = 0; i < 8; i++)
        check_bytes("st", i, want->x87[i], got->x87[i], 10);
    for (unsigned i = 0; i < (level == 2 ? 32 : 16); i++)
        check_bytes(names[level], i, want->vectors[i], got->vectors[i], widths[level]);
    for (unsigned i = 0; level == 2 && i < 8; i++)
        check_bytes("k", i, &want->masks[i], &got->masks[i], 8);
    check_bytes("mxcsr", 0, &want->mxcsr, &got->mxcsr, 4);
    check_bytes("control", 0, &want->control, &got->control, 2);
}

static void hold_once(unsigned cpu, bool broken)
{
    static struct fpu_image wants[MAX_CPUS], gots[MAX_CPUS];
    struct fpu_image *want = &wants[cpu], *got = &gots[cpu];
    uint64_t number = holds[cpu];

    make_image(want, seed ^ (uint64_t)cpu << 56 ^ number << 24);
    fpu_hold(want, got, cpu_tsc() + hold_ticks, level, number % 2);
    if (broken)
        got->vectors[3][5] ^= 1;
    compare(want, got);
    holds[cpu] = number + 1;
}

static void other_main(struct cpu *cpu)
{
    enable_xsave();
    for (;;)
        hold_once(cpu->index, false);
}

static void try_level(void *arg)
{
    static struct fpu_image image;

    make_image(&image, seed);
    fpu_hold(&image, &image, 0, *(unsigned *)arg, 0);
}

static void choose_level(uint64_t xcr0)
{
    unsigned best = find_level(xcr0);
    char word[16] = "";

    while (best && !guest_survives(try_level, &best)) {
        say("level=%s is offered and raises an exception", level_names[best]);
        best--;
    }
    level = best;
    cmdline_word("level", word, sizeof(word));
    for (unsigned i = 0; i < best; i++)
        if (text_same(word, level_names[i]))
            level = i;
}

void guest_main(void)
{
    unsigned cpus;
    uint64_t xcr0;

    say("ready");
    irq_init();
    clock_init_cpu();
    seed = random_seed();
    hold_ticks = clock_tsc_hz() / 1000000 * cmdline_number("hold", 5000);
    xcr0 = enable_xsave();
    choose_level(xcr0);
    cpus = cpus_start(other_main);
    say("level=%s xcr0=0x%lx cpus=%u", level_names[level], xcr0, cpus);
    life_begin(&life, 100);
    for (;;) {
        uint64_t sum = 0;

        hold_once(0, life_inject(&life));
        if (!life_due(&life, clock_ns()))
            continue;
        for (unsigned i = 0; i < cpus; i++)
            sum += holds[i];
        say("ms=%lu level=%s holds=%lu errors=%lu", (clock_ns() - life.started_ns) / 1000000,
            level_names[level], sum, life.errors);
        if (life_line(&life))
            life_finish(&life);
    }
}
