/* The Python client of docs/rpc.md is taken out of the page and run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fs.h"
#include "tests/sim/sim.h"

#define PYTHON "/usr/bin/python3" /* Debian's, which finds Debian's python3-protobuf */

static struct sim sim;

static int setup(void **state)
{
    sim_init(&sim);
    sim_start(&sim);
    return 0;
}

static int teardown(void **state)
{
    sim_end(&sim);
    return 0;
}

/* Runs in the test's directory; what it prints goes to `out`. */
static int run(char *const argv[], const char *out)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd =
            chdir(sim.dir) < 0 ? -1 : open(out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd >= 0 && dup2(fd, 1) == 1 && dup2(fd, 2) == 2)
            execvp(argv[0], argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char *read_file(const char *path)
{
    struct buf in;
    struct err err;
    buf_init(&in, 1u << 20);
    if (fs_read_file(AT_FDCWD, path, &in, &err) < 0)
        fail_msg("%s", err.text);
    assert_int_equal(buf_append(&in, "", 1), 0);
    return (char *)in.data;
}

static void extract(const char *to)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/docs/rpc.md", getenv("FERRY_SOURCE"));
    CLEAN(clean_free) char *page = read_file(path);
    char *begin = strstr(page, "```python\n");
    assert_non_null(begin);
    begin += strlen("```python\n");
    char *end = strstr(begin, "```");
    assert_non_null(end);
    CLEAN(clean_file) FILE *f = fopen(to, "we");
    assert_non_null(f);
    assert_int_equal(fwrite(begin, 1, (size_t)(end - begin), f), end - begin);
}

static void test_python_client(void **state)
{
    struct peer_end c;
    char client[300], out[300], include[4100];
    snprintf(include, sizeof(include), "-I%s", getenv("FERRY_SOURCE"));
    char *protoc[] = {"protoc",
                      include,
                      "--python_out=.",
                      "proto/ferry.proto",
                      "proto/config.proto",
                      "proto/snapshot.proto",
                      NULL};
    char *probe[] = {PYTHON, "-c", "import google.protobuf", NULL};
    char *python[] = {PYTHON, "client.py", "run/ferryd.sock", "web", NULL};
    if (run(probe, "out") != 0) {
        print_message("skipped: Debian's python3-protobuf is not there\n");
        skip();
    }
    if (run(protoc, "out") != 0) {
        print_message("skipped: protoc (protobuf-compiler) is not there\n");
        skip();
    }
    sim_path(&sim, client, sizeof(client), "client.py");
    sim_path(&sim, out, sizeof(out), "out");
    extract(client);
    sim_connect(&sim, &c);
    assert_int_equal(sim_start_vm(&c, "web", "say=hello"), 0);
    assert_int_equal(SIM_DO(&c, KILL, "web"), 0);
    int status = run(python, "out");
    CLEAN(clean_free) char *said = read_file(out);
    if (status != 0 || strcmp(said, "web VM_STOPPED 256 MiB\nhello") != 0)
        fail_msg("status %d: %s", status, said);
    assert_int_equal(SIM_DO(&c, REMOVE, "web"), 0);
    sim_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_python_client),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
