/*
 * The main of a fuzz target where there is no libFuzzer: gives every file of the named directories
 * to the target, as it is and in changed forms, and says how many files there were.
 *
 * The changes are the same in every run: a file's own bytes seed them. Each is one that a parser
 * must survive: a cut, a flipped bit, or one of the lengths that go wrong, 2, 4 or 8 bytes wide.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "base/le.h"

#define SEED_MAX (16 << 20)
#define CHANGES_OF_ALL 6000 /* shared by the files of a directory, so that a run stays short */
#define CHANGES_MAX 1000    /* of one file */
#define HEADER_BYTES 1024   /* half of the changes are made here */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void clean_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static uint32_t random_below(uint32_t *state, size_t limit)
{
    *state = *state * 1664525 + 1013904223;
    return (uint32_t)((*state >> 8) % limit);
}

/* Changes a copy of `size` bytes, and returns how many of them are left. */
static size_t change(uint8_t *data, size_t size, uint32_t *state)
{
    static const uint64_t lengths[] = {0, 1, 1ull << 31, UINT32_MAX, 1ull << 63, UINT64_MAX};
    size_t limit = random_below(state, 2) && size > HEADER_BYTES ? HEADER_BYTES : size;
    size_t at = random_below(state, limit);
    unsigned bytes = 2u << random_below(state, 3);
    switch (random_below(state, 3)) {
    case 0:
        return at;
    case 1:
        data[at] ^= (uint8_t)(1u << random_below(state, 8));
        return size;
    default:
        if (bytes <= size - at)
            le_put(data + at, lengths[random_below(state, sizeof(lengths) / 8)], bytes);
        return size;
    }
}

/* Each form has memory of its own size: a read behind the end must be seen. */
static int replay_changed(const uint8_t *data, size_t size, unsigned changes)
{
    uint32_t state = crc32c(0, data, size);
    for (unsigned i = 0; size > 0 && i < changes; i++) {
        CLEAN(clean_free) uint8_t *whole = malloc(size);
        if (!whole)
            return -1;
        memcpy(whole, data, size);
        size_t left = change(whole, size, &state);
        CLEAN(clean_free) uint8_t *exact = malloc(left ? left : 1);
        if (!exact)
            return -1;
        memcpy(exact, whole, left);
        LLVMFuzzerTestOneInput(exact, left);
    }
    return 0;
}

static int replay_file(const char *dir, const char *name, unsigned changes)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    CLEAN(clean_file) FILE *f = fopen(path, "rb");
    CLEAN(clean_free) uint8_t *data = malloc(SEED_MAX);
    if (!f || !data) {
        perror(path);
        return -1;
    }
    size_t size = fread(data, 1, SEED_MAX, f);
    uint8_t *exact = realloc(data, size ? size : 1); /* a read behind the end must be seen */
    if (exact)
        data = exact;
    LLVMFuzzerTestOneInput(data, size);
    return replay_changed(data, size, changes);
}

static int count_files(const char *path)
{
    int count = 0;
    CLEAN(clean_dir) DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));)
        count += e->d_name[0] != '.';
    return count;
}

/* Returns how many files there were, -1 if one could not be read. */
static int replay_dir(const char *path)
{
    int count = 0, files = count_files(path);
    unsigned changes = files > 0 ? CHANGES_OF_ALL / (unsigned)files : 0;
    CLEAN(clean_dir) DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        return -1;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        if (replay_file(path, e->d_name, changes < CHANGES_MAX ? changes : CHANGES_MAX) < 0)
            return -1;
        count++;
    }
    return count;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int count = replay_dir(argv[i]);
        if (count < 0)
            return 1;
        printf("%s: %d seeds\n", argv[i], count);
        if (count == 0)
            return 1;
    }
    return argc > 1 ? 0 : 2;
}
