/* See disk.h. */
#include "cli/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/path.h"

void disk_list_fini(struct disk_list *d)
{
    for (size_t i = 0; i < d->count; i++) {
        free(d->texts[i]);
        free(d->paths[i]);
    }
}

/* One of the words behind the file. */
static int set_word(Ferry__DiskConfig *disk, char *word, struct err *err)
{
    if (strcmp(word, "ro") == 0)
        disk->readonly = true;
    else if (strncmp(word, "id=", 3) == 0 && word[3])
        disk->id = word + 3;
    else
        return err_set(err, EINVAL, "--disk has '%s' behind its file; it takes ro and id=ID", word);
    return 0;
}

static int parse_one(struct disk_list *d, const char *text, struct err *err)
{
    Ferry__DiskConfig *disk = d->list[d->count] = &d->disks[d->count];
    char *copy = strdup(text), *rest = copy;
    ferry__disk_config__init(disk);
    d->paths[d->count] = NULL;
    d->texts[d->count++] = copy;
    if (!copy)
        return err_set(err, ENOMEM, "no memory for a disk");
    int rc = path_absolute(strsep(&rest, ","), &d->paths[d->count - 1], err);
    disk->path = d->paths[d->count - 1];
    while (rc == 0 && rest)
        rc = set_word(disk, strsep(&rest, ","), err);
    return rc;
}

int disk_list_parse(struct disk_list *d, const struct arg_list *args, struct err *err)
{
    int rc = 0;
    d->count = 0;
    for (size_t i = 0; rc == 0 && i < args->count; i++)
        rc = parse_one(d, args->items[i], err);
    return rc;
}
