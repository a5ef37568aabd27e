/*
 * Requests to virtio-blk, right and wrong: each is answered by its status, nothing beyond its
 * buffers or its disk is touched, and a restored device goes on with the disk that it knew.
 */
#include <sys/mman.h>
#include <sys/stat.h>

#include "machine/devices/virtio_blk.h"
#include "tests/unit/machine/virtio_rig.h"

#define ALL (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_INDEX)
#define DISK_BYTES (1u << 20)
#define SECTORS (DISK_BYTES / 512)
#define HEADER VRIG_BUFFER(0)
#define DATA VRIG_BUFFER(1)
#define STATUS VRIG_BUFFER(2)
#define UNTOUCHED 0xee

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
#define F_READONLY (1ull << 5)
#define F_DISCARD (1ull << 13)
#define F_ZEROES (1ull << 14)
#define F_QUEUES (1ull << 12)

struct bench {
    struct virtio_blk_config config;
    struct vrig rig;
};

static int setup_with(void **state, const struct disk_engine *engine, bool readonly)
{
    struct bench *b = *state = calloc(1, sizeof(*b));
    b->config = (struct virtio_blk_config){.fd = memfd_create("disk", MFD_CLOEXEC),
                                           .readonly = readonly,
                                           .id = "a serial number",
                                           .queues = 4,
                                           .engine = engine};
    assert_int_equal(ftruncate(b->config.fd, DISK_BYTES), 0);
    vrig_init(&b->rig, &virtio_blk_type, &b->config);
    vrig_go(&b->rig, ALL | F_QUEUES | (readonly ? F_READONLY : F_DISCARD | F_ZEROES), 4);
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, NULL, false);
}

static int setup_threads(void **state)
{
    return setup_with(state, &disk_pool, false);
}

static int setup_readonly(void **state)
{
    return setup_with(state, NULL, true);
}

static int teardown(void **state)
{
    struct bench *b = *state;
    vrig_fini(&b->rig);
    close(b->config.fd);
    free(b);
    return 0;
}

static void put_header(struct vrig *r, uint32_t type, uint64_t sector)
{
    uint8_t raw[16] = {0};
    le_put(raw, type, 4);
    le_put(raw + 8, sector, 8);
    assert_int_equal(mem_write(&r->mem, HEADER, raw, 16, NULL), 0);
    uint8_t status = UNTOUCHED;
    assert_int_equal(mem_write(&r->mem, STATUS, &status, 1, NULL), 0);
}

/* Waits for a request that was made available: the disk ends it in its own time. */
static void wait_used(struct vrig *r, unsigned q)
{
    for (unsigned i = 0; i < 10000 && vrig_used(r, q) != r->avail[q]; i++) {
        vrig_run(r);
        if (vrig_used(r, q) != r->avail[q])
            poll(&(struct pollfd){.fd = r->watches.fd, .events = POLLIN}, 1, 100);
    }
    assert_int_equal(vrig_used(r, q), r->avail[q]);
}

