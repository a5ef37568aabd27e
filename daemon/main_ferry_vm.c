/*
 * ferry-vm: one guest in a process of its own. ferryd starts it with a socket on descriptor 3; all
 * that the guest needs comes through that socket as open descriptors, so that after its start it
 * opens nothing by name.
 */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "daemon/worker.h"
#include "daemon/worker_receive.h"
#include "daemon/worker_start.h"
#include "daemon/worker_status.h"
#include "proto/frame.h"

#define EXIT_USAGE 2
#define WORKER_LOG_BYTES (1u << 20)

static const char usage[] = "usage: ferry-vm --fd N [--name NAME] [--log LEVEL]\n"
                            "Started by ferryd, which speaks with it on descriptor N.\n";

struct options {
    int fd;
    const char *name;
    enum log_level level;
};

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"fd", required_argument, NULL, 'f'},
                                          {"name", required_argument, NULL, 'n'},
                                          {"log", required_argument, NULL, 'l'},
                                          {"version", no_argument, NULL, 'v'},
                                          {0}};
    uint64_t fd = 0;
    struct err err;
    *o = (struct options){.fd = -1, .name = "?", .level = LOG_INFO};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'f' && units_parse_number(optarg, 3, 1023, "--fd", &fd, &err) == 0)
            o->fd = (int)fd;
        else if (c == 'n')
            o->name = optarg;
        else if (c == 'v')
            return puts("ferry-vm " FERRY_VERSION), 1;
        else if (c != 'l' || log_parse_level(optarg, &o->level) < 0)
            return -1;
    }
    return o->fd < 0 || optind != argc ? -1 : 0;
}

/* One arena: a worker allocates little, and an arena a thread costs memory for each vCPU. */
static void prepare_process(const struct options *o)
{
    char name[128];
    snprintf(name, sizeof(name), "ferry-vm %s", o->name);
    log_set_name(name);
    log_set_level(o->level);
    log_set_bound(WORKER_LOG_BYTES);
    mallopt(M_ARENA_MAX, 1);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal's Ctrl-C is for ferryd; it leaves its guests running */
    signal(SIGHUP, SIG_IGN);
}

static int begin(struct worker *w, const struct options *o, Ferry__WorkerRequest *request,
                 struct fds *fds, struct err *err)
{
    struct err unheard;
    uint32_t id = request->id;
    if (request->body_case != FERRY__WORKER_REQUEST__BODY_START || !request->start->config)
        return err_set(err, EPROTO, "a worker begins with a hello and a start");
    struct worker_status_storage storage;
    Ferry__WorkerStatus status;
    int rc = worker_init(w, request->start, fds, err);
    if (rc < 0)
        worker_receive_refuse(w, err);
    if (rc == 0 && request->start->incoming) {
        w->start_id = id; /* answered when the guest is here */
        return 0;
    }
    if (rc == 0)
        worker_status(w, &status, &storage);
    int sent = worker_start_reply(o->fd, id, &status, rc < 0 ? err : NULL, &unheard);
    if (rc == 0 && sent < 0) /* a ferryd that ends stops no guest, and the next one finds it */
        log_warn("ferryd has not heard that the guest is started: %s", unheard.text);
    return rc;
}

static int start(struct worker *w, const struct options *o, bool *paused, struct err *err)
{
    Ferry__WorkerRequest *request;
    struct fds fds;
    fds_init(&fds);
    int rc = worker_start_receive(o->fd, o->name, &request, &fds, err);
    if (rc == 0) {
        rc = begin(w, o, request, &fds, err);
        *paused = rc == 0 && request->start->paused;
        frame_free(&request->base);
    }
    fds_close(&fds);
    return rc;
}

int main(int argc, char **argv)
{
    static struct worker worker;
    struct options o;
    struct err err = {0};
    bool paused = false;
    int parsed = parse(argc, argv, &o);
    if (parsed != 0) {
        if (parsed < 0)
            fputs(usage, stderr);
        return parsed < 0 ? EXIT_USAGE : 0;
    }
    prepare_process(&o);
    int rc = start(&worker, &o, &paused, &err);
    if (rc == 0)
        rc = worker_run(&worker, o.fd, paused, &err);
    if (rc < 0)
        log_error("%s", err.text);
    worker_fini(&worker);
    return rc < 0;
}
