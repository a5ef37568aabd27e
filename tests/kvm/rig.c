/* See rig.h. */
#include "tests/kvm/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "machine/state.h"
#include "machine/vcpu.h"

#define RIG_MEMORY (128ull << 20)

static void wake(struct rig *r)
{
    pthread_mutex_lock(&r->lock);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void on_output(void *ctx)
{
    wake(ctx);
}

static void on_room(void *ctx)
{
    wake(ctx);
}

static const struct console_ops console_ops = {.output = on_output, .input_room = on_room};

static void on_stopped(void *ctx, const struct report *report)
{
    struct rig *r = ctx;
    pthread_mutex_lock(&r->lock);
    if (!r->stopped) {
        r->stopped = true;
        r->report = *report;
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

void rig_need_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        print_message("skipped: /dev/kvm cannot be opened: %s\n", strerror(errno));
        exit(77);
    }
    close(fd);
}

/* Tests lie in BUILD/tests, guests in BUILD/guests. */
static int open_guest(const char *name)
{
    char exe[4096], path[4200];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    assert_true(n > 0);
    exe[n] = '\0';
    snprintf(path, sizeof(path), "%s/../guests/%s.elf", dirname(exe), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        fail_msg("cannot open %s", path);
    return fd;
}

void rig_start(struct rig *r, const struct rig_options *o)
{
    struct err err = {0};
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    r->kernel_fd = open_guest(o->guest);
    r->config = (struct machine_config){
        .memory_bytes = o->memory_bytes ? o->memory_bytes : RIG_MEMORY,
        .cpus = o->cpus ? o->cpus : 1,
        .cpu_profile = o->cpu_profile ? o->cpu_profile : "host",
        .cmdline = o->cmdline ? o->cmdline : "",
        .kernel_fd = r->kernel_fd,
        .initrd_fd = -1,
        .generation = o->generation,
        .devices = o->devices,
        .ndevices = o->ndevices,
    };
    r->host = (struct machine_host){.kvm = &r->kvm,
                                    .console = &r->console,
                                    .counters = &r->counters,
                                    .stopped = on_stopped,
                                    .ctx = r};
    if (kvm_init(&r->kvm, r->kvm_fd, &err) < 0 ||
        console_init(&r->console, &console_ops, r, &err) < 0 ||
        !(r->machine = machine_new(&r->config, &r->host, &err)))
        fail_msg("%s", err.text);
    r->config.generation = NULL;
    machine_resume(r->machine);
}

void rig_stop(struct rig *r)
{
    machine_free(r->machine);
    console_fini(&r->console);
    close(r->kernel_fd);
    close(r->kvm_fd);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
}

void rig_reset(struct rig *r)
{
    struct err err = {0};
    r->machine = machine_reset(r->machine, &r->config, &r->host, &err);
    if (!r->machine)
        fail_msg("%s", err.text);
    machine_resume(r->machine);
}

void rig_save(struct rig *r, struct buf *state)
{
    struct err err = {0};
    buf_init(state, STATE_BYTES_MAX);
    if (state_save(r->machine, state, &err) < 0)
        fail_msg("save: %s", err.text);
}

void rig_move(struct rig *r, const struct buf *state, enum clock_policy policy)
{
    struct err err = {0};
    struct mem *mem = machine_mem(r->machine);
    int fd = memfd_create("moved", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, (off_t)mem->size), 0);
    assert_int_equal(pwrite(fd, mem->base, mem->size, 0), mem->size);
    struct mem_extent whole = {.offset = 0, .bytes = mem->size, .fd = fd, .at = 0};
    struct machine_saved saved = {.extents = &whole,
                                  .count = 1,
                                  .state = {.at = state->data, .left = state->len},
                                  .clock = policy};
    struct machine_config config = r->config;
    config.saved = &saved;
    struct machine *fresh = machine_new(&config, &r->host, &err);
    if (!fresh)
        fail_msg("%s", err.text);
    close(fd);
    machine_free(r->machine);
    r->machine = fresh;
}

struct tsc {
    uint64_t offset;
    int rc;
};

static void read_offset(struct vcpu *v, void *arg)
{
    struct tsc *tsc = arg;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&tsc->offset};
    tsc->rc = kvm_ioctl(v->fd, KVM_GET_DEVICE_ATTR, &attr);
}

