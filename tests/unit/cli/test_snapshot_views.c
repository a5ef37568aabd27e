/* Snapshots as people and programs get to see them, byte for byte, and how fast work is told to be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cli/progress.h"
#include "cli/snapshot.h"
#include "tests/unit/cli/printed.h"

#define SECOND 1000000000ull
#define TAKEN (1000000000ull * SECOND) /* 2001-09-09 01:46:40 */

struct sample {
    Ferry__SnapshotSummary summary;
    Ferry__MachineConfig config;
    Ferry__SnapshotFileDetail files[2], *file_rows[2];
    Ferry__SnapshotRef base, *lineage[1];
    Ferry__SnapshotRegion region, *region_row;
    Ferry__SnapshotDetail detail;
};

static void make_sample(struct sample *m)
{
    static uint8_t uuid[16] = {0x12, 0x34, 0x56, 0x78}, machine[16] = {0x9a};
    m->summary = (Ferry__SnapshotSummary)FERRY__SNAPSHOT_SUMMARY__INIT;
    m->summary.name = (char *)"later";
    m->summary.vm = (char *)"web";
    m->summary.uuid.data = uuid;
    m->summary.uuid.len = sizeof(uuid);
    m->summary.wall_ns = TAKEN;
    m->summary.ram_bytes = 512u << 20;
    m->summary.disk_bytes = 17u << 20;
    m->summary.parent = (char *)"base";
    m->config = (Ferry__MachineConfig)FERRY__MACHINE_CONFIG__INIT;
    m->config.uuid.data = machine;
    m->config.uuid.len = sizeof(machine);
    m->config.memory_bytes = 512u << 20;
    m->config.cpus = 2;
    m->config.cpu_profile = (char *)"v2";
    m->config.kernel = (char *)"/boot/web.elf";
    for (unsigned i = 0; i < 2; i++) {
        m->files[i] = (Ferry__SnapshotFileDetail)FERRY__SNAPSHOT_FILE_DETAIL__INIT;
        m->file_rows[i] = &m->files[i];
    }
    m->files[0].name = (char *)"memory";
    m->files[0].length = 512u << 20;
    m->files[1].name = (char *)"state";
    m->files[1].length = 4711;
    m->detail = (Ferry__SnapshotDetail)FERRY__SNAPSHOT_DETAIL__INIT;
    m->detail.summary = &m->summary;
    m->detail.config = &m->config;
    m->region = (Ferry__SnapshotRegion)FERRY__SNAPSHOT_REGION__INIT;
    m->region.gpa = 0x100000;
    m->region.size = 512u << 20;
    m->region_row = &m->region;
    m->detail.regions = &m->region_row;
    m->detail.n_regions = 1;
    m->detail.kind = (char *)"raw full";
    m->detail.version = m->detail.min_version = 1;
    m->detail.arch = (char *)"x86_64";
    m->detail.page_bytes = 4096;
    m->detail.release = (char *)"0.1.0";
    m->detail.cpu_vendor = (char *)"GenuineIntel";
    m->detail.cpu_features = (char *)"fpu  sse4_2 ";
    m->detail.n_files = 2;
    m->detail.files = m->file_rows;
    m->detail.path = (char *)"/s/later";
    m->base = (Ferry__SnapshotRef)FERRY__SNAPSHOT_REF__INIT;
    m->base.name = (char *)"base";
    m->base.uuid = (ProtobufCBinaryData){.data = machine, .len = sizeof(machine)};
    m->lineage[0] = &m->base;
    m->detail.lineage = m->lineage;
    m->detail.n_lineage = 1;
}

