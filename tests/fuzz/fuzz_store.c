/*
 * What a store says: the XML of S3 and the files of its configuration. The first byte is the room
 * for what is found, which must end inside it.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"UploadId", "Code", "Message", "ETag"};
    if (size < 1)
        return 0;
    size_t room = 1u + data[0];
    char *to = malloc(room);
    for (size_t i = 0; to && i < sizeof(names) / sizeof(names[0]); i++) {
        memset(to, 'x', room);
        if (store_xml_find(data + 1, size - 1, names[i], to, room) && !memchr(to, '\0', room))
            __builtin_trap();
        to[0] = '\0';
        store_config_find((const char *)data + 1, size - 1, "default", names[i], to, room);
        if (!memchr(to, '\0', room))
            __builtin_trap();
    }
    free(to);
    return 0;
}
