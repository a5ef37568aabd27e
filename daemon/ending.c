/* See ending.h. */
#include "daemon/ending.h"

#include <inttypes.h>
#include <stdio.h>

static const Ferry__EndKind kinds[] = {
    [REPORT_SHUTDOWN] = FERRY__END_KIND__END_SHUTDOWN,
    [REPORT_RESET] = FERRY__END_KIND__END_NONE,
    [REPORT_TRIPLE_FAULT] = FERRY__END_KIND__END_TRIPLE_FAULT,
    [REPORT_INTERNAL_ERROR] = FERRY__END_KIND__END_INTERNAL_ERROR,
    [REPORT_FAIL_ENTRY] = FERRY__END_KIND__END_FAIL_ENTRY,
};

static void fill_cpu(struct ending *e)
{
    struct report_cpu *c = &e->report.cpu;
    ferry__cpu_report__init(&e->cpu);
    e->cpu.cpu = c->cpu;
    e->cpu.rip = c->rip;
    e->cpu.rflags = c->rflags;
    e->cpu.gpr = c->gpr;
    e->cpu.n_gpr = 16;
    e->cpu.cr0 = c->cr0;
    e->cpu.cr2 = c->cr2;
    e->cpu.cr3 = c->cr3;
    e->cpu.cr4 = c->cr4;
    e->cpu.efer = c->efer;
    e->cpu.cs = c->cs;
    e->cpu.ss = c->ss;
    e->cpu.code = (ProtobufCBinaryData){.data = c->code, .len = c->code_len};
    e->cpu.suberror = c->suberror;
    e->cpu.data = c->data;
    e->cpu.n_data = c->ndata;
}

void ending_from_report(struct ending *e, const struct report *report, uint64_t wall_ns)
{
    e->report = *report;
    ferry__ending__init(&e->message);
    e->message.kind = kinds[report->kind];
    e->message.text = e->report.text;
    e->message.wall_ns = wall_ns;
    if (report->has_cpu) {
        fill_cpu(e);
        e->message.cpu = &e->cpu;
    }
}

void ending_line(const struct report *report, char *to, size_t size)
{
    int n = snprintf(to, size, "%s", report->text);
    if (!report->has_cpu || n < 0 || (size_t)n >= size)
        return;
    const struct report_cpu *c = &report->cpu;
    n += snprintf(to + n, size - n,
                  "; cpu %u rip 0x%" PRIx64 " cs 0x%x rsp 0x%" PRIx64 " cr0 0x%" PRIx64
                  " cr2 0x%" PRIx64 " cr3 0x%" PRIx64 " cr4 0x%" PRIx64 " efer 0x%" PRIx64,
                  c->cpu, c->rip, c->cs, c->gpr[6], c->cr0, c->cr2, c->cr3, c->cr4, c->efer);
    if (c->code_len && n > 0 && (size_t)n < size)
        n += snprintf(to + n, size - n, " code");
    for (unsigned i = 0; i < c->code_len && n > 0 && (size_t)n < size; i++)
        n += snprintf(to + n, size - n, " %02x", c->code[i]);
}
