/* A manifest goes there and back, and every wrong one is refused by the name of what is wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"
#include "tests/unit/snapshot/fixture.h"

#define RAW_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_FULL
#define RAW_DIFF FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_RAW_DIFF
#define PACKED_FULL FERRY__SNAPSHOT_MEMORY__SNAPSHOT_MEMORY_PACKED_FULL

/* A whole manifest, as an image would make it; nothing of it on the heap. */
struct sample {
    struct fixture_manifest fm;
    Ferry__SnapshotFile files[5], *list[5];
    uint8_t crc[64];
};

static void sample_file(struct sample *s, unsigned i, const char *name, uint64_t length,
                        unsigned chunks)
{
    ferry__snapshot_file__init(&s->files[i]);
    s->files[i].name = (char *)name;
    s->files[i].length = length;
    s->files[i].crc32c = (ProtobufCBinaryData){4 * chunks, s->crc};
    s->list[i] = &s->files[i];
}

static Ferry__SnapshotManifest *sample_init(struct sample *s, Ferry__SnapshotMemory memory)
{
    const Ferry__SnapshotManifest kind = {.memory = memory};
    memset(s, 0, sizeof(*s));
    fixture_manifest(&s->fm, "nightly", 1, manifest_is_diff(&kind) ? "base" : NULL, 2);
    Ferry__SnapshotManifest *m = &s->fm.m;
    sample_file(s, 0, "state", 1000, 1);
    sample_file(s, 1, "memory", manifest_is_packed(&kind) ? 5000 : FIXTURE_RAM, 3);
    m->n_files = 2;
    if (memory != RAW_FULL)
        sample_file(s, m->n_files++, "pages", (FIXTURE_PAGES + 3) / 4, 1);
    if (manifest_is_packed(&kind))
        sample_file(s, m->n_files++, "index", 24, 1);
    m->files = s->list;
    m->version = m->min_version = 1;
    m->arch = "x86_64";
    m->page_bytes = 4096;
    m->ram_bytes = FIXTURE_RAM;
    m->memory = memory;
    return m;
}

static struct buf packed(const Ferry__SnapshotManifest *m)
{
    struct buf out;
    struct err err = {0};
    buf_init(&out, 1 << 20);
    if (manifest_pack(m, &out, &err) < 0)
        fail_msg("%s", err.text);
    return out;
}

/* Packs without any check, so that a reader's own are tested. */
static struct buf forced(const Ferry__SnapshotManifest *m)
{
    struct buf out;
    buf_init(&out, 8 << 20);
    size_t len = ferry__snapshot_manifest__get_packed_size(m);
    uint8_t *to = buf_reserve(&out, 16 + len);
    assert_non_null(to);
    ferry__snapshot_manifest__pack(m, to + 16);
    le_put(to, MANIFEST_MAGIC, 4);
    le_put(to + 4, 1, 4);
    le_put(to + 8, len, 4);
    le_put(to + 12, crc32c(0, to + 16, len), 4);
    out.len = 16 + len;
    return out;
}

static void check_refused(const uint8_t *data, size_t len, const char *why)
{
    struct err err = {0};
    Ferry__SnapshotManifest *m = manifest_unpack(data, len, &err);
    if (m)
        fail_msg("was taken, should be refused: %s", why);
    assert_int_not_equal(err.code, 0);
    if (!strstr(err.text, why))
        fail_msg("'%s', not '%s'", err.text, why);
}

/* By the reader; and by the writer, who uses the same check. */
static void refuse(const Ferry__SnapshotManifest *m, const char *why)
{
    struct buf b = forced(m), out;
    struct err err = {0};
    check_refused(b.data, b.len, why);
    buf_fini(&b);
    buf_init(&out, 8 << 20);
    assert_true(manifest_pack(m, &out, &err) < 0);
    assert_int_equal(out.len, 0);
    buf_fini(&out);
}

static void test_there_and_back(void **state)
{
    static const Ferry__SnapshotMemory kinds[] = {RAW_FULL, RAW_DIFF, PACKED_FULL};
    for (unsigned i = 0; i < 3; i++) {
        struct sample s;
        struct err err = {0};
        struct buf first = packed(sample_init(&s, kinds[i]));
        Ferry__SnapshotManifest *m = manifest_unpack(first.data, first.len, &err);
        if (!m)
            fail_msg("%s", err.text);
        struct buf again = packed(m);
        assert_int_equal(first.len, again.len);
        assert_memory_equal(first.data, again.data, first.len);
        assert_string_equal(m->config->name, "web");
        manifest_free(m);
        buf_fini(&first);
        buf_fini(&again);
    }
}

