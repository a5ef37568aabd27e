/* See console.h. */
#include "cli/console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/console_input.h"
#include "cli/console_output.h"
#include "cli/deadline.h"
#include "cli/interrupt.h"
#include "cli/link.h"
#include "cli/text.h"
#include "cli/tty.h"
#include "cli/vm.h"

/* On a terminal: a screen of what was said before. */
#define TAIL_BYTES 4096

/* What was typed before Ctrl-] has this long to be taken. */
#define LEAVE_MS 500

struct console {
    const struct args *args;
    bool follow, gone; /* gone: the stream has ended */
    uint64_t leave_ns; /* when Ctrl-] takes effect at the latest; 0 before it */
    struct link watch;
    struct console_input in;
    struct console_output out;
    struct interrupt interrupt;
    struct tty tty;
};

static int ask(struct console *c, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ConsoleRequest body = FERRY__CONSOLE_REQUEST__INIT;
    body.name = (char *)c->args->words[0];
    body.follow = c->follow;
    body.offset = c->out.offset;
    if (!c->out.begun && c->out.terminal && c->follow)
        body.tail_bytes = TAIL_BYTES;
    request.body_case = FERRY__REQUEST__BODY_CONSOLE;
    request.console = &body;
    return client_post(&c->watch.client, &request, err);
}

/* Replies become output until it is full: then the socket stays unread, and ferryd waits. */
static int take_output(struct console *c, struct err *err)
{
    int rc = 0;
    while (rc == 0 && !c->gone && console_output_wants(&c->out)) {
        CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
        rc = link_take(&c->watch, &reply, err);
        if (rc <= 0)
            break;
        rc = client_check(reply, err);
        if (rc == 0 && reply->body_case == FERRY__REPLY__BODY_CONSOLE)
            rc = console_output_add(&c->out, reply->console, err);
        c->gone = reply->last;
    }
    return rc;
}

static bool finished(const struct console *c)
{
    if (c->out.closed || interrupt_came(&c->interrupt))
        return true;
    if (c->leave_ns)
        return c->in.pending.len == 0 || now_ns() >= c->leave_ns;
    return c->gone && c->out.pending.len == 0;
}

static bool is_up(const struct console *c)
{
    return !c->gone && !c->watch.away && c->watch.client.ready;
}

static int timeout_ms(const struct console *c)
{
    int link = c->gone ? -1 : link_timeout_ms(&c->watch);
    int input = console_input_timeout_ms(&c->in, is_up(c));
    int leave = c->leave_ns ? deadline_left_ms(c->leave_ns) : -1;
    return deadline_sooner(deadline_sooner(link, input), leave);
}

enum { AT_SIGNAL, AT_STDIN, AT_STDOUT, AT_WATCH, AT_TYPE, AT_COUNT };

static void fill_poll(const struct console *c, struct pollfd *fds)
{
    bool reading = console_input_wants(&c->in);
    bool watching = !c->gone && console_output_wants(&c->out);
    fds[AT_SIGNAL] = (struct pollfd){.fd = c->interrupt.fd, .events = POLLIN};
    fds[AT_STDIN] = (struct pollfd){.fd = reading ? STDIN_FILENO : -1, .events = POLLIN};
    fds[AT_STDOUT] = (struct pollfd){.fd = c->out.fd, .events = c->out.pending.len ? POLLOUT : 0};
    fds[AT_WATCH] = (struct pollfd){.fd = watching ? link_fd(&c->watch) : -1,
                                    .events = client_interest(&c->watch.client)};
    fds[AT_TYPE] = (struct pollfd){.fd = c->in.client.fd, .events = client_interest(&c->in.client)};
}

static void pump_input(struct console *c, const struct pollfd *fds)
{
    if (fds[AT_STDIN].revents)
        console_input_read(&c->in);
    if (c->in.detach && !c->leave_ns)
        c->leave_ns = now_ns() + LEAVE_MS * DEADLINE_MS;
    console_input_pump(&c->in, fds[AT_TYPE].revents, is_up(c));
}

static int step(struct console *c, struct err *err)
{
    struct pollfd fds[AT_COUNT];
    fill_poll(c, fds);
    if (poll(fds, AT_COUNT, timeout_ms(c)) < 0) {
        if (errno != EINTR)
            return err_sys(err, errno, "cannot wait for the console");
        memset(fds, 0, sizeof(fds));
    }
    int rc = console_output_pump(&c->out, fds[AT_STDOUT].revents, err);
    if (rc == 0 && !c->gone)
        rc = link_pump(&c->watch, fds[AT_WATCH].revents, err);
    if (rc == 1)
        rc = ask(c, err);
    if (rc == 0)
        rc = take_output(c, err);
    if (rc == 0)
        pump_input(c, fds);
    return rc;
}

