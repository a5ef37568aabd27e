/* vmctl snapshot and restore as a user meets them, before a ferryd that says what it is told to. */
#include "tests/unit/cli/fake_ferryd.h"
#include "tests/unit/cli/run_vmctl.h"

#include <pty.h>
#include <semaphore.h>

#define SECOND 1000000000ull

enum how { ANSWER, REFUSE, HOLD, FINISH_ON_CANCEL, OTHER_BODY, NO_SUMMARY, STRANGE_PART, NO_LAST };

struct board {
    enum how how;
    unsigned asked[64];
    char name[80], snapshot[80];
    bool stop, paused, freeze_clock, or_full, track, last, pack, with_children, dry_run;
    char parent[80];
    uint64_t older_ms;
    uint32_t count;
    unsigned parts; /* of progress, before the answer */
    const char *stage;
    Ferry__Request *held; /* whose answer waits for a cancel */
    sem_t seen;
};

static void board_init(struct board *b, enum how how)
{
    *b = (struct board){.how = how, .stage = "memory"};
    sem_init(&b->seen, 0, 0);
}

static void note(struct board *b, const Ferry__Request *r)
{
    const char *name = "", *snapshot = "";
    b->asked[r->body_case]++;
    if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_CREATE) {
        name = r->snapshot_create->name;
        snapshot = r->snapshot_create->snapshot;
        b->stop = r->snapshot_create->stop;
        b->or_full = r->snapshot_create->or_full;
        b->track = r->snapshot_create->track;
        b->last = r->snapshot_create->last;
        b->pack = r->snapshot_create->pack;
        snprintf(b->parent, sizeof(b->parent), "%s", r->snapshot_create->parent);
    } else if (r->body_case == FERRY__REQUEST__BODY_RESTORE) {
        name = r->restore->name;
        snapshot = r->restore->snapshot;
        b->count = r->restore->count;
        b->paused = r->restore->paused;
        b->freeze_clock = r->restore->freeze_clock;
    } else if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_PRUNE) {
        name = r->snapshot_prune->vm;
        b->count = r->snapshot_prune->keep;
        b->older_ms = r->snapshot_prune->older_ms;
        b->dry_run = r->snapshot_prune->dry_run;
    } else if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_REMOVE) {
        b->with_children = r->snapshot_remove->with_children;
    } else if (r->body_case == FERRY__REQUEST__BODY_CANCEL) {
        return;
    }
    snapshot = r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_SHOW     ? r->snapshot_show->name
               : r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_VERIFY ? r->snapshot_verify->name
               : r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_REMOVE ? r->snapshot_remove->name
                                                                      : snapshot;
    snprintf(b->name, sizeof(b->name), "%s", name);
    snprintf(b->snapshot, sizeof(b->snapshot), "%s", snapshot);
}

static void send_progress(const struct board *b, int fd, uint32_t id, unsigned part)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__Progress progress = FERRY__PROGRESS__INIT;
    progress.stage = (char *)b->stage;
    progress.done_bytes = (uint64_t)(part + 1) << 20;
    progress.total_bytes = 512u << 20;
    reply.id = id;
    reply.body_case = FERRY__REPLY__BODY_PROGRESS;
    reply.progress = &progress;
    fake_send(fd, &reply);
}

static void answer_detail(const struct board *b, int fd, uint32_t id)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__SnapshotDetail s = FERRY__SNAPSHOT_DETAIL__INIT;
    Ferry__SnapshotSummary summary = FERRY__SNAPSHOT_SUMMARY__INIT;
    summary.name = (char *)"base";
    summary.vm = (char *)"web";
    summary.ram_bytes = 512u << 20;
    summary.disk_bytes = 17u << 20;
    s.summary = b->how == NO_SUMMARY ? NULL : &summary;
    s.pause_ns = 2940000;
    s.total_ns = 4200 * SECOND / 1000;
    s.rounds = 3;
    s.path = (char *)"/s/base";
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOT;
    reply.snapshot = &s;
    fake_send(fd, &reply);
}

