/*
 * An error is a value: a code and one sentence, of fixed size, with no allocation. A text that is
 * too long is cut between two letters of UTF-8.
 *
 * A fallible function returns 0 or -errno and takes a `struct err *` last. The function that meets
 * the failure sets it; each layer that knows more puts a prefix before it ("kernel 'x':
 * truncated"); the top reports it, once.
 */
#pragma once

#define ERR_TEXT_MAX 512

struct err {
    int code; /* positive errno; 0 while nothing failed */
    char text[ERR_TEXT_MAX];
};

/* Sets code and text; returns -code. [any] */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same with ": <what errno says>" behind the text. [any] */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "fmt: " before the text; returns -code. [any] */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
