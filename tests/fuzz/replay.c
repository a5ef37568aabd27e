/*
 * The main of a fuzz target where there is no libFuzzer: gives every file of the named directories
 * to the target once, and says how many there were.
 */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

#define SEED_MAX (16 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void clean_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static int replay_file(const char *dir, const char *name)
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
    return 0;
}

/* Returns how many files there were, -1 if one could not be read. */
static int replay_dir(const char *path)
{
    int count = 0;
    CLEAN(clean_dir) DIR *dir = opendir(path);
    if (!dir) {
        perror(path);
        return -1;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        if (replay_file(path, e->d_name) < 0)
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
