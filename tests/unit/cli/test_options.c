/* How command lines are read: good ones into members, wrong ones into sentences. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/commands.h"

#define WORDS 12

struct line {
    const char *words[WORDS];
    const char *what; /* the command, or a part of the sentence */
};

static int parse(const struct line *line, const struct command **command, struct args *args,
                 struct err *err)
{
    char *argv[WORDS];
    int argc = 0;
    for (; argc < WORDS && line->words[argc]; argc++)
        argv[argc] = (char *)line->words[argc];
    bool group;
    return command_parse(argc, argv, command, &group, args, err);
}

static const struct line good[] = {
    {{"list"}, "list"},
    {{"--json", "list"}, "list"},
    {{"--run", "x", "list", "--json"}, "list"},
    {{"--run=x", "l"}, "list"},
    {{"sho", "web"}, "show"},
    {{"sta", "-h"}, NULL},
    {{"start", "web"}, "start"},
    {{"start", "web", "--paused"}, "start"},
    {{"start", "--kernel", "k", "web", "--memory", "1T", "--cpus", "64"}, "start"},
    {{"start", "web", "--kernel", "k", "--cmdline", ""}, "start"},
    {{"start", "web", "--kernel", "k", "--cmdline", "--x"}, "start"},
    {{"start", "web", "--kernel=a=b", "--memory=16M"}, "start"},
    {{"stop", "--timeout", "0s", "--", "web"}, "stop"},
    {{"events"}, "events"},
    {{"ev", "web", "--follow"}, "events"},
    {{"comp", "fish"}, "completion"},
    {{"rm", "a"}, "rm"},
    {{"help"}, "help"},
    {{"start", "--help"}, "start"},
    {{"console", "web", "--log"}, "console"},
    {{"snapshot", "create", "web", "base"}, "snapshot create"},
    {{"sn", "c", "web", "base", "--stop"}, "snapshot create"},
    {{"snapshot", "--json", "list"}, "snapshot list"},
    {{"snap", "l", "--names"}, "snapshot list"},
    {{"snap", "sh", "base"}, "snapshot show"},
    {{"snap", "--run=x", "ver", "base"}, "snapshot verify"},
    {{"snapshot", "rm", "base"}, "snapshot rm"},
    {{"snapshot", "rm", "--with-children", "base"}, "snapshot rm"},
    {{"snapshot", "prune", "--keep=3"}, "snapshot prune"},
    {{"snap", "exp", "base", "-", "--alone"}, "snapshot export"},
    {{"snap", "imp", "a/b c"}, "snapshot import"},
    {{"snap", "p", "web", "--older", "7d", "--dry-run"}, "snapshot prune"},
    {{"resto", "base", "--clock=freeze", "--count", "1000", "--name", "n"}, "restore"},
};

static void good_lines_are_read(void **state)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const struct command *command;
        struct args args;
        struct err err = {0};
        int rc = parse(&good[i], &command, &args, &err);
        if (!good[i].what) {
            assert_int_equal(rc, -EINVAL);
            continue;
        }
        if (rc != 0)
            print_error("line %zu: %s\n", i, err.text);
        assert_int_equal(rc, 0);
        assert_string_equal(command->name, good[i].what);
    }
}