/* header, `bytes` of data, status; what the status is. */
static uint8_t ask(struct vrig *r, uint32_t type, uint64_t sector, uint32_t bytes, unsigned flags)
{
    put_header(r, type, sector);
    vrig_desc(r, 0, HEADER, 16, D_NEXT, bytes ? 1 : 2);
    if (bytes)
        vrig_desc(r, 1, DATA, bytes, flags | D_NEXT, 2);
    vrig_desc(r, 2, STATUS, 1, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_put(r, 0x50, 0);
    wait_used(r, 0);
    assert_false(vrig_is_broken(r));
    return (uint8_t)vrig_peek(r, STATUS, 1);
}

static void fill_data(struct vrig *r, uint8_t value, uint32_t bytes)
{
    uint8_t *at = mem_borrow(&r->mem, DATA, bytes, true, NULL);
    memset(at, value, bytes);
}

static void expect_data(struct vrig *r, uint8_t value, uint32_t bytes)
{
    const uint8_t *at = mem_borrow(&r->mem, DATA, bytes, false, NULL);
    for (uint32_t i = 0; i < bytes; i++)
        assert_int_equal(at[i], value);
}

static void test_reads_what_it_wrote(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    fill_data(r, 0x5a, 4096);
    assert_int_equal(ask(r, OUT, 8, 4096, 0), 0);
    fill_data(r, 0, 4096);
    assert_int_equal(ask(r, IN, 8, 4096, D_WRITE), 0);
    expect_data(r, 0x5a, 4096);
    assert_int_equal(vrig_used_len(r, 0, 1), 4097);
    assert_int_equal(ask(r, FLUSH, 0, 0, 0), 0);
    assert_int_equal(ask(r, IN, SECTORS - 1, 512, D_WRITE), 0);
    fill_data(r, UNTOUCHED, 64);
    assert_int_equal(ask(r, GET_ID, 0, 20, D_WRITE), 0);
    assert_string_equal(mem_borrow(&r->mem, DATA, 64, false, NULL), "a serial number");
    assert_int_equal(vrig_peek(r, DATA + 20, 1), UNTOUCHED);
    fill_data(r, UNTOUCHED, 64);
    assert_int_equal(ask(r, GET_ID, 0, 3, D_WRITE), 0);
    assert_memory_equal(mem_borrow(&r->mem, DATA, 4, false, NULL), "a s\xee", 4);
}

static void test_registers(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    assert_int_equal(vrig_get(r, 0x100, 8), SECTORS);
    assert_int_equal(vrig_get(r, 0x100 + 12, 4), 254);
    assert_int_equal(vrig_get(r, 0x100 + 20, 4), 512);
    assert_int_equal(vrig_get(r, 0x100 + 34, 2), 4);
    assert_int_equal(vrig_get(r, 0x100 + 56, 1), 1);
    assert_int_equal(vrig_get(r, 0x100 + 57, 8), 0); /* half behind the end */
    assert_int_equal(vrig_get(r, 0x100 + 0xef8, 8), 0);
    vrig_put(r, 0x100, 5); /* read-only registers */
    assert_int_equal(vrig_get(r, 0x100, 8), SECTORS);
}

static void test_wrong_requests(void **state)
{
    static const struct {
        uint32_t type;
        uint64_t sector;
        uint32_t bytes;
        unsigned flags;
        uint8_t status;
    } wrong[] = {
        {IN, SECTORS, 512, D_WRITE, 1},
        {IN, SECTORS - 1, 1024, D_WRITE, 1},
        {IN, UINT64_MAX, 512, D_WRITE, 1},
        {IN, UINT64_MAX / 512 + 1, 512, D_WRITE, 1}, /* its bytes wrap */
        {IN, 0, 511, D_WRITE, 1},
        {IN, 0, 0, 0, 1},
        {IN, 0, 512, 0, 1}, /* read into what is only to be read */
        {OUT, SECTORS, 512, 0, 1},
        {OUT, 0, 513, 0, 1},
        {OUT, 0, 0, 0, 1},
        {OUT, 0, 512, D_WRITE, 1}, /* nothing to write was given */
        {DISCARD, 0, 8, 0, 1},
        {DISCARD, 0, 32, 0, 1}, /* two ranges */
        {ZEROES, 0, 0, 0, 1},
        {2, 0, 512, D_WRITE, 2},
        {99, 0, 0, 0, 2},
        {0xffffffff, 0, 0, 0, 2},
    };
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        fill_data(r, 0x11, 1024);
        uint8_t got = ask(r, wrong[i].type, wrong[i].sector, wrong[i].bytes, wrong[i].flags);
        if (got != wrong[i].status)
            fail_msg("wrong request %zu: status %u", i, got);
        expect_data(r, 0x11, 1024);
    }
    const struct device_counters *c = &r->counters.devices[0];
    assert_int_equal(c->values[COUNTER_DEVICE_COMMON + 8], sizeof(wrong) / sizeof(wrong[0]));
    uint8_t byte;
    for (unsigned i = 0; i < DISK_BYTES; i += 511) {
        assert_int_equal(pread(b->config.fd, &byte, 1, i), 1);
        assert_int_equal(byte, 0);
    }
}

static uint8_t ask_range(struct vrig *r, uint32_t type, uint64_t sector, uint32_t sectors,
                         uint32_t flags)
{
    uint8_t raw[16];
    le_put(raw, sector, 8);
    le_put(raw + 8, sectors, 4);
    le_put(raw + 12, flags, 4);
    assert_int_equal(mem_write(&r->mem, DATA, raw, 16, NULL), 0);
    return ask(r, type, 0, 16, 0);
}

