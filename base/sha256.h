/* SHA-256 (FIPS 180-4): what object stores want to know of what they are sent. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32u
#define SHA256_HEX_SIZE (2 * SHA256_BYTES + 1)

struct sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES]);

/* Of `len` bytes, as lower-case hex. Returns `to`. */
const char *sha256_hex(const void *data, size_t len, char to[SHA256_HEX_SIZE]);
