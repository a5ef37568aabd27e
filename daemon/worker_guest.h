/*
 * The worker's guest as the savers see it (vmstate/guest.h): the machine, with the loop doing what
 * only the loop may. [job] between job_enter and job_leave.
 */
#pragma once

#include "daemon/worker_job.h"
#include "machine/dirty.h"
#include "machine/machine.h"
#include "vmstate/guest.h"

struct worker_guest {
    struct guest guest;
    struct job *job;                /* borrowed */
    struct machine *machine;        /* borrowed */
    struct dirty_consumer consumer; /* while attached */
};

void worker_guest_init(struct worker_guest *g, struct job *job, struct machine *machine);

/* Its memory maps the image that it was restored from, and what left the mapping can be told. */
bool worker_guest_is_clone(const struct job *job, struct machine *machine);

/* Of a clone: only the pages that it has written since it was restored count as used. */
void worker_guest_only_changed(struct worker_guest *g);