static void test_ranges(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    uint8_t block[512];
    fill_data(r, 0x77, 4096);
    assert_int_equal(ask(r, OUT, 0, 4096, 0), 0);
    assert_int_equal(ask_range(r, ZEROES, 1, 2, 0), 0);
    assert_int_equal(ask_range(r, ZEROES, 3, 1, 1), 0);
    assert_int_equal(ask_range(r, DISCARD, 4, 1, 0), 0);
    for (unsigned s = 0; s < 8; s++) {
        assert_int_equal(pread(b->config.fd, block, 512, s * 512), 512);
        assert_int_equal(block[0], s >= 1 && s <= 4 ? 0 : 0x77);
        assert_int_equal(block[511], s >= 1 && s <= 4 ? 0 : 0x77);
    }
    assert_int_equal(ask_range(r, DISCARD, 0, 1, 1), 2); /* a flag that it does not have */
    assert_int_equal(ask_range(r, ZEROES, 0, 1, 2), 2);
    assert_int_equal(ask_range(r, ZEROES, 0, 0, 0), 1);
    assert_int_equal(ask_range(r, ZEROES, SECTORS, 1, 0), 1);
    assert_int_equal(ask_range(r, ZEROES, 1, SECTORS, 0), 1);
    assert_int_equal(ask_range(r, ZEROES, UINT64_MAX, 2, 0), 1);
    assert_int_equal(ask_range(r, DISCARD, 0, UINT32_MAX, 0), 1);
}

static void test_read_only(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    fill_data(r, 0x33, 512);
    assert_int_equal(ask(r, OUT, 0, 512, 0), 1);
    assert_int_equal(ask_range(r, ZEROES, 0, 1, 0), 1);
    assert_int_equal(ask_range(r, DISCARD, 0, 1, 0), 1);
    assert_int_equal(ask(r, IN, 0, 512, D_WRITE), 0);
    expect_data(r, 0, 512);
    assert_int_equal(ask(r, FLUSH, 0, 0, 0), 0);
}

