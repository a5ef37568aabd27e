/*
 * Guests that move over TLS, and who is not let in: certificates of another CA, out of their time,
 * for somebody else, missing; peers that speak plainly, leave or stall in the handshake. Each is
 * one clear sentence, and the guest runs on.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/now.h"
#include "daemon/dial.h"
#include "daemon/listener.h"
#include "tests/kvm/certificates.h"
#include "tests/kvm/health.h"
#include "tests/kvm/host.h"
#include "tests/kvm/proxy_tls.h"
#include "tests/kvm/rig.h"
#include "tests/temp.h"

#define OUT_MAX 65536
#define EVERYBODY "# the hosts of this test\nhost-0\nhost-1   # the other one\nproxy\n"

_Static_assert(DIAL_MS < 5000 && LISTENER_HELLO_MS < 5000, "a silent peer is given up within 5 s");

static struct authority *ours, *others;

static void write_identity(void *ctx, const char *dir)
{
    identity_write(ctx, dir);
}

/* What a row of a table leaves out is as it should be. */
static struct identity complete(const struct identity *i, const char *name)
{
    struct identity all = *i;
    all.name = i->name ? i->name : name;
    all.from = i->from ? i->from : ours;
    all.trusts = i->trusts ? i->trusts : ours;
    all.allow = i->allow ? i->allow : EVERYBODY;
    return all;
}

static void start_one(struct host *h, const struct identity *i, const char *name)
{
    struct identity all = complete(i, name);
    host_start_listening_tls(h, write_identity, &all);
}

static void start_guest(struct host *h)
{
    host_must(h, "start web --kernel %%G/dirty.elf --memory 32M --cmdline rate=1000");
    expect_healthy(h, "web");
}

static void stop_two(struct host h[2])
{
    host_stop(&h[0]);
    host_stop(&h[1]);
}

static void move(struct host *from, struct host *to)
{
    unsigned verdicts = count_verdicts(from, "web");
    host_must(from, "migrate web %s --check", to->address);
    host_must(from, "migrate web %s --streams 3", to->address);
    host_expect_state(to, "web", "running", 1000);
    expect_more(to, "web", verdicts);
}

/* The last lines of a ferryd. */
static void expect_log(const struct host *h, const char *words)
{
    char path[100];
    struct buf log;
    struct err err;
    uint64_t until = now_ns() + 10000000000ull;
    snprintf(path, sizeof(path), "%s/ferryd.log", h->dir);
    for (bool found = false; !found;) {
        buf_init(&log, 1u << 24);
        assert_int_equal(fs_read_file(AT_FDCWD, path, &log, &err), 0);
        assert_int_equal(buf_append(&log, "", 1), 0);
        found = strstr((char *)log.data, words);
        if (!found && now_ns() > until)
            fail_msg("the log of ferryd has no '%s': %.3000s", words, (char *)log.data);
        buf_fini(&log);
        poll(NULL, 0, 5);
    }
}

/* going --------------------------------------------------------------------------------------- */

static void goes_and_comes(void **state)
{
    struct host h[2];
    start_one(&h[0], &(struct identity){.address = "127.0.0.1"}, "host-0");
    start_one(&h[1], &(struct identity){0}, "host-1");
    start_guest(&h[0]);
    for (unsigned i = 0; i < 4; i++)
        move(&h[i % 2], &h[(i + 1) % 2]);
    expect_log(&h[1], "(host-0)");
    stop_two(h);
}

/* As in test_migrate.c, with a proxy that has a certificate of its own. */
struct cut {
    enum wire_kind kind;
    bool pass_on, moves;
};

static void the_wire_breaks(void **state)
{
    const struct cut *cut = *state;
    static char out[OUT_MAX];
    static struct proxy_tls proxies[16]; /* their threads outlive the test */
    static unsigned used;
    struct proxy_tls *p = &proxies[used++];
    const struct identity proxy = complete(&(struct identity){0}, "proxy");
    char dir[100];
    struct host h[2];
    struct err note, err;
    start_one(&h[0], &(struct identity){0}, "host-0");
    start_one(&h[1], &(struct identity){0}, "host-1");
    snprintf(dir, sizeof(dir), "%s/proxy", h[0].dir);
    identity_write(&proxy, dir);
    *p = (struct proxy_tls){.kind = cut->kind, .pass_on = cut->pass_on};
    snprintf(p->to, sizeof(p->to), "%s", h[1].address);
    p->identity = tls_identity_load(dir, &note, &err);
    assert_non_null(p->identity);
    proxy_tls_start(p);
    start_guest(&h[0]);
    unsigned verdicts = count_verdicts(&h[0], "web");
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", p->address), 1);
    if (!p->was_cut)
        fail_msg("it failed before the wire broke: %s", out);
    struct host *runs = &h[cut->moves], *other = &h[!cut->moves];
    host_expect_state(runs, "web", "running", 15000);
    host_expect(other, "there is no VM", 15000, "show web");
    expect_more(runs, "web", verdicts);
    move(runs, other);
    stop_two(h);
}

