/* CRC-32C (Castagnoli), by the CPU's instruction where it has one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc` (0 to begin). [any] */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same by table, for hosts without SSE4.2 and for the tests. */
uint32_t crc32c_table(uint32_t crc, const void *data, size_t len);
