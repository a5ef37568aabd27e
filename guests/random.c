/* Data that both sides of a comparison can make again: a mixer, a generator, a checksum. */
#include "guest.h"

uint64_t random_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

uint64_t random_next(uint64_t *state)
{
    uint64_t v = random_mix(*state);

    *state += 0x9e3779b97f4a7c15;
    return v;
}

uint64_t random_seed(void)
{
    return random_mix(cmdline_number("seed", 1));
}

uint32_t crc32_update(uint32_t crc, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}
