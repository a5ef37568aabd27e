/* The program as a user meets it: words in; output, one sentence and an exit status out. */
#include "tests/unit/cli/fake_ferryd.h"
#include "tests/unit/cli/run_vmctl.h"

#include <pty.h>
#include <semaphore.h>

/* What the fake ferryd was asked last, and how it is to answer. */
struct board {
    pthread_mutex_t lock;
    unsigned asked[FERRY__REQUEST__BODY_VERSION + 1];
    char name[80], kernel[512], initrd[512], cmdline[128], cpu[64], disks[256], nets[256];
    uint64_t memory_bytes, timeout_ms;
    uint32_t cpus;
    bool paused;
    int refuse; /* a code for everything but show */
    Ferry__EndKind ended_by;
    bool hold_stop; /* until it is cancelled */
    sem_t held;
    uint32_t held_id;
};

static void board_init(struct board *b)
{
    memset(b, 0, sizeof(*b));
    pthread_mutex_init(&b->lock, NULL);
    sem_init(&b->held, 0, 0);
}

static void note_start(struct board *b, const Ferry__StartRequest *s)
{
    snprintf(b->name, sizeof(b->name), "%s", s->config->name);
    snprintf(b->kernel, sizeof(b->kernel), "%s", s->config->kernel);
    for (size_t i = 0; i < s->config->n_disks; i++) {
        const Ferry__DiskConfig *d = s->config->disks[i];
        size_t len = strlen(b->disks);
        snprintf(b->disks + len, sizeof(b->disks) - len, "%s|%s|%d;", strrchr(d->path, '/'), d->id,
                 d->readonly);
    }
    for (size_t i = 0; i < s->config->n_nets; i++) {
        const Ferry__NetConfig *n = s->config->nets[i];
        size_t len = strlen(b->nets);
        snprintf(b->nets + len, sizeof(b->nets) - len, "%s|%s|%zu:%d;", n->tap, n->bridge,
                 n->mac.len, n->mac.len ? n->mac.data[5] : 0);
    }
    snprintf(b->initrd, sizeof(b->initrd), "%s", s->config->initrd);
    snprintf(b->cmdline, sizeof(b->cmdline), "%s", s->config->cmdline);
    snprintf(b->cpu, sizeof(b->cpu), "%s", s->config->cpu_profile);
    b->memory_bytes = s->config->memory_bytes;
    b->cpus = s->config->cpus;
    b->paused = s->paused;
}

static void note(struct board *b, const Ferry__Request *r)
{
    const char *name = NULL;
    pthread_mutex_lock(&b->lock);
    b->asked[r->body_case]++;
    if (r->body_case == FERRY__REQUEST__BODY_START)
        note_start(b, r->start);
    if (r->body_case == FERRY__REQUEST__BODY_STOP) {
        name = r->stop->name;
        b->timeout_ms = r->stop->timeout_ms;
    }
    name = r->body_case == FERRY__REQUEST__BODY_KILL     ? r->kill->name
           : r->body_case == FERRY__REQUEST__BODY_RESET  ? r->reset->name
           : r->body_case == FERRY__REQUEST__BODY_REMOVE ? r->remove->name
           : r->body_case == FERRY__REQUEST__BODY_PAUSE  ? r->pause->name
           : r->body_case == FERRY__REQUEST__BODY_RESUME ? r->resume->name
                                                         : name;
    if (name)
        snprintf(b->name, sizeof(b->name), "%s", name);
    pthread_mutex_unlock(&b->lock);
}

static void answer_show(const struct board *b, int fd, const Ferry__Request *r)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VmDetail vm = FERRY__VM_DETAIL__INIT;
    Ferry__VmSummary summary = FERRY__VM_SUMMARY__INIT;
    Ferry__Ending ending = FERRY__ENDING__INIT;
    summary.name = r->show->name;
    summary.state = b->ended_by ? FERRY__VM_STATE__VM_STOPPED : FERRY__VM_STATE__VM_PAUSED;
    summary.cpus = 1;
    ending.kind = b->ended_by;
    vm.summary = &summary;
    vm.ending = &ending;
    reply.id = r->id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_VM;
    reply.vm = &vm;
    fake_send(fd, &reply);
}