static void test_truncated_trailing_flipped(void **state)
{
    struct sample s;
    struct buf b = packed(sample_init(&s, RAW_DIFF));
    for (size_t i = 0; i < b.len; i++)
        check_refused(b.data, i, "'manifest' has");
    uint8_t *more = malloc(b.len + 1);
    memcpy(more, b.data, b.len);
    more[b.len] = 0;
    check_refused(more, b.len + 1, "'manifest' has the length");
    free(more);
    for (size_t bit = 0; bit < 8 * b.len; bit++) {
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        check_refused(b.data, b.len, "'manifest' has");
        b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    buf_fini(&b);
}

static void test_head(void **state)
{
    static const struct {
        unsigned at;
        uint32_t value;
        const char *why;
    } bad[] = {
        {0, 0x46454446, "wrong magic"},
        {4, 0, "has version 0, known is 1"},
        {4, 2, "has version 2, known is 1"},
        {8, 0, "has the length 0, but"},
        {8, 1, "has the length 1, but"},
        {8, MANIFEST_BODY_MAX, "but"},
        {8, MANIFEST_BODY_MAX + 1, "over the limit"},
        {8, 0x80000000, "over the limit"},
        {8, 0xffffffff, "over the limit"},
        {12, 0, "wrong checksum"},
    };
    struct sample s;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct buf b = packed(sample_init(&s, RAW_FULL));
        le_put(b.data + bad[i].at, bad[i].value, 4);
        check_refused(b.data, b.len, bad[i].why);
        buf_fini(&b);
    }
}

static void test_versions(void **state)
{
    struct sample s;
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
    struct err err;
    m->version = 7; /* a newer writer that this reader may still read */
    assert_int_equal(manifest_check(m, &err), 0);
    m->min_version = 2;
    refuse(m, "needs a reader of format 2, this one knows 1");
    m->version = 0;
    refuse(m, "min_version is 2 with version 0");
    m->min_version = 0;
    refuse(m, "min_version is 0");
    sample_init(&s, RAW_FULL)->arch = "aarch64";
    refuse(m, "arch is 'aarch64', not x86_64");
    sample_init(&s, RAW_FULL)->page_bytes = 65536;
    refuse(m, "page_bytes is 65536");
}

static void test_identity(void **state)
{
    static const char *const names[] = {
        "",          ".",
        "..",        "../x",
        "a/b",       "/etc",
        ".hidden",   "a b",
        "a\xc3\xa4", "12345678901234567890123456789012345678901234567890123456789012345"};
    struct sample s;
    Ferry__SnapshotManifest *m;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        m = sample_init(&s, RAW_FULL);
        m->name = (char *)names[i];
        refuse(m, "name is not a name");
        m = sample_init(&s, RAW_FULL);
        m->config->name = (char *)names[i];
        refuse(m, "config.name is not a name");
        m = sample_init(&s, RAW_DIFF);
        m->parent->name = (char *)names[i];
        refuse(m, "parent: its name is not a name");
    }
    for (unsigned i = 0; i < 4; i++) {
        static const unsigned lengths[] = {0, 1, 15, 17};
        uint8_t bytes[17] = {1};
        m = sample_init(&s, RAW_FULL);
        m->uuid = (ProtobufCBinaryData){lengths[i], bytes};
        refuse(m, "uuid has");
    }
    m = sample_init(&s, RAW_FULL);
    memset(s.fm.uuid, 0, 16);
    refuse(m, "uuid is all zero");
    m = sample_init(&s, RAW_DIFF);
    m->parent = NULL;
    refuse(m, "parent is missing in a diff");
    m = sample_init(&s, RAW_DIFF);
    memset(s.fm.parent_uuid, 1, 16);
    refuse(m, "parent is the snapshot itself");
    m = sample_init(&s, RAW_FULL);
    m->parent = &s.fm.parent;
    m->parent->name = "base";
    refuse(m, "parent is there, but the image is full");
}

static void test_lineage(void **state)
{
    struct sample s;
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_DIFF);
    Ferry__SnapshotRef *many[SNAPSHOT_LINEAGE_MAX + 1];
    struct err err;
    for (unsigned i = 0; i <= SNAPSHOT_LINEAGE_MAX; i++)
        many[i] = &s.fm.parent;
    m->lineage = many;
    m->n_lineage = SNAPSHOT_LINEAGE_MAX;
    assert_int_equal(manifest_check(m, &err), 0);
    m->n_lineage++;
    refuse(m, "lineage has 257 entries");
    Ferry__SnapshotRef bad = s.fm.parent;
    bad.name = "../x";
    m->n_lineage = 2;
    many[1] = &bad;
    refuse(m, "lineage: its name is not a name");
}