static void list_is_a_table(void **state)
{
    struct sample a, b;
    struct printed p;
    struct err err;
    Ferry__SnapshotList list = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__SnapshotSummary *rows[] = {&a.summary, &b.summary};
    make_sample(&a);
    make_sample(&b);
    b.summary.name = (char *)"b\033[2J";
    b.summary.parent = (char *)"";
    b.summary.wall_ns = TAKEN + 60 * SECOND; /* of a clock that is ahead */
    b.summary.disk_bytes = 3u << 29;
    list.n_snapshots = 2;
    list.snapshots = rows;
    assert_int_equal(snapshot_print_list(printed_begin(&p), &list, TAKEN + 20 * SECOND, &err), 0);
    assert_printed(&p, "NAME   VM     AGE  MEMORY  DISK  PARENT\n"
                       "later  web  20.0s    512M   17M  base\n"
                       "b?[2J  web      -    512M  1.5G  -\n");
    list.n_snapshots = 0;
    assert_int_equal(snapshot_print_list(printed_begin(&p), &list, TAKEN, &err), 0);
    assert_printed(&p, "NAME  VM  AGE  MEMORY  DISK  PARENT\n");
}

static void list_in_json(void **state)
{
    struct sample a;
    struct printed p;
    struct err err;
    Ferry__SnapshotList list = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__SnapshotSummary *rows[] = {&a.summary};
    char *broken[] = {(char *)"odd: \"why\""};
    make_sample(&a);
    a.summary.parent = (char *)"";
    a.summary.uuid.len = 3;
    list.n_snapshots = 1;
    list.snapshots = rows;
    list.n_broken = 1;
    list.broken = broken;
    assert_int_equal(snapshot_json_list(printed_begin(&p), &list, &err), 0);
    assert_printed(&p, "{\"snapshots\":[{\"name\":\"later\",\"vm\":\"web\",\"uuid\":null,"
                       "\"time\":\"2001-09-09T01:46:40.000000000Z\",\"memory_bytes\":536870912,"
                       "\"disk_bytes\":17825792,\"parent\":null}],"
                       "\"broken\":[\"odd: \\\"why\\\"\"]}\n");
}

static void detail_for_people(void **state)
{
    struct sample m;
    struct printed p;
    struct err err;
    make_sample(&m);
    assert_int_equal(snapshot_print_detail(printed_begin(&p), &m.detail, &err), 0);
    assert_printed(&p, "name       later\n"
                       "vm         web\n"
                       "uuid       12345678-0000-0000-0000-000000000000\n"
                       "taken      2001-09-09 01:46:40\n"
                       "memory     512M\n"
                       "disk       17M\n"
                       "parent     base\n"
                       "lineage    base\n"
                       "kind       raw full\n"
                       "format     version 1, readable from 1\n"
                       "arch       x86_64, pages of 4096 bytes\n"
                       "region     0x100000, 536870912 bytes\n"
                       "machine    9a000000-0000-0000-0000-000000000000\n"
                       "cpus       2\n"
                       "cpu        v2\n"
                       "kernel     /boot/web.elf\n"
                       "vendor     GenuineIntel\n"
                       "features   fpu  sse4_2 \n"
                       "release    0.1.0\n"
                       "directory  /s/later\n"
                       "\n"
                       "FILE        BYTES\n"
                       "memory  536870912\n"
                       "state        4711\n");
}

static void detail_in_json(void **state)
{
    struct sample m;
    struct printed p;
    struct err err;
    make_sample(&m);
    assert_int_equal(snapshot_json_detail(printed_begin(&p), &m.detail, &err), 0);
    assert_printed(
        &p,
        "{\"name\":\"later\",\"vm\":\"web\","
        "\"uuid\":\"12345678-0000-0000-0000-000000000000\","
        "\"time\":\"2001-09-09T01:46:40.000000000Z\",\"memory_bytes\":536870912,"
        "\"disk_bytes\":17825792,\"parent\":\"base\","
        "\"lineage\":[{\"name\":\"base\","
        "\"uuid\":\"9a000000-0000-0000-0000-000000000000\"}],"
        "\"config\":{\"uuid\":\"9a000000-0000-0000-0000-000000000000\","
        "\"memory_bytes\":536870912,\"cpus\":2,\"cpu_profile\":\"v2\","
        "\"kernel\":\"/boot/web.elf\",\"initrd\":\"\",\"cmdline\":\"\",\"disks\":[],\"nets\":[]},"
        "\"parent_uuid\":null,\"kind\":\"raw full\",\"version\":1,\"min_version\":1,"
        "\"arch\":\"x86_64\",\"page_bytes\":4096,"
        "\"regions\":[{\"address\":1048576,\"length_bytes\":536870912}],"
        "\"release\":\"0.1.0\",\"cpu_vendor\":\"GenuineIntel\","
        "\"cpu_features\":[\"fpu\",\"sse4_2\"],"
        "\"files\":[{\"name\":\"memory\",\"length_bytes\":536870912},"
        "{\"name\":\"state\",\"length_bytes\":4711}],\"path\":\"/s/later\"}\n");
}