/* After a failure: what the guest said before it is printed all the same. */
static void flush_output(struct console *c)
{
    struct err ignored; /* the first failure is the one to tell */
    while (c->out.pending.len && !c->out.closed && !interrupt_came(&c->interrupt)) {
        struct pollfd fds[] = {{.fd = c->out.fd, .events = POLLOUT},
                               {.fd = c->interrupt.fd, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (console_output_pump(&c->out, fds[0].revents, &ignored) < 0)
            return;
    }
}

static int run(struct console *c, struct err *err)
{
    int rc = ask(c, err);
    while (rc == 0 && !finished(c))
        rc = step(c, err);
    if (rc < 0)
        flush_output(c);
    return rc;
}

static void tell_why_gone(const struct console *c)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    const char *name = c->args->words[0];
    struct err ignored; /* the console is at its end either way */
    if (vm_ask(c->args->run, name, &reply, &ignored) < 0) {
        text_note("'%s' is gone", name);
        return;
    }
    const Ferry__VmSummary *s = reply->vm->summary;
    text_note("'%s' is %s%s%s", name, vm_state_name(s->state), *s->reason ? ": " : "", s->reason);
}

/* On a terminal a wrong name is told before the terminal is changed. */
static int start(struct console *c, struct err *err)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    const char *name = c->args->words[0];
    int rc = c->in.terminal ? vm_ask(c->args->run, name, &reply, err) : 0;
    if (rc == 0)
        rc = link_open(&c->watch, c->args->run, err);
    if (rc == 0)
        rc = interrupt_open(&c->interrupt, false, err);
    if (rc == 0 && c->in.terminal)
        rc = tty_enter_raw(&c->tty, STDIN_FILENO, err);
    if (rc == 0 && c->in.terminal)
        text_note("attached to '%s'; Ctrl-] leaves", name);
    return rc;
}

static int end(struct console *c, int rc, struct err *err)
{
    bool by_guest = rc == 0 && c->gone && !c->in.detach && !interrupt_came(&c->interrupt);
    bool was_raw = c->tty.raw;
    tty_leave_raw(&c->tty);
    if (was_raw && c->out.terminal && !by_guest)
        fputc('\n', stderr); /* the guest's cursor stands anywhere */
    if (by_guest && isatty(STDERR_FILENO))
        tell_why_gone(c);
    bool rest = c->in.incomplete || (by_guest && c->in.pending.len);
    if (rc == 0 && rest && !c->in.terminal)
        rc = err_set(err, EPIPE, "not all of the input has reached '%s'", c->args->words[0]);
    return rc;
}

int console_attach(const struct args *args, struct err *err)
{
    struct console c = {.args = args,
                        .follow = true,
                        .watch = {.client = CLIENT_NONE},
                        .interrupt = INTERRUPT_NONE,
                        .tty = TTY_NONE};
    bool keys = isatty(STDIN_FILENO);
    signal(SIGPIPE, SIG_IGN); /* the terminal is put back before we end */
    console_input_init(&c.in, args->run, args->words[0], keys && !args->json);
    console_output_init(&c.out, args->json);
    c.in.ended = keys && args->json; /* a terminal as it is, with Ctrl-C */
    int rc = start(&c, err);
    if (rc == 0)
        rc = run(&c, err);
    rc = end(&c, rc, err);
    console_output_fini(&c.out);
    console_input_fini(&c.in);
    link_close(&c.watch);
    interrupt_close(&c.interrupt);
    return rc;
}

int console_print_log(const struct args *args, struct err *err)
{
    struct console c = {.args = args,
                        .watch = {.client = CLIENT_NONE},
                        .interrupt = INTERRUPT_NONE,
                        .tty = TTY_NONE};
    console_input_init(&c.in, args->run, args->words[0], false);
    console_output_init(&c.out, args->json);
    c.in.ended = true;
    int rc = link_open(&c.watch, args->run, err);
    if (rc == 0)
        rc = run(&c, err);
    console_output_fini(&c.out);
    console_input_fini(&c.in);
    link_close(&c.watch);
    return rc;
}