static void test_regions(void **state)
{
    static const uint64_t MiB = 1 << 20, high = 4ull << 30, rest = FIXTURE_RAM - (1 << 20);
    const struct {
        uint64_t r[2][3]; /* gpa, size, offset */
        const char *why;
    } bad[] = {
        {{{0, MiB, 0}, {high, rest - 4096, MiB}}, "regions have 0x"},
        {{{0, MiB, 0}, {high, rest + 4096, MiB}}, "region 1"},
        {{{0, MiB, 0}, {MiB - 4096, rest, MiB}}, "region 1 overlaps"},
        {{{0, MiB, 0}, {0, rest, MiB}}, "region 1 overlaps"},
        {{{high, MiB, 0}, {0, rest, MiB}}, "region 1 overlaps or precedes"},
        {{{0, MiB, 0}, {high, rest, MiB + 4096}}, "region 1"},
        {{{0, MiB, 0}, {high, rest, MiB - 4096}}, "region 1 has the offset"},
        {{{0, MiB, 4096}, {high, rest, MiB}}, "region 0 has the offset"},
        {{{1, MiB, 0}, {high, rest, MiB}}, "region 0"},
        {{{0, MiB + 1, 0}, {high, rest, MiB}}, "region 0"},
        {{{0, 0, 0}, {high, rest, MiB}}, "region 0"},
        {{{0, UINT64_MAX & ~4095ull, 0}, {high, rest, MiB}}, "region 0"},
        {{{UINT64_MAX & ~4095ull, MiB, 0}, {high, rest, MiB}}, "region 0"},
        {{{1ull << 63, 1ull << 63, 0}, {high, rest, MiB}}, "region 0"},
        {{{0, MiB, UINT64_MAX & ~4095ull}, {high, rest, MiB}}, "region 0"},
    };
    struct sample s;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
        for (unsigned k = 0; k < 2; k++) {
            m->regions[k]->gpa = bad[i].r[k][0];
            m->regions[k]->size = bad[i].r[k][1];
            m->regions[k]->offset = bad[i].r[k][2];
        }
        refuse(m, bad[i].why);
    }
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
    m->n_regions = 0;
    refuse(m, "regions has 0 entries");
    Ferry__SnapshotRegion *many[17];
    for (unsigned i = 0; i < 17; i++)
        many[i] = &s.fm.regions[0];
    m->regions = many;
    m->n_regions = 17;
    refuse(m, "regions has 17 entries");
}

static void test_sizes(void **state)
{
    static const uint64_t sizes[] = {
        0, 1, 4095, 1ull << 31, (1ull << 32) - 1, (1ull << 40) + 4096, 1ull << 63, UINT64_MAX};
    struct sample s;
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
        m->ram_bytes = sizes[i];
        refuse(m, "");
        m = sample_init(&s, RAW_FULL);
        m->config->memory_bytes = sizes[i];
        refuse(m, "config.memory_bytes is");
        for (unsigned k = 0; k < 4; k++) {
            m = sample_init(&s, PACKED_FULL);
            m->files[k]->length = sizes[i];
            if (k == 1 && sizes[i] <= 4095) /* a packed image may be that small */
                continue;
            if (k == 0 && sizes[i] > 1 && sizes[i] < (1 << 20))
                continue; /* and a state */
            if (k == 0 && sizes[i] == 1)
                continue;
            refuse(m, "files: '");
        }
    }
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
    m->files[1]->length -= 4096;
    refuse(m, "files: 'memory' cannot have");
    m = sample_init(&s, RAW_FULL);
    m->config->cpus = 0;
    refuse(m, "config.cpus is 0");
    m->config->cpus = 65;
    refuse(m, "config.cpus is 65");
    m = sample_init(&s, RAW_FULL);
    m->memory = 0;
    refuse(m, "memory has the unknown kind 0");
    m->memory = 5;
    refuse(m, "memory has the unknown kind 5");
}

