/*
 * ferryd: the supervisor. Opens its directories, finds the VMs that an earlier ferryd left, adopts
 * the workers that run on, then serves clients until SIGTERM or SIGINT; guests run on after it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/units.h"
#include "daemon/adopt.h"
#include "daemon/doubt.h"
#include "daemon/handle_events.h"
#include "daemon/leftovers.h"
#include "daemon/listener.h"
#include "daemon/notify.h"
#include "daemon/server.h"
#include "daemon/tenant.h"
#include "migrate/tls_identity.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: ferryd [--root DIR] [--run DIR] [--listen ADDR:PORT] [--tls DIR | --insecure]\n"
    "              [--group GROUP] [--open-reads] [--worker PATH] [--kvm PATH]\n"
    "              [--log error|warn|info|debug] [--version]\n";

struct program {
    struct daemon daemon;
    uv_signal_t term, intr;
    bool ending, failed;
    char worker[PATH_MAX];
};

static int parse_group(struct daemon *d, const char *word)
{
    uint64_t gid;
    struct err ignored;
    const struct group *g = getgrnam(word);
    if (!g && units_parse_number(word, 0, UINT32_MAX - 1, "--group", &gid, &ignored) < 0) {
        fprintf(stderr, "ferryd: there is no group '%s'\n", word);
        return -1;
    }
    d->rules.has_group = true;
    d->rules.group = g ? g->gr_gid : (gid_t)gid;
    d->options.group = word;
    return 0;
}

static int parse_log(struct daemon *d, const char *word)
{
    enum log_level level;
    if (log_parse_level(word, &level) < 0) {
        fprintf(stderr, "ferryd: --log takes error, warn, info or debug, not '%s'\n", word);
        return -1;
    }
    log_set_level(level);
    d->options.log_level = word;
    return 0;
}

static int parse_one(struct daemon *d, int c)
{
    switch (c) {
    case 'r':
        d->options.root = optarg;
        return 0;
    case 'R':
        d->options.run = optarg;
        return 0;
    case 'g':
        return parse_group(d, optarg);
    case 'o':
        d->options.open_reads = d->rules.open_reads = true;
        return 0;
    case 'w':
        d->options.worker = optarg;
        return 0;
    case 'k':
        d->options.kvm = optarg;
        return 0;
    case 'l':
        return parse_log(d, optarg);
    case 'L':
        d->options.listen = optarg;
        return 0;
    case 't':
        d->options.tls = optarg;
        return 0;
    case 'i':
        d->options.insecure = true;
        return 0;
    default:
        fputs(usage, stderr);
        return -1;
    }
}

/* 0 to go on, 1 when all is said, -1 for wrong usage. */
static int parse(struct daemon *d, int argc, char **argv)
{
    static const struct option longs[] = {{"root", required_argument, NULL, 'r'},
                                          {"run", required_argument, NULL, 'R'},
                                          {"group", required_argument, NULL, 'g'},
                                          {"open-reads", no_argument, NULL, 'o'},
                                          {"worker", required_argument, NULL, 'w'},
                                          {"kvm", required_argument, NULL, 'k'},
                                          {"log", required_argument, NULL, 'l'},
                                          {"version", no_argument, NULL, 'v'},
                                          {"listen", required_argument, NULL, 'L'},
                                          {"insecure", no_argument, NULL, 'i'},
                                          {"tls", required_argument, NULL, 't'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    d->options = (struct daemon_options){
        .root = "/var/lib/ferry", .run = "/run/ferry", .kvm = "/dev/kvm", .log_level = "info"};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (c == 'v' || c == 'h') {
            fputs(c == 'v' ? "ferryd " FERRY_VERSION "\n" : usage, stdout);
            return 1;
        }
        if (parse_one(d, c) < 0)
            return -1;
    }
    if (d->options.tls && d->options.insecure) {
        fputs("ferryd: --insecure is to do without --tls: leave one of them out\n", stderr);
        return -1;
    }
    if (optind == argc)
        return 0;
    fputs(usage, stderr);
    return -1;
}

/* The worker is started from another directory, so its path is made whole. */
static int find_worker(struct daemon *d, char *path, struct err *err)
{
    char guess[PATH_MAX];
    const char *worker = d->options.worker;
    if (!worker) {
        ssize_t n = readlink("/proc/self/exe", guess, sizeof(guess) - sizeof("ferry-vm"));
        guess[n > 0 ? n : 0] = '\0';
        char *slash = strrchr(guess, '/');
        snprintf(slash ? slash + 1 : guess, sizeof("ferry-vm"), "ferry-vm");
        worker = guess;
    }
    if (!realpath(worker, path) || access(path, X_OK) < 0)
        return err_sys(err, errno, "cannot find the worker program '%s'", worker);
    d->options.worker = path;
    return 0;
}

/* Numbers 0, 1 and 2 are taken, so that no socket of ours gets one of them. */
static void open_std(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

static void prepare_process(void)
{
    struct rlimit files;
    open_std();
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    log_set_name("ferryd");
    notify_init();
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void end(struct program *p)
{
    struct tenant *t;
    if (p->ending)
        return;
    p->ending = true;
    notify_send("STOPPING=1");
    server_close(&p->daemon);
    listener_close(&p->daemon);
    doubt_end(&p->daemon);
    TAILQ_FOREACH(t, &p->daemon.registry.all, all)
    tenant_release(t);
    TAILQ_FOREACH(t, &p->daemon.registry.stand_ins, all)
    tenant_release(t);
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->intr, NULL);
}

static void on_signal(uv_signal_t *handle, int number)
{
    log_info("ends; guests run on");
    end(handle->data);
}

static void add_started_event(struct daemon *d)
{
    char text[64];
    struct err err;
    Ferry__Event event = FERRY__EVENT__INIT;
    snprintf(text, sizeof(text), "ferryd %s, pid %d", FERRY_VERSION, (int)getpid());
    event.kind = FERRY__EVENT_KIND__EVENT_DAEMON_STARTED;
    event.text = text;
    if (events_add(&d->events, event, &err) < 0)
        log_warn("events: %s", err.text);
}

/* Every VM has a state: clients may come. */
static void on_adopted(struct daemon *d)
{
    struct program *p = (struct program *)d;
    struct err err = {0};
    if (p->ending)
        return;
    if (server_open(d, &err) < 0 || listener_open(d, &err) < 0) {
        log_error("%s", err.text);
        p->failed = true;
        end(p);
        return;
    }
    doubt_watch(d);
    log_info("serves %s/ferryd.sock, %u VMs", d->root.run, d->registry.count);
    notify_send("READY=1");
}

static int listen_for_signals(struct program *p)
{
    uv_signal_init(&p->daemon.loop, &p->term);
    uv_signal_init(&p->daemon.loop, &p->intr);
    p->term.data = p->intr.data = p;
    int rc = uv_signal_start(&p->term, on_signal, SIGTERM);
    return rc < 0 ? rc : uv_signal_start(&p->intr, on_signal, SIGINT);
}

static int serve(struct program *p, struct err *err)
{
    struct daemon *d = &p->daemon;
    if (listen_for_signals(p) < 0)
        return err_set(err, EIO, "cannot listen for signals");
    add_started_event(d);
    registry_init(&d->registry, &d->events, &d->root);
    int rc = adopt_all(d, on_adopted, err);
    if (rc < 0)
        end(p);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    registry_fini(&d->registry);
    return rc < 0 ? rc : p->failed ? -EIO : 0;
}

static int load_identity(struct daemon *d, struct err *err)
{
    struct err note;
    if (!d->options.tls)
        return 0;
    d->tls = tls_identity_load(d->options.tls, &note, err);
    if (!d->tls)
        return -err->code;
    if (note.code)
        log_error("--tls %s: %s", d->options.tls, note.text);
    return 0;
}

static int run(struct program *p, struct err *err)
{
    struct daemon *d = &p->daemon;
    struct err note;
    int rc = find_worker(d, p->worker, err);
    if (rc == 0)
        rc = load_identity(d, err);
    if (rc < 0)
        return rc;
    rc = root_open(&d->root, d->options.root, d->options.run, err);
    if (rc < 0) {
        tls_identity_free(d->tls);
        return rc;
    }
    rc = events_open(&d->events, d->root.root_fd, &note, err);
    if (rc == 0) {
        if (note.code)
            log_warn("%s", note.text);
        TAILQ_INIT(&d->followers);
        TAILQ_INIT(&d->migrations);
        d->events.added = handle_events_added;
        d->events.ctx = d;
        uv_loop_init(&d->loop);
        leftovers_clean(&d->root);
        rc = serve(p, err);
        uv_run(&d->loop, UV_RUN_DEFAULT); /* what is closing */
        uv_loop_close(&d->loop);
        events_close(&d->events);
    }
    root_close(&d->root);
    tls_identity_free(d->tls);
    return rc;
}

int main(int argc, char **argv)
{
    static struct program program;
    struct err err = {0};
    prepare_process();
    int parsed = parse(&program.daemon, argc, argv);
    if (parsed != 0)
        return parsed < 0 ? EXIT_USAGE : 0;
    int rc = run(&program, &err);
    if (rc < 0 && err.code)
        log_error("%s", err.text);
    return rc < 0;
}
