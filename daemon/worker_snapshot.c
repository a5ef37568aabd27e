/* See worker_snapshot.h. */
#include "daemon/worker_snapshot.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/now.h"
#include "daemon/worker.h"
#include "daemon/worker_guest.h"
#include "machine/cpu_profile.h"
#include "machine/vcpu.h"
#include "snapshot/image.h"
#include "vmstate/capture.h"

#define PROGRESS_EVERY_NS 100000000ull
#define CPU_NAMES_MAX 16384u

struct snapshot_job {
    struct job *job;
    const Ferry__WorkerSnapshot *ask;
    struct worker_guest guest;
    struct image_writer image;
    struct capture_result result;
    uint64_t told_ns;
};

/* progress ------------------------------------------------------------------------------------ */

static void tell(struct snapshot_job *s, const char *stage, uint64_t done, uint64_t total,
                 unsigned round)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerProgress progress = FERRY__WORKER_PROGRESS__INIT;
    struct err ignored; /* a peer that is gone has cancelled the job */
    progress.stage = (char *)(uintptr_t)stage;
    progress.done_bytes = done;
    progress.total_bytes = total;
    progress.round = round;
    reply.body_case = FERRY__WORKER_REPLY__BODY_PROGRESS;
    reply.progress = &progress;
    job_reply(s->job, &reply, &ignored);
}

/* After each chunk: also where a peer that left is noticed. */
static void on_progress(void *ctx, const struct capture_progress *now)
{
    struct snapshot_job *s = ctx;
    uint64_t done = (now->pages + now->zero_pages) * GUEST_PAGE;
    if (now_ns() - s->told_ns < PROGRESS_EVERY_NS || job_is_cancelled(s->job))
        return;
    s->told_ns = now_ns();
    tell(s, "memory", done, done + now->left * GUEST_PAGE, now->round);
}

/* the work ------------------------------------------------------------------------------------ */

static int begin_image(struct snapshot_job *s, int dirfd, struct err *err)
{
    struct image_options options = {
        .io = &fileio_system,
        .dirfd = dirfd,
        .ram_bytes = s->guest.guest.ram_bytes,
        .memory = FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL,
    };
    return image_begin(&s->image, &options, err);
}

static int capture(struct snapshot_job *s, struct err *err)
{
    struct page_sink sink = image_sink(&s->image);
    struct capture_options options = {
        .mode = CAPTURE_LIVE,
        .hold = s->ask->hold,
        .cancel = &s->job->cancelled,
        .ctx = s,
        .progress = on_progress,
    };
    return capture_run(&s->guest.guest, &sink, &options, &s->result, err);
}

/* What the guest was told its CPU can do: a host that has less must not restore it. */
static int describe_cpu(const struct cpuid_set *set, Ferry__SnapshotCpu *cpu, char *vendor,
                        struct buf *features, struct err *err)
{
    const struct kvm_cpuid_entry2 *leaf = cpuid_look(set, 0, 0);
    if (leaf) {
        memcpy(vendor, &leaf->ebx, 4);
        memcpy(vendor + 4, &leaf->edx, 4);
        memcpy(vendor + 8, &leaf->ecx, 4);
    }
    vendor[12] = '\0';
    int rc = cpu_profile_names(set, features, err);
    if (rc == 0 && buf_append(features, "", 1) < 0)
        rc = err_set(err, ENOMEM, "no memory for the names of CPU features");
    cpu->vendor = vendor;
    cpu->features = (char *)features->data;
    return rc;
}

static int finish_image(struct snapshot_job *s, struct err *err)
{
    struct image_totals totals;
    struct buf features;
    char vendor[13] = "";
    Ferry__SnapshotCpu cpu = FERRY__SNAPSHOT_CPU__INIT;
    Ferry__SnapshotRegion regions[MEM_REGIONS], *list[MEM_REGIONS];
    Ferry__SnapshotManifest manifest = *s->ask->manifest;
    const struct mem *mem = machine_mem(s->guest.machine);
    for (unsigned i = 0; i < mem->nregions; i++) {
        ferry__snapshot_region__init(&regions[i]);
        regions[i].gpa = mem->regions[i].gpa;
        regions[i].size = mem->regions[i].size;
        regions[i].offset = mem->regions[i].offset;
        list[i] = &regions[i];
    }
    manifest.ram_bytes = mem->size;
    manifest.regions = list;
    manifest.n_regions = mem->nregions;
    manifest.cpu = &cpu;
    tell(s, "writing", 0, 0, s->result.rounds);
    buf_init(&features, CPU_NAMES_MAX);
    int rc = describe_cpu(&machine_vcpu(s->guest.machine, 0)->cpuid, &cpu, vendor, &features, err);
    if (rc == 0)
        rc = image_finish(&s->image, &manifest, &totals, err);
    buf_fini(&features);
    return rc;
}

static int save(struct snapshot_job *s, int dirfd, struct err *err)
{
    struct err ignored;
    bool captured = false;
    int rc = begin_image(s, dirfd, err);
    if (rc == 0)
        rc = capture(s, err);
    if (rc == 0) {
        captured = true;
        rc = finish_image(s, err);
    }
    image_abandon(&s->image);
    if (rc < 0 && captured && s->ask->hold)
        job_call_loop(s->job, worker_release, &ignored); /* it is not kept, so the guest goes on */
    return rc;
}

/* One line that says where the pause went. */
static void log_pause(const struct capture_result *r)
{
    const struct capture_pause *p = &r->pause;
    log_info("saved in %u rounds, %.1f ms; paused %.2f ms: stop %.2f, state %.2f, collect %.2f, "
             "copy %.2f (%llu pages), resume %.2f",
             r->rounds, (double)r->total_ns / 1e6, (double)p->total_ns / 1e6,
             (double)p->stop_ns / 1e6, (double)p->state_ns / 1e6, (double)p->collect_ns / 1e6,
             (double)p->copy_ns / 1e6, (unsigned long long)r->last_pages,
             (double)p->resume_ns / 1e6);
}

static int answer(struct snapshot_job *s, struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerSnapshotDone done = FERRY__WORKER_SNAPSHOT_DONE__INIT;
    done.pause_ns = s->result.pause.total_ns;
    done.total_ns = s->result.total_ns;
    done.rounds = s->result.rounds;
    reply.body_case = FERRY__WORKER_REPLY__BODY_SNAPSHOT_DONE;
    reply.snapshot_done = &done;
    return job_reply(s->job, &reply, err);
}

/* A guest that is held waits for its end, which ferryd brings about once the snapshot is published.
 * When ferryd closes the connection instead, it has not come to that, and the guest runs on. */
static int wait_for_verdict(struct snapshot_job *s, struct err *err)
{
    if (!s->ask->hold)
        return 0;
    job_wait_closed(s->job);
    return job_call_loop(s->job, worker_release, err);
}

int worker_snapshot(struct job *job, const Ferry__WorkerSnapshot *ask, struct fds *fds,
                    struct err *err)
{
    struct snapshot_job s = {.job = job, .ask = ask};
    if (!ask->manifest || fds->count < 1)
        return err_set(err, EINVAL, "a snapshot needs a manifest and a directory");
    int rc = job_enter(job, err);
    if (rc < 0)
        return rc;
    worker_guest_init(&s.guest, job, job->worker->machine);
    rc = save(&s, fds->fd[0], err);
    if (rc == 0) {
        log_pause(&s.result);
        rc = answer(&s, err);
    }
    if (rc == 0)
        rc = wait_for_verdict(&s, err);
    capture_result_fini(&s.result);
    job_leave(job);
    return rc;
}