/* who is not let in --------------------------------------------------------------------------- */

struct wrong {
    const char *what;
    struct identity source, target;
    bool foreign_source, foreign_target; /* of the other CA */
    const char *says[3];                 /* --check: all of them */
    const char *logged;                  /* at the target; NULL for nothing */
};

// clang-format off
static const struct wrong wrongs[] = {
    {"the target's CA", .foreign_target = true, .says = {"its certificate is not from our CA"}},
    {"the source's CA", .foreign_source = true, .says = {"it does not know the CA of our certificate"},
     .logged = "its certificate is not from our CA"},
    {"the target's time", .target = {.from_days = -9, .until_days = -2}, .says = {"its certificate has expired"},
     .logged = "of our own certificate has expired"},
    {"the source's time", .source = {.from_days = -9, .until_days = -2},
     .says = {"it says that our certificate has expired"}, .logged = "its certificate has expired"},
    {"the target's beginning", .target = {.from_days = 2, .until_days = 9},
     .says = {"its certificate is not valid yet"}},
    {"the target's name", .source = {.allow = "host-0\nhost-9\n"},
     .says = {"its certificate is for 'host-1', which is not on our allow list"}},
    {"the source's name", .target = {.allow = "host-1"}, .says = {"'host-0' is not on the allow list of that host"},
     .logged = "'host-0' is not on the allow list"},
    {"the target's address", .target = {.address = "127.0.0.9"},
     .says = {"its certificate is for 'host-1', not for '127.0.0.1'"}},
    {"all of the target", .source = {.allow = "host-9"}, .foreign_target = true,
     .target = {.address = "127.0.0.9", .from_days = -9, .until_days = -2},
     .says = {"not from our CA", "not on our allow list", "not for '127.0.0.1'"}},
};
// clang-format on

static void stays_out(const struct wrong *w)
{
    static char out[OUT_MAX];
    struct identity source = w->source, target = w->target;
    struct host h[2];
    source.from = w->foreign_source ? others : NULL;
    target.from = w->foreign_target ? others : NULL;
    start_one(&h[0], &source, "host-0");
    start_one(&h[1], &target, "host-1");
    start_guest(&h[0]);
    unsigned verdicts = count_verdicts(&h[0], "web");
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", h[1].address), 1);
    if (!strstr(out, w->says[0]))
        fail_msg("%s: migrate says: %s", w->what, out);
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s --check", h[1].address), 1);
    for (unsigned n = 0; n < 3 && w->says[n]; n++)
        if (!strstr(out, w->says[n]))
            fail_msg("%s: --check does not say '%s': %s", w->what, w->says[n], out);
    if (w->logged)
        expect_log(&h[1], w->logged);
    expect_more(&h[0], "web", verdicts);
    assert_int_equal(host_run(&h[1], NULL, 0, "show web"), 1);
    stop_two(h);
}

static void who_is_wrong_stays_out(void **state)
{
    for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++)
        stays_out(&wrongs[i]);
}

/* A name in the place of the address must be that of the certificate. */
static void a_called_name_is_checked(void **state)
{
    struct host h[2];
    static char out[OUT_MAX];
    start_one(&h[0], &(struct identity){.allow = "host-1\nlocalhost\n"}, "host-0");
    start_one(&h[1], &(struct identity){0}, "host-1");
    start_guest(&h[0]);
    const char *port = strchr(h[1].address, ':');
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web localhost%s", port), 1);
    assert_non_null(strstr(out, "its certificate is for 'host-1', not for 'localhost'"));
    host_stop(&h[1]);
    start_one(&h[1], &(struct identity){0}, "localhost");
    host_must(&h[0], "migrate web localhost%s", strchr(h[1].address, ':'));
    expect_healthy(&h[1], "web");
    stop_two(h);
}

static void plain_and_tls_do_not_mix(void **state)
{
    struct host h[2];
    static char out[OUT_MAX];
    host_start_listening(&h[0]);
    start_one(&h[1], &(struct identity){0}, "host-1");
    start_guest(&h[0]);
    assert_int_equal(host_run(&h[0], out, sizeof(out), "migrate web %s", h[1].address), 1);
    assert_non_null(strstr(out, "takes guests over TLS only"));
    expect_log(&h[1], "takes guests over TLS only");
    host_must(&h[1], "start cat --kernel %%G/hello.elf --memory 32M");
    assert_int_equal(host_run(&h[1], out, sizeof(out), "migrate cat %s", h[0].address), 1);
    assert_non_null(strstr(out, "must have been started with --tls"));
    expect_log(&h[0], "was started without --tls");
    expect_healthy(&h[0], "web");
    expect_healthy(&h[1], "cat");
    stop_two(h);
}

