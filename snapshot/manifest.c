/* See manifest.h. What a manifest may say is checked in manifest_check.c. */
#include "snapshot/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/fs.h"
#include "base/le.h"
#include "proto/frame.h"

int manifest_pack(const Ferry__SnapshotManifest *m, struct buf *out, struct err *err)
{
    int rc = manifest_check(m, err);
    if (rc < 0)
        return rc;
    size_t len = ferry__snapshot_manifest__get_packed_size(m);
    uint8_t *to = len <= MANIFEST_BODY_MAX ? buf_reserve(out, MANIFEST_HEAD_BYTES + len) : NULL;
    if (!to)
        return err_set(err, EMSGSIZE, "a manifest of %zu bytes is too large", len);
    ferry__snapshot_manifest__pack(m, to + MANIFEST_HEAD_BYTES);
    le_put(to, MANIFEST_MAGIC, 4);
    le_put(to + 4, MANIFEST_LAYOUT, 4);
    le_put(to + 8, len, 4);
    le_put(to + 12, crc32c(0, to + MANIFEST_HEAD_BYTES, len), 4);
    out->len += MANIFEST_HEAD_BYTES + len;
    return 0;
}

static int check_head(const uint8_t *data, size_t len, struct err *err)
{
    if (len < MANIFEST_HEAD_BYTES)
        return err_set(err, EBADMSG, "'manifest' has %zu bytes, less than its head", len);
    if (le_get(data, 4) != MANIFEST_MAGIC)
        return err_set(err, EBADMSG, "'manifest' has the wrong magic");
    unsigned version = (unsigned)le_get(data + 4, 4);
    if (version != MANIFEST_LAYOUT)
        return err_set(err, EPROTONOSUPPORT, "'manifest' has version %u, known is %u", version,
                       MANIFEST_LAYOUT);
    uint64_t body = le_get(data + 8, 4);
    if (body > MANIFEST_BODY_MAX)
        return err_set(err, EMSGSIZE, "'manifest' has the length %llu, over the limit of %u",
                       (unsigned long long)body, MANIFEST_BODY_MAX);
    if (body != len - MANIFEST_HEAD_BYTES)
        return err_set(err, EBADMSG, "'manifest' has the length %llu, but %zu bytes follow",
                       (unsigned long long)body, len - MANIFEST_HEAD_BYTES);
    if (le_get(data + 12, 4) != crc32c(0, data + MANIFEST_HEAD_BYTES, (size_t)body))
        return err_set(err, EBADMSG, "'manifest' has the wrong checksum");
    return 0;
}

Ferry__SnapshotManifest *manifest_unpack(const uint8_t *data, size_t len, struct err *err)
{
    if (check_head(data, len, err) < 0)
        return NULL;
    ProtobufCMessage *message =
        frame_unpack(&ferry__snapshot_manifest__descriptor, data + MANIFEST_HEAD_BYTES,
                     len - MANIFEST_HEAD_BYTES, err);
    if (!message) {
        err_wrap(err, "'manifest'");
        return NULL;
    }
    Ferry__SnapshotManifest *m = (Ferry__SnapshotManifest *)message;
    if (manifest_check(m, err) == 0)
        return m;
    err_wrap(err, "'manifest'");
    frame_free(message);
    return NULL;
}

void manifest_free(Ferry__SnapshotManifest *m)
{
    if (m)
        frame_free(&m->base);
}

int manifest_create(const struct fileio *io, int dirfd, const Ferry__SnapshotManifest *m,
                    struct err *err)
{
    struct buf out;
    buf_init(&out, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX);
    int rc = manifest_pack(m, &out, err);
    CLEAN(clean_fd) int fd = rc < 0 ? -1 : fileio_create(io, dirfd, "manifest", err);
    if (rc == 0 && fd < 0)
        rc = fd;
    if (rc == 0)
        rc = fileio_write(io, fd, "manifest", out.data, out.len, 0, err);
    buf_fini(&out);
    return rc < 0 ? rc : steal_fd(&fd);
}

int manifest_write(const struct fileio *io, int dirfd, const Ferry__SnapshotManifest *m,
                   struct err *err)
{
    CLEAN(clean_fd) int fd = manifest_create(io, dirfd, m, err);
    return fd < 0 ? fd : fileio_sync(io, fd, "manifest", err);
}

Ferry__SnapshotManifest *manifest_read(int dirfd, struct err *err)
{
    struct buf in;
    buf_init(&in, MANIFEST_HEAD_BYTES + MANIFEST_BODY_MAX);
    Ferry__SnapshotManifest *m = NULL;
    if (fs_read_file(dirfd, "manifest", &in, err) == 0)
        m = manifest_unpack(in.data, in.len, err);
    buf_fini(&in);
    return m;
}

