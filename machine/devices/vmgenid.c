/*
 * The generation: 16 bytes in guest memory that change when the guest has become another machine
 * than it was, by a restore or as a clone, so that it makes new random numbers, keys and addresses.
 * A pause, a reset and a live migration leave them as they are. By Microsoft's "Virtual Machine
 * Generation ID"; Linux reads it in drivers/virt/vmgenid.c.
 *
 * The guest finds the address by ACPI (boot/acpi.c), in a page that its memory map reserves. The
 * bytes are written and the interrupt comes at the first resume after a change: by then memory and
 * interrupt controllers are what they will be, and no vCPU runs yet. It has no registers, so no
 * vCPU ever gets here, and it needs no lock.
 *
 * What a guest writes over its generation is its own affair; the next change puts it right.
 */
#include "machine/devices/vmgenid.h"

#include <string.h>

#include "machine/devices/line.h"
#include "machine/layout.h"

struct vmgenid {
    struct line irq;
    struct mem *mem; /* borrowed */
    bool is_written; /* memory says what `generation` says */

    uint8_t generation[16]; /* in the order of its text form */
    bool notify_due;        /* the guest has not been told */
};

// clang-format off
static const struct field vmgenid_fields[] = {
    FIELD_ARRAY(1, struct vmgenid, generation),
    FIELD(2, struct vmgenid, notify_due),
    FIELD_END,
};
// clang-format on

/* A GUID in memory has its first three numbers little-endian. */
static void write_guid(struct vmgenid *g)
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    uint8_t guid[16];
    struct err cannot; /* the place is in the RAM of every machine */
    for (unsigned i = 0; i < sizeof(guid); i++)
        guid[i] = g->generation[order[i]];
    mem_write(g->mem, LAYOUT_VMGENID_GPA, guid, sizeof(guid), &cannot);
}

static int vmgenid_init(void *dev, const struct device_env *env, struct err *err)
{
    struct vmgenid *g = dev;
    struct uuid drawn;
    int rc = env->generation ? 0 : uuid_make(&drawn, err);
    if (rc < 0)
        return rc;
    line_init(&g->irq, &env->irq, LAYOUT_VMGENID_GSI);
    g->mem = env->mem;
    memcpy(g->generation, env->generation ? env->generation->bytes : drawn.bytes,
           sizeof(g->generation));
    return 0;
}

static void vmgenid_resume(void *dev)
{
    struct vmgenid *g = dev;
    if (!g->is_written)
        write_guid(g);
    g->is_written = true;
    if (g->notify_due) {
        line_set(&g->irq, true);
        line_set(&g->irq, false);
    }
    g->notify_due = false;
}

/* A guest that boots reads its generation anew. */
static void vmgenid_reset(void *dev)
{
    struct vmgenid *g = dev;
    g->notify_due = false;
}

static int vmgenid_post_load(void *object, struct err *err)
{
    struct vmgenid *g = object;
    g->is_written = false;
    return 0;
}

void vmgenid_renew(struct vmgenid *g, const struct uuid *generation)
{
    memcpy(g->generation, generation->bytes, sizeof(g->generation));
    g->notify_due = true;
    g->is_written = false;
}

struct uuid vmgenid_get(const struct vmgenid *g)
{
    struct uuid uuid;
    memcpy(uuid.bytes, g->generation, sizeof(uuid.bytes));
    return uuid;
}

static const struct state_desc vmgenid_state = {
    .name = "vmgenid",
    .version = 1,
    .min_version = 1,
    .fields = vmgenid_fields,
    .post_load = vmgenid_post_load,
};

const struct device_type vmgenid_type = {
    .name = "vmgenid",
    .size = sizeof(struct vmgenid),
    .state = &vmgenid_state,
    .optional = true,
    .init = vmgenid_init,
    .resume = vmgenid_resume,
    .reset = vmgenid_reset,
};