static void answer_list(int fd, uint32_t id)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__SnapshotList list = FERRY__SNAPSHOT_LIST__INIT;
    Ferry__SnapshotSummary a = FERRY__SNAPSHOT_SUMMARY__INIT, b = FERRY__SNAPSHOT_SUMMARY__INIT;
    Ferry__SnapshotSummary *snapshots[] = {&a, &b};
    char *broken[] = {(char *)"odd: no\nmanifest", (char *)"half: cut off"};
    a.name = (char *)"base";
    a.vm = b.vm = (char *)"web";
    b.name = (char *)"later";
    b.parent = (char *)"base";
    list.n_snapshots = 2;
    list.snapshots = snapshots;
    list.n_broken = 2;
    list.broken = broken;
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOTS;
    reply.snapshots = &list;
    fake_send(fd, &reply);
}

static void answer_restored(int fd, uint32_t id)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__RestoreReply restored = FERRY__RESTORE_REPLY__INIT;
    char *names[] = {(char *)"copy-1", (char *)"copy-2"};
    restored.n_names = 2;
    restored.names = names;
    reply.id = id;
    reply.last = 1;
    reply.body_case = FERRY__REPLY__BODY_RESTORED;
    reply.restored = &restored;
    fake_send(fd, &reply);
}

/* Two parts: what went, then what stays. */
static void answer_verdicts(int fd, const Ferry__Request *r)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__SnapshotVerdicts all = FERRY__SNAPSHOT_VERDICTS__INIT;
    Ferry__SnapshotVerdict one = FERRY__SNAPSHOT_VERDICT__INIT, *list[] = {&one};
    all.n_snapshots = 1;
    all.snapshots = list;
    reply.id = r->id;
    reply.body_case = FERRY__REPLY__BODY_SNAPSHOT_VERDICTS;
    reply.snapshot_verdicts = &all;
    one.name = (char *)"later";
    one.removed = true;
    one.disk_bytes = 4096;
    fake_send(fd, &reply);
    one.name = (char *)"base";
    one.removed = r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_REMOVE;
    one.why = one.removed ? one.why : (char *)"the newest of 'web'";
    reply.last = 1;
    fake_send(fd, &reply);
}

static void answer(const struct board *b, int fd, const Ferry__Request *r)
{
    if (b->how == OTHER_BODY)
        fake_answer_vm(fd, r->id, "web", FERRY__VM_STATE__VM_PAUSED, "");
    else if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_CREATE ||
             r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_SHOW)
        answer_detail(b, fd, r->id);
    else if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_LIST)
        answer_list(fd, r->id);
    else if (r->body_case == FERRY__REQUEST__BODY_RESTORE)
        answer_restored(fd, r->id);
    else if (r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_REMOVE ||
             r->body_case == FERRY__REQUEST__BODY_SNAPSHOT_PRUNE)
        answer_verdicts(fd, r);
    else
        fake_done(fd, r->id);
}

/* What goes on behind the cancel is still told; then comes the last word of the request. */
static void answer_cancel(struct board *b, int fd, const Ferry__Request *r)
{
    assert_int_equal(r->cancel->target, b->held->id);
    fake_done(fd, r->id);
    send_progress(b, fd, b->held->id, 7);
    if (b->how == FINISH_ON_CANCEL)
        answer(b, fd, b->held);
    else
        fake_refuse(fd, b->held->id, ECANCELED, "cancelled");
}

static void serve_board(struct fake *f, int fd)
{
    struct board *b = f->data;
    Ferry__Request *r;
    if (!fake_greet(fd))
        return;
    while ((r = fake_read(fd))) {
        note(b, r);
        for (unsigned i = 0; i < b->parts && r->body_case != FERRY__REQUEST__BODY_CANCEL; i++)
            send_progress(b, fd, r->id, i);
        if (b->how == STRANGE_PART)
            fake_say(fd, r->id, 0, "x", 1);
        if (r->body_case == FERRY__REQUEST__BODY_CANCEL) {
            answer_cancel(b, fd, r);
        } else if (b->how == HOLD || b->how == FINISH_ON_CANCEL) {
            b->held = r;
            sem_post(&b->seen);
            continue;
        } else if (b->how == NO_LAST) {
            break;
        } else if (b->how == REFUSE) {
            fake_refuse(fd, r->id, EBUSY, "'base' is what it is:\nleave it");
        } else {
            answer(b, fd, r);
        }
        frame_free(&r->base);
        r = NULL;
    }
    frame_free(r ? &r->base : NULL);
    frame_free(b->held ? &b->held->base : NULL);
    b->held = NULL;
}