/* All that ferryd may leave out. */
static void a_bare_detail_is_shown(void **state)
{
    struct printed p;
    struct err err;
    Ferry__SnapshotDetail detail = FERRY__SNAPSHOT_DETAIL__INIT;
    Ferry__SnapshotSummary summary = FERRY__SNAPSHOT_SUMMARY__INIT;
    detail.summary = &summary;
    assert_int_equal(snapshot_print_detail(printed_begin(&p), &detail, &err), 0);
    assert_printed(&p, "taken   -\nmemory  0\ndisk    0\n");
    assert_int_equal(snapshot_json_detail(printed_begin(&p), &detail, &err), 0);
    assert_printed(
        &p, "{\"name\":\"\",\"vm\":\"\",\"uuid\":null,\"time\":null,\"memory_bytes\":0,"
            "\"disk_bytes\":0,\"parent\":null,\"lineage\":[],\"config\":null,"
            "\"parent_uuid\":null,\"kind\":\"\",\"version\":0,\"min_version\":0,\"arch\":\"\","
            "\"page_bytes\":0,\"regions\":[],\"release\":\"\","
            "\"cpu_vendor\":\"\",\"cpu_features\":[],\"files\":[],\"path\":\"\"}\n");
}

static Ferry__Progress make_news(const char *stage, uint64_t done)
{
    Ferry__Progress news = FERRY__PROGRESS__INIT;
    news.stage = (char *)stage;
    news.done_bytes = done;
    return news;
}

/* From the first news of a stage on; anew with each stage, and when it goes back. */
static void the_rate_is_that_of_the_stage(void **state)
{
    struct progress p = {.doing = "saving", .name = "web"};
    Ferry__Progress news = make_news("memory", 1000);
    progress_update(&p, &news);
    uint64_t from = p.marks[0].ns;
    p.done_bytes = 5000;
    assert_int_equal(progress_rate(&p, from + SECOND / 10), 0);
    assert_int_equal(progress_rate(&p, from + 2 * SECOND), 2000);
    assert_int_equal(progress_rate(&p, from - 1), 0);
    p.done_bytes = UINT64_MAX;
    assert_int_equal(progress_rate(&p, from + SECOND), 0);
    news = make_news("writing", 7000);
    progress_update(&p, &news);
    assert_int_equal(p.marks[0].bytes, 7000);
    news = make_news("writing", 10);
    progress_update(&p, &news);
    assert_int_equal(p.marks[0].bytes, 10);
    news = make_news("writing", 20);
    progress_update(&p, &news);
    assert_int_equal(p.marks[0].bytes, 10);
}

/* So that it is of the last two seconds, not of the whole. */
static void the_rate_forgets(void **state)
{
    struct progress p = {.doing = "saving", .name = "web"};
    Ferry__Progress news = make_news("memory", 1000);
    progress_update(&p, &news);
    for (unsigned i = 0; i < 2; i++) {
        p.marks[1].ns -= SECOND;
        news = make_news("memory", 2000 + i);
        progress_update(&p, &news);
    }
    assert_int_equal(p.marks[0].bytes, 2000);
    assert_int_equal(p.marks[1].bytes, 2001);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_is_a_table),        cmocka_unit_test(list_in_json),
        cmocka_unit_test(detail_for_people),      cmocka_unit_test(detail_in_json),
        cmocka_unit_test(a_bare_detail_is_shown), cmocka_unit_test(the_rate_is_that_of_the_stage),
        cmocka_unit_test(the_rate_forgets),
    };
    setenv("TZ", "UTC", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
