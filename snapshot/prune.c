/* See prune.h. */
#include "snapshot/prune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

static bool same_vm(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
    return memcmp(&a->vm_uuid, &b->vm_uuid, sizeof(a->vm_uuid)) == 0;
}

/* By VM, then the newest first, and of two of one moment the one that is called later. */
static int by_age(const void *a, const void *b)
{
    const struct catalogue_entry *x = *(const struct catalogue_entry *const *)a;
    const struct catalogue_entry *y = *(const struct catalogue_entry *const *)b;
    int order = memcmp(&x->vm_uuid, &y->vm_uuid, sizeof(x->vm_uuid));
    if (order)
        return order;
    if (x->wall_ns != y->wall_ns)
        return x->wall_ns > y->wall_ns ? -1 : 1;
    return strcmp(y->name, x->name);
}

static enum prune_why judge(const struct catalogue_entry *e, const struct prune_rule *rule,
                            size_t newer)
{
    if (rule->vm_name && strcmp(rule->vm_name, e->vm_name) != 0)
        return PRUNE_OTHER_VM;
    if (newer < rule->keep)
        return PRUNE_NEWEST;
    return e->wall_ns >= rule->before_wall_ns ? PRUNE_YOUNG : PRUNE_GOES;
}

/* Each one by itself, without a look at who needs it. */
static void judge_all(const struct catalogue_list *list, const struct prune_rule *rule,
                      const struct catalogue_entry **sorted, struct prune_verdict *verdicts)
{
    size_t count = 0, first = 0;
    for (size_t i = 0; i < list->count; i++) {
        verdicts[i] = (struct prune_verdict){.why = PRUNE_DAMAGED};
        if (!list->entries[i].problem)
            sorted[count++] = &list->entries[i];
    }
    qsort(sorted, count, sizeof(*sorted), by_age);
    for (size_t i = 0; i < count; i++) {
        if (!same_vm(sorted[first], sorted[i]))
            first = i;
        verdicts[sorted[i] - list->entries].why = judge(sorted[i], rule, i - first);
    }
}

/* What stays keeps all that it stands on. */
static void keep_parents(const struct catalogue_list *list, struct prune_verdict *verdicts)
{
    for (size_t i = 0; i < list->count; i++) {
        if (verdicts[i].why == PRUNE_GOES)
            continue;
        size_t child = i;
        for (ssize_t at = list->entries[i].parent; at >= 0 && verdicts[at].why == PRUNE_GOES;
             at = list->entries[at].parent) {
            verdicts[at] = (struct prune_verdict){.why = PRUNE_NEEDED, .by = child};
            child = (size_t)at;
        }
    }
}

/* Each when the last of its children has gone. A circle, which only a forged catalogue has, stays.
 */
static size_t put_in_order(const struct catalogue_list *list, const struct prune_verdict *verdicts,
                           size_t *children, size_t *order)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].parent >= 0)
            children[list->entries[i].parent]++;
    for (size_t i = 0; i < list->count; i++)
        if (verdicts[i].why == PRUNE_GOES && children[i] == 0)
            order[count++] = i;
    for (size_t done = 0; done < count; done++) {
        ssize_t parent = list->entries[order[done]].parent;
        if (parent >= 0 && --children[parent] == 0 && verdicts[parent].why == PRUNE_GOES)
            order[count++] = (size_t)parent;
    }
    return count;
}

/* What the order left out stands in a circle. */
static void tell_circles(const struct catalogue_list *list, const size_t *children,
                         struct prune_verdict *verdicts)
{
    for (size_t i = 0; i < list->count; i++) {
        ssize_t parent = list->entries[i].parent;
        if (parent >= 0 && children[parent] && verdicts[parent].why == PRUNE_GOES)
            verdicts[parent] = (struct prune_verdict){.why = PRUNE_NEEDED, .by = i};
    }
}

ssize_t prune_plan(const struct catalogue_list *list, const struct prune_rule *rule,
                   struct prune_verdict *verdicts, size_t *order, struct err *err)
{
    CLEAN(clean_free)
    const struct catalogue_entry **sorted = calloc(list->count + 1, sizeof(*sorted));
    CLEAN(clean_free) size_t *children = calloc(list->count + 1, sizeof(*children));
    if (!sorted || !children)
        return err_set(err, ENOMEM, "no memory to look at %zu snapshots with", list->count);
    judge_all(list, rule, sorted, verdicts);
    keep_parents(list, verdicts);
    size_t count = put_in_order(list, verdicts, children, order);
    tell_circles(list, children, verdicts);
    return (ssize_t)count;
}