static void create_tells_what_it_cost(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    b.parts = 50;
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "create", "web", "base"), 0,
               "base: 17M on disk, paused 2.9 ms, took 4.2s\n", "");
    assert_string_equal(b.name, "web");
    assert_string_equal(b.snapshot, "base");
    assert_false(b.stop);
    run_expect(fake.run, WORDS("snap", "cr", "web", "base", "--stop", "--json"), 0,
               "{\"name\":\"base\",\"vm\":\"web\",\"uuid\":null,\"time\":null,"
               "\"memory_bytes\":536870912,\"disk_bytes\":17825792,\"parent\":null,"
               "\"pause_ns\":2940000,\"total_ns\":4200000000,\"rounds\":3,"
               "\"path\":\"/s/base\",\"note\":null}\n",
               "");
    assert_true(b.stop);
    assert_false(b.or_full || b.track || b.last || b.pack);
    run_expect(fake.run, WORDS("snap", "cr", "web", "base", "--parent", "mon", "--full", "--last"),
               0, NULL, "");
    assert_string_equal(b.parent, "mon");
    assert_true(b.or_full && b.last && !b.track && !b.pack);
    run_expect(fake.run, WORDS("snap", "cr", "web", "base", "--track", "--pack"), 0, NULL, "");
    assert_true(b.track && b.pack && !b.last && !*b.parent);
    fake_stop(&fake);
}

static void list_warns_of_what_is_broken(void **state)
{
    static const char warnings[] = "vmctl: warning: broken snapshot odd: no manifest\n"
                                   "vmctl: warning: broken snapshot half: cut off\n";
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "list"), 0,
               "NAME   VM   AGE  MEMORY  DISK  PARENT\n"
               "base   web    -       0     0  -\n"
               "later  web    -       0     0  base\n",
               warnings);
    run_expect(fake.run, WORDS("snapshot", "list", "--names"), 0, "base\nlater\n", warnings);
    run_expect(fake.run, WORDS("snapshot", "list", "--json"), 0, NULL, "");
    fake_stop(&fake);
}

static void the_others_are_silent(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    b.parts = 3;
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "verify", "base"), 0, "", "");
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_SNAPSHOT_VERIFY], 1);
    assert_string_equal(b.snapshot, "base");
    run_expect(fake.run, WORDS("snapshot", "verify", "base", "--json"), 0,
               "{\"name\":\"base\",\"verified\":true}\n", "");
    b.parts = 0;
    b.snapshot[0] = '\0';
    run_expect(fake.run, WORDS("snapshot", "rm", "base"), 0, "", "");
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_SNAPSHOT_REMOVE], 1);
    assert_string_equal(b.snapshot, "base");
    run_expect(fake.run, WORDS("snapshot", "rm", "base", "--json"), 0,
               "{\"name\":\"base\",\"removed\":true,\"snapshots\":[\"later\",\"base\"]}\n", "");
    assert_false(b.with_children);
    run_expect(fake.run, WORDS("snapshot", "rm", "base", "--with-children"), 0,
               "removed later\nremoved base\n", "");
    assert_true(b.with_children);
    fake_stop(&fake);
}

