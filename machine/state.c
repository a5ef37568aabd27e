/* See state.h. */
#include "machine/state.h"

#include <errno.h>
#include <stdlib.h>

#include "base/now.h"
#include "machine/devices/devices.h"
#include "machine/vcpu_state.h"

/* One vCPU's part, done by its own thread. */
struct job {
    struct vcpu_state state;
    uint64_t passed_ns; /* for a load: of the guest's time since the pause */
    const struct vm_clock *clock_then, *clock_now; /* for a load: at the pause, and now */
    int rc;
    struct err err;
};

struct image {
    struct machine *machine;
    struct vm_state vm;
    struct job *jobs; /* owned, one a vCPU */
    struct section_set sections;
};

static void image_fini(struct image *i)
{
    section_set_fini(&i->sections);
    free(i->jobs);
}

static int add_vcpus(struct image *i, struct err *err)
{
    int rc = 0;
    for (unsigned n = 0; rc == 0 && n < machine_cpus(i->machine); n++)
        rc = section_set_add(&i->sections, &vcpu_state_desc, n, SECTION_CRITICAL, &i->jobs[n].state,
                             err);
    return rc;
}

static int image_init(struct image *i, struct machine *m, struct err *err)
{
    *i = (struct image){.machine = m, .jobs = calloc(machine_cpus(m), sizeof(struct job))};
    section_set_init(&i->sections);
    if (!i->jobs)
        return err_set(err, ENOMEM, "no memory for the state of %u vCPUs", machine_cpus(m));
    int rc = section_set_add(&i->sections, &vm_state_desc, 0, SECTION_CRITICAL, &i->vm, err);
    if (rc == 0)
        rc = add_vcpus(i, err);
    return rc == 0 ? devices_sections(machine_devices(m), &i->sections, err) : rc;
}

/* All vCPUs at once, each on its own thread; the first failure is told. */
static int run_jobs(struct image *i, void (*call)(struct vcpu *v, void *arg), struct err *err)
{
    int rc = 0;
    unsigned cpus = machine_cpus(i->machine);
    for (unsigned n = 0; n < cpus; n++)
        vcpu_order_call(machine_vcpu(i->machine, n), call, &i->jobs[n]);
    for (unsigned n = 0; n < cpus; n++)
        vcpu_wait(machine_vcpu(i->machine, n));
    for (unsigned n = 0; rc == 0 && n < cpus; n++) {
        rc = i->jobs[n].rc;
        if (rc < 0)
            *err = i->jobs[n].err;
    }
    return rc;
}

static void save_vcpu(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    job->rc = vcpu_state_save(v, &job->state, &job->err);
}

static void load_vcpu(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    job->rc = vcpu_state_load(v, &job->state, job->passed_ns, &job->err);
}

static void load_tsc(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    const struct vm_clock *then = job->clock_then, *now = job->clock_now;
    job->rc = 0;
    if (job->state.has_tsc_offset && then->has_host_tsc && now->has_host_tsc)
        vcpu_state_set_tsc_offset(v, clock_tsc_offset(job->state.tsc_offset, then->host_tsc,
                                                      then->guest_ns, now->host_tsc, now->guest_ns,
                                                      job->state.tsc_khz));
}

static int save(struct image *i, struct buf *out, struct err *err)
{
    int rc = machine_clock(i->machine, &i->vm.clock, err);
    if (rc == 0)
        rc = run_jobs(i, save_vcpu, err);
    if (rc == 0)
        rc = vm_state_save(machine_vm(i->machine), &i->vm, err);
    return rc == 0 ? section_set_save(&i->sections, out, err) : rc;
}

int state_save(struct machine *m, struct buf *out, struct err *err)
{
    struct image image;
    int rc = image_init(&image, m, err);
    if (rc == 0)
        rc = save(&image, out, err);
    image_fini(&image);
    return rc;
}

/* All TSCs move by the same two readings of the clocks, so they stay exactly as far apart. */
static int load_time(struct image *i, enum clock_policy policy, struct err *err)
{
    struct vm_clock now;
    struct vm *vm = machine_vm(i->machine);
    int rc = clock_load(vm, &i->vm.clock, policy, err);
    if (rc == 0)
        rc = clock_save(vm, &now, err);
    for (unsigned n = 0; n < machine_cpus(i->machine); n++) {
        i->jobs[n].clock_then = &i->vm.clock;
        i->jobs[n].clock_now = &now;
    }
    return rc == 0 ? run_jobs(i, load_tsc, err) : rc;
}

/* Devices are filled while the sections are read: they come after KVM's state, because a device
 * that raises its line needs chips that are right by then; none does before it is resumed. */
static int load(struct image *i, struct span in, enum clock_policy policy,
                struct section_report *report, struct err *err)
{
    int rc = section_set_load(&i->sections, in, report, err);
    for (unsigned n = 0; n < machine_cpus(i->machine); n++)
        i->jobs[n].passed_ns = clock_passed_ns(&i->vm.clock, policy, now_wall_ns());
    if (rc == 0)
        rc = run_jobs(i, load_vcpu, err);
    if (rc == 0)
        rc = vm_state_load(machine_vm(i->machine), &i->vm, err);
    return rc == 0 ? load_time(i, policy, err) : rc;
}

int state_load(struct machine *m, struct span in, enum clock_policy policy,
               struct section_report *report, struct err *err)
{
    struct image image;
    int rc = image_init(&image, m, err);
    if (rc == 0)
        rc = load(&image, in, policy, report, err);
    image_fini(&image);
    return rc;
}
