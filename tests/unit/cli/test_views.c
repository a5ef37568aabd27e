/* What people and programs get to see, byte for byte, and that no text orders a terminal about. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "cli/events.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/vm.h"
#include "tests/unit/cli/printed.h"

#define SECOND 1000000000ull
#define BOOT (1000000000ull * SECOND) /* 2001-09-09 01:46:40 */

struct machine {
    Ferry__VmSummary summary;
    Ferry__MachineConfig config;
    Ferry__SnapshotRef origin;
    Ferry__Ending ending;
    Ferry__CpuReport cpu;
    Ferry__VmDetail detail;
    uint64_t gpr[16], data[2];
};

static Ferry__VmSummary make_summary(const char *name, Ferry__VmState state)
{
    Ferry__VmSummary s = FERRY__VM_SUMMARY__INIT;
    s.name = (char *)name;
    s.state = state;
    s.cpus = 2;
    s.memory_bytes = 512u << 20;
    return s;
}

/* A VM that has met a triple fault. */
static void make_machine(struct machine *m)
{
    static uint8_t uuid[16] = {0x12, 0x34, 0x56, 0x78}, code[3] = {0x0f, 0x0b, 0x90};
    static uint8_t generation[] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    m->summary = make_summary("web", FERRY__VM_STATE__VM_FAILED);
    m->summary.reason = (char *)"triple fault";
    m->summary.pid = 4711;
    m->summary.boot_wall_ns = BOOT;
    m->config = (Ferry__MachineConfig)FERRY__MACHINE_CONFIG__INIT;
    m->config.uuid.data = uuid;
    m->config.uuid.len = sizeof(uuid);
    m->config.memory_bytes = 512u << 20;
    m->config.cpus = 2;
    m->config.cpu_profile = (char *)"host";
    m->config.kernel = (char *)"/boot/web.elf";
    m->config.cmdline = (char *)"rate=1 \"x\"";
    m->cpu = (Ferry__CpuReport)FERRY__CPU_REPORT__INIT;
    m->cpu.cpu = 1;
    m->cpu.rip = 0x100042;
    m->cpu.rflags = 0x46;
    for (unsigned i = 0; i < 16; i++)
        m->gpr[i] = 0x1111u * i;
    m->cpu.n_gpr = 16;
    m->cpu.gpr = m->gpr;
    m->cpu.cr0 = 0x80000011;
    m->cpu.efer = 0x500;
    m->cpu.cs = 8;
    m->cpu.code.data = code;
    m->cpu.code.len = sizeof(code);
    m->data[0] = 7;
    m->cpu.suberror = 1;
    m->cpu.n_data = 1;
    m->cpu.data = m->data;
    m->ending = (Ferry__Ending)FERRY__ENDING__INIT;
    m->ending.kind = FERRY__END_KIND__END_TRIPLE_FAULT;
    m->ending.text = (char *)"processor 1 met a triple fault";
    m->ending.cpu = &m->cpu;
    m->ending.wall_ns = BOOT + 5 * SECOND;
    m->detail = (Ferry__VmDetail)FERRY__VM_DETAIL__INIT;
    m->detail.summary = &m->summary;
    m->detail.config = &m->config;
    m->detail.ending = &m->ending;
    m->detail.resets = 3;
    m->detail.generation = (ProtobufCBinaryData){sizeof(generation), generation};
    m->origin = (Ferry__SnapshotRef)FERRY__SNAPSHOT_REF__INIT;
    m->origin.name = (char *)"mon";
    m->origin.uuid = m->detail.generation;
    m->detail.origin = &m->origin;
    m->detail.log_tail = (char *)"one\ntwo\n";
    m->detail.log_path = (char *)"/var/lib/ferry/vms/web/log";
}

static void a_list_is_aligned(void **state)
{
    Ferry__VmSummary a = make_summary("web", FERRY__VM_STATE__VM_RUNNING);
    Ferry__VmSummary b = make_summary("a-longer-name", FERRY__VM_STATE__VM_PAUSED);
    Ferry__VmSummary *vms[] = {&a, &b};
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    struct printed p;
    struct err err;
    a.pid = 4711;
    a.boot_wall_ns = BOOT;
    b.pid = 22;
    b.cpus = 64;
    b.memory_bytes = 1536u << 20;
    list.n_vms = 2;
    list.vms = vms;
    assert_int_equal(vm_print_list(printed_begin(&p), &list, BOOT + 200 * SECOND, &err), 0);
    assert_printed(&p, "NAME           STATE    CPUS  MEMORY  UPTIME   PID\n"
                       "web            running     2    512M  3m 20s  4711\n"
                       "a-longer-name  paused     64    1.5G       -    22\n");
}

