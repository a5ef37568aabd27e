/* Queues, registers and state of a virtio device (virtio-rng) under a driver that means harm. */
#include "machine/devices/virtio_rng.h"
#include "tests/fuzz/virtio_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ops ops = {.type = &virtio_rng_type};
    ops_run(&ops, data, size);
    return 0;
}
