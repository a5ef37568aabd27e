/* See log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static char log_name[80] = "ferry";
static enum log_level log_level = LOG_INFO;
static size_t log_bound; /* 0: none */
static atomic_flag log_cutting = ATOMIC_FLAG_INIT;

void log_set_name(const char *name)
{
    snprintf(log_name, sizeof(log_name), "%s", name);
}

void log_set_level(enum log_level level)
{
    log_level = level;
}

void log_set_bound(size_t bytes)
{
    log_bound = bytes;
}

/* Whole lines of the newest half; a line that another thread writes meanwhile may be lost. */
static void cut_file(size_t size)
{
    size_t half = log_bound / 2;
    char *text = malloc(half);
    ssize_t n = text ? pread(STDERR_FILENO, text, half, (off_t)(size - half)) : -1;
    const char *from = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
    if (from && ftruncate(STDERR_FILENO, 0) == 0) {
        n = write(STDERR_FILENO, from + 1, (size_t)(text + n - from - 1));
        (void)n; /* nowhere left to say that it failed */
    }
    free(text);
}

static void bound_file(void)
{
    struct stat st;
    if (!log_bound || atomic_flag_test_and_set(&log_cutting))
        return;
    if (fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) && (size_t)st.st_size > log_bound)
        cut_file((size_t)st.st_size);
    atomic_flag_clear(&log_cutting);
}

int log_parse_level(const char *word, enum log_level *level)
{
    for (int i = 0; i <= LOG_DEBUG; i++) {
        if (strcmp(word, level_names[i]) == 0) {
            *level = i;
            return 0;
        }
    }
    return -1;
}

static size_t log_head(char *line, size_t size, enum log_level level)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
    n += snprintf(line + n, size - n, ".%03ldZ %-5s %s: ", now.tv_nsec / 1000000,
                  level_names[level], log_name);
    return n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    if (level > log_level)
        return;
    char line[LOG_LINE_MAX];
    size_t n = log_head(line, sizeof(line), level);
    va_list args;
    va_start(args, fmt);
    int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, args);
    va_end(args);
    n += m < 0 ? 0 : m;
    if (n > sizeof(line) - 2)
        n = sizeof(line) - 2;
    for (size_t i = 0; i < n; i++) /* text from outside must not forge a line or drive a terminal */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = ' ';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say it */
    bound_file();
}
