/* Tables of what a rule lets go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/prune.h"

/* A letter each: name, its VM, its parent ('-' for none) and when it was taken. */
struct row {
    const char *snapshot; /* "a1-", "b1a": name, VM, parent; '!' behind it: damaged */
    uint64_t time;
};

struct plan {
    struct row rows[8];
    unsigned keep;
    uint64_t before;
    const char *vm;
    const char *gone; /* in order */
};

static const struct row chain[] = {{"a1-", 10}, {"b1a", 20}, {"c1b", 30}, {"d1-", 40}, {"e2-", 5}};

// clang-format off
static const struct plan plans[] = {
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 3, UINT64_MAX, NULL, ""},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 2, UINT64_MAX, NULL, "a"},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 0, UINT64_MAX, NULL, "abc"},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 0, 20, NULL, "a"},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 0, 21, NULL, "ab"},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 2, 21, NULL, "a"},
    {{{"a1-", 10}, {"b1-", 20}, {"c1-", 30}}, 0, 0, NULL, ""},
    /* of each VM its own newest */
    {{{"a1-", 10}, {"b1-", 20}, {"c2-", 1}, {"d2-", 2}}, 1, UINT64_MAX, NULL, "ac"},
    {{{"a1-", 10}, {"b1-", 20}, {"c2-", 1}, {"d2-", 2}}, 1, UINT64_MAX, "vm2", "c"},
    /* a needed parent stays, however old */
    {{{"a1-", 10}, {"b1a", 20}}, 1, UINT64_MAX, NULL, ""},
    {{{"a1-", 10}, {"b1a", 20}}, 0, UINT64_MAX, NULL, "ba"},
    {{{"a1-", 10}, {"b1a", 20}, {"c1b", 30}}, 1, UINT64_MAX, NULL, ""},
    {{{"a1-", 10}, {"b1a", 20}, {"c1-", 30}}, 1, UINT64_MAX, NULL, "ba"},
    {{{"a1-", 10}, {"b1a", 20}, {"c1a", 30}}, 1, UINT64_MAX, NULL, "b"},
    /* taken at one moment: by name */
    {{{"a1-", 10}, {"b1-", 10}}, 1, UINT64_MAX, NULL, "a"},
    /* a child that is older than its parent, as clocks go */
    {{{"a1-", 30}, {"b1a", 20}}, 1, UINT64_MAX, NULL, "b"},
    {{{"a1-", 30}, {"b1a", 20}}, 0, 25, NULL, "b"},
    /* one that cannot be read stays, is not counted, and keeps what it is known to need */
    {{{"a1-!", 0}, {"b1-", 20}, {"c1-", 30}}, 1, UINT64_MAX, NULL, "b"},
    {{{"a1-", 10}, {"b1a!", 20}, {"c1-", 30}}, 0, UINT64_MAX, NULL, "c"},
};
// clang-format on

static size_t make(const struct row *rows, size_t max, struct catalogue_entry *entries)
{
    size_t n = 0;
    for (; n < max && rows[n].snapshot; n++) {
        const char *s = rows[n].snapshot;
        struct catalogue_entry *e = &entries[n];
        *e = (struct catalogue_entry){
            .wall_ns = rows[n].time, .has_uuid = s[3] != '!', .has_parent = s[2] != '-'};
        snprintf(e->name, sizeof(e->name), "%c", s[0]);
        snprintf(e->vm_name, sizeof(e->vm_name), "vm%c", s[1]);
        snprintf(e->parent_name, sizeof(e->parent_name), "%c", s[2]);
        memset(&e->uuid, s[0], sizeof(e->uuid));
        memset(&e->vm_uuid, s[1], sizeof(e->vm_uuid));
        memset(&e->parent_uuid, s[2], sizeof(e->parent_uuid));
        e->problem = s[3] == '!' ? (char *)"damaged" : NULL;
    }
    return n;
}