static void test_files(void **state)
{
    static const char *const names[] = {"",         "manifest", "../state", "/state",
                                        "State",    "memory2",  "disk-/x",  "disk-../x",
                                        "disk-a b", "..",       "disk-\nx", "memory.raw"};
    struct sample s;
    Ferry__SnapshotManifest *m;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        m = sample_init(&s, RAW_FULL);
        sample_file(&s, m->n_files++, names[i], 10, 1);
        refuse(m, "");
    }
    for (unsigned i = 0; i < 4; i++) {
        static const char *const lacking[] = {"state", "memory", "pages", "index"};
        char why[40];
        m = sample_init(&s, PACKED_FULL);
        s.list[i] = s.list[--m->n_files];
        snprintf(why, sizeof(why), "files lacks '%s'", lacking[i]);
        refuse(m, why);
    }
    m = sample_init(&s, RAW_FULL);
    sample_file(&s, m->n_files++, "state", 1000, 1);
    refuse(m, "files has 'state' twice");
    m = sample_init(&s, RAW_FULL);
    sample_file(&s, m->n_files++, "pages", (FIXTURE_PAGES + 3) / 4, 1);
    refuse(m, "files: 'pages' cannot have");
    m = sample_init(&s, RAW_DIFF);
    sample_file(&s, m->n_files++, "index", 24, 1);
    refuse(m, "files: 'index' cannot have");
    m = sample_init(&s, RAW_FULL);
    sample_file(&s, m->n_files++, "disk-root", 10, 1);
    struct err err;
    assert_int_equal(manifest_check(m, &err), 0);
}

static void test_checksum_counts(void **state)
{
    struct sample s;
    for (unsigned len = 0; len < 20; len++) {
        Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
        m->files[1]->crc32c.len = len;
        if (len != 12)
            refuse(m, "files: 'memory' has");
        m = sample_init(&s, RAW_FULL);
        m->files[0]->crc32c.len = len;
        if (len != 4)
            refuse(m, "files: 'state' has");
    }
}

static void test_cpu(void **state)
{
    struct sample s;
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
    char names[48];
    assert_int_equal(manifest_cpu_missing(m, "GenuineIntel", "avx  sse2 x sse", names, 48), 0);
    assert_string_equal(names, "");
    assert_int_equal(manifest_cpu_missing(m, "GenuineIntel", "sse2 avx2", names, 48), 2);
    assert_string_equal(names, "sse, avx");
    assert_int_equal(manifest_cpu_missing(m, "AuthenticAMD", "", names, 48), 4);
    assert_string_equal(names, "vendor GenuineIntel, sse and 2 more");
    assert_int_equal(manifest_cpu_missing(m, "GenuineIntel", "", names, 0), 3);
    m->cpu->vendor = "12345678901234567";
    refuse(m, "cpu.vendor is longer");
    m = sample_init(&s, RAW_FULL);
    m->cpu = NULL;
    refuse(m, "cpu is missing");
    m = sample_init(&s, RAW_FULL);
    m->config = NULL;
    refuse(m, "config is missing");
}

/* What only the bytes can do: floods, nesting, wrong types, text that is none. */
static void body(const void *data, size_t len, unsigned times, const char *why)
{
    struct buf b;
    buf_init(&b, 8 << 20);
    assert_non_null(buf_reserve(&b, 16 + len * times));
    b.len = 16;
    for (unsigned i = 0; i < times; i++)
        buf_append(&b, data, len);
    le_put(b.data, MANIFEST_MAGIC, 4);
    le_put(b.data + 4, 1, 4);
    le_put(b.data + 8, b.len - 16, 4);
    le_put(b.data + 12, crc32c(0, b.data + 16, b.len - 16), 4);
    check_refused(b.data, b.len, why);
    buf_fini(&b);
}

static void test_protobuf(void **state)
{
    body("", 0, 1, "min_version");
    body("\xf8\x07\x01", 3, 1000000, "needs more than"); /* unknown fields */
    body("\x3a\x00", 2, 1000000, "needs more than");     /* lineage */
    body("\x82\x01\x00", 3, 1000000, "needs more than"); /* files */
    body("\x22\x02\xff\xfe", 4, 1, "name");              /* not UTF-8 */
    body("\x22\x03"
         "a\nb",
         5, 1, "");                                    /* a line break in a name */
    body("\x0d\x01\x02\x03\x04", 5, 1, "not a valid"); /* version as fixed32 */
    body("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, 1,
         "not a valid");                                   /* long varint */
    body("\x22\xff\xff\xff\xff\x0f", 6, 1, "not a valid"); /* longer than the body */
    body("\x22\x05"
         "ab",
         4, 1, "not a valid");
}

static int expect_open(struct fixture *f, const char *file)
{
    struct sample s;
    struct err err = {0};
    Ferry__SnapshotManifest *m = sample_init(&s, RAW_FULL);
    int fd = manifest_open_file(f->dir, m, file, &err);
    if (fd >= 0)
        close(fd);
    else
        assert_int_not_equal(err.code, 0);
    return fd;
}

