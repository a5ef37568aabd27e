/* See snapshot_ref.h. */
#include "daemon/snapshot_ref.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

bool snapshot_ref_same(const struct snapshot_ref *a, const struct snapshot_ref *b)
{
    return snapshot_ref_is_set(a) && snapshot_ref_is_set(b) &&
           memcmp(&a->uuid, &b->uuid, sizeof(a->uuid)) == 0;
}

void snapshot_ref_take(struct snapshot_ref *to, const Ferry__SnapshotRef *from)
{
    *to = (struct snapshot_ref){.name = ""};
    if (!from || from->uuid.len != sizeof(to->uuid.bytes) || !name_valid(from->name))
        return;
    memcpy(to->uuid.bytes, from->uuid.data, sizeof(to->uuid.bytes));
    snprintf(to->name, sizeof(to->name), "%s", from->name);
}

Ferry__SnapshotRef *snapshot_ref_fill(Ferry__SnapshotRef *message, const struct snapshot_ref *ref)
{
    if (!snapshot_ref_is_set(ref))
        return NULL;
    ferry__snapshot_ref__init(message);
    message->uuid = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)ref->uuid.bytes,
                                          .len = sizeof(ref->uuid.bytes)};
    message->name = (char *)(uintptr_t)ref->name;
    return message;
}