static void restore_asks_for_what_is_said(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("restore", "base"), 0, "", "");
    assert_string_equal(b.snapshot, "base");
    assert_string_equal(b.name, "");
    assert_int_equal(b.count, 1);
    assert_false(b.paused);
    assert_false(b.freeze_clock);
    run_expect(fake.run,
               WORDS("restore", "base", "--name", "copy", "--count", "2", "--paused", "--clock",
                     "freeze", "--json"),
               0, "{\"names\":[\"copy-1\",\"copy-2\"]}\n", "");
    assert_string_equal(b.name, "copy");
    assert_int_equal(b.count, 2);
    assert_true(b.paused);
    assert_true(b.freeze_clock);
    run_expect(fake.run, WORDS("restore", "base", "--clock=advance"), 0, "", "");
    assert_false(b.freeze_clock);
    fake_stop(&fake);
}

static void show_describes(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "show", "base"), 0, NULL, "");
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_SNAPSHOT_SHOW], 1);
    assert_string_equal(b.snapshot, "base");
    fake_stop(&fake);
}

static void a_refusal_is_one_sentence(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, REFUSE);
    b.parts = 2;
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "create", "web", "base"), 1, "",
               "vmctl: 'base' is what it is: leave it\n");
    run_expect(fake.run, WORDS("snapshot", "verify", "base", "--json"), 1, "",
               "vmctl: 'base' is what it is: leave it\n");
    run_expect(fake.run, WORDS("restore", "base", "--json"), 1, "",
               "vmctl: 'base' is what it is: leave it\n");
    b.parts = 0;
    run_expect(fake.run, WORDS("snapshot", "list"), 1, "",
               "vmctl: 'base' is what it is: leave it\n");
    fake_stop(&fake);
}

