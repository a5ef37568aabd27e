/* See definition.h. */
#include "daemon/definition.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/fs.h"
#include "base/name.h"
#include "base/uuid.h"
#include "daemon/disks.h"
#include "daemon/nets.h"
#include "machine/devices/devices.h"
#include "proto/frame.h"

#define DEFINITION_MAGIC 0x46454446u /* "FDEF" */
#define STATE_MAGIC 0x41545346u      /* "FSTA" */
#define FILE_VERSION 1u
#define FILE_HEAD_BYTES 16u
#define FILE_BODY_MAX 65536u

#define MEMORY_MIN (16ull << 20)
#define MEMORY_MAX (1ull << 40)
#define MEMORY_STEP (1ull << 20)
#define CPUS_MAX 64u
#define CMDLINE_MAX 2047u
#define PROFILE_MAX 1024u
#define PATH_TEXT_MAX 4095u

static int check_path(const char *path, const char *what, struct err *err)
{
    if (path[0] != '/')
        return err_set(err, EINVAL, "%s '%.200s' is not an absolute path", what, path);
    if (strlen(path) > PATH_TEXT_MAX)
        return err_set(err, ENAMETOOLONG, "the path of the %s is longer than %u bytes", what,
                       PATH_TEXT_MAX);
    return 0;
}

static int check_sizes(const Ferry__MachineConfig *c, struct err *err)
{
    if (c->memory_bytes < MEMORY_MIN || c->memory_bytes > MEMORY_MAX)
        return err_set(err, EINVAL, "memory of %llu bytes: use 16M to 1T",
                       (unsigned long long)c->memory_bytes);
    if (c->memory_bytes % MEMORY_STEP)
        return err_set(err, EINVAL, "memory of %llu bytes is not a whole number of MiB",
                       (unsigned long long)c->memory_bytes);
    if (c->cpus < 1 || c->cpus > CPUS_MAX)
        return err_set(err, EINVAL, "%u cpus: use 1 to %u", c->cpus, CPUS_MAX);
    return 0;
}

static int check_texts(const Ferry__MachineConfig *c, struct err *err)
{
    if (strlen(c->cmdline) > CMDLINE_MAX)
        return err_set(err, EINVAL, "the cmdline has %zu bytes: at most %u fit", strlen(c->cmdline),
                       CMDLINE_MAX);
    if (strlen(c->cpu_profile) > PROFILE_MAX)
        return err_set(err, EINVAL, "the cpu profile has more than %u bytes", PROFILE_MAX);
    if (c->kernel[0] == '\0')
        return err_set(err, EINVAL, "a kernel is needed to define '%s'", c->name);
    int rc = check_path(c->kernel, "kernel", err);
    return rc < 0 || c->initrd[0] == '\0' ? rc : check_path(c->initrd, "initrd", err);
}

static int complete_uuid(Ferry__MachineConfig *c, struct err *err)
{
    struct uuid uuid;
    if (c->uuid.len == sizeof(uuid.bytes))
        return 0;
    if (c->uuid.len)
        return err_set(err, EINVAL, "the uuid has %zu bytes, not %zu", c->uuid.len,
                       sizeof(uuid.bytes));
    int rc = uuid_make(&uuid, err);
    if (rc < 0)
        return rc;
    c->uuid.data = malloc(sizeof(uuid.bytes));
    if (!c->uuid.data)
        return err_set(err, ENOMEM, "no memory for a uuid");
    c->uuid.len = sizeof(uuid.bytes);
    memcpy(c->uuid.data, uuid.bytes, sizeof(uuid.bytes));
    return 0;
}

/* Beside them there is a virtio-rng. */
static int check_devices(const Ferry__MachineConfig *c, struct err *err)
{
    size_t count = c->n_disks + c->n_nets;
    if (count < DEVICE_WISHES_MAX)
        return 0;
    return err_set(err, E2BIG, "%zu disks and %zu networks: a machine takes %d of both", c->n_disks,
                   c->n_nets, DEVICE_WISHES_MAX - 1);
}

int definition_complete(Ferry__MachineConfig *c, struct err *err)
{
    if (c->memory_bytes == 0)
        c->memory_bytes = DEFINITION_MEMORY_DEFAULT;
    if (c->cpus == 0)
        c->cpus = 1;
    int rc = name_check(c->name, "the VM's name", err);
    if (rc == 0)
        rc = check_sizes(c, err);
    if (rc == 0)
        rc = check_texts(c, err);
    if (rc == 0)
        rc = disks_complete(c, err);
    if (rc == 0)
        rc = complete_uuid(c, err);
    if (rc == 0)
        rc = nets_complete(c, err);
    return rc < 0 ? rc : check_devices(c, err);
}

