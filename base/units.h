/* Numbers as people write them: sizes `512M`, `4G`; times `50ms`, `30s`. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Digits and an optional K, M, G or T (powers of 1024); no sign, no fraction, no overflow. */
int units_parse_size(const char *text, uint64_t *bytes, struct err *err);

/* Digits and ms, s, m, h or d; a bare number is refused, because nobody knows which unit it has. */
int units_parse_time(const char *text, uint64_t *ms, struct err *err);

/* A whole decimal number within min..max. `what` names it in the error. */
int units_parse_number(const char *text, uint64_t min, uint64_t max, const char *what,
                       uint64_t *value, struct err *err);

/* "512M", "1.5G", "17K", "300"; cut, not rounded. Returns `to`. */
const char *units_format_size(uint64_t bytes, char *to, size_t size);

/* "350ms", "4.2s", "3m 20s", "5h 2m", "3d 4h"; cut, not rounded. Returns `to`. */
const char *units_format_time(uint64_t ms, char *to, size_t size);
