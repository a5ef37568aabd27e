/* What the parts of the timer guest share. */
#ifndef GUESTS_TIMER_H
#define GUESTS_TIMER_H

#include "guest.h"

enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE, TIMER_KINDS };

/* Of one CPU, written by it alone but for late_ns, which CPU 0 takes back to 0. */
struct timer_counts {
    uint64_t ticks[TIMER_KINDS];
    uint64_t late_ns; /* at most, since the last line */
    uint64_t missed;  /* periodic ticks that came together with others */
} __attribute__((aligned(64)));

extern struct life timer_life;
extern struct timer_counts timer_counts[MAX_CPUS];

/* The local timers. timer_local.c */
void timer_begin(void);
uint64_t timer_early(void); /* ticks */
bool timer_has_deadline(void);
void timer_step(struct cpu *cpu); /* one tick, or a few of the periodic kind */

/* The clocks: monotonic on a CPU and across CPUs, and in step. timer_clocks.c */
void clocks_begin(void);
void clocks_check(struct cpu *cpu);
void clocks_break(void);
int64_t clocks_drift_us(void); /* of the kvmclock against the TSC, since the start */
uint64_t clocks_jumps(void);
uint64_t clocks_backwards(void);

#endif