static void reasons_have_a_column_when_there_are_any(void **state)
{
    Ferry__VmSummary a = make_summary("web", FERRY__VM_STATE__VM_RUNNING);
    Ferry__VmSummary b = make_summary("db", FERRY__VM_STATE__VM_CRASHED);
    Ferry__VmSummary *vms[] = {&a, &b};
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    struct printed p;
    struct err err;
    a.pid = 4711;
    b.reason = (char *)"killed by signal 9";
    list.n_vms = 2;
    list.vms = vms;
    assert_int_equal(vm_print_list(printed_begin(&p), &list, BOOT, &err), 0);
    assert_printed(&p, "NAME  STATE    CPUS  MEMORY  UPTIME   PID  REASON\n"
                       "web   running     2    512M       -  4711\n"
                       "db    crashed     2    512M       -     -  killed by signal 9\n");
}

static void an_empty_list_has_its_titles(void **state)
{
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    struct printed p;
    struct err err;
    assert_int_equal(vm_print_list(printed_begin(&p), &list, 0, &err), 0);
    assert_printed(&p, "NAME  STATE  CPUS  MEMORY  UPTIME  PID\n");
    assert_int_equal(vm_json_list(printed_begin(&p), &list, &err), 0);
    assert_printed(&p, "{\"vms\":[]}\n");
}

static void a_vm_is_shown_with_its_fault(void **state)
{
    struct machine m;
    struct printed p;
    struct err err;
    make_machine(&m);
    assert_int_equal(vm_print_detail(printed_begin(&p), &m.detail, BOOT + 61 * SECOND, &err), 0);
    assert_printed(
        &p,
        "name        web\n"
        "state       failed\n"
        "reason      triple fault\n"
        "cpus        2\n"
        "memory      512M\n"
        "uptime      1m 1s\n"
        "pid         4711\n"
        "uuid        12345678-0000-0000-0000-000000000000\n"
        "cpu         host\n"
        "kernel      /boot/web.elf\n"
        "cmdline     rate=1 \"x\"\n"
        "resets      3\n"
        "generation  00112233-4455-6677-8899-aabbccddeeff\n"
        "origin      mon\n"
        "log         /var/lib/ferry/vms/web/log\n"
        "\n"
        "ended 2001-09-09 01:46:45: triple-fault: processor 1 met a triple fault\n"
        "  cpu 1\n"
        "  rip 0000000000100042  rflags 00000046  cs 0008  ss 0000\n"
        "  rax 0000000000000000  rbx 0000000000001111  rcx 0000000000002222  rdx 0000000000003333\n"
        "  rsi 0000000000004444  rdi 0000000000005555  rsp 0000000000006666  rbp 0000000000007777\n"
        "  r8  0000000000008888  r9  0000000000009999  r10 000000000000aaaa  r11 000000000000bbbb\n"
        "  r12 000000000000cccc  r13 000000000000dddd  r14 000000000000eeee  r15 000000000000ffff\n"
        "  cr0 80000011  cr2 0000000000000000  cr3 0000000000000000  cr4 00000000  efer 0500\n"
        "  code 0f 0b 90\n"
        "  suberror 1 0000000000000007\n"
        "\n"
        "log\n"
        "  one\n"
        "  two\n");
}