static void nonsense_is_told(void **state)
{
    static const struct {
        enum how how;
        const char *complained;
    } rows[] = {
        {OTHER_BODY, "vmctl: ferryd answered something else than what was asked\n"},
        {NO_SUMMARY, "vmctl: ferryd described snapshot 'base' without a summary\n"},
        {STRANGE_PART, "vmctl: ferryd answered in parts where one was asked\n"},
        {NO_LAST, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct board b;
        struct fake fake;
        board_init(&b, rows[i].how);
        b.parts = 1;
        fake_start(&fake, serve_board, &b);
        run_expect(fake.run, WORDS("snapshot", "create", "web", "base"), 1, "", rows[i].complained);
        fake_stop(&fake);
    }
}

static void a_signal_cancels(void **state)
{
    static const struct {
        const char *words[5], *complained;
    } rows[] = {
        {{"snapshot", "create", "web", "base"},
         "vmctl: saving 'web' was cancelled; nothing is left of the snapshot\n"},
        {{"snapshot", "verify", "base"},
         "vmctl: verifying 'base' was cancelled; what was read so far has no error\n"},
        {{"snapshot", "rm", "base"},
         "vmctl: removing 'base' was cancelled; 'vmctl snapshot list' tells whether it is still "
         "there\n"},
        {{"restore", "base"},
         "vmctl: restoring 'base' was cancelled; 'vmctl list' tells which VMs there are\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct board b;
        struct fake fake;
        struct run r = RUN_NEW;
        board_init(&b, HOLD);
        b.parts = 2;
        fake_start(&fake, serve_board, &b);
        run_begin(&r, fake.run, rows[i].words);
        sem_wait(&b.seen);
        kill(r.pid, i % 2 ? SIGTERM : SIGINT);
        assert_int_equal(run_end(&r), 1);
        assert_int_equal(b.asked[FERRY__REQUEST__BODY_CANCEL], 1);
        assert_string_equal(r.said, "");
        assert_string_equal(r.complained, rows[i].complained);
        run_free(&r);
        fake_stop(&fake);
    }
}

/* A cancel that comes too late changes nothing: what is done is done. */
static void what_was_done_before_the_cancel_counts(void **state)
{
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    board_init(&b, FINISH_ON_CANCEL);
    fake_start(&fake, serve_board, &b);
    run_begin(&r, fake.run, WORDS("snapshot", "create", "web", "base"));
    sem_wait(&b.seen);
    kill(r.pid, SIGINT);
    assert_int_equal(run_end(&r), 0);
    assert_int_equal(b.asked[FERRY__REQUEST__BODY_CANCEL], 1);
    assert_string_equal(r.said, "base: 17M on disk, paused 2.9 ms, took 4.2s\n");
    assert_string_equal(r.complained, "");
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

static void a_terminal_shows_how_far_it_is(void **state)
{
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    char seen[4096] = "";
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    board_init(&b, HOLD);
    b.parts = 1;
    b.stage = "two\nlines"; /* of which one is made */
    fake_start(&fake, serve_board, &b);
    r.err = slave;
    run_begin(&r, fake.run, WORDS("snapshot", "create", "web", "base"));
    read_until(master, seen, sizeof(seen), "\rsaving 'web': two lines 1M of 512M\033[K");
    kill(r.pid, SIGINT);
    read_until(master, seen, sizeof(seen), "\r\033[Kvmctl: saving 'web' was cancelled");
    assert_int_equal(run_end(&r), 1);
    run_free(&r);
    close(master);
    fake_stop(&fake);
}

static void prune_tells_what_went_and_what_stays(void **state)
{
    struct board b;
    struct fake fake;
    board_init(&b, ANSWER);
    fake_start(&fake, serve_board, &b);
    run_expect(fake.run, WORDS("snapshot", "prune", "web", "--keep", "1", "--older", "7d"), 0,
               "removed  later  4K\n"
               "kept     base   4K  the newest of 'web'\n",
               "");
    assert_string_equal(b.name, "web");
    assert_int_equal(b.count, 1);
    assert_int_equal(b.older_ms, 7 * 86400000ull);
    assert_false(b.dry_run);
    run_expect(fake.run, WORDS("snapshot", "prune", "--keep", "2", "--dry-run"), 0,
               "would remove  later  4K\n"
               "kept          base   4K  the newest of 'web'\n",
               "");
    assert_string_equal(b.name, "");
    assert_true(b.dry_run);
    assert_int_equal(b.older_ms, 0);
    run_expect(fake.run, WORDS("snapshot", "prune", "--keep", "2", "--json"), 0,
               "{\"dry_run\":false,\"removed\":[{\"name\":\"later\",\"disk_bytes\":4096}],"
               "\"kept\":[{\"name\":\"base\",\"disk_bytes\":4096,"
               "\"why\":\"the newest of 'web'\"}]}\n",
               "");
    run_expect(fake.run, WORDS("snapshot", "prune"), 2, "",
               "vmctl: prune needs --keep N or --older TIME; 'vmctl help snapshot prune' tells "
               "how\n");
    fake_stop(&fake);
}

/* What wraps could not be removed. */
static void a_narrow_terminal_gets_a_short_line(void **state)
{
    struct winsize narrow = {.ws_row = 24, .ws_col = 20};
    struct board b;
    struct fake fake;
    struct run r = RUN_NEW;
    char seen[4096] = "";
    int master, slave;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, &narrow), 0);
    fcntl(master, F_SETFD, FD_CLOEXEC);
    board_init(&b, HOLD);
    b.parts = 1;
    fake_start(&fake, serve_board, &b);
    r.err = slave;
    run_begin(&r, fake.run, WORDS("snapshot", "create", "web", "base"));
    read_until(master, seen, sizeof(seen), "\rsaving 'web': memor\033[K");
    kill(r.pid, SIGINT);
    read_until(master, seen, sizeof(seen), "was cancelled");
    assert_int_equal(run_end(&r), 1);
    run_free(&r);
    close(master);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_tells_what_it_cost),
        cmocka_unit_test(list_warns_of_what_is_broken),
        cmocka_unit_test(the_others_are_silent),
        cmocka_unit_test(restore_asks_for_what_is_said),
        cmocka_unit_test(show_describes),
        cmocka_unit_test(a_refusal_is_one_sentence),
        cmocka_unit_test(nonsense_is_told),
        cmocka_unit_test(a_signal_cancels),
        cmocka_unit_test(what_was_done_before_the_cancel_counts),
        cmocka_unit_test(a_terminal_shows_how_far_it_is),
        cmocka_unit_test(a_narrow_terminal_gets_a_short_line),
        cmocka_unit_test(prune_tells_what_went_and_what_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