/* What a file must not be: a link, a pipe that would block, a directory, of another length. */
static void test_strange_files(void **state)
{
    struct fixture *f = *state;
    uint8_t bytes[1001] = {0};
    assert_int_equal(expect_open(f, "state"), -ENOENT);
    assert_int_equal(expect_open(f, "pages"), -ENOENT); /* not of this manifest */
    fixture_store(f, ".", "state", bytes, 1000);
    assert_true(expect_open(f, "state") >= 0);
    fixture_store(f, ".", "state", bytes, 999);
    assert_int_equal(expect_open(f, "state"), -EBADMSG);
    fixture_store(f, ".", "state", bytes, 1001);
    assert_int_equal(expect_open(f, "state"), -EBADMSG);
    fixture_store(f, ".", "elsewhere", bytes, 1000);
    assert_int_equal(unlinkat(f->dir, "state", 0), 0);
    assert_int_equal(symlinkat("elsewhere", f->dir, "state"), 0);
    assert_int_equal(expect_open(f, "state"), -EBADMSG);
    assert_int_equal(unlinkat(f->dir, "state", 0), 0);
    assert_int_equal(mkfifoat(f->dir, "state", 0600), 0);
    assert_int_equal(expect_open(f, "state"), -EBADMSG);
    assert_int_equal(unlinkat(f->dir, "state", 0), 0);
    assert_int_equal(mkdirat(f->dir, "state", 0700), 0);
    assert_int_equal(expect_open(f, "state"), -EBADMSG);
    assert_int_equal(unlinkat(f->dir, "state", AT_REMOVEDIR), 0);
    if (mknodat(f->dir, "state", S_IFCHR | 0600, 0x103) == 0)
        assert_int_equal(expect_open(f, "state"), -EBADMSG);
}

/* The manifest itself may be such a thing. */
static void test_strange_manifest(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    assert_null(manifest_read(f->dir, &err));
    assert_int_equal(err.code, ENOENT);
    assert_int_equal(mkfifoat(f->dir, "manifest", 0600), 0);
    assert_null(manifest_read(f->dir, &err));
    assert_string_equal(err.text, "'manifest' is not a plain file");
    assert_int_equal(unlinkat(f->dir, "manifest", 0), 0);
    assert_int_equal(symlinkat("/dev/zero", f->dir, "manifest"), 0);
    assert_null(manifest_read(f->dir, &err));
    assert_int_equal(unlinkat(f->dir, "manifest", 0), 0);
    fixture_store(f, ".", "manifest", "", 0);
    assert_null(manifest_read(f->dir, &err));
    assert_string_equal(err.text, "'manifest' has 0 bytes, less than its head");
    CLEAN(clean_fd) int fd = openat(f->dir, "manifest", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 1ll << 40), 0);
    assert_null(manifest_read(f->dir, &err));
    assert_int_equal(err.code, EFBIG);
}

static void test_exact_files(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    assert_int_equal(fixture_take(f, "s", 1, PACKED_FULL, NULL, 0, NULL, &err), 0);
    CLEAN(clean_fd) int fd = catalogue_open(&f->catalogue, "s", &err);
    CLEAN(clean_manifest) Ferry__SnapshotManifest *m = manifest_read(fd, &err);
    assert_non_null(m);
    assert_int_equal(manifest_check_files(fd, m, &err), 0);
    fixture_store(f, "s", "more", "x", 1);
    assert_int_equal(manifest_check_files(fd, m, &err), -EBADMSG);
    assert_string_equal(err.text, "'more' is not in the manifest");
    assert_int_equal(unlinkat(fd, "more", 0), 0);
    assert_int_equal(mkdirat(fd, ".d", 0700), 0);
    assert_int_equal(manifest_check_files(fd, m, &err), -EBADMSG);
    assert_int_equal(unlinkat(fd, ".d", AT_REMOVEDIR), 0);
    assert_int_equal(unlinkat(fd, "pages", 0), 0);
    assert_int_equal(manifest_check_files(fd, m, &err), -ENOENT);
    assert_string_equal(err.text, "cannot look at 'pages': No such file or directory");
}

int main(void)
{
#define T(x) cmocka_unit_test_setup_teardown(x, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_truncated_trailing_flipped),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_identity),
        cmocka_unit_test(test_lineage),
        cmocka_unit_test(test_regions),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_checksum_counts),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_protobuf),
        T(test_strange_files),
        T(test_strange_manifest),
        T(test_exact_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