static void answer_list(int fd, uint32_t id)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VmList list = FERRY__VM_LIST__INIT;
    Ferry__VmSummary a = FERRY__VM_SUMMARY__INIT, b = FERRY__VM_SUMMARY__INIT;
    Ferry__VmSummary *vms[] = {&a, &b};
    a.name = (char *)"web";
    a.state = FERRY__VM_STATE__VM_RUNNING;
    b.name = (char *)"db";
    a.cpus = b.cpus = 1;
    list.n_vms = 2;
    list.vms = vms;
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_LIST;
    reply.list = &list;
    fake_send(fd, &reply);
}

static void answer_version(int fd, uint32_t id)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VersionReply version = FERRY__VERSION_REPLY__INIT;
    version.release = (char *)"9.9";
    version.protocol = 1;
    version.pid = 42;
    version.kvm = (char *)"kvm api 12";
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_VERSION;
    reply.version = &version;
    fake_send(fd, &reply);
}

static void answer(struct board *b, int fd, const Ferry__Request *r)
{
    if (r->body_case == FERRY__REQUEST__BODY_SHOW) {
        answer_show(b, fd, r);
    } else if (b->refuse) {
        fake_refuse(fd, r->id, b->refuse, "'web' is what it is:\nleave it");
    } else if (r->body_case == FERRY__REQUEST__BODY_LIST) {
        answer_list(fd, r->id);
    } else if (r->body_case == FERRY__REQUEST__BODY_VERSION) {
        answer_version(fd, r->id);
    } else if (r->body_case == FERRY__REQUEST__BODY_STOP && b->hold_stop) {
        b->held_id = r->id;
        sem_post(&b->held);
    } else if (r->body_case == FERRY__REQUEST__BODY_CANCEL && r->cancel->target == b->held_id) {
        fake_done(fd, r->id);
        fake_refuse(fd, b->held_id, ECANCELED, "cancelled");
    } else {
        fake_done(fd, r->id);
    }
}

static void serve_board(struct fake *f, int fd)
{
    Ferry__Request *request;
    if (!fake_greet(fd))
        return;
    while ((request = fake_read(fd))) {
        note(f->data, request);
        answer(f->data, fd, request);
        frame_free(&request->base);
    }
}

static void wrong_usage_ends_with_2(void **state)
{
    run_expect("/nonexistent", WORDS("teleport", "a"), 2, "",
               "vmctl: unknown command 'teleport'; 'vmctl help' lists the commands\n");
    run_expect("/nonexistent", WORDS("start", "a", "--disk", "d"), 2, "",
               "vmctl: --disk needs --kernel; 'vmctl help start' tells how\n");
    run_expect("/nonexistent", WORDS("st", "a"), 2, "",
               "vmctl: 'st' may be any of: start, stats, stop; 'vmctl help' lists the commands\n");
    run_expect("/nonexistent", WORDS("snap"), 2, "",
               "vmctl: 'snapshot' needs one of: create, untrack, list, show, verify, rm, prune, "
               "export, import; "
               "'vmctl help snapshot' tells how\n");
    run_expect("/nonexistent", WORDS("snap", "x"), 2, "",
               "vmctl: 'snapshot x' is none of: create, untrack, list, show, verify, rm, prune, "
               "export, import; "
               "'vmctl help snapshot' tells how\n");
    run_expect("/nonexistent", WORDS("snap", "rm"), 2, "",
               "vmctl: 'snapshot rm' needs a SNAP; 'vmctl help snapshot rm' tells how\n");
    run_expect("/nonexistent", WORDS("help", "sta"), 2, "", NULL);
    run_expect("/nonexistent", WORDS("help", "snap", "x"), 2, "", NULL);
    run_expect("/nonexistent", WORDS("help", "list", "x"), 2, "",
               "vmctl: 'list' is a command of one word, without 'x'; 'vmctl help help' tells "
               "how\n");
    run_expect("/nonexistent", WORDS("show", "a\033[2J"), 2, "",
               "vmctl: 'a?[2J' is not a name: use up to 64 letters, digits, '.', '_' or '-', "
               "beginning with a letter or digit; 'vmctl help show' tells how\n");
    run_expect("/nonexistent", (const char *const[]){NULL}, 2, "", NULL);
}

