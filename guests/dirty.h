/* What the parts of the dirty guest share: areas of pages, and the pace they are worked on. */
#ifndef GUESTS_DIRTY_H
#define GUESTS_DIRTY_H

#include "guest.h"

#define WORDS 512
#define PAGE 4096ul
#define RUNS 8

struct area {
    struct mem_run runs[RUNS];
    unsigned nr_runs;
    uint64_t pages;
};

/* So many pages a second; what a pause kept from being done is not made up for. */
struct pace {
    uint64_t rate; /* UINT64_MAX: as fast as it goes */
    uint64_t done;
    uint64_t base_ns, base_done;
};

extern struct life dirty_life;
extern uint64_t dirty_seed;

uint64_t *area_page(const struct area *a, uint64_t page);
void area_take(struct area *a, const char *what, uint64_t bytes);

/* True when a page is due; the caller counts it in done. */
bool pace_due(struct pace *p, uint64_t now);
void pace_begin(struct pace *p, uint64_t now);

/* The working set: written and checked in passes. dirty_work.c */
void work_begin(void);
void work_step(void);
void work_check_all(void);
void work_break(void); /* flips a bit */
uint64_t work_pages(void);
uint64_t work_pass(void);
struct pace *work_pace(void);

/* The rest of memory: filled once and swept slowly. dirty_sweep.c */
void sweep_begin(void);
void sweep_step(void);
void sweep_check_all(void);
void sweep_break(void);
uint64_t sweep_pages(void);
struct pace *sweep_pace(void);

#endif