static const struct line wrong[] = {
    {{"snapshot"},
     "'snapshot' needs one of: create, untrack, list, show, verify, rm, prune, export, import"},
    {{"snap", "--json"}, "'snapshot' needs one of: create"},
    {{"snap", ""}, "'snapshot ' is none of: create"},
    {{"snapshot", "merge"},
     "'snapshot merge' is none of: create, untrack, list, show, verify, rm, prune, export, import"},
    {{"snapshot create", "a", "b"}, "unknown command 'snapshot create'"},
    {{"snapshot c", "a", "b"}, "unknown command 'snapshot c'"},
    {{"create", "a", "b"}, "unknown command 'create'"},
    {{"snapshot", "--stop", "create", "a", "b"}, "unknown option '--stop'"},
    {{"snapshot", "create", "a"}, "'snapshot create' needs a SNAP"},
    {{"snapshot", "create", "a", "b", "--last"}, "--last needs --parent"},
    {{"snapshot", "create", "a", "b", "--parent", "../c"}, "parent"},
    {{"snapshot", "create", "a", "b/c"}, "'b/c' is not a name"},
    {{"snapshot", "create", "a", "b", "c"}, "'snapshot create' does not take 'c'"},
    {{"snapshot", "create", "a", "b", "--fall"}, "unknown option '--fall'"},
    {{"snapshot", "create", "a", "b", "--parent"}, "--parent needs a value"},
    {{"snapshot", "create", "a", "b", "--pack=c"}, "--pack takes no value"},
    {{"snapshot", "show"}, "'snapshot show' needs a SNAP"},
    {{"snapshot", "rm", "a", "--children"}, "unknown option '--children'"},
    {{"snapshot", "export", "a"}, "'snapshot export' needs a FILE"},
    {{"snapshot", "import", ""}, "'snapshot import' needs a FILE, which is clean text"},
    {{"snapshot", "import", "x", "a/b"}, "'a/b' is not a name"},
    {{"snapshot", "prune", "--keep", "0"}, "--keep is '0', which is not a number from 1 to 65536"},
    {{"snapshot", "prune", "--older", "0s"}, "--older is '0s', which is not from 1ms to"},
    {{"snapshot", "prune", "--older", "soon"}, "--older: 'soon' is not a time"},
    {{"restore"}, "'restore' needs a SNAP"},
    {{"restore", ".."}, "'..' is not a name"},
    {{"restore", "a", "--name", "b/c"}, "--name 'b/c' is not a name"},
    {{"restore", "a", "--name", ""}, "--name '' is not a name"},
    {{"restore", "a", "--count", "0"}, "from 1 to 1000"},
    {{"restore", "a", "--count", "1001"}, "from 1 to 1000"},
    {{"restore", "a", "--clock", "free"}, "--clock is 'free', which is none of advance|freeze"},
    {{"restore", "a", "--clock", ""}, "none of advance|freeze"},
    {{"restore", "a", "--clock", "advance|freeze"}, "none of advance|freeze"},
    {{"teleport", "a", "host"}, "unknown command 'teleport'"},
    {{"gdb", "a"}, "unknown command 'gdb'"},
    {{""}, "unknown command ''"},
    {{"s"}, "start, show, stats, stop, snapshot"},
    {{"st", "a"}, "start, stats, stop"},
    {{"re", "a"}, "reset, resume, restore"},
    {{"res", "a"}, "reset, resume, restore"},
    {{"listen"}, "unknown command 'listen'"},
    {{"start", "a", "--net", "tap=t"}, "--net needs --kernel"},
    {{"start", "a", "--kernel", "k", "--net", ""},
     "--net has no value; it needs tap=DEV|bridge=BRIDGE[,mac=MAC]"},
    {{"start", "a", "--kernel", "k", "--gdb=:1"}, "unknown option '--gdb'"},
    {{"start", "a", "--kern", "k"}, "unknown option '--kern'"},
    {{"stop", "a", "--kernel", "k"}, "unknown option '--kernel'"},
    {{"stop", "a", "-t", "1s"}, "unknown option '-t'"},
    {{"--follow", "events"}, "unknown option '--follow'"},
    {{"start"}, "'start' needs a NAME"},
    {{"start", "a", "b"}, "'start' does not take 'b'"},
    {{"list", "a"}, "'list' does not take 'a'"},
    {{"show", "../a"}, "'../a' is not a name"},
    {{"show", "-"}, "'-' is not a name"},
    {{"show", "--", "--json"}, "'--json' is not a name"},
    {{"start", "a", "--kernel"}, "--kernel needs a value"},
    {{"start", "a", "--kernel", ""}, "--kernel is empty"},
    {{"start", "a", "--kernel", "\xff"}, "--kernel is not clean UTF-8"},
    {{"start", "a", "--kernel", "k", "--cmdline", "a\033b"}, "--cmdline is not clean"},
    {{"start", "a", "--kernel", "k", "--kernel", "l"}, "--kernel is given twice"},
    {{"start", "a", "--memory", "1G"}, "--memory needs --kernel"},
    {{"start", "a", "--initrd", "i"}, "--initrd needs --kernel"},
    {{"start", "a", "--disk", "i"}, "--disk needs --kernel"},
    {{"start", "a", "--kernel", "k", "--disk", ""},
     "--disk has no file; it needs FILE[,ro][,id=ID]"},
    {{"start", "a", "--kernel", "k", "--memory", "15M"}, "not from 16M to 1T"},
    {{"start", "a", "--kernel", "k", "--memory", "2T"}, "not from 16M to 1T"},
    {{"start", "a", "--kernel", "k", "--memory", "1.5G"}, "'1.5G' is not a size"},
    {{"start", "a", "--kernel", "k", "--memory", "-1"}, "'-1' is not a size"},
    {{"start", "a", "--kernel", "k", "--memory", "99999999999999999999"}, "not a size"},
    {{"start", "a", "--kernel", "k", "--cpus", "0"}, "--cpus is '0'"},
    {{"start", "a", "--kernel", "k", "--cpus", "65"}, "from 1 to 64"},
    {{"start", "a", "--paused=yes"}, "--paused takes no value"},
    {{"stop", "a", "--timeout", "30"}, "'30' is not a time"},
    {{"stop", "a", "--timeout", "9d"}, "not from 0ms to 1d 0h"},
    {{"--run"}, "--run needs a value"},
    {{"--run", "", "list"}, "--run is empty"},
    {{"--json"}, "no command"},
    {{"completion", "csh"}, "none of: bash zsh fish man"},
    {{"completion", "bash zsh"}, "none of: bash zsh fish man"},
    {{"completion", ""}, "none of: bash zsh fish man"},
};