static void help_needs_no_ferryd(void **state)
{
    run_expect("/nonexistent", WORDS("help"), 0, NULL, "");
    run_expect("/nonexistent", WORDS("--help"), 0, NULL, "");
    run_expect("/nonexistent", WORDS("start", "--help"), 0, NULL, "");
    run_expect("/nonexistent", WORDS("help", "stop"), 0,
               "usage: vmctl stop NAME [--timeout TIME]\n\n"
               "Press the power button, and kill the guest if it stays on.\n"
               "Ends when the guest is off. Ctrl-C stops waiting, and the guest is then not\n"
               "killed.\n\n"
               "options:\n"
               "  --timeout TIME    How long the guest has for switching itself off, as 500ms or\n"
               "                    2m. Default 30s.\n"
               "  --run DIR         The run directory of the ferryd to talk to. Without it\n"
               "                    $FERRY_RUN, else /run/ferry.\n"
               "  --json            Print JSON instead of text for people.\n"
               "  --help            Explain the command and do nothing.\n"
               "  --version         Print vmctl's own version and do nothing.\n",
               "");
    for (unsigned i = 0; i < 2; i++)
        run_expect(
            "/nonexistent", i ? WORDS("help", "snap") : WORDS("snap", "--help"), 0,
            "usage: vmctl snapshot COMMAND ...\n\ncommands:\n"
            "  snapshot create   save a running or paused guest\n"
            "  snapshot untrack  end a chain of snapshots\n"
            "  snapshot list     list the snapshots\n"
            "  snapshot show     show all about a snapshot\n"
            "  snapshot verify   read a snapshot and check every byte\n"
            "  snapshot rm       remove a snapshot\n"
            "  snapshot prune    remove old snapshots, of all VMs or of one\n"
            "  snapshot export   write a snapshot, with all that it stands on, into one file\n"
            "  snapshot import   read such a file into the catalogue\n\n"
            "'vmctl help snapshot COMMAND' explains one.\n",
            "");
    run_expect("/nonexistent", WORDS("help", "snap", "rm"), 0,
               "usage: vmctl snapshot rm SNAP [--with-children]\n\n"
               "Remove a snapshot.\n"
               "Refused while another snapshot needs it.\n\n"
               "options:\n"
               "  --with-children   Also all snapshots that stand on it, and print what went.\n"
               "  --run DIR         The run directory of the ferryd to talk to. Without it\n"
               "                    $FERRY_RUN, else /run/ferry.\n"
               "  --json            Print JSON instead of text for people.\n"
               "  --help            Explain the command and do nothing.\n"
               "  --version         Print vmctl's own version and do nothing.\n",
               "");
    run_expect("/nonexistent", WORDS("--version"), 0, "vmctl " FERRY_VERSION "\n", "");
}

static void a_missing_ferryd_ends_with_1(void **state)
{
    run_expect("/nonexistent", WORDS("list"), 1, "",
               "vmctl: no ferryd answers at '/nonexistent': start one ('systemctl start ferryd', "
               "or 'ferryd --root DIR --run /nonexistent'), or name another with --run\n");
    run_expect("/nonexistent", WORDS("list", "--run", "/nowhere"), 1, "", NULL);
    run_expect("/nonexistent", WORDS("version"), 1, "", NULL);
}

