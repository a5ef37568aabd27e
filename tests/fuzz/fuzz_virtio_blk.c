/* Requests, registers and state of virtio-blk under a driver that means harm. */
#include <sys/mman.h>
#include <unistd.h>

#include "machine/devices/virtio_blk.h"
#include "tests/fuzz/virtio_ops.h"

#define DISK_BYTES (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An engine that does it all at once: fast, the same each time, and seen by the sanitizers. */
static struct disk_op *done;

static int now_init(struct disk *d, struct err *err)
{
    return 0;
}

static void now_nothing(struct disk *d)
{
}

static void now_queue(struct disk *d, struct disk_op *op)
{
    op->result = disk_do(d, op);
    op->next = done;
    done = op;
}

static struct disk_op *now_reap(struct disk *d, bool wait)
{
    struct disk_op *op = done;
    if (op)
        done = op->next;
    return op;
}

static const struct disk_engine now = {.name = "at once",
                                       .init = now_init,
                                       .fini = now_nothing,
                                       .queue = now_queue,
                                       .kick = now_nothing,
                                       .reap = now_reap};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct virtio_blk_config config = {.fd = -1, .id = "fuzz", .queues = 2};
    static struct ops ops = {.type = &virtio_blk_type, .config = &config};
    if (config.fd < 0) {
        config.fd = memfd_create("disk", MFD_CLOEXEC);
        config.engine = &now;
        if (ftruncate(config.fd, DISK_BYTES) < 0)
            abort();
    }
    ops_run(&ops, data, size);
    return 0;
}
