/* See vcpu.h. */
#include "machine/vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine/exit.h"

#define VCPU_KICK_SIGNAL SIGUSR1

static _Thread_local struct vcpu *vcpu_current;

static void on_kick(int sig)
{
    /* It only has to interrupt KVM_RUN. */
}

static int install_kick(struct err *err)
{
    struct sigaction action = {.sa_handler = on_kick};
    if (sigaction(VCPU_KICK_SIGNAL, &action, NULL) < 0)
        return err_sys(err, errno, "cannot install the vCPU signal");
    return 0;
}

int vcpu_init(struct vcpu *v, const struct vcpu_env *env, unsigned index, struct err *err)
{
    *v = (struct vcpu){.env = env, .index = index, .fd = -1};
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->changed, NULL);
    int rc = kvm_ioctl(env->vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
    if (rc < 0)
        return err_sys(err, -rc, "KVM refuses vCPU %u", index);
    v->fd = rc;
    void *run = mmap(NULL, env->vm->kvm->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (run == MAP_FAILED)
        return err_sys(err, errno, "cannot map the run page of vCPU %u", index);
    v->run = run;
    rc = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
    v->tsc_khz = rc > 0 ? (uint32_t)rc : 0;
    return 0;
}

int vcpu_set_cpuid(struct vcpu *v, const struct cpuid_set *set, struct err *err)
{
    union {
        struct kvm_cpuid2 head;
        uint8_t room[sizeof(struct kvm_cpuid2) + sizeof(set->entries)];
    } u;
    memset(&u.head, 0, sizeof(u.head));
    u.head.nent = set->count;
    memcpy(u.head.entries, set->entries, set->count * sizeof(set->entries[0]));
    int rc = kvm_ioctl(v->fd, KVM_SET_CPUID2, &u);
    if (rc < 0)
        return err_sys(err, -rc, "KVM refuses the CPU profile for vCPU %u", v->index);
    v->cpuid = *set;
    return 0;
}

static void set_immediate_exit(struct vcpu *v, uint8_t value)
{
    __atomic_store_n(&v->run->immediate_exit, value, __ATOMIC_RELAXED);
}

static void post(struct vcpu *v, enum vcpu_order order, void (*call)(struct vcpu *v, void *arg),
                 void *arg)
{
    pthread_mutex_lock(&v->lock);
    v->order = order;
    v->call = call;
    v->call_arg = arg;
    if (v->mode == VCPU_RUNNING) {
        set_immediate_exit(v, 1);
        pthread_kill(v->thread, VCPU_KICK_SIGNAL);
    }
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
}

void vcpu_order(struct vcpu *v, enum vcpu_order order)
{
    post(v, order, NULL, NULL);
}

void vcpu_order_call(struct vcpu *v, void (*call)(struct vcpu *v, void *arg), void *arg)
{
    post(v, VCPU_ORDER_CALL, call, arg);
}

void vcpu_wait(struct vcpu *v)
{
    pthread_mutex_lock(&v->lock);
    while (v->order != VCPU_ORDER_NONE)
        pthread_cond_wait(&v->changed, &v->lock);
    pthread_mutex_unlock(&v->lock);
}

void vcpu_park_self(void)
{
    if (vcpu_current) {
        vcpu_current->park_self = true;
        set_immediate_exit(vcpu_current, 1);
    }
}

/* Takes the order there is, if any, and answers it. Locked. */
static enum vcpu_mode obey(struct vcpu *v)
{
    static const enum vcpu_mode result[] = {
        [VCPU_ORDER_PARK] = VCPU_PARKED,
        [VCPU_ORDER_RUN] = VCPU_RUNNING,
        [VCPU_ORDER_EXIT] = VCPU_GONE,
    };
    if (v->order != VCPU_ORDER_NONE) {
        if (v->order == VCPU_ORDER_CALL)
            v->call(v, v->call_arg);
        else
            v->mode = result[v->order];
        v->order = VCPU_ORDER_NONE;
        pthread_cond_broadcast(&v->changed);
    }
    set_immediate_exit(v, 0);
    return v->mode;
}

static enum vcpu_mode wait_parked(struct vcpu *v)
{
    pthread_mutex_lock(&v->lock);
    v->mode = VCPU_PARKED;
    while (v->order == VCPU_ORDER_NONE)
        pthread_cond_wait(&v->changed, &v->lock);
    enum vcpu_mode next = obey(v);
    pthread_mutex_unlock(&v->lock);
    /* Tells a guest with kvmclock that it stood still, so that it reports no soft lockup; a guest
     * without kvmclock answers EINVAL. */
    if (next == VCPU_RUNNING && v->env->vm->kvm->kvmclock_ctrl)
        ioctl(v->fd, KVM_KVMCLOCK_CTRL, 0);
    return next;
}

/* KVM_RUN returned EINTR: nothing is pending in the kernel, so this is where orders are obeyed. */
static enum vcpu_mode interrupted(struct vcpu *v)
{
    counter_add(v->env->counters, COUNTER_SIGNAL);
    pthread_mutex_lock(&v->lock);
    if (v->park_self) {
        v->park_self = false;
        v->mode = VCPU_PARKED;
    }
    enum vcpu_mode next = obey(v);
    pthread_mutex_unlock(&v->lock);
    return next;
}

/* KVM_RUN with no signal blocked, or with those of the thread. */
static int unblock_in_run(const struct vcpu *v, bool unblock)
{
    union {
        struct kvm_signal_mask head;
        uint8_t room[sizeof(struct kvm_signal_mask) + 8]; /* the kernel's sigset: 64 signals */
    } u = {.head = {.len = 8}};
    return kvm_ioctl(v->fd, KVM_SET_SIGNAL_MASK, unblock ? &u : NULL);
}

/* The signal waits, blocked, until KVM_RUN lets it in: that cannot fail to see it. */
int vcpu_flush(struct vcpu *v, struct err *err)
{
    sigset_t kick, before;
    sigemptyset(&kick);
    sigaddset(&kick, VCPU_KICK_SIGNAL);
    int rc = unblock_in_run(v, true);
    if (rc < 0)
        return err_sys(err, -rc, "vCPU %u: KVM refuses a signal mask", v->index);
    pthread_sigmask(SIG_BLOCK, &kick, &before);
    pthread_kill(pthread_self(), VCPU_KICK_SIGNAL);
    rc = ioctl(v->fd, KVM_RUN, 0) < 0 ? errno : 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    unblock_in_run(v, false);
    if (rc != EINTR && rc != EAGAIN)
        return err_set(err, EIO, "vCPU %u: KVM_RUN did not heed a signal (exit %u)", v->index,
                       v->run->exit_reason);
    return 0;
}

static enum vcpu_mode stop_at_fault(struct vcpu *v, struct report *report)
{
    report_cpu(report, v->fd, v->index, v->env->vm->mem);
    v->env->stopped(v->env->ctx, report);
    return VCPU_PARKED;
}

/* A mapped page that cannot be had, if KVM and not the worker wants it. */
#define LOST_MEMORY                                                                                \
    ": memory that is mapped cannot be read: the snapshot under it was cut short, or its disk "    \
    "fails"

static enum vcpu_mode run_failed(struct vcpu *v, int code)
{
    struct report report = {.kind = REPORT_INTERNAL_ERROR};
    counter_add(v->env->counters, COUNTER_FAULT);
    snprintf(report.text, sizeof(report.text), "KVM cannot run the guest: %s%s", strerror(code),
             code == EFAULT ? LOST_MEMORY : "");
    return stop_at_fault(v, &report);
}

static enum vcpu_mode run_once(struct vcpu *v)
{
    struct report report = {0};
    if (ioctl(v->fd, KVM_RUN, 0) < 0) {
        if (errno == EINTR)
            return interrupted(v);
        return errno == EAGAIN ? VCPU_RUNNING : run_failed(v, errno);
    }
    if (exit_handle(v))
        return VCPU_RUNNING;
    report_exit(&report, v->run);
    return stop_at_fault(v, &report);
}

static void *thread_main(void *arg)
{
    struct vcpu *v = arg;
    char name[16];
    snprintf(name, sizeof(name), "vcpu%u", v->index);
    pthread_setname_np(pthread_self(), name);
    vcpu_current = v;
    enum vcpu_mode mode = VCPU_PARKED;
    while (mode != VCPU_GONE)
        mode = mode == VCPU_RUNNING ? run_once(v) : wait_parked(v);
    return NULL;
}

int vcpu_start_thread(struct vcpu *v, struct err *err)
{
    int rc = install_kick(err);
    if (rc < 0)
        return rc;
    rc = pthread_create(&v->thread, NULL, thread_main, v);
    if (rc != 0)
        return err_sys(err, rc, "cannot start the thread of vCPU %u", v->index);
    v->has_thread = true;
    return 0;
}

void vcpu_fini(struct vcpu *v)
{
    if (v->has_thread) {
        vcpu_order(v, VCPU_ORDER_EXIT);
        vcpu_wait(v);
        pthread_join(v->thread, NULL);
    }
    if (v->run)
        munmap(v->run, v->env->vm->kvm->run_bytes);
    if (v->fd >= 0)
        close(v->fd);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
}
