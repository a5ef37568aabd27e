/*
 * The life of a guest: a line each period, until quit= or the power button ends it.
 *   quit=N   after N lines        quit=Ns   after N seconds       period=MS
 *   inject=N  break something just before line N, to see that the guest notices
 */
#include "guest.h"

#define NS_PER_MS 1000000ul
#define TOLD_ERRORS 10

void life_begin(struct life *life, uint64_t default_period_ms)
{
    char quit[32] = "";
    size_t n;

    *life = (struct life){0};
    life->started_ns = clock_ns();
    life->period_ns = cmdline_number("period", default_period_ms) * NS_PER_MS;
    life->next_ns = life->started_ns + life->period_ns;
    cmdline_word("quit", quit, sizeof(quit));
    n = text_length(quit);
    if (n && quit[n - 1] == 's')
        life->end_ns = life->started_ns + cmdline_number("quit", 0) * 1000 * NS_PER_MS;
    else
        life->last_line = cmdline_number("quit", 0);
    if (power_button())
        say("the power button was pressed before the start");
}

bool life_due(struct life *life, uint64_t now_ns)
{
    if (now_ns < life->next_ns)
        return false;
    life->next_ns += life->period_ns;
    if (life->next_ns <= now_ns)
        life->next_ns = now_ns + life->period_ns;
    return true;
}

bool life_inject(struct life *life)
{
    uint64_t at = cmdline_number("inject", 0);

    return at && life->lines + 1 == at;
}

bool life_line(struct life *life)
{
    life->lines++;
    if (power_button()) {
        say("power button, bye");
        return true;
    }
    return (life->last_line && life->lines >= life->last_line) ||
           (life->end_ns && clock_ns() >= life->end_ns);
}

void life_finish(struct life *life)
{
    say("%s lines=%lu errors=%lu", life->errors ? "FAIL" : "ok", life->lines, life->errors);
    power_off();
}

void life_error(struct life *life, const char *format, ...)
{
    char text[400];
    va_list ap;

    if (__atomic_fetch_add(&life->errors, 1, __ATOMIC_SEQ_CST) >= TOLD_ERRORS)
        return;
    va_start(ap, format);
    text[text_format_v(text, sizeof(text) - 1, format, ap)] = 0;
    va_end(ap);
    say("FAIL %s", text);
}