static void a_vm_is_json_with_its_fault(void **state)
{
    struct machine m;
    struct printed p;
    struct err err;
    make_machine(&m);
    m.cpu.n_gpr = 2; /* as a ferryd might send that knows fewer */
    assert_int_equal(vm_json_detail(printed_begin(&p), &m.detail, &err), 0);
    assert_printed(
        &p,
        "{\"name\":\"web\",\"state\":\"failed\",\"cpus\":2,\"memory_bytes\":536870912,\"pid\":4711,"
        "\"boot_time\":\"2001-09-09T01:46:40.000000000Z\",\"reason\":\"triple fault\",\"config\":{"
        "\"uuid\":\"12345678-0000-0000-0000-000000000000\",\"memory_bytes\":536870912,\"cpus\":2,"
        "\"cpu_profile\":\"host\",\"kernel\":\"/boot/web.elf\",\"initrd\":\"\","
        "\"cmdline\":\"rate=1 "
        "\\\"x\\\"\",\"disks\":[],\"nets\":[]},\"ending\":{\"kind\":\"triple-fault\","
        "\"text\":\"processor 1 met a triple fault\",\"time\":\"2001-09-09T01:46:45.000000000Z\","
        "\"cpu\":{\"cpu\":1,\"rip\":\"0x100042\",\"rflags\":\"0x46\",\"rax\":\"0x0\","
        "\"rbx\":\"0x1111\",\"cr0\":\"0x80000011\",\"cr2\":\"0x0\",\"cr3\":\"0x0\",\"cr4\":\"0x0\","
        "\"efer\":\"0x500\",\"cs\":\"0x8\",\"ss\":\"0x0\",\"code\":\"0f0b90\",\"suberror\":1,"
        "\"data\":[\"0x7\"]}},\"resets\":3,"
        "\"generation\":\"00112233-4455-6677-8899-aabbccddeeff\","
        "\"restored_from\":{\"name\":\"mon\",\"uuid\":\"00112233-4455-6677-8899-aabbccddeeff\"},"
        "\"tracked_since\":null,"
        "\"log_tail\":\"one\\ntwo\\n\",\"definition_path\":\"\","
        "\"log_path\":\"/var/lib/ferry/vms/web/log\"}\n");
}

static void a_vm_with_little_is_shown(void **state)
{
    Ferry__VmSummary s = make_summary("web", (Ferry__VmState)99);
    Ferry__VmDetail detail = FERRY__VM_DETAIL__INIT;
    struct printed p;
    struct err err;
    detail.summary = &s;
    assert_int_equal(vm_print_detail(printed_begin(&p), &detail, 0, &err), 0);
    assert_printed(&p, "name    web\nstate   unknown\ncpus    2\nmemory  512M\nresets  0\n");
    assert_int_equal(vm_json_detail(printed_begin(&p), &detail, &err), 0);
    assert_printed(
        &p, "{\"name\":\"web\",\"state\":\"unknown\",\"cpus\":2,"
            "\"memory_bytes\":536870912,\"pid\":null,\"boot_time\":null,"
            "\"reason\":null,\"config\":null,\"ending\":null,\"resets\":0,\"generation\":null,"
            "\"restored_from\":null,\"tracked_since\":null,"
            "\"log_tail\":\"\",\"definition_path\":\"\",\"log_path\":\"\"}\n");
}

static void events_are_lines(void **state)
{
    Ferry__Event e = FERRY__EVENT__INIT;
    struct printed p;
    struct err err;
    e.seq = 7;
    e.wall_ns = BOOT;
    e.kind = FERRY__EVENT_KIND__EVENT_STATE;
    e.state = FERRY__VM_STATE__VM_STOPPED;
    e.vm = (char *)"web";
    e.text = (char *)"switched itself off";
    events_print(printed_begin(&p), &e);
    assert_printed(&p, "2001-09-09 01:46:40  web         stopped        switched itself off\n");
    assert_int_equal(events_json(printed_begin(&p), &e, &err), 0);
    assert_printed(&p, "{\"seq\":7,\"time\":\"2001-09-09T01:46:40.000000000Z\",\"kind\":\"state\","
                       "\"vm\":\"web\",\"state\":\"stopped\",\"text\":\"switched itself off\"}\n");
    e.kind = FERRY__EVENT_KIND__EVENT_DAEMON_STARTED;
    e.vm = e.text = (char *)"";
    events_print(printed_begin(&p), &e);
    assert_printed(&p, "2001-09-09 01:46:40  -           daemon started\n");
    assert_int_equal(events_json(printed_begin(&p), &e, &err), 0);
    assert_printed(&p, "{\"seq\":7,\"time\":\"2001-09-09T01:46:40.000000000Z\","
                       "\"kind\":\"daemon-started\",\"vm\":null,\"state\":null,\"text\":\"\"}\n");
    e.kind = (Ferry__EventKind)77;
    events_print(printed_begin(&p), &e);
    assert_printed(&p, "2001-09-09 01:46:40  -           unknown event\n");
}

