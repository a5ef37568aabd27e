/* See worker_snapshot.h. */
#include "daemon/worker_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
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
    struct chain_capture chain;
    struct capture_result result;
    bool captured; /* the result is whole */
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

static bool is_diff(const struct snapshot_job *s)
{
    return snapshot_ref_is_set(&s->chain.parent);
}

static int begin_image(struct snapshot_job *s, int dirfd, struct err *err)
{
    static const Ferry__SnapshotMemory kinds[2][2] = {
        {FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL,
         FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF},
        {FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL,
         FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF},
    };
    struct image_options options = {
        .io = &fileio_system,
        .dirfd = dirfd,
        .ram_bytes = s->guest.guest.ram_bytes,
        .memory = kinds[s->ask->pack != 0][is_diff(s)],
    };
    return image_begin(&s->image, &options, err);
}

static int capture(struct snapshot_job *s, struct err *err)
{
    struct page_sink sink = image_sink(&s->image);
    struct capture_options options = {
        .mode = CAPTURE_LIVE,
        .hold = s->ask->hold,
        .tracked = s->chain.tracked,
        .whole = s->chain.way != CHAIN_DIFF,
        .on_parent = s->chain.way == CHAIN_ORIGIN,
        .cancel = &s->job->cancelled,
        .ctx = s,
        .progress = on_progress,
    };
    if (s->chain.way == CHAIN_ORIGIN)
        worker_guest_only_changed(&s->guest);
    return capture_run(&s->guest.guest, &sink, &options, &s->result, err);
}

/* What the guest was told its CPU can do: a host that has less must not restore it. */
static int describe_cpu(const struct cpuid_set *set, Ferry__SnapshotCpu *cpu, char *vendor,
                        struct buf *features, struct err *err)
{
    cpuid_vendor(set, vendor);
    int rc = cpu_profile_names(set, features, err);
    if (rc == 0 && buf_append(features, "", 1) < 0)
        rc = err_set(err, ENOMEM, "no memory for the names of CPU features");
    cpu->vendor = vendor;
    cpu->features = (char *)features->data;
    return rc;
}

/* What the guest comes from, for the time of writing the manifest. */
struct lineage {
    struct snapshot_ref refs[SNAPSHOT_LINEAGE_MAX];
    Ferry__SnapshotRef messages[SNAPSHOT_LINEAGE_MAX], *list[SNAPSHOT_LINEAGE_MAX];
};

static int write_image(struct snapshot_job *s, Ferry__SnapshotManifest *manifest, struct err *err)
{
    struct image_totals totals;
    Ferry__SnapshotRef parent;
    CLEAN(clean_free) struct lineage *l = calloc(1, sizeof(*l));
    if (!l)
        return err_set(err, ENOMEM, "no memory for the lineage");
    manifest->parent = snapshot_ref_fill(&parent, &s->chain.parent);
    manifest->n_lineage = chain_lineage(&s->job->worker->chain, &s->chain.parent, l->refs);
    manifest->lineage = l->list;
    for (size_t i = 0; i < manifest->n_lineage; i++)
        l->list[i] = snapshot_ref_fill(&l->messages[i], &l->refs[i]);
    return image_finish(&s->image, manifest, &totals, err);
}

static int finish_image(struct snapshot_job *s, struct err *err)
{
    struct buf features;
    char vendor[CPUID_VENDOR_SIZE];
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
        rc = write_image(s, &manifest, err);
    buf_fini(&features);
    return rc;
}

static int save(struct snapshot_job *s, int dirfd, struct err *err)
{
    int rc = begin_image(s, dirfd, err);
    if (rc == 0)
        rc = capture(s, err);
    if (rc == 0) {
        s->captured = true;
        rc = finish_image(s, err);
    }
    image_abandon(&s->image);
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

/* Says that all is written, and hears whether it was published: only then it ever was. */
static bool is_kept(struct snapshot_job *s)
{
    struct err ignored;
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    Ferry__WorkerSnapshotDone done = FERRY__WORKER_SNAPSHOT_DONE__INIT;
    done.pause_ns = s->result.pause.total_ns;
    done.total_ns = s->result.total_ns;
    done.rounds = s->result.rounds;
    done.note = s->chain.note.text;
    reply.body_case = FERRY__WORKER_REPLY__BODY_SNAPSHOT_DONE;
    reply.snapshot_done = &done;
    return job_reply(s->job, &reply, &ignored) == 0 &&
           job_wait_request(s->job, FERRY__WORKER_REQUEST__BODY_KEPT);
}

/* What was kept is told before it is answered, so that who asks next knows. */
static int answer(struct snapshot_job *s, struct err *err)
{
    Ferry__WorkerReply reply = FERRY__WORKER_REPLY__INIT;
    int rc = job_call_loop(s->job, worker_tell, err);
    return rc < 0 ? rc : job_reply(s->job, &reply, err);
}

/* A guest that is held waits for its end, which ferryd brings about once the snapshot is published.
 * When ferryd closes the connection instead, it has not come to that, and the guest runs on. */
static void release(struct snapshot_job *s, bool kept)
{
    struct err ignored;
    if (!s->ask->hold || !s->captured)
        return;
    if (kept)
        job_wait_closed(s->job);
    job_call_loop(s->job, worker_release, &ignored);
}

static int save_and_settle(struct snapshot_job *s, int dirfd, struct err *err)
{
    struct chain *chain = &s->job->worker->chain;
    struct dirty *dirty = machine_dirty(s->guest.machine);
    int rc = chain_enter(chain, dirty, &s->chain, err);
    if (rc < 0)
        return rc;
    rc = save(s, dirfd, err);
    if (rc == 0)
        log_pause(&s->result);
    bool kept = rc == 0 && is_kept(s);
    chain_leave(chain, dirty, &s->chain, s->captured ? &s->result : NULL, kept);
    if (kept)
        rc = answer(s, err);
    release(s, kept);
    return rc;
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
    s.chain.track = ask->track;
    s.chain.or_full = ask->or_full;
    s.chain.is_clone = worker_guest_is_clone(job, s.guest.machine);
    snapshot_ref_take(&s.chain.parent, ask->manifest->parent);
    snapshot_ref_take(&s.chain.self, &(Ferry__SnapshotRef){.uuid = ask->manifest->uuid,
                                                           .name = ask->manifest->name});
    rc = save_and_settle(&s, fds->fd[0], err);
    capture_result_fini(&s.result);
    job_leave(job);
    return rc;
}
