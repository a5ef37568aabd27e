/*
 * ferry-store: moves the bytes of a snapshot between vmctl, on its standard input, and a store. It
 * is started by vmctl and is of no use by itself.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/store.h"

int main(int argc, char **argv)
{
    struct stat st;
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        return printf("ferry-store " FERRY_VERSION "\n") < 0;
    if (argc > 1 || fstat(STDIN_FILENO, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        fprintf(stderr, "ferry-store is started by vmctl: see 'vmctl help snapshot export'\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    return store_run(STDIN_FILENO);
}