static int check_entry(int dirfd, const Ferry__SnapshotManifest *m, const char *name,
                       struct err *err)
{
    struct stat st;
    const Ferry__SnapshotFile *file = manifest_file(m, name);
    if (!file)
        return err_set(err, EBADMSG, "'%.80s' is not in the manifest", name);
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(err, errno, "cannot look at '%s'", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EBADMSG, "'%s' is not a plain file", name);
    if ((uint64_t)st.st_size != file->length)
        return err_set(err, EBADMSG, "'%s' has %lld bytes, not %llu", name, (long long)st.st_size,
                       (unsigned long long)file->length);
    return 0;
}

static DIR *open_dir(int dirfd, struct err *err)
{
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        err_sys(err, errno, "cannot list a snapshot");
        clean_fd(&fd);
    }
    return dir;
}

int manifest_check_files(int dirfd, const Ferry__SnapshotManifest *m, struct err *err)
{
    DIR *dir = open_dir(dirfd, err);
    size_t seen = 0;
    int rc = 0;
    if (!dir)
        return -err->code;
    for (struct dirent *e; rc == 0 && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            strcmp(e->d_name, "manifest") == 0)
            continue;
        rc = check_entry(dirfd, m, e->d_name, err);
        seen++;
    }
    closedir(dir);
    for (size_t i = 0; rc == 0 && seen < m->n_files && i < m->n_files; i++)
        rc = check_entry(dirfd, m, m->files[i]->name, err);
    return rc;
}

int manifest_open_file(int dirfd, const Ferry__SnapshotManifest *m, const char *name,
                       struct err *err)
{
    const Ferry__SnapshotFile *file = manifest_file(m, name);
    if (!file)
        return err_set(err, ENOENT, "the snapshot has no '%s'", name);
    CLEAN(clean_fd) int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 && errno == ELOOP)
        return err_set(err, EBADMSG, "'%s' is not a plain file", name);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_sys(err, errno, "cannot open '%s'", name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, EBADMSG, "'%s' is not a plain file", name);
    if ((uint64_t)st.st_size != file->length)
        return err_set(err, EBADMSG, "'%s' has %lld bytes, not %llu", name, (long long)st.st_size,
                       (unsigned long long)file->length);
    return steal_fd(&fd);
}

const Ferry__SnapshotFile *manifest_file(const Ferry__SnapshotManifest *m, const char *name)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (strcmp(m->files[i]->name, name) == 0)
            return m->files[i];
    return NULL;
}

bool manifest_is_diff(const Ferry__SnapshotManifest *m)
{
    return m->memory == FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF ||
           m->memory == FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF;
}

bool manifest_is_packed(const Ferry__SnapshotManifest *m)
{
    return m->memory == FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL ||
           m->memory == FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_DIFF;
}

uint32_t manifest_crc(const Ferry__SnapshotFile *file, uint64_t chunk)
{
    if (chunk >= file->crc32c.len / 4)
        return 0;
    return (uint32_t)le_get(file->crc32c.data + 4 * chunk, 4);
}

bool manifest_same_uuid(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
    return a->len == 16 && b->len == 16 && memcmp(a->data, b->data, 16) == 0;
}

void manifest_uuid(const ProtobufCBinaryData *from, struct uuid *to)
{
    *to = (struct uuid){{0}};
    if (from->len == sizeof(to->bytes))
        memcpy(to->bytes, from->data, sizeof(to->bytes));
}

/* The next word of *at, moved behind it; its length, 0 at the end. */
static size_t next_word(const char **at, const char **word)
{
    *at += strspn(*at, " ");
    *word = *at;
    size_t len = strcspn(*at, " ");
    *at += len;
    return len;
}

static bool has_word(const char *words, const char *word, size_t len)
{
    const char *found;
    for (size_t n; (n = next_word(&words, &found));)
        if (n == len && memcmp(found, word, len) == 0)
            return true;
    return false;
}

struct missing {
    char *names;
    size_t size, used;
    unsigned count, shown;
};

/* Keeps room for " and N more". */
static void add_missing(struct missing *to, const char *word, size_t len)
{
    const size_t spare = 24;
    to->count++;
    if (to->used + len + 2 + spare > to->size || to->shown + 1 < to->count)
        return;
    to->used += (size_t)snprintf(to->names + to->used, to->size - to->used, "%s%.*s",
                                 to->used ? ", " : "", (int)len, word);
    to->shown = to->count;
}

unsigned manifest_cpu_missing(const Ferry__SnapshotManifest *m, const char *vendor,
                              const char *features, char *names, size_t size)
{
    struct missing missing = {.names = names, .size = size};
    const char *at = m->cpu->features, *word;
    if (size)
        names[0] = '\0';
    if (strcmp(m->cpu->vendor, vendor) != 0) {
        char text[64];
        int n = snprintf(text, sizeof(text), "vendor %.40s", m->cpu->vendor);
        add_missing(&missing, text, (size_t)n);
    }
    for (size_t n; (n = next_word(&at, &word));)
        if (!has_word(features, word, n))
            add_missing(&missing, word, n);
    if (missing.shown < missing.count && missing.used < size)
        snprintf(names + missing.used, size - missing.used, " and %u more",
                 missing.count - missing.shown);
    return missing.count;
}
