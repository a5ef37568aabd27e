/* See prune.h. */
#include "snapshot/prune.h"

#include <string.h>

static bool same_vm(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
    return memcmp(&a->vm_uuid, &b->vm_uuid, sizeof(a->vm_uuid)) == 0;
}

/* Newer, and of two of one moment the one that is called later. */
static bool is_newer(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
    return a->wall_ns != b->wall_ns ? a->wall_ns > b->wall_ns : strcmp(a->name, b->name) > 0;
}

static bool may_go(const struct catalogue_list *list, const struct prune_rule *rule, size_t index)
{
    const struct catalogue_entry *e = &list->entries[index];
    unsigned newer = 0;
    if (e->problem || e->wall_ns >= rule->before_wall_ns)
        return false;
    if (rule->vm_name && strcmp(rule->vm_name, e->vm_name) != 0)
        return false;
    for (size_t i = 0; i < list->count; i++)
        newer += !list->entries[i].problem && same_vm(&list->entries[i], e) &&
                 is_newer(&list->entries[i], e);
    return newer >= rule->keep;
}

static bool is_planned(const size_t *order, size_t count, size_t index)
{
    for (size_t i = 0; i < count; i++)
        if (order[i] == index)
            return true;
    return false;
}

/* By one that stays, or that has not gone yet. */
static bool is_needed(const struct catalogue_list *list, const size_t *order, size_t count,
                      size_t index)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->entries[i].parent == (ssize_t)index && i != index && !is_planned(order, count, i))
            return true;
    return false;
}

size_t prune_plan(const struct catalogue_list *list, const struct prune_rule *rule, size_t *order)
{
    size_t count = 0;
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < list->count; i++) {
            if (is_planned(order, count, i) || !may_go(list, rule, i) ||
                is_needed(list, order, count, i))
                continue;
            order[count++] = i;
            more = true;
        }
    }
    return count;
}