bool definition_is_full(const Ferry__MachineConfig *c)
{
    return c->uuid.len || c->memory_bytes || c->cpus || c->cpu_profile[0] || c->kernel[0] ||
           c->initrd[0] || c->cmdline[0] || c->n_disks || c->n_nets;
}

static int file_write(int dirfd, const char *name, uint32_t magic, const ProtobufCMessage *message,
                      struct err *err)
{
    struct buf out;
    size_t len = protobuf_c_message_get_packed_size(message);
    buf_init(&out, FILE_HEAD_BYTES + FILE_BODY_MAX);
    uint8_t *to = buf_reserve(&out, FILE_HEAD_BYTES + len);
    if (!to)
        return err_set(err, EFBIG, "'%s' would have %zu bytes", name, len);
    protobuf_c_message_pack(message, to + FILE_HEAD_BYTES);
    uint32_t crc = crc32c(0, to + FILE_HEAD_BYTES, len);
    buf_append_le(&out, magic, 4);
    buf_append_le(&out, FILE_VERSION, 4);
    buf_append_le(&out, len, 4);
    buf_append_le(&out, crc, 4);
    int rc = fs_replace(dirfd, name, out.data, FILE_HEAD_BYTES + len, 0600, err);
    buf_fini(&out);
    return rc;
}

static ProtobufCMessage *file_open(const struct buf *in, const char *name, uint32_t magic,
                                   const ProtobufCMessageDescriptor *type, struct err *err)
{
    struct span s = {.at = in->data, .left = in->len};
    uint64_t head[4];
    for (size_t i = 0; i < 4; i++) {
        if (!span_le(&s, 4, &head[i])) {
            err_set(err, EBADMSG, "'%s' is truncated", name);
            return NULL;
        }
    }
    if (head[0] != magic)
        err_set(err, EBADMSG, "'%s' has the wrong magic", name);
    else if (head[1] != FILE_VERSION)
        err_set(err, EPROTONOSUPPORT, "'%s' has version %u, known is %u", name, (unsigned)head[1],
                FILE_VERSION);
    else if (head[2] != s.left)
        err_set(err, EBADMSG, "'%s' has the wrong length", name);
    else if (head[3] != crc32c(0, s.at, s.left))
        err_set(err, EBADMSG, "'%s' has the wrong checksum", name);
    else
        return frame_unpack(type, s.at, s.left, err);
    return NULL;
}

static int file_read(int dirfd, const char *name, uint32_t magic,
                     const ProtobufCMessageDescriptor *type, ProtobufCMessage **out,
                     struct err *err)
{
    struct buf in;
    buf_init(&in, FILE_HEAD_BYTES + FILE_BODY_MAX);
    int rc = fs_read_file(dirfd, name, &in, err);
    if (rc == 0 && !(*out = file_open(&in, name, magic, type, err)))
        rc = -err->code;
    buf_fini(&in);
    return rc;
}

int definition_write(int dirfd, const Ferry__MachineConfig *config, struct err *err)
{
    return file_write(dirfd, "definition", DEFINITION_MAGIC, &config->base, err);
}

int definition_sync(int dirfd, struct err *err)
{
    CLEAN(clean_fd) int fd = openat(dirfd, "definition", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fsync(fd) < 0 || fsync(dirfd) < 0)
        return err_sys(err, errno, "cannot sync 'definition'");
    return 0;
}

int definition_read(int dirfd, const char *name, Ferry__MachineConfig **config, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = file_read(dirfd, "definition", DEFINITION_MAGIC, &ferry__machine_config__descriptor,
                       &message, err);
    if (rc < 0)
        return rc;
    *config = (Ferry__MachineConfig *)message;
    rc = definition_complete(*config, err);
    if (rc == 0 && strcmp((*config)->name, name) != 0)
        rc = err_set(err, EBADMSG, "'definition' is that of '%s'", (*config)->name);
    if (rc < 0) {
        frame_free(message);
        *config = NULL;
    }
    return rc;
}

int definition_write_state(int dirfd, const Ferry__VmStored *stored, struct err *err)
{
    return file_write(dirfd, "state", STATE_MAGIC, &stored->base, err);
}

int definition_read_state(int dirfd, Ferry__VmStored **stored, struct err *err)
{
    ProtobufCMessage *message = NULL;
    int rc = file_read(dirfd, "state", STATE_MAGIC, &ferry__vm_stored__descriptor, &message, err);
    if (rc == 0)
        *stored = (Ferry__VmStored *)message;
    return rc;
}