/* Half a header is answered; a request that has no place for its answer breaks the device. */
static void test_no_header_or_status(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    put_header(r, IN, 0);
    vrig_desc(r, 0, HEADER, 15, D_NEXT, 1);
    vrig_desc(r, 1, STATUS, 1, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_notify(r, 0);
    assert_int_equal(vrig_used(r, 0), 1);
    assert_int_equal(vrig_peek(r, STATUS, 1), 1);
    vrig_desc(r, 0, STATUS, 1, D_WRITE, 0); /* no header at all */
    vrig_avail(r, 0, 0);
    vrig_notify(r, 0);
    assert_int_equal(vrig_used(r, 0), 2);
    vrig_desc(r, 0, HEADER, 16, 0, 0);
    vrig_avail(r, 0, 0);
    vrig_notify(r, 0);
    assert_true(vrig_is_broken(r));
    assert_non_null(strstr(r->said, "a request without a place for its status"));
    assert_int_equal(vrig_used(r, 0), 2);
}

/* The header in single bytes, and data and status in one buffer. */
static void test_any_layout(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    fill_data(r, 0, 1024);
    assert_int_equal(pwrite(b->config.fd, "raw", 3, 512), 3);
    put_header(r, IN, 1);
    vrig_desc(r, 0, VRIG_TABLE(0), 17 * 16, D_INDIRECT, 0);
    for (unsigned i = 0; i < 16; i++)
        vrig_desc_at(r, VRIG_TABLE(0), i, HEADER + i, 1, D_NEXT, i + 1);
    vrig_desc_at(r, VRIG_TABLE(0), 16, DATA, 513, D_WRITE, 0);
    vrig_avail(r, 0, 0);
    vrig_put(r, 0x50, 0);
    wait_used(r, 0);
    assert_memory_equal(mem_borrow(&r->mem, DATA, 3, false, NULL), "raw", 3);
    assert_int_equal(vrig_peek(r, DATA + 512, 1), 0);
}

/* All that is in flight when a machine is saved has ended in what is saved: once. */
static void test_saved_in_flight(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    for (unsigned round = 0; round < 50; round++) {
        put_header(r, round % 2 ? IN : OUT, 8);
        vrig_desc(r, 0, HEADER, 16, D_NEXT, 1);
        vrig_desc(r, 1, DATA, 4096, D_NEXT | (round % 2 ? D_WRITE : 0), 2);
        vrig_desc(r, 2, STATUS, 1, D_WRITE, 0);
        fill_data(r, round % 2 ? 0 : (uint8_t)round, 4096);
        vrig_avail(r, 0, 0);
        vrig_put(r, 0x50, 0);
        if (round % 3)
            watch_set_run(&r->watches); /* begun, perhaps not ended */
        vrig_move(r, &b->config);
        wait_used(r, 0);
        assert_int_equal(vrig_peek(r, STATUS, 1), 0);
        if (round % 2)
            expect_data(r, (uint8_t)(round - 1), 4096);
    }
    assert_int_equal(r->counters.devices[0].values[COUNTER_DEVICE_REQUESTS], 50);
}

/* A disk that is not the one that the saved guest knows is refused by what it is. */
static void test_other_disk(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    CLEAN(buf_fini) struct buf bytes;
    struct err err;
    vrig_save(r, &bytes);
    vrig_drop(r);
    assert_int_equal(ftruncate(b->config.fd, DISK_BYTES * 2), 0);
    vrig_build(r, &b->config);
    assert_true(vrig_load(r, &bytes, &err) < 0);
    assert_string_equal(err.text, "virtio-blk: the saved guest knows its disk 'a serial number' "
                                  "with 2048 sectors, and it has 4096");
    vrig_drop(r);
    assert_int_equal(ftruncate(b->config.fd, DISK_BYTES), 0);
    b->config.readonly = true;
    vrig_build(r, &b->config);
    assert_true(vrig_load(r, &bytes, &err) < 0);
    assert_non_null(strstr(err.text, "as writable, and it is read-only"));
    b->config.readonly = false;
}

/* One that was written by somebody else in the meantime, and the copy of that moment. */
static void test_written_disk(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    CLEAN(buf_fini) struct buf bytes;
    struct stat st;
    struct err err;
    vrig_save(r, &bytes);
    vrig_drop(r);
    assert_int_equal(fstat(b->config.fd, &st), 0);
    struct timespec later[2] = {st.st_atim, st.st_mtim};
    later[1].tv_sec++;
    assert_int_equal(futimens(b->config.fd, later), 0);
    vrig_build(r, &b->config);
    assert_true(vrig_load(r, &bytes, &err) < 0);
    assert_non_null(strstr(err.text, "disk 'a serial number' was written after this guest was"));
    vrig_drop(r);
    later[1] = st.st_mtim;
    assert_int_equal(futimens(b->config.fd, later), 0);
    vrig_build(r, &b->config);
    assert_int_equal(vrig_load(r, &bytes, &err), 0);
}

static void test_round_trip(void **state)
{
    struct bench *b = *state;
    CLEAN(buf_fini) struct buf first, second;
    fill_data(&b->rig, 1, 512);
    assert_int_equal(ask(&b->rig, OUT, 0, 512, 0), 0);
    vrig_save(&b->rig, &first);
    vrig_move(&b->rig, &b->config);
    vrig_save(&b->rig, &second);
    assert_int_equal(first.len, second.len);
    assert_memory_equal(first.data, second.data, first.len);
}

/* A reset in the middle: what was in flight ends, and nothing of it is given back later. */
static void test_reset_in_flight(void **state)
{
    struct bench *b = *state;
    struct vrig *r = &b->rig;
    for (unsigned i = 0; i < 50; i++) {
        put_header(r, IN, 0);
        vrig_desc(r, 0, HEADER, 16, D_NEXT, 1);
        vrig_desc(r, 1, DATA, 65536, D_NEXT | D_WRITE, 2);
        vrig_desc(r, 2, STATUS, 1, D_WRITE, 0);
        vrig_avail(r, 0, 0);
        vrig_put(r, 0x50, 0);
        watch_set_run(&r->watches);
        if (i % 2)
            vrig_put(r, 0x70, 0);
        else
            vrig_put(r, 0x44, 0); /* the selected queue, switched off */
        mem_zero(&r->mem, VRIG_USED(0), 128, NULL);
        vrig_run(r);
        assert_int_equal(vrig_used(r, 0), 0);
        vrig_go(r, ALL, 4);
        vrig_put(r, 0x30, 0);
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define THREADS(fn) cmocka_unit_test_setup_teardown(fn, setup_threads, teardown)
    const struct CMUnitTest tests[] = {
        T(test_reads_what_it_wrote),
        THREADS(test_reads_what_it_wrote),
        T(test_registers),
        T(test_wrong_requests),
        T(test_ranges),
        THREADS(test_ranges),
        cmocka_unit_test_setup_teardown(test_read_only, setup_readonly, teardown),
        T(test_no_header_or_status),
        T(test_any_layout),
        T(test_saved_in_flight),
        THREADS(test_saved_in_flight),
        T(test_other_disk),
        T(test_written_disk),
        T(test_round_trip),
        T(test_reset_in_flight),
        THREADS(test_reset_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
