/* See log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static char log_name[80] = "ferry";
static enum log_level log_level = LOG_INFO;

void log_set_name(const char *name)
{
    snprintf(log_name, sizeof(log_name), "%s", name);
}

void log_set_level(enum log_level level)
{
    log_level = level;
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
}