static void counters_have_their_units(void **state)
{
    static const struct {
        const char *name;
        uint64_t value;
        const char *text;
    } rows[] = {
        {"exits_io", 0, "0"},         {"exits_io", 999, "999"},
        {"exits_io", 1000, "1 000"},  {"exits_io", UINT64_MAX, "18 446 744 073 709 551 615"},
        {"ram_bytes", 512, "512B"},   {"ram_bytes", 512u << 20, "512M"},
        {"run_ns", 999, "999ns"},     {"run_ns", 1500, "1.5us"},
        {"run_ns", 2500000, "2.5ms"}, {"run_ns", 61 * SECOND, "1m 1s"},
        {"run_us", 1500, "1.5ms"},    {"run_ms", 1500, "1.5s"},
        {"_ms", 1500, "1 500"},       {"", 1, "1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];
        assert_string_equal(stats_format(rows[i].name, rows[i].value, text, sizeof(text)),
                            rows[i].text);
    }
}

static void stats_are_aligned(void **state)
{
    Ferry__Counter a = FERRY__COUNTER__INIT, b = FERRY__COUNTER__INIT;
    Ferry__Counter *counters[] = {&a, &b};
    Ferry__VmStats stats = FERRY__VM_STATS__INIT;
    struct printed p;
    struct err err;
    a.name = (char *)"exits_io";
    a.value = 1234567;
    b.name = (char *)"run_ns";
    b.value = 1500;
    stats.name = (char *)"web";
    stats.n_counters = 2;
    stats.counters = counters;
    assert_int_equal(stats_print(printed_begin(&p), &stats, &err), 0);
    assert_printed(&p, "COUNTER       VALUE\n"
                       "exits_io  1 234 567\n"
                       "run           1.5us\n");
    assert_int_equal(stats_json(printed_begin(&p), &stats, &err), 0);
    assert_printed(&p, "{\"name\":\"web\",\"counters\":{\"exits_io\":1234567,\"run_ns\":1500}}\n");
}

static void text_gives_no_orders(void **state)
{
    struct printed p;
    text_print_line(printed_begin(&p), "a\033[2Jb\x7f\xc2\x9b\tc\nd\r\xff\xc3\xa9");
    assert_printed(&p, "a?[2Jb?? c d??\xc3\xa9");
    text_print_lines(printed_begin(&p), "> ", "a\rb\n\n\033c");
    assert_printed(&p, "> a?b\n> \n> ?c\n");
    text_print_lines(printed_begin(&p), "> ", "");
    assert_printed(&p, "");
    assert_int_equal(text_width("\xc3\xa9\xf0\x9f\x9a\xa2"), 2);
}

static void a_table_counts_characters(void **state)
{
    static const struct table_column columns[] = {{"A"}, {"B", true}, {"C"}};
    struct table t;
    struct printed p;
    struct err err;
    table_init(&t, columns, 3);
    table_add(&t, "\xc3\xa9\xc3\xa9");
    table_add(&t, "1");
    table_add(&t, "");
    table_add(&t, "");
    table_addf(&t, "%d", 22);
    table_add(&t, "x\ny");
    assert_int_equal(table_print(&t, printed_begin(&p), &err), 0);
    assert_printed(&p, "A    B  C\n\xc3\xa9\xc3\xa9   1\n-   22  x y\n");
    table_add(&t, "half a row");
    assert_int_not_equal(table_print(&t, stdout, &err), 0);
    table_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_aligned),
        cmocka_unit_test(reasons_have_a_column_when_there_are_any),
        cmocka_unit_test(an_empty_list_has_its_titles),
        cmocka_unit_test(a_vm_is_shown_with_its_fault),
        cmocka_unit_test(a_vm_is_json_with_its_fault),
        cmocka_unit_test(a_vm_with_little_is_shown),
        cmocka_unit_test(events_are_lines),
        cmocka_unit_test(counters_have_their_units),
        cmocka_unit_test(stats_are_aligned),
        cmocka_unit_test(text_gives_no_orders),
        cmocka_unit_test(a_table_counts_characters),
    };
    setenv("TZ", "UTC", 1);
    tzset();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
