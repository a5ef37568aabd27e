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
    return command_parse(argc, argv, command, args, err);
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
    {{"snapshot", "create", "a", "b"}, "unknown command 'snapshot'"},
    {{"migrate", "a", "host"}, "unknown command 'migrate'"},
    {{"restore", "a"}, "unknown command 'restore'"},
    {{"gdb", "a"}, "unknown command 'gdb'"},
    {{""}, "unknown command ''"},
    {{"s"}, "start, show, stats, stop"},
    {{"st", "a"}, "start, stats, stop"},
    {{"re", "a"}, "reset, resume"},
    {{"listen"}, "unknown command 'listen'"},
    {{"start", "a", "--kernel", "k", "--disk", "d"}, "unknown option '--disk'"},
    {{"start", "a", "--kernel", "k", "--net", "tap=x"}, "unknown option '--net'"},
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

static void every_unique_prefix_is_accepted(void **state)
{
    for (const struct command *c = commands; c->name; c++)
        for (size_t n = 1; n <= strlen(c->name); n++) {
            char prefix[32];
            unsigned same = 0;
            bool exact = false;
            struct err err = {0};
            snprintf(prefix, sizeof(prefix), "%.*s", (int)n, c->name);
            for (const struct command *d = commands; d->name; d++) {
                same += strncmp(d->name, prefix, n) == 0;
                exact |= strcmp(d->name, prefix) == 0;
            }
            const struct command *found = command_find(prefix, &err);
            if (same == 1 || exact)
                assert_ptr_equal(found, exact ? command_find(prefix, &err) : c);
            else
                assert_null(found);
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
        cmocka_unit_test(the_table_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