static void start_defines(void **state)
{
    struct board b;
    struct fake fake;
    char here[256], expected[512];
    board_init(&b);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run,
               WORDS("start", "web", "--kernel", "dir/k", "--initrd=/i", "--cmdline", "a b",
                     "--memory", "512M", "--cpus", "2", "--cpu", "v2,-cx16", "--paused", "--disk",
                     "d/a.img", "--disk=/dev/b,ro,id=root", "--net",
                     "tap=tap0,mac=52:54:00:12:34:5A", "--net=bridge=br0"),
               0, "", "");
    fake_stop(&fake);
    assert_non_null(getcwd(here, sizeof(here)));
    snprintf(expected, sizeof(expected), "%s/dir/k", here);
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_START], 1);
    assert_string_equal(b.name, "web");
    assert_string_equal(b.kernel, expected);
    assert_string_equal(b.initrd, "/i");
    assert_string_equal(b.cmdline, "a b");
    assert_string_equal(b.cpu, "v2,-cx16");
    assert_string_equal(b.disks, "/a.img||0;/b|root|1;");
    assert_string_equal(b.nets, "tap0||6:90;|br0|0:0;");
    assert_int_equal(b.memory_bytes, 512u << 20);
    assert_int_equal(b.cpus, 2);
    assert_true(b.paused);
}

static void wrong_networks_are_named(void **state)
{
    static const struct {
        const char *net, *says;
    } wrong[] = {
        {"tap", "--net has 'tap'; it takes tap=DEV or bridge=BRIDGE, and mac=MAC"},
        {"tap=", "--net has a tap or a bridge without a name"},
        {"mac=52:54:00:12:34:56", "--net needs tap=DEV or bridge=BRIDGE"},
        {"tap=a,bridge=b", "--net takes one tap or one bridge"},
        {"tap=a,tap=b", "--net takes one tap or one bridge"},
        {"tap=a,", "--net has ''; it takes tap=DEV or bridge=BRIDGE, and mac=MAC"},
        {"tap=a,mac=1", "--net has the mac '1', not one as 52:54:00:12:34:56"},
        {"tap=a,mac=52-54-00-12-34-56",
         "--net has the mac '52-54-00-12-34-56', not one as 52:54:00:12:34:56"},
        {"tap=a,mac=52:54:00:12:34:5", "--net has the mac '52:54:00:12:34:5', not one as "
                                       "52:54:00:12:34:56"},
        {"tap=a,mac=5g:54:00:12:34:56", "--net has the mac '5g:54:00:12:34:56', not one as "
                                        "52:54:00:12:34:56"},
        {"tap=a,mac=53:54:00:12:34:56", "--net has the mac '53:54:00:12:34:56', which is not that "
                                        "of one card: its first byte is odd"},
        {"tap=a,mac=52:54:00:12:34:56,mac=52:54:00:12:34:56", "--net has two macs"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char says[256];
        snprintf(says, sizeof(says), "vmctl: %s; 'vmctl help start' tells how\n", wrong[i].says);
        run_expect("/nonexistent", WORDS("start", "a", "--kernel", "k", "--net", wrong[i].net), 2,
                   "", says);
    }
}

static void start_alone_says_only_the_name(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("start", "web"), 0, "", "");
    fake_stop(&fake);
    assert_string_equal(b.name, "web");
    assert_string_equal(b.kernel, "");
    assert_string_equal(b.cpu, "");
    assert_int_equal(b.memory_bytes, 0);
    assert_int_equal(b.cpus, 0);
    assert_false(b.paused);
}

static void acts_ask_what_they_are_called(void **state)
{
    static const struct {
        const char *word;
        Ferry__Request__BodyCase body;
    } acts[] = {
        {"kill", FERRY__REQUEST__BODY_KILL},     {"reset", FERRY__REQUEST__BODY_RESET},
        {"rm", FERRY__REQUEST__BODY_REMOVE},     {"pause", FERRY__REQUEST__BODY_PAUSE},
        {"resume", FERRY__REQUEST__BODY_RESUME},
    };
    struct board b;
    struct fake fake;
    board_init(&b);
    fake_start(&fake, serve_board, &b);
    for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
        b.name[0] = '\0';
        run_expect(fake.run, WORDS(acts[i].word, "web"), 0, "", "");
        assert_int_equal(b.asked[acts[i].body], 1);
        assert_string_equal(b.name, "web");
    }
    run_expect(fake.run, WORDS("pause", "web", "--json"), 0,
               "{\"name\":\"web\",\"state\":\"paused\",\"cpus\":1,\"memory_bytes\":0,\"pid\":null,"
               "\"boot_time\":null,\"reason\":null}\n",
               "");
    run_expect(fake.run, WORDS("rm", "web", "--json"), 0, "{\"name\":\"web\",\"removed\":true}\n",
               "");
    fake_stop(&fake);
}

