/*
 * ACPI machine language, as much as a DSDT of a few devices needs: terms are appended to a buffer,
 * things that hold others are opened and closed. A full buffer makes all further calls do nothing
 * and is found at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define AML_DEPTH 8

struct aml {
    struct buf *out;        /* borrowed */
    size_t open[AML_DEPTH]; /* where the contents of each open term begin */
    unsigned depth;
    bool failed;
};

void aml_init(struct aml *aml, struct buf *out);

/* Names are segments of exactly four characters ("_S5_"). */
void aml_open_scope(struct aml *aml, const char *segment); /* below the root */
void aml_open_device(struct aml *aml, const char *segment);
void aml_open_package(struct aml *aml, uint8_t count);
void aml_open_method(struct aml *aml, const char *segment, unsigned args);
void aml_open_if_arg0_is(struct aml *aml, uint64_t value); /* within a method */
void aml_close(struct aml *aml);

/* Name(segment, ...): the next term is its value. */
void aml_name(struct aml *aml, const char *segment);
void aml_integer(struct aml *aml, uint64_t value);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0501" */
void aml_string(struct aml *aml, const char *text);

/* A resource template of `count` ports from `port` on and one interrupt line. */
void aml_port_and_irq(struct aml *aml, uint16_t port, uint8_t count, unsigned irq);

/* A resource template of one edge-triggered interrupt of the I/O APICs. */
void aml_edge_interrupt(struct aml *aml, uint32_t gsi);

/* The same with a window of memory before it. */
void aml_window_and_interrupt(struct aml *aml, uint32_t gpa, uint32_t bytes, uint32_t gsi);

/* Notify(segment, value): the segment is looked for in the scopes around. */
void aml_notify(struct aml *aml, const char *segment, uint8_t value);

/* 0, or -1 when something did not fit or is still open. */
int aml_end(const struct aml *aml);
