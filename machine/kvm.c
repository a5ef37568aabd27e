/* See kvm.h. */
#include "machine/kvm.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

static const struct {
    int cap;
    const char *name;
} needed[] = {
    {KVM_CAP_IRQCHIP, "an in-kernel interrupt controller"},
    {KVM_CAP_PIT2, "an in-kernel timer (PIT)"},
    {KVM_CAP_USER_MEMORY, "user memory"},
    {KVM_CAP_EXT_CPUID, "CPUID tables"},
    {KVM_CAP_SET_TSS_ADDR, "a TSS address"},
    {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
    {KVM_CAP_MP_STATE, "multiprocessor states"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exits"},
};

int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    int rc;
    do
        rc = ioctl(fd, request, arg);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : rc;
}

static int check_cap(const struct kvm *kvm, long cap)
{
    int rc = ioctl(kvm->fd, KVM_CHECK_EXTENSION, cap);
    return rc < 0 ? 0 : rc;
}

int kvm_init(struct kvm *kvm, int fd, struct err *err)
{
    *kvm = (struct kvm){.fd = fd};
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        return err_set(err, ENODEV, "this is not KVM, or not of API version %d", KVM_API_VERSION);
    for (unsigned i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        if (check_cap(kvm, needed[i].cap) == 0)
            return err_set(err, ENODEV, "KVM of this host lacks %s", needed[i].name);
    kvm->run_bytes = ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (kvm->run_bytes < (int)sizeof(struct kvm_run))
        return err_set(err, ENODEV, "KVM tells no size for its run page");
    kvm->max_cpus = check_cap(kvm, KVM_CAP_MAX_VCPUS);
    int log = check_cap(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    kvm->manual_dirty_log =
        (log & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) && (log & KVM_DIRTY_LOG_INITIALLY_SET);
    kvm->kvmclock_ctrl = check_cap(kvm, KVM_CAP_KVMCLOCK_CTRL) > 0;
    return 0;
}
