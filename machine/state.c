/* See state.h. */
#include "machine/state.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/now.h"
#include "machine/devices/devices.h"
#include "machine/vcpu_state.h"

/* One vCPU's part, done by its own thread. */
struct job {
    struct vcpu_state state;
    struct buf section; /* owned; of a save */
    uint64_t passed_ns; /* of a load: of the guest's time since the pause */
    bool has_offset;
    uint64_t tsc_offset; /* of a load: what makes the TSC go on */
    enum clock_tsc tsc;
    int rc;
    struct err err;
};

struct image {
    struct machine *machine;
    struct vm_state vm;
    struct job *jobs; /* owned, one a vCPU */
};

static int image_init(struct image *i, struct machine *m, struct err *err)
{
    *i = (struct image){.machine = m, .jobs = calloc(machine_cpus(m), sizeof(struct job))};
    if (!i->jobs)
        return err_set(err, ENOMEM, "no memory for the state of %u vCPUs", machine_cpus(m));
    for (unsigned n = 0; n < machine_cpus(m); n++)
        buf_init(&i->jobs[n].section, SECTION_PAYLOAD_MAX);
    return 0;
}

static void image_fini(struct image *i)
{
    for (unsigned n = 0; i->jobs && n < machine_cpus(i->machine); n++)
        buf_fini(&i->jobs[n].section);
    free(i->jobs);
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

/* saving -------------------------------------------------------------------------------------- */

static void save_vcpu(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    job->rc = vcpu_state_save(v, &job->state, &job->err);
    if (job->rc == 0)
        job->rc = section_save(&vcpu_state_desc, v->index, SECTION_CRITICAL, &job->state,
                               &job->section, &job->err);
}

static int append_vcpus(const struct image *i, struct buf *out, struct err *err)
{
    for (unsigned n = 0; n < machine_cpus(i->machine); n++)
        if (buf_append(out, i->jobs[n].section.data, i->jobs[n].section.len) < 0)
            return err_set(err, ENOSPC, "the state of %u vCPUs does not fit %zu bytes",
                           machine_cpus(i->machine), out->max);
    return 0;
}

static int save(struct image *i, struct buf *out, struct err *err)
{
    struct machine *m = i->machine;
    int rc = machine_clock(m, &i->vm.clock, err);
    if (rc == 0)
        rc = run_jobs(i, save_vcpu, err);
    if (rc == 0)
        rc = vm_state_save(machine_vm(m), &i->vm, err);
    if (rc == 0)
        rc = section_save(&vm_state_desc, 0, SECTION_CRITICAL, &i->vm, out, err);
    if (rc == 0)
        rc = append_vcpus(i, out, err);
    return rc == 0 ? devices_save(machine_devices(m), out, err) : rc;
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

/* loading ------------------------------------------------------------------------------------- */

static void load_vcpu(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    job->rc = vcpu_state_load(v, &job->state, job->passed_ns, &job->err);
}

static void load_vcpu_time(struct vcpu *v, void *arg)
{
    struct job *job = arg;
    job->rc = vcpu_state_load_time(v, &job->state, job->has_offset ? &job->tsc_offset : NULL,
                                   &job->tsc, &job->err);
}

static int read_sections(struct image *i, struct span in, struct section_report *report,
                         struct err *err)
{
    CLEAN(section_set_fini) struct section_set set;
    section_set_init(&set);
    int rc = section_set_add(&set, &vm_state_desc, 0, SECTION_CRITICAL, &i->vm, err);
    for (unsigned n = 0; rc == 0 && n < machine_cpus(i->machine); n++)
        rc = section_set_add(&set, &vcpu_state_desc, n, SECTION_CRITICAL, &i->jobs[n].state, err);
    if (rc == 0)
        rc = devices_sections(machine_devices(i->machine), &set, err);
    return rc == 0 ? section_set_load(&set, in, report, err) : rc;
}

/* All TSCs move by the same two readings of the clocks, so they stay exactly as far apart. */
static void find_offset(struct job *job, const struct vm_clock *then, const struct vm_clock *now)
{
    const struct vcpu_state *s = &job->state;
    job->has_offset = s->has_tsc_offset && then->has_host_tsc && now->has_host_tsc;
    if (job->has_offset)
        job->tsc_offset = clock_tsc_offset(s->tsc_offset, then->host_tsc, then->guest_ns,
                                           now->host_tsc, now->guest_ns, s->tsc_khz);
}

static int load_time(struct image *i, enum clock_policy policy, struct err *err)
{
    struct vm_clock now;
    struct vm *vm = machine_vm(i->machine);
    int rc = clock_load(vm, &i->vm.clock, policy, err);
    if (rc == 0)
        rc = clock_save(vm, &now, err);
    for (unsigned n = 0; rc == 0 && n < machine_cpus(i->machine); n++)
        find_offset(&i->jobs[n], &i->vm.clock, &now);
    return rc == 0 ? run_jobs(i, load_vcpu_time, err) : rc;
}

/* Devices are filled while the sections are read: they come after KVM's state, because a device
 * that raises its line needs chips that are right by then; none does before it is resumed. */
static int load(struct image *i, struct span in, enum clock_policy policy,
                struct machine_loaded *loaded, struct err *err)
{
    int rc = read_sections(i, in, &loaded->sections, err);
    for (unsigned n = 0; n < machine_cpus(i->machine); n++)
        i->jobs[n].passed_ns = clock_passed_ns(&i->vm.clock, policy, now_wall_ns());
    if (rc == 0)
        rc = run_jobs(i, load_vcpu, err);
    if (rc == 0)
        rc = vm_state_load(machine_vm(i->machine), &i->vm, err);
    if (rc == 0)
        rc = load_time(i, policy, err);
    loaded->tsc = i->jobs[0].tsc;
    return rc;
}

int state_load(struct machine *m, struct span in, enum clock_policy policy,
               struct machine_loaded *loaded, struct err *err)
{
    struct machine_loaded unused;
    struct image image;
    int rc = image_init(&image, m, err);
    if (rc == 0)
        rc = load(&image, in, policy, loaded ? loaded : &unused, err);
    image_fini(&image);
    return rc;
}
