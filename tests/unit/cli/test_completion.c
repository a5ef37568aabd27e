/* What vmctl says of itself: scripts that shells accept and that complete, and the manual. */
#include "tests/unit/cli/fake_ferryd.h"
#include "tests/unit/cli/run_vmctl.h"

static void serve_names(struct fake *f, int fd)
{
    Ferry__Request *r = fake_greet(fd) ? fake_read(fd) : NULL;
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    Ferry__VmSummary a = FERRY__VM_SUMMARY__INIT, b = FERRY__VM_SUMMARY__INIT;
    Ferry__VmSummary *vms[] = {&a, &b};
    Ferry__SnapshotList snapshots = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__SnapshotSummary c = FERRY__SNAPSHOT_SUMMARY__INIT, d = FERRY__SNAPSHOT_SUMMARY__INIT;
    Ferry__SnapshotSummary *those[] = {&c, &d};
    char *broken[] = {(char *)"odd: no manifest"};
    a.name = (char *)"web-1";
    b.name = (char *)"db";
    list.n_vms = 2;
    list.vms = vms;
    reply.id = r ? r->id : 0;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_LIST;
    reply.list = &list;
    c.name = (char *)"base";
    d.name = (char *)"old-1";
    snapshots.n_snapshots = 2;
    snapshots.snapshots = those;
    snapshots.n_broken = 1;
    snapshots.broken = broken;
    if (r && r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_LIST) {
        reply.body_case = FERRY__REPLY__BODY_SNAPSHOTS;
        reply.snapshots = &snapshots;
    }
    if (r)
        fake_send(fd, &reply);
    frame_free(r ? &r->base : NULL);
}

static bool have(const char *program)
{
    char line[128];
    snprintf(line, sizeof(line), "command -v %s >/dev/null 2>&1", program);
    return system(line) == 0;
}

/* Runs a line of sh; $VMCTL is the program. What it prints, both ways, must be `expected`. */
static void expect_sh(const char *line, const char *expected)
{
    char out[4096];
    setenv("VMCTL", run_path(), 1);
    FILE *f = popen(line, "r");
    assert_non_null(f);
    out[fread(out, 1, sizeof(out) - 1, f)] = '\0';
    int status = pclose(f);
    if (status != 0 || strcmp(out, expected) != 0)
        print_error("%s\nstatus %d, '%s', not '%s'\n", line, status, out, expected);
    assert_string_equal(out, expected);
    assert_int_equal(status, 0);
}

static void check_syntax(const char *shell)
{
    char line[128];
    if (!have(shell)) {
        print_message("%s is not installed\n", shell);
        skip();
    }
    snprintf(line, sizeof(line), "\"$VMCTL\" completion %s | %s -n /dev/stdin 2>&1", shell, shell);
    expect_sh(line, "");
}

static void bash_accepts_its_script(void **state)
{
    check_syntax("bash");
}

static void zsh_accepts_its_script(void **state)
{
    check_syntax("zsh");
}

static void fish_accepts_its_script(void **state)
{
    check_syntax("fish");
}

/* The words behind `vmctl`, the last of which is completed. */
static void expect_bash(const char *run, const char *words, const char *expected)
{
    char line[1024];
    snprintf(line, sizeof(line),
             "FERRY_RUN=%s bash -c 'source <(\"$VMCTL\" completion bash); "
             "COMP_WORDS=(\"$VMCTL\" %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
             "_vmctl; echo \"${COMPREPLY[@]}\"' 2>&1",
             run, words);
    expect_sh(line, expected);
}

static void bash_completes(void **state)
{
    struct fake fake;
    char words[256];
    if (!have("bash"))
        skip();
    fake_start(&fake, serve_names, NULL);
    expect_bash(fake.run, "sta", "start stats\n");
    expect_bash(fake.run, "start \"\"", "web-1 db\n");
    expect_bash(fake.run, "console w", "web-1\n");
    expect_bash(fake.run, "list \"\"", "\n");
    expect_bash(fake.run, "start web-1 \"\"", "\n");
    expect_bash(fake.run, "stop --", "--run --json --help --version --timeout\n");
    expect_bash(fake.run, "start web --cpu", "--cpus --cpu\n");
    expect_bash(fake.run, "start --memory 4G --json d", "db\n");
    expect_bash(fake.run, "start --memory \"\"", "\n");
    expect_bash(fake.run, "completion \"\"", "bash zsh fish man\n");
    expect_bash(fake.run, "help ver", "version\n");
    expect_bash(fake.run, "sn", "snapshot\n");
    expect_bash(fake.run, "snapshot \"\"",
                "create untrack list show verify rm prune export import\n");
    expect_bash(fake.run, "--json snapshot --json c", "create\n");
    expect_bash(fake.run, "help snapshot \"\"",
                "create untrack list show verify rm prune export import\n");
    expect_bash(fake.run, "help list \"\"", "\n");
    expect_bash(fake.run, "snapshot create \"\"", "web-1 db\n");
    expect_bash(fake.run, "snapshot create web-1 \"\"", "\n");
    expect_bash(fake.run, "snapshot create web --st", "--stop\n");
    expect_bash(fake.run, "snapshot --", "--run --json --help --version\n");
    expect_bash(fake.run, "snapshot show \"\"", "base old-1\n");
    expect_bash(fake.run, "snapshot rm o", "old-1\n");
    expect_bash(fake.run, "snapshot list \"\"", "\n");
    expect_bash(fake.run, "restore \"\"", "base old-1\n");
    expect_bash(fake.run, "restore base --clock \"\"", "advance freeze\n");
    expect_bash(fake.run, "restore --clock freeze b", "base\n");
    expect_bash(fake.run, "restore --name \"\"", "\n");
    snprintf(words, sizeof(words), "--run %s pause d", fake.run);
    expect_bash("/nonexistent", words, "db\n");
    expect_bash("/nonexistent", "pause d", "\n");
    fake_stop(&fake);
}

static void the_manual_is_the_table(void **state)
{
    const char *source = getenv("FERRY_SOURCE");
    char line[512];
    snprintf(line, sizeof(line), "\"$VMCTL\" completion man | diff %s/man/vmctl.1 - 2>&1",
             source ? source : ".");
    expect_sh(line, "");
}

static void the_manual_is_well_formed(void **state)
{
    if (!have("groff") && !have("mandoc")) {
        print_message("neither groff nor mandoc is installed\n");
        skip();
    }
    if (have("groff"))
        expect_sh("\"$VMCTL\" completion man | groff -man -Tutf8 -ww 2>&1 >/dev/null", "");
    if (have("mandoc"))
        expect_sh("\"$VMCTL\" completion man | mandoc -Tlint -W error 2>&1", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bash_accepts_its_script), cmocka_unit_test(zsh_accepts_its_script),
        cmocka_unit_test(fish_accepts_its_script), cmocka_unit_test(bash_completes),
        cmocka_unit_test(the_manual_is_the_table), cmocka_unit_test(the_manual_is_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
