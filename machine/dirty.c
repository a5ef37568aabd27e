/* See dirty.h. */
#include "machine/dirty.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>

/* KVM wants bit counts that are multiples of 64, but for the end of a slot. */
#define WORD_PAGES 64u

void dirty_init(struct dirty *d, struct vm *vm)
{
    *d = (struct dirty){.vm = vm};
    pthread_mutex_init(&d->lock, NULL);
}

static void switch_off(struct dirty *d)
{
    struct err ignored; /* a log that stays on costs time, nothing else */
    vm_set_slots(d->vm, false, &ignored);
    bitmap_fini(&d->unarmed);
    free(d->scratch);
    d->scratch = NULL;
}

void dirty_fini(struct dirty *d)
{
    if (d->scratch)
        switch_off(d);
    pthread_mutex_destroy(&d->lock);
}

/* With INITIALLY_SET all pages begin as logged and unprotected: all are unarmed. */
static int switch_on(struct dirty *d, struct err *err)
{
    struct mem *mem = d->vm->mem;
    size_t pages = mem->size / MEM_PAGE;
    d->scratch = calloc((pages + 63) / 64, 8);
    int rc = d->scratch ? 0 : err_set(err, ENOMEM, "no memory for a dirty log");
    if (rc == 0)
        rc = bitmap_init(&d->unarmed, pages, err);
    if (rc == 0)
        rc = vm_set_slots(d->vm, true, err);
    if (rc < 0)
        switch_off(d);
    else
        bitmap_set_range(&d->unarmed, 0, d->vm->kvm->manual_dirty_log ? pages : 0);
    return rc;
}

int dirty_attach(struct dirty *d, struct dirty_consumer *c, struct err *err)
{
    *c = (struct dirty_consumer){0};
    int rc = bitmap_init(&c->pages, d->vm->mem->size / MEM_PAGE, err);
    if (rc < 0)
        return rc;
    bitmap_set_range(&c->pages, 0, c->pages.bits);
    pthread_mutex_lock(&d->lock);
    if (!d->consumers)
        rc = switch_on(d, err);
    if (rc == 0) {
        c->next = d->consumers;
        d->consumers = c;
    }
    pthread_mutex_unlock(&d->lock);
    if (rc < 0)
        bitmap_fini(&c->pages);
    return rc;
}

void dirty_detach(struct dirty *d, struct dirty_consumer *c)
{
    pthread_mutex_lock(&d->lock);
    struct dirty_consumer **at = &d->consumers;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at) {
        *at = c->next;
        if (!d->consumers)
            switch_off(d);
    }
    pthread_mutex_unlock(&d->lock);
    bitmap_fini(&c->pages);
}

/* One word of 64 pages to everybody who wants to know. Locked. */
static void hand_out(struct dirty *d, size_t word, uint64_t bits)
{
    for (struct dirty_consumer *c = d->consumers; c; c = c->next)
        bitmap_or_word(&c->pages, word, bits);
}

static int collect_slot(struct dirty *d, unsigned slot, struct err *err)
{
    const struct mem_region piece = vm_slot(d->vm, slot), *r = &piece;
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = d->scratch};
    int rc = kvm_ioctl(d->vm->fd, KVM_GET_DIRTY_LOG, &log);
    if (rc < 0)
        return err_sys(err, -rc, "KVM gives no dirty log");
    size_t first = r->offset / MEM_PAGE / 64, words = (r->size / MEM_PAGE + 63) / 64;
    for (size_t w = 0; w < words; w++) {
        if (d->scratch[w] == 0)
            continue;
        if (d->vm->kvm->manual_dirty_log)
            bitmap_or_word(&d->unarmed, first + w, d->scratch[w]);
        hand_out(d, first + w, d->scratch[w]);
    }
    return 0;
}

static void collect_written(struct dirty *d)
{
    struct bitmap *written = &d->vm->mem->written;
    for (size_t w = 0; w < written->nwords; w++) {
        uint64_t bits = bitmap_take_word(written, w);
        if (bits)
            hand_out(d, w, bits);
    }
}

int dirty_collect(struct dirty *d, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&d->lock);
    if (!d->consumers)
        rc = err_set(err, EINVAL, "nobody consumes the dirty log");
    for (unsigned slot = 0; rc == 0 && slot < vm_slots(d->vm); slot++)
        rc = collect_slot(d, slot, err);
    if (rc == 0)
        collect_written(d);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

/* Clears `count` pages from `first` (both in RAM order, within one slot) in KVM's log; the bits are
 * in d->scratch. On failure they stay unarmed. Locked. */
static int clear_run(struct dirty *d, unsigned slot, size_t first, size_t count, struct err *err)
{
    const struct mem_region piece = vm_slot(d->vm, slot), *r = &piece;
    struct kvm_clear_dirty_log clear = {
        .slot = slot,
        .first_page = first - r->offset / MEM_PAGE,
        .num_pages = (uint32_t)count,
        .dirty_bitmap = d->scratch,
    };
    int rc = kvm_ioctl(d->vm->fd, KVM_CLEAR_DIRTY_LOG, &clear);
    if (rc == 0)
        return 0;
    for (size_t w = 0; w < (count + 63) / 64; w++)
        bitmap_or_word(&d->unarmed, first / 64 + w, d->scratch[w]);
    return err_sys(err, -rc, "KVM does not clear its dirty log");
}

/* The part of [first, last) that lies in one slot, widened to whole words. Locked. */
static int rearm_slot(struct dirty *d, unsigned slot, size_t first, size_t last, struct err *err)
{
    const struct mem_region piece = vm_slot(d->vm, slot), *r = &piece;
    size_t begin = r->offset / MEM_PAGE, end = begin + r->size / MEM_PAGE;
    first = first < begin ? begin : first / WORD_PAGES * WORD_PAGES;
    last = (last + WORD_PAGES - 1) / WORD_PAGES * WORD_PAGES;
    last = last > end ? end : last;
    if (first >= last)
        return 0;
    uint64_t any = 0;
    for (size_t w = first / 64; w < (last + 63) / 64; w++)
        any |= d->scratch[w - first / 64] = bitmap_take_word(&d->unarmed, w);
    return any ? clear_run(d, slot, first, last - first, err) : 0;
}

int dirty_rearm(struct dirty *d, size_t first, size_t count, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&d->lock);
    if (!d->consumers || !d->vm->kvm->manual_dirty_log)
        count = 0; /* the old kind of log arms pages as it is read */
    for (unsigned slot = 0; rc == 0 && count && slot < vm_slots(d->vm); slot++)
        rc = rearm_slot(d, slot, first, first + count, err);
    pthread_mutex_unlock(&d->lock);
    return rc;
}
