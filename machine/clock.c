/* See clock.h. */
#include "machine/clock.h"

#include <errno.h>

#define TOLERATED_PPM 250u

int clock_save(struct vm *vm, struct vm_clock *clock, struct err *err)
{
    struct kvm_clock_data data = {0};
    int rc = kvm_ioctl(vm->fd, KVM_GET_CLOCK, &data);
    if (rc < 0)
        return err_sys(err, -rc, "KVM refuses to give the clock");
    *clock = (struct vm_clock){
        .guest_ns = data.clock,
        .has_realtime = data.flags & KVM_CLOCK_REALTIME,
        .realtime_ns = data.flags & KVM_CLOCK_REALTIME ? data.realtime : 0,
        .has_host_tsc = data.flags & KVM_CLOCK_HOST_TSC,
        .host_tsc = data.flags & KVM_CLOCK_HOST_TSC ? data.host_tsc : 0,
    };
    return 0;
}

/* With the flag KVM adds the wall time that has passed since `realtime`. */
int clock_load(struct vm *vm, const struct vm_clock *clock, enum clock_policy policy,
               struct err *err)
{
    struct kvm_clock_data data = {.clock = clock->guest_ns};
    if (policy == CLOCK_ADVANCE && clock->has_realtime) {
        data.flags = KVM_CLOCK_REALTIME;
        data.realtime = clock->realtime_ns;
    }
    int rc = kvm_ioctl(vm->fd, KVM_SET_CLOCK, &data);
    return rc < 0 ? err_sys(err, -rc, "KVM refuses the saved clock") : 0;
}

const char *clock_tsc_text(enum clock_tsc tsc)
{
    static const char *const texts[] = {
        [CLOCK_TSC_BY_OFFSET] = "set by its offset on each vCPU",
        [CLOCK_TSC_BY_VALUE] = "set by its value on each vCPU: this host keeps no offsets",
        [CLOCK_TSC_OF_HOST] = "the host's: this host keeps no other",
    };
    return texts[tsc];
}

uint64_t clock_passed_ns(const struct vm_clock *clock, enum clock_policy policy, uint64_t wall_ns)
{
    bool advances = policy == CLOCK_ADVANCE && clock->has_realtime && wall_ns > clock->realtime_ns;
    return advances ? wall_ns - clock->realtime_ns : 0;
}

bool clock_same_rate(uint32_t guest_khz, uint32_t host_khz)
{
    uint64_t apart = guest_khz > host_khz ? guest_khz - host_khz : host_khz - guest_khz;
    return apart * 1000000 <= (uint64_t)host_khz * TOLERATED_PPM;
}

/* Guest TSC = host TSC + offset, all modulo 2^64; it has advanced as far as the clock. */
uint64_t clock_tsc_offset(uint64_t saved_offset, uint64_t saved_tsc, uint64_t saved_ns,
                          uint64_t now_tsc, uint64_t now_ns, uint32_t tsc_khz)
{
    __int128 passed_ns = (__int128)now_ns - saved_ns;
    uint64_t ticks = (uint64_t)(passed_ns * tsc_khz / 1000000);
    return saved_tsc + saved_offset + ticks - now_tsc;
}