/* All vCPUs' TSCs are exactly equal, as far as KVM says so; the timer guest sees them run. */
static void check_tscs(struct rig *r)
{
    struct tsc first = {0}, other;
    for (unsigned i = 0; i < machine_cpus(r->machine); i++) {
        struct tsc *tsc = i == 0 ? &first : &other;
        vcpu_order_call(machine_vcpu(r->machine, i), read_offset, tsc);
        vcpu_wait(machine_vcpu(r->machine, i));
        assert_int_equal(tsc->rc, first.rc);
        if (tsc->rc == 0)
            assert_int_equal(tsc->offset, first.offset);
    }
}

void rig_shuffle(struct rig *r, int cycles, enum clock_policy policy)
{
    unsigned seed = 4711;
    for (int i = 0; i < cycles; i++) {
        struct buf bytes;
        nanosleep(&(struct timespec){.tv_nsec = (1 + rand_r(&seed) % 15000) * 1000l}, NULL);
        machine_pause(r->machine);
        rig_save(r, &bytes);
        rig_move(r, &bytes, policy);
        buf_fini(&bytes);
        check_tscs(r);
        machine_resume(r->machine);
    }
}

char *rig_console(struct rig *r)
{
    uint64_t offset = 0, missed;
    char *all = calloc(1, CONSOLE_SCROLL_BYTES + 1);
    assert_non_null(all);
    console_read(&r->console, &offset, all, CONSOLE_SCROLL_BYTES, &missed);
    return all;
}

static struct timespec deadline_in(unsigned ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

static bool find_behind(struct rig *r, uint64_t *offset, const char *text)
{
    char *all = rig_console(r);
    uint64_t begin = console_begin(&r->console), from = *offset > begin ? *offset - begin : 0;
    char *at = from <= strlen(all) ? strstr(all + from, text) : NULL;
    if (at)
        *offset = begin + (uint64_t)(at - all) + strlen(text);
    free(all);
    return at != NULL;
}

void rig_expect(struct rig *r, uint64_t *offset, const char *text, unsigned timeout_ms)
{
    struct timespec until = deadline_in(timeout_ms);
    uint64_t zero = 0;
    bool found, late = false;
    pthread_mutex_lock(&r->lock);
    while (!(found = find_behind(r, offset ? offset : &zero, text)) && !late)
        late = pthread_cond_timedwait(&r->changed, &r->lock, &until) == ETIMEDOUT;
    bool stopped = r->stopped;
    pthread_mutex_unlock(&r->lock);
    if (found)
        return;
    char *all = rig_console(r);
    size_t n = strlen(all);
    char *first = strstr(all, "FAIL"); /* what is wrong is said once, long before the end */
    if (first)
        print_message("its first complaint: %.600s\n", first);
    print_message("guest said:\n%s\n", n > 3000 ? all + n - 3000 : all);
    fail_msg("no '%s' within %u ms%s%s", text, timeout_ms, stopped ? "; it stopped: " : "",
             stopped ? r->report.text : "");
}

const struct report *rig_expect_stopped(struct rig *r, unsigned timeout_ms)
{
    struct timespec until = deadline_in(timeout_ms);
    bool late = false;
    pthread_mutex_lock(&r->lock);
    while (!r->stopped && !late)
        late = pthread_cond_timedwait(&r->changed, &r->lock, &until) == ETIMEDOUT;
    bool stopped = r->stopped;
    pthread_mutex_unlock(&r->lock);
    if (!stopped) {
        char *all = rig_console(r);
        print_message("guest said:\n%s\n", all);
        fail_msg("the guest did not stop within %u ms", timeout_ms);
    }
    return &r->report;
}

void rig_check_clean(struct rig *r)
{
    char *all = rig_console(r);
    const char *at = strstr(all, "FAIL");
    if (!at)
        for (at = all; (at = strstr(at, "errors=")) && (at[7] < '1' || at[7] > '9');)
            at += 7; /* the last line may still be coming, or have been cut off by a reset */
    if (at)
        fail_msg("the guest found an error: %.1000s", at);
    free(all);
}

long rig_last_value(struct rig *r, const char *key)
{
    char *all = rig_console(r), word[64];
    long value = -1;
    snprintf(word, sizeof(word), " %s=", key);
    for (const char *at = all; (at = strstr(at, word)); at += strlen(word))
        value = strtol(at + strlen(word), NULL, 0);
    free(all);
    return value;
}