static void a_refusal_is_one_sentence(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b);
    b.refuse = EBUSY;
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("pause", "web"), 1, "", "vmctl: 'web' is what it is: leave it\n");
    run_expect(fake.run, WORDS("--json", "list"), 1, "", "vmctl: 'web' is what it is: leave it\n");
    fake_stop(&fake);
}

static void stop_tells_of_a_kill(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b);
    b.ended_by = FERRY__END_KIND__END_SHUTDOWN;
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("stop", "web"), 0, "", "");
    assert_int_equal(b.timeout_ms, 30000);
    b.ended_by = FERRY__END_KIND__END_KILLED;
    run_expect(fake.run, WORDS("stop", "web", "--timeout", "2s"), 0, "",
               "vmctl: 'web' did not switch itself off within 2.0s and was killed\n");
    assert_int_equal(b.timeout_ms, 2000);
    fake_stop(&fake);
}

static void stop_is_cancelled_by_a_signal(void **state)
{
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    board_init(&b);
    b.hold_stop = true;
    fake_start(&fake, serve_board, &b);
    run_begin(&r, fake.run, WORDS("stop", "web"));
    sem_wait(&b.held);
    kill(r.pid, SIGINT);
    assert_int_equal(run_end(&r), 1);
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_CANCEL], 1);
    assert_string_equal(r.complained, "vmctl: stopping 'web' was cancelled; 'vmctl show web' tells "
                                      "how it is now\n");
    run_free(&r);
    fake_stop(&fake);
}

/* Reads until `text` has come. */
static void read_until(int fd, char *to, size_t size, const char *text)
{
    size_t used = strlen(to);
    while (!strstr(to, text)) {
        ssize_t n = read(fd, to + used, size - used - 1);
        assert_true(n > 0);
        used += (size_t)n;
        to[used] = '\0';
    }
}

/* A terminal shows that it lasts, and the line is gone before the sentence comes. */
static void long_work_is_seen_on_a_terminal(void **state)
{
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    char seen[512] = "";
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    board_init(&b);
    b.hold_stop = true;
    fake_start(&fake, serve_board, &b);
    r.err = slave;
    run_begin(&r, fake.run, WORDS("stop", "web"));
    read_until(master, seen, sizeof(seen), "\rstopping 'web' ... 1s");
    kill(r.pid, SIGINT);
    read_until(master, seen, sizeof(seen), "\r\033[Kvmctl: stopping 'web' was cancelled");
    assert_int_equal(run_end(&r), 1);
    run_free(&r);
    close(master);
    fake_stop(&fake);
}

static void queries_print(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("list", "--names"), 0, "web\ndb\n", "");
    run_expect(fake.run, WORDS("list"), 0,
               "NAME  STATE    CPUS  MEMORY  UPTIME  PID\n"
               "web   running     1       0       -    -\n"
               "db    stopped     1       0       -    -\n",
               "");
    run_expect(fake.run, WORDS("version"), 0,
               "vmctl   " FERRY_VERSION "\nferryd  9.9, protocol 1, pid 42\nkvm     kvm api 12\n",
               "");
    run_expect(fake.run, WORDS("version", "--json"), 0,
               "{\"vmctl\":\"" FERRY_VERSION "\",\"ferryd\":{\"release\":\"9.9\",\"protocol\":1,"
               "\"pid\":42,\"kvm\":\"kvm api 12\"}}\n",
               "");
    fake_stop(&fake);
}

