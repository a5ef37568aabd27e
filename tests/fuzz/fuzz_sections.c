/*
 * The state of KVM's part of a machine, as bytes from a stranger: sections with right checksums
 * (put right here, or nothing would get behind them), loaded by the tables of the machine and of
 * two vCPUs. No KVM is needed: what tables take they must give again, byte for byte. As long as
 * nothing is marked critical, unknown sections and fields are passed over.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "machine/vcpu_state.h"
#include "machine/vm_state.h"
#include "vmstate/section.h"

#define VCPUS 2
#define STATE_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct vm_state vm;
    struct vcpu_state vcpus[VCPUS];
    struct section_set set;
};

static struct state loaded, again;

static void set_up(struct state *s, uint16_t flags)
{
    struct err err;
    memset(s, 0, sizeof(*s));
    section_set_init(&s->set);
    int rc = section_set_add(&s->set, &vm_state_desc, 0, flags, &s->vm, &err);
    for (unsigned i = 0; rc == 0 && i < VCPUS; i++)
        rc = section_set_add(&s->set, &vcpu_state_desc, i, flags, &s->vcpus[i], &err);
    if (rc < 0)
        abort();
}

/* Sections side by side with their checksums set right, as far as their lengths make sense. */
static void seal(uint8_t *bytes, size_t len)
{
    for (size_t at = 0; len - at >= SECTION_HEAD_BYTES;) {
        uint8_t *head = bytes + at;
        size_t total = SECTION_HEAD_BYTES + le_get(head + 4, 2) + le_get(head + 16, 4);
        if (total > len - at)
            return;
        le_put(head + 20,
               crc32c(crc32c(0, head, 20), head + SECTION_HEAD_BYTES, total - SECTION_HEAD_BYTES),
               4);
        at += total;
    }
}

/* What was loaded is saved, loaded and saved: the same bytes. */
static void there_and_back(void)
{
    CLEAN(buf_fini) struct buf first, second;
    struct err err;
    buf_init(&first, STATE_MAX);
    buf_init(&second, STATE_MAX);
    set_up(&again, SECTION_CRITICAL);
    if (section_set_save(&loaded.set, &first, &err) < 0 ||
        section_set_load(&again.set, (struct span){first.data, first.len}, NULL, &err) < 0 ||
        section_set_save(&again.set, &second, &err) < 0)
        abort();
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    section_set_fini(&again.set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct section_report report;
    struct err err = {0};
    uint8_t *bytes = malloc(size ? size : 1); /* a read behind its end is seen */
    if (!bytes)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    seal(bytes, size);
    set_up(&loaded, 0);
    if (section_set_load(&loaded.set, (struct span){bytes, size}, &report, &err) == 0) {
        for (unsigned i = 0; i < loaded.set.count; i++)
            loaded.set.targets[i].flags = SECTION_CRITICAL;
        there_and_back();
    } else if (err.code <= 0 || !err.text[0]) {
        abort();
    }
    section_set_fini(&loaded.set);
    free(bytes);
    return 0;
}
