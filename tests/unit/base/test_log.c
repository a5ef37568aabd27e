/* One line a fact: what reaches standard error, read back from a pipe in its place. */
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
#include <regex.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

static int saved = -1, reader = -1;

static int setup(void **state)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -1;
    saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
    log_set_name("test");
    log_set_level(LOG_INFO);
    return 0;
}

static int teardown(void **state)
{
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(reader);
    return 0;
}

/* What one log call wrote. */
static size_t caught(char *to, size_t size)
{
    ssize_t n = read(reader, to, size - 1);
    n = n < 0 ? 0 : n;
    to[n] = '\0';
    return (size_t)n;
}

static void test_shape_of_a_line(void **state)
{
    char line[4096];
    regex_t shape;
    log_warn("odd: %d", 7);
    caught(line, sizeof(line));
    assert_int_equal(regcomp(&shape,
                             "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                             "warn  test: odd: 7\n$",
                             REG_EXTENDED | REG_NOSUB),
                     0);
    assert_int_equal(regexec(&shape, line, 0, NULL, 0), 0);
    regfree(&shape);
}

static void test_levels(void **state)
{
    char line[4096];
    for (int level = LOG_ERROR; level <= LOG_DEBUG; level++) {
        log_set_level((enum log_level)level);
        for (int speak = LOG_ERROR; speak <= LOG_DEBUG; speak++) {
            log_write((enum log_level)speak, "x");
            assert_int_equal(caught(line, sizeof(line)) > 0, speak <= level);
        }
    }
}

static void test_parse_level(void **state)
{
    enum log_level level = LOG_ERROR;
    assert_int_equal(log_parse_level("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_parse_level("error", &level), 0);
    assert_int_equal(level, LOG_ERROR);
    static const char *const bad[] = {"", "INFO", "inf", "info ", "4"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(log_parse_level(bad[i], &level), -1);
    assert_int_equal(level, LOG_ERROR);
}

static void test_text_from_outside_forges_nothing(void **state)
{
    char line[4096];
    log_info("a\nerror b\r\x1b[2J\tc\x7f\xc3\xa4");
    size_t n = caught(line, sizeof(line));
    assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    assert_non_null(strstr(line, "a error b  [2J c \xc3\xa4\n"));
}

static void test_long_text_is_cut_to_one_line(void **state)
{
    char text[5000], line[8192];
    for (size_t len = 1900; len < 2200; len++) {
        memset(text, 'x', len);
        text[len] = '\0';
        log_info("%s", text);
        size_t n = caught(line, sizeof(line));
        assert_true(n > 1900 && n <= 2048);
        assert_int_equal(strlen(line), n); /* no NUL inside */
        assert_ptr_equal(strchr(line, '\n'), line + n - 1);
    }
}

static void test_long_name_is_cut(void **state)
{
    char name[500], line[4096];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    log_set_name(name);
    log_info("said");
    caught(line, sizeof(line));
    assert_non_null(strstr(line, "nnn: said\n"));
}

/* The file never grows much beyond its bound, begins with a whole line and ends with the last. */
static void test_bound(void **state)
{
    static char text[20000];
    int fd = memfd_create("log", MFD_CLOEXEC), before = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    log_set_bound(8192);
    for (int i = 0; i < 2000; i++) {
        log_info("line %d ends", i);
        assert_true(lseek(fd, 0, SEEK_END) <= 8192);
    }
    log_set_bound(0);
    dup2(before, STDERR_FILENO);
    close(before);
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    close(fd);
    assert_true(n > 4000);
    text[n] = '\0';
    assert_int_equal(strncmp(text, "20", 2), 0);
    assert_string_equal(text + n - strlen("line 1999 ends\n"), "line 1999 ends\n");
    assert_non_null(strstr(text, "line 1998 ends\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shape_of_a_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parse_level, setup, teardown),
        cmocka_unit_test_setup_teardown(test_text_from_outside_forges_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_text_is_cut_to_one_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_name_is_cut, setup, teardown),
        cmocka_unit_test(test_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