static void wrong_lines_are_named(void **state)
{
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const struct command *command;
        struct args args;
        struct err err = {0};
        int rc = parse(&wrong[i], &command, &args, &err);
        if (rc == 0 || !strstr(err.text, wrong[i].what))
            print_error("line %zu: %d '%s', not '%s'\n", i, rc, err.text, wrong[i].what);
        assert_int_not_equal(rc, 0);
        assert_non_null(strstr(err.text, wrong[i].what));
    }
}

static void members_are_filled(void **state)
{
    static const struct line line = {{"start", "web", "--kernel", "k", "--initrd=i", "--cmdline",
                                      "a b", "--memory", "512M", "--cpus=3", "--paused"}};
    const struct command *command;
    struct args args;
    struct err err;
    assert_int_equal(parse(&line, &command, &args, &err), 0);
    assert_ptr_equal(command->run, cmd_start);
    assert_string_equal(args.words[0], "web");
    assert_null(args.words[1]);
    assert_string_equal(args.kernel, "k");
    assert_string_equal(args.initrd, "i");
    assert_string_equal(args.cmdline, "a b");
    assert_int_equal(args.memory_bytes, 512u << 20);
    assert_int_equal(args.cpus, 3);
    assert_string_equal(args.cpu, "host");
    assert_true(args.paused);
    assert_false(args.json);
}

static void fallbacks_stand_in(void **state)
{
    static const struct line restore = {{"restore", "base"}};
    static const struct line start = {{"start", "web", "--kernel", "k"}};
    static const struct line stop = {{"stop", "web"}};
    const struct command *command;
    struct args args;
    struct err err;
    assert_int_equal(parse(&start, &command, &args, &err), 0);
    assert_int_equal(args.memory_bytes, 256u << 20);
    assert_int_equal(args.cpus, 1);
    assert_null(args.cmdline);
    assert_int_equal(parse(&stop, &command, &args, &err), 0);
    assert_int_equal(args.timeout_ms, 30000);
    assert_int_equal(parse(&restore, &command, &args, &err), 0);
    assert_int_equal(args.count, 1);
    assert_null(args.name);
    assert_string_equal(args.clock, "advance");
}

static void the_run_directory_is_chosen(void **state)
{
    static const struct line plain = {{"list"}}, given = {{"list", "--run", "there"}};
    const struct command *command;
    struct args args;
    struct err err;
    unsetenv("FERRY_RUN");
    assert_int_equal(parse(&plain, &command, &args, &err), 0);
    assert_string_equal(args.run, "/run/ferry");
    setenv("FERRY_RUN", "here", 1);
    assert_int_equal(parse(&plain, &command, &args, &err), 0);
    assert_string_equal(args.run, "here");
    assert_int_equal(parse(&given, &command, &args, &err), 0);
    assert_string_equal(args.run, "there");
    setenv("FERRY_RUN", "", 1);
    assert_int_equal(parse(&plain, &command, &args, &err), 0);
    assert_string_equal(args.run, "/run/ferry");
}