static void a_full_disk_is_a_failure(void **state)
{
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    r.out = open("/dev/full", O_WRONLY);
    if (r.out < 0)
        skip();
    board_init(&b);
    fake_start(&fake, serve_board, &b);
    run_begin(&r, fake.run, WORDS("list"));
    assert_int_equal(run_end(&r), 1);
    assert_non_null(strstr(r.complained, "cannot write the output"));
    run_free(&r);
    fake_stop(&fake);
}

/* Events 1 to `until`, then the stream is held open or ended. */
struct history {
    atomic_uint until;
    sem_t sent;
    bool hold;
};

static void send_event(int fd, uint32_t id, uint64_t seq)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__Event event = FERRY__EVENT__INIT;
    event.seq = seq;
    event.kind = FERRY__EVENT_KIND__EVENT_DEFINED;
    event.vm = (char *)"web";
    reply.id = id;
    reply.body_case = FERRY__REPLY__BODY_EVENT;
    reply.event = &event;
    fake_send(fd, &reply);
}

static void serve_history(struct fake *f, int fd)
{
    struct history *h = f->data;
    Ferry__Request *r = fake_greet(fd) ? fake_read(fd) : NULL;
    if (!r)
        return;
    for (uint64_t seq = r->events->after_seq + 1; seq <= h->until; seq++)
        send_event(fd, r->id, seq);
    if (!h->hold)
        fake_done(fd, r->id);
    frame_free(&r->base);
    sem_post(&h->sent);
    while (fake_read_all(fd, (char[1]){0}, 1))
        ;
}

static void events_end_with_the_last(void **state)
{
    struct history h = {.until = 2};
    struct fake fake;
    sem_init(&h.sent, 0, 0);
    fake_start(&fake, serve_history, &h);
    run_expect(fake.run, WORDS("events"), 0,
               "-  web         defined\n"
               "-  web         defined\n",
               "");
    fake_stop(&fake);
}

static void events_go_on_over_a_restart(void **state)
{
    struct history h = {.until = 2, .hold = true};
    struct fake fake;
    struct run r = RUN_NEW;
    char said[1024] = "", complained[256] = "";
    int out[2], err[2];
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    sem_init(&h.sent, 0, 0);
    fake_start(&fake, serve_history, &h);
    r.out = out[1];
    r.err = err[1];
    run_begin(&r, fake.run, WORDS("events", "--follow", "--json"));
    read_until(out[0], said, sizeof(said), "\"seq\":2");
    fake_hang_up(&fake);
    read_until(err[0], complained, sizeof(complained), "waiting for it to come back\n");
    h.until = 3;
    fake_listen(&fake);
    read_until(out[0], said, sizeof(said), "\"seq\":3");
    read_until(err[0], complained, sizeof(complained), "ferryd is back\n");
    kill(r.pid, SIGINT);
    assert_int_equal(run_end(&r), 0);
    assert_ptr_equal(strstr(said, "\"seq\":1"), strstr(said, "\"seq\""));
    assert_null(strstr(strstr(said, "\"seq\":2") + 1, "\"seq\":2"));
    close(out[0]);
    close(err[0]);
    run_free(&r);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_usage_ends_with_2),
        cmocka_unit_test(help_needs_no_ferryd),
        cmocka_unit_test(a_missing_ferryd_ends_with_1),
        cmocka_unit_test(start_defines),
        cmocka_unit_test(wrong_networks_are_named),
        cmocka_unit_test(start_alone_says_only_the_name),
        cmocka_unit_test(acts_ask_what_they_are_called),
        cmocka_unit_test(a_refusal_is_one_sentence),
        cmocka_unit_test(stop_tells_of_a_kill),
        cmocka_unit_test(stop_is_cancelled_by_a_signal),
        cmocka_unit_test(long_work_is_seen_on_a_terminal),
        cmocka_unit_test(queries_print),
        cmocka_unit_test(a_full_disk_is_a_failure),
        cmocka_unit_test(events_end_with_the_last),
        cmocka_unit_test(events_go_on_over_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
