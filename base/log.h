/*
 * One line a fact, on standard error: time, level, who, text. Only programs and the top layers log;
 * lower layers return errors.
 *
 * error = someone must act; warn = odd, goes on; info = lifecycle; debug = for a developer.
 */
#pragma once

#include <stddef.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Who speaks, e.g. "ferryd" or "ferry-vm web". Call before threads start. */
void log_set_name(const char *name);
void log_set_level(enum log_level level);

/* 0, or -1 for an unknown word. */
int log_parse_level(const char *word, enum log_level *level);

/* When standard error is a file that is open for reading too and grows beyond this, its newest half
 * is kept: for a process whose log a guest can fill. Call before threads start. */
void log_set_bound(size_t bytes);

/* One write(2) a line, so lines of several threads and processes do not mix. [any] */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