/* peers that do not do their part ------------------------------------------------------------- */

static int call(const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1));
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* Greets by TLS without a certificate; returns when the peer has closed the connection. */
static void greet_without_certificate(const char *address)
{
    char byte;
    int fd = call(address);
    SSL_CTX *c = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(c);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    if (SSL_connect(ssl) == 1)
        SSL_read(ssl, &byte, 1);
    SSL_free(ssl);
    SSL_CTX_free(c);
    close(fd);
}

static void callers_without_manners(void **state)
{
    static const uint8_t greeting[] = {0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3};
    struct host h[2];
    char byte;
    start_one(&h[0], &(struct identity){0}, "host-0");
    start_one(&h[1], &(struct identity){0}, "host-1");
    start_guest(&h[0]);
    greet_without_certificate(h[1].address);
    expect_log(&h[1], "it shows no certificate");
    for (size_t n = 0; n <= sizeof(greeting); n++) {
        int fd = call(h[1].address);
        assert_int_equal(send(fd, greeting, n, MSG_NOSIGNAL), n);
        close(fd);
    }
    expect_log(&h[1], "it left in the middle of the TLS handshake");
    int fd = call(h[1].address); /* and nothing more */
    assert_int_equal(send(fd, greeting, sizeof(greeting), MSG_NOSIGNAL), sizeof(greeting));
    move(&h[0], &h[1]); /* who has manners is served meanwhile */
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
    close(fd);
    expect_log(&h[1], "did not go on with the TLS handshake for 4 s");
    stop_two(h);
}

/* A host that takes a call, answers with some bytes and then leaves, or waits until it is left. */
struct rude {
    int listener;
    char address[64];
    bool leaves;
};

static void *rude_main(void *arg)
{
    struct rude *r = arg;
    char room[4096];
    int fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = recv(fd, room, sizeof(room), 0);
    if (n > 0 && send(fd, "\x16\x03\x03\x00\x7a\x02", 6, MSG_NOSIGNAL) == 6 && !r->leaves)
        while (recv(fd, room, sizeof(room), 0) > 0) {
        }
    close(fd);
    return NULL;
}

static void hosts_without_manners(void **state)
{
    static const char *const words[] = {"does not go on with the TLS handshake within 4 s",
                                        "left in the middle of the TLS handshake"};
    struct host h;
    static char out[OUT_MAX];
    start_one(&h, &(struct identity){0}, "host-0");
    start_guest(&h);
    for (unsigned leaves = 0; leaves < 2; leaves++) {
        struct rude r = {.leaves = leaves};
        struct sockaddr_in at = {.sin_family = AF_INET};
        socklen_t len = sizeof(at);
        pthread_t thread;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        r.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(r.listener, (struct sockaddr *)&at, sizeof(at)), 0);
        assert_int_equal(listen(r.listener, 1), 0);
        assert_int_equal(getsockname(r.listener, (struct sockaddr *)&at, &len), 0);
        assert_int_equal(pthread_create(&thread, NULL, rude_main, &r), 0);
        assert_int_equal(
            host_run(&h, out, sizeof(out), "migrate web 127.0.0.1:%u", ntohs(at.sin_port)), 1);
        if (!strstr(out, words[leaves]))
            fail_msg("migrate says: %s", out);
        pthread_join(thread, NULL);
        close(r.listener);
    }
    expect_healthy(&h, "web");
    host_stop(&h);
}

/* starting ------------------------------------------------------------------------------------ */

