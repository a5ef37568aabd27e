/* The value of --disk: FILE[,ro][,id=ID]. */
#pragma once

#include "base/err.h"
#include "cli/options.h"
#include "proto/config.pb-c.h"

struct disk_list {
    Ferry__DiskConfig disks[ARGS_LIST_MAX], *list[ARGS_LIST_MAX];
    char *texts[ARGS_LIST_MAX], *paths[ARGS_LIST_MAX]; /* owned */
    size_t count;
};

/* Paths are made absolute. */
int disk_list_parse(struct disk_list *d, const struct arg_list *args, struct err *err);
void disk_list_fini(struct disk_list *d);
