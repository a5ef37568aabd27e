/* How a guest ended, as the protocol tells it. */
#pragma once

#include "machine/report.h"
#include "proto/config.pb-c.h"

/* Holds what a packed Ferry__Ending points to. */
struct ending {
    Ferry__Ending message;
    Ferry__CpuReport cpu;
    struct report report;
};

/* Fills `e` from a report; e->message is valid as long as `e` is. */
void ending_from_report(struct ending *e, const struct report *report, uint64_t wall_ns);

/* One line for a log: sentence, and for faults rip and the instruction's bytes. */
void ending_line(const struct report *report, char *to, size_t size);