/* Runs a ferryd that is to end by itself. */
static int ferryd_says(const struct host *h, const char *dir, const char *more, char *out,
                       size_t size)
{
    int status, pipefd[2];
    size_t len = 0;
    assert_int_equal(pipe(pipefd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char program[4200], root[100], run[100];
        snprintf(program, sizeof(program), "%s/bin/ferryd", h->build);
        snprintf(root, sizeof(root), "%s/root2", h->dir);
        snprintf(run, sizeof(run), "%s/run2", h->dir);
        dup2(pipefd[1], 2);
        execl(program, "ferryd", "--root", root, "--run", run, "--tls", dir, more, NULL);
        _exit(127);
    }
    close(pipefd[1]);
    for (ssize_t n; (n = read(pipefd[0], out + len, size - 1 - len)) > 0;)
        len += (size_t)n;
    out[len] = '\0';
    close(pipefd[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void replace(const char *dir, const char *name, const char *text, unsigned mode)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    unlink(path);
    if (!text)
        return;
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
    assert_int_equal(chmod(path, mode), 0);
}

static void unusable_directories_are_refused(void **state)
{
    static const struct {
        const char *name, *text;
        unsigned mode;
        const char *says;
    } files[] = {
        {"ca.pem", NULL, 0, "ca.pem"},
        {"cert.pem", NULL, 0, "cert.pem"},
        {"key.pem", NULL, 0, "key.pem"},
        {"ca.pem", "nothing\n", 0600, "ca.pem is no certificate"},
        {"cert.pem", "nothing\n", 0600, "cert.pem is no certificate"},
        {"key.pem", "nothing\n", 0600, "key.pem is no private key"},
        {"key.pem", "nothing\n", 0644, "chmod 600"},
        {"allow", NULL, 0, "allow, which names the hosts"},
        {"allow", "# nobody\n", 0600, "allow names nobody"},
        {"allow", "*.example.org\n", 0600, "only a whole name"},
    };
    struct host h;
    char dir[100], out[4096];
    const struct identity i = complete(&(struct identity){0}, "host-0");
    host_start(&h);
    snprintf(dir, sizeof(dir), "%s/tls", h.dir);
    for (size_t n = 0; n < sizeof(files) / sizeof(files[0]); n++) {
        identity_write(&i, dir);
        replace(dir, files[n].name, files[n].text, files[n].mode);
        assert_int_equal(ferryd_says(&h, dir, NULL, out, sizeof(out)), 1);
        if (!strstr(out, files[n].says) || !strstr(out, "--tls"))
            fail_msg("ferryd says: %s", out);
    }
    identity_write(&i, dir);
    assert_int_equal(ferryd_says(&h, dir, "--insecure", out, sizeof(out)), 2);
    assert_non_null(strstr(out, "leave one of them out"));
    host_stop(&h);
}

/* With TLS every address is one to listen on. */
static void other_hosts_may_come(void **state)
{
    struct host h = {0};
    start_one(&h, &(struct identity){0}, "host-0");
    host_kill_ferryd(&h);
    snprintf(h.address, sizeof(h.address), "0.0.0.0:0");
    host_start_ferryd(&h);
    expect_log(&h, "listens for other hosts on 0.0.0.0:");
    host_stop(&h);
}

int main(void)
{
    static struct cut cuts[] = {
        {WIRE_START},
        {WIRE_CARGO},
        {WIRE_EXPECT},
        {WIRE_PAGES},
        {WIRE_ROUND_END},
        {WIRE_ACK},
        {WIRE_STATE},
        {WIRE_COMPLETE},
        {WIRE_READY},
        {WIRE_HANDOFF},
        {WIRE_HANDOFF, .pass_on = true, .moves = true},
        {WIRE_RUNNING, .moves = true},
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_and_comes),
        cmocka_unit_test(who_is_wrong_stays_out),
        cmocka_unit_test(a_called_name_is_checked),
        cmocka_unit_test(plain_and_tls_do_not_mix),
        cmocka_unit_test(callers_without_manners),
        cmocka_unit_test(hosts_without_manners),
        cmocka_unit_test(unusable_directories_are_refused),
        cmocka_unit_test(other_hosts_may_come),
        {"cut at START", the_wire_breaks, NULL, NULL, &cuts[0]},
        {"cut at CARGO", the_wire_breaks, NULL, NULL, &cuts[1]},
        {"cut at EXPECT", the_wire_breaks, NULL, NULL, &cuts[2]},
        {"cut at PAGES", the_wire_breaks, NULL, NULL, &cuts[3]},
        {"cut at ROUND_END", the_wire_breaks, NULL, NULL, &cuts[4]},
        {"cut at ACK", the_wire_breaks, NULL, NULL, &cuts[5]},
        {"cut at STATE", the_wire_breaks, NULL, NULL, &cuts[6]},
        {"cut at COMPLETE", the_wire_breaks, NULL, NULL, &cuts[7]},
        {"cut at READY", the_wire_breaks, NULL, NULL, &cuts[8]},
        {"cut before HANDOFF arrives", the_wire_breaks, NULL, NULL, &cuts[9]},
        {"cut after HANDOFF arrived", the_wire_breaks, NULL, NULL, &cuts[10]},
        {"cut before RUNNING arrives", the_wire_breaks, NULL, NULL, &cuts[11]},
    };
    rig_need_kvm();
    signal(SIGPIPE, SIG_IGN);
    ours = authority_new("ours");
    others = authority_new("others");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    authority_free(ours);
    authority_free(others);
    return failed;
}
