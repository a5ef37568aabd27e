/*
 * See aml.h.
 *
 * A term that holds others begins with its opcode and the length of all that follows, of which the
 * length's own bytes (1 to 4) are a part. So it is put in when the term is closed.
 */
#include "machine/boot/aml.h"

#include <string.h>

#include "base/le.h"

#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_EXTENDED 0x5b
#define OP_ARG0 0x68
#define OP_DEVICE 0x82 /* extended */
#define OP_NOTIFY 0x86
#define OP_EQUAL 0x93
#define OP_IF 0xa0
#define ROOT_CHAR 0x5c

#define RESOURCE_IO 0x47
#define RESOURCE_IRQ 0x22
#define RESOURCE_END 0x79
#define RESOURCE_MEMORY32 0x86
#define RESOURCE_INTERRUPT 0x89 /* of any GSI, not only the 16 of a PC */
#define MEMORY_WRITABLE 1
#define INTERRUPT_CONSUMER_EDGE_HIGH 0x03
#define IO_DECODE16 1

static void put(struct aml *aml, const void *data, size_t len)
{
    if (!aml->failed && buf_append(aml->out, data, len) < 0)
        aml->failed = true;
}

static void put_le(struct aml *aml, uint64_t value, unsigned bytes)
{
    if (!aml->failed && buf_append_le(aml->out, value, bytes) < 0)
        aml->failed = true;
}

void aml_init(struct aml *aml, struct buf *out)
{
    *aml = (struct aml){.out = out};
}

static void open_here(struct aml *aml)
{
    if (aml->depth == AML_DEPTH)
        aml->failed = true;
    else
        aml->open[aml->depth++] = aml->out->len;
}

void aml_open_scope(struct aml *aml, const char *segment)
{
    put_le(aml, OP_SCOPE, 1);
    open_here(aml);
    put_le(aml, ROOT_CHAR, 1);
    put(aml, segment, 4);
}

void aml_open_device(struct aml *aml, const char *segment)
{
    put_le(aml, OP_EXTENDED, 1);
    put_le(aml, OP_DEVICE, 1);
    open_here(aml);
    put(aml, segment, 4);
}

void aml_open_package(struct aml *aml, uint8_t count)
{
    put_le(aml, OP_PACKAGE, 1);
    open_here(aml);
    put_le(aml, count, 1);
}

void aml_open_method(struct aml *aml, const char *segment, unsigned args)
{
    put_le(aml, OP_METHOD, 1);
    open_here(aml);
    put(aml, segment, 4);
    put_le(aml, args, 1);
}

void aml_open_if_arg0_is(struct aml *aml, uint64_t value)
{
    put_le(aml, OP_IF, 1);
    open_here(aml);
    put_le(aml, OP_EQUAL, 1);
    put_le(aml, OP_ARG0, 1);
    aml_integer(aml, value);
}

/* One byte holds 6 bits of length; else the first holds 4 and how many follow, of 8 bits each. */
static unsigned encode_length(size_t body, uint8_t to[4])
{
    unsigned n = 1;
    while (n < 4 && body + n >= (n == 1 ? 64u : 1u << (8 * n - 4)))
        n++;
    size_t total = body + n;
    if (n == 1) {
        to[0] = (uint8_t)total;
        return 1;
    }
    to[0] = (uint8_t)((n - 1) << 6 | (total & 15));
    for (unsigned i = 1; i < n; i++)
        to[i] = (uint8_t)(total >> (8 * i - 4));
    return n;
}

void aml_close(struct aml *aml)
{
    uint8_t length[4];
    if (aml->failed || aml->depth == 0) {
        aml->failed = true;
        return;
    }
    size_t at = aml->open[--aml->depth], body = aml->out->len - at;
    unsigned n = encode_length(body, length);
    put(aml, length, n);
    if (aml->failed)
        return;
    memmove(aml->out->data + at + n, aml->out->data + at, body);
    memcpy(aml->out->data + at, length, n);
}

void aml_name(struct aml *aml, const char *segment)
{
    put_le(aml, OP_NAME, 1);
    put(aml, segment, 4);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    static const struct {
        uint8_t op;
        unsigned bytes;
    } forms[] = {{OP_BYTE, 1}, {OP_WORD, 2}, {OP_DWORD, 4}, {OP_QWORD, 8}};
    unsigned i = 0;
    if (value <= 1) {
        put_le(aml, value, 1);
        return;
    }
    while (i < 3 && value >> (8 * forms[i].bytes))
        i++;
    put_le(aml, forms[i].op, 1);
    put_le(aml, value, forms[i].bytes);
}

static unsigned hex_digit(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of 5 bits and four hexadecimal digits, the highest first. */
void aml_eisa_id(struct aml *aml, const char *id)
{
    unsigned value = 0;
    for (unsigned i = 0; i < 3; i++)
        value = value << 5 | (unsigned)(id[i] - '@');
    for (unsigned i = 3; i < 7; i++)
        value = value << 4 | hex_digit(id[i]);
    put_le(aml, OP_DWORD, 1);
    put_le(aml, __builtin_bswap32(value), 4);
}

void aml_string(struct aml *aml, const char *text)
{
    put_le(aml, OP_STRING, 1);
    put(aml, text, strlen(text) + 1);
}

static void put_resources(struct aml *aml, const uint8_t *bytes, size_t len)
{
    put_le(aml, OP_BUFFER, 1);
    open_here(aml);
    aml_integer(aml, len);
    put(aml, bytes, len);
    aml_close(aml);
}

void aml_port_and_irq(struct aml *aml, uint16_t port, uint8_t count, unsigned irq)
{
    uint16_t mask = (uint16_t)(1u << irq);
    const uint8_t low = (uint8_t)port, high = (uint8_t)(port >> 8);
    const uint8_t bytes[] = {
        RESOURCE_IO,   IO_DECODE16,          low,          high, low, high, 1, count, RESOURCE_IRQ,
        (uint8_t)mask, (uint8_t)(mask >> 8), RESOURCE_END, 0};
    put_resources(aml, bytes, sizeof(bytes));
}

void aml_edge_interrupt(struct aml *aml, uint32_t gsi)
{
    uint8_t bytes[] = {RESOURCE_INTERRUPT, 6, 0, INTERRUPT_CONSUMER_EDGE_HIGH, 1, 0, 0, 0, 0,
                       RESOURCE_END,       0};
    le_put(bytes + 5, gsi, 4);
    put_resources(aml, bytes, sizeof(bytes));
}

void aml_window_and_interrupt(struct aml *aml, uint32_t gpa, uint32_t bytes, uint32_t gsi)
{
    uint8_t list[12 + 9 + 2] = {RESOURCE_MEMORY32,
                                9,
                                0,
                                MEMORY_WRITABLE,
                                [12] = RESOURCE_INTERRUPT,
                                6,
                                0,
                                INTERRUPT_CONSUMER_EDGE_HIGH,
                                1,
                                [21] = RESOURCE_END};
    le_put(list + 4, gpa, 4);
    le_put(list + 8, bytes, 4);
    le_put(list + 17, gsi, 4);
    put_resources(aml, list, sizeof(list));
}

void aml_notify(struct aml *aml, const char *segment, uint8_t value)
{
    put_le(aml, OP_NOTIFY, 1);
    put(aml, segment, 4);
    aml_integer(aml, value);
}

int aml_end(const struct aml *aml)
{
    return aml->failed || aml->depth ? -1 : 0;
}
