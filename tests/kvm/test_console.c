/* The serial port loses no byte in either direction, however fast somebody types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/kvm/rig.h"

#define TYPED_BYTES 10000u

/* The checksum that the guest keeps: CRC-32 as in zlib. */
static uint32_t crc32_of(const char *data, size_t len)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint8_t)data[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
    }
    return ~crc;
}

/* Lines of 99 printable characters each. */
static void make_text(char *text)
{
    for (unsigned i = 0; i < TYPED_BYTES; i++)
        text[i] = (char)(i % 100 == 99 ? '\n' : '!' + (i * 7 + i / 100) % 90);
}

/* As fast as the queue takes it; waits for the guest where it is full. */
static void type_all(struct rig *r, const char *text, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t n = console_feed(&r->console, (const uint8_t *)text + done, len - done);
        done += n;
        if (n == 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void answers_all(void **state)
{
    static char text[TYPED_BYTES];
    struct rig rig;
    char wanted[80];
    make_text(text);
    rig_start(&rig, &(struct rig_options){.guest = "echo", .cmdline = *state});
    rig_expect(&rig, NULL, "echo: ready", 20000);
    type_all(&rig, text, sizeof(text));
    snprintf(wanted, sizeof(wanted), "bytes=%u crc=%08x", TYPED_BYTES,
             crc32_of(text, sizeof(text)));
    rig_expect(&rig, NULL, wanted, 60000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

/* Paused again and again while it is typed to. */
static void answers_all_over_pauses(void **state)
{
    static char text[TYPED_BYTES];
    struct rig rig;
    char wanted[80];
    make_text(text);
    rig_start(&rig, &(struct rig_options){.guest = "echo"});
    rig_expect(&rig, NULL, "echo: ready", 20000);
    for (size_t done = 0; done < sizeof(text); done += 500) {
        type_all(&rig, text + done, 500);
        machine_pause(rig.machine);
        uint64_t end = console_end(&rig.console);
        console_feed(&rig.console, NULL, 0);
        assert_int_equal(console_end(&rig.console), end);
        machine_resume(rig.machine);
    }
    snprintf(wanted, sizeof(wanted), "bytes=%u crc=%08x", TYPED_BYTES,
             crc32_of(text, sizeof(text)));
    rig_expect(&rig, NULL, wanted, 60000);
    rig_check_clean(&rig);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        {"answers_all by interrupts", answers_all, NULL, NULL, ""},
        {"answers_all by polling", answers_all, NULL, NULL, "poll"},
        cmocka_unit_test(answers_all_over_pauses),
    };
    rig_need_kvm();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