/* The length of the word of a name that begins there. */
static size_t word_len(const char *word)
{
    return strcspn(word, " ");
}

/* How many words of the table begin with the prefix, and whether one is it; `group` as below. */
static unsigned count_words(const struct command *group, const char *prefix, bool *exact)
{
    unsigned same = 0;
    size_t n = strlen(prefix);
    *exact = false;
    for (const struct command *d = commands; d->name; d++) {
        if (group ? !command_same_first(d, group) : !command_begins(d))
            continue;
        const char *word = group ? command_second(d) : d->name;
        bool begins = word_len(word) >= n && strncmp(word, prefix, n) == 0;
        same += begins;
        *exact |= begins && word_len(word) == n;
    }
    return same;
}

/* Every prefix of `word`, which names `c` among first words or, with a group, among its second. */
static void check_prefixes(const struct command *c, const struct command *group, const char *word)
{
    for (size_t n = 1; n <= word_len(word); n++) {
        char prefix[32];
        bool exact;
        struct err err = {0};
        snprintf(prefix, sizeof(prefix), "%.*s", (int)n, word);
        unsigned same = count_words(group, prefix, &exact);
        const struct command *found =
            group ? command_find_second(group, prefix, &err) : command_find(prefix, &err);
        if (same == 1 || n == word_len(word))
            assert_ptr_equal(found, c);
        else if (!exact)
            assert_null(found);
    }
}

static void every_unique_prefix_is_accepted(void **state)
{
    const struct command *group = commands;
    for (const struct command *c = commands; c->name; c++) {
        group = command_begins(c) ? c : group;
        if (command_begins(c))
            check_prefixes(c, NULL, c->name);
        if (command_second(c))
            check_prefixes(c, group, command_second(c));
    }
}

/* --help needs no more than there is. */
static void help_stops_at_a_group(void **state)
{
    const struct command *command;
    struct args args;
    struct err err;
    bool group;
    char *only[] = {(char *)"snap", (char *)"--help"};
    char *whole[] = {(char *)"snap", (char *)"list", (char *)"--help"};
    assert_int_equal(command_parse(2, only, &command, &group, &args, &err), 0);
    assert_true(group);
    assert_string_equal(command->name, "snapshot create");
    assert_int_equal(command_parse(3, whole, &command, &group, &args, &err), 0);
    assert_false(group);
    assert_string_equal(command->name, "snapshot list");
}

/* A group stands together, so that its first row is enough to find it by. */
static void groups_are_whole(void **state)
{
    for (const struct command *c = commands; c->name; c++)
        for (const struct command *d = c + 1; d->name; d++)
            if (command_same_first(c, d)) {
                assert_non_null(command_second(c));
                assert_non_null(command_second(d));
                assert_true(command_same_first(d - 1, d));
            }
}

/* What the rest of vmctl takes for granted of its rows. */
static void the_table_is_whole(void **state)
{
    for (const struct command *c = commands; c->name; c++) {
        unsigned rows = 0;
        assert_non_null(c->run);
        assert_non_null(c->summary);
        assert_int_not_equal(c->summary[strlen(c->summary) - 1], '.');
        for (const struct option *o = c->options; o && o->name; o++, rows++) {
            assert_non_null(o->help);
            assert_true(o->kind != OPTION_CHOICE || strchr(o->value, '|'));
            assert_true((o->value == NULL) == (o->kind == OPTION_FLAG));
            for (const struct option *g = common_options; g->name; g++)
                assert_string_not_equal(o->name, g->name);
        }
        assert_true(rows <= 64); /* struct options has a bit for each */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_lines_are_read),
        cmocka_unit_test(wrong_lines_are_named),
        cmocka_unit_test(members_are_filled),
        cmocka_unit_test(fallbacks_stand_in),
        cmocka_unit_test(the_run_directory_is_chosen),
        cmocka_unit_test(every_unique_prefix_is_accepted),
        cmocka_unit_test(help_stops_at_a_group),
        cmocka_unit_test(groups_are_whole),
        cmocka_unit_test(the_table_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