static void check(const struct row *rows, size_t max, const struct prune_rule *rule,
                  const char *want, unsigned number)
{
    struct catalogue_entry entries[8];
    struct catalogue_list list = {.entries = entries};
    struct err err;
    struct prune_verdict verdicts[8];
    size_t order[8];
    char gone[9] = "";
    list.count = make(rows, max, entries);
    assert_int_equal(catalogue_link(&list, &err), 0);
    ssize_t n = prune_plan(&list, rule, verdicts, order, &err);
    for (ssize_t i = 0; i < n; i++)
        gone[i] = entries[order[i]].name[0];
    if (strcmp(gone, want) != 0)
        fail_msg("plan %u: '%s', not '%s'", number, gone, want);
    for (size_t i = 0; i < list.count; i++) {
        bool goes = strchr(gone, entries[i].name[0]) != NULL;
        if (goes != (verdicts[i].why == PRUNE_GOES))
            fail_msg("plan %u: verdict of '%s' is %d", number, entries[i].name, verdicts[i].why);
        if (verdicts[i].why == PRUNE_NEEDED)
            assert_int_equal(entries[verdicts[i].by].parent, i);
    }
}

static void test_table(void **state)
{
    for (unsigned i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        const struct prune_rule rule = {
            .keep = plans[i].keep, .before_wall_ns = plans[i].before, .vm_name = plans[i].vm};
        check(plans[i].rows, 8, &rule, plans[i].gone, i);
    }
}

/* Each that stays is told why. */
static void test_reasons(void **state)
{
    const struct row rows[8] = {{"a1-", 10}, {"b1a", 20}, {"c1-", 30}, {"d1-", 40},
                                {"e2-", 5},  {"f1-!", 0}, {"g1-", 1}};
    const struct prune_rule rule = {.keep = 1, .before_wall_ns = 15, .vm_name = "vm1"};
    const enum prune_why want[] = {PRUNE_NEEDED,   PRUNE_YOUNG,   PRUNE_YOUNG, PRUNE_NEWEST,
                                   PRUNE_OTHER_VM, PRUNE_DAMAGED, PRUNE_GOES};
    struct catalogue_entry entries[8];
    struct catalogue_list list = {.entries = entries};
    struct prune_verdict verdicts[8];
    struct err err;
    size_t order[8];
    list.count = make(rows, 7, entries);
    assert_int_equal(catalogue_link(&list, &err), 0);
    assert_int_equal(prune_plan(&list, &rule, verdicts, order, &err), 1);
    for (size_t i = 0; i < list.count; i++)
        assert_int_equal(verdicts[i].why, want[i]);
    assert_int_equal(verdicts[0].by, 1);
    assert_int_equal(order[0], 6);
}

/* A circle, which only a forged catalogue has, stays and is told as needed. */
static void test_circle(void **state)
{
    const struct row rows[8] = {{"a1b", 10}, {"b1a", 20}, {"c1-", 5}};
    const struct prune_rule rule = {.before_wall_ns = UINT64_MAX};
    struct catalogue_entry entries[8];
    struct catalogue_list list = {.entries = entries};
    struct prune_verdict verdicts[8];
    struct err err;
    size_t order[8];
    list.count = make(rows, 3, entries);
    assert_int_equal(catalogue_link(&list, &err), 0);
    assert_int_equal(prune_plan(&list, &rule, verdicts, order, &err), 1);
    assert_int_equal(order[0], 2);
    assert_int_equal(verdicts[0].why, PRUNE_NEEDED);
    assert_int_equal(verdicts[1].why, PRUNE_NEEDED);
}

/* Whatever the rule, no parent of one that stays goes, and none goes before its children. */
static void test_never_a_needed_parent(void **state)
{
    for (unsigned keep = 0; keep < 5; keep++) {
        for (uint64_t before = 0; before < 50; before += 5) {
            const struct prune_rule rule = {.keep = keep, .before_wall_ns = before};
            struct catalogue_entry entries[8];
            struct catalogue_list list = {.entries = entries};
            struct err err;
            struct prune_verdict verdicts[8];
            size_t order[8];
            list.count = make(chain, 5, entries);
            assert_int_equal(catalogue_link(&list, &err), 0);
            ssize_t n = prune_plan(&list, &rule, verdicts, order, &err);
            bool gone[8] = {false};
            for (ssize_t i = 0; i < n; i++) {
                for (size_t k = 0; k < list.count; k++)
                    assert_true(entries[k].parent != (ssize_t)order[i] || gone[k]);
                gone[order[i]] = true;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_circle),
        cmocka_unit_test(test_never_a_needed_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
