/* See progress.h. */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/now.h"
#include "cli/stats.h"
#include "cli/text.h"

#define SECOND_NS 1000000000u
#define DRAW_NS 100000000ull
#define RATE_NS 200000000ull /* before that a rate says nothing */
#define COLUMNS 80           /* of a terminal that does not know */

void progress_begin(struct progress *p, const char *doing, const char *name)
{
    *p = (struct progress){.doing = doing, .name = name, .since_ns = now_ns()};
    p->terminal = isatty(STDERR_FILENO);
}

uint64_t progress_rate(const struct progress *p, uint64_t now)
{
    const struct progress_mark *from = &p->marks[0];
    if (p->done_bytes < from->bytes || now < from->ns + RATE_NS)
        return 0;
    double rate = (double)(p->done_bytes - from->bytes) * 1e9 / (double)(now - from->ns);
    return rate < 1e18 ? (uint64_t)rate : 0;
}

/* Of a migration: the rates are ferryd's, and what is left counts. */
static void format_rounds(const struct progress *p, char *to, size_t size)
{
    char left[32], rate[32], dirty[32];
    uint64_t bytes = p->total_bytes > p->done_bytes ? p->total_bytes - p->done_bytes : 0;
    stats_format("left_bytes", bytes, left, sizeof(left));
    stats_format("rate_bytes", p->rate_bytes, rate, sizeof(rate));
    stats_format("dirty_bytes", p->dirty_bytes, dirty, sizeof(dirty));
    snprintf(to, size,
             "%s '%s': round %" PRIu32 ", %s left, %s/s, writes %s/s, %.1f ms downtime%s%.100s",
             p->doing, p->name, p->round, left, rate, dirty, (double)p->downtime_ns / 1e6,
             p->why[0] ? ", " : "", p->why);
}

static void format_line(const struct progress *p, uint64_t now, char *to, size_t size)
{
    char done[32], total[32], rate[32];
    uint64_t a_second = progress_rate(p, now);
    if (!*p->stage) {
        snprintf(to, size, "%s '%s' ... %" PRIu64 "s", p->doing, p->name,
                 (now - p->since_ns) / SECOND_NS);
        return;
    }
    if (p->downtime_ns) {
        format_rounds(p, to, size);
        return;
    }
    stats_format("done_bytes", p->done_bytes, done, sizeof(done));
    stats_format("total_bytes", p->total_bytes, total, sizeof(total));
    stats_format("rate_bytes", a_second, rate, sizeof(rate));
    snprintf(to, size, "%s '%s': %s %s%s%s%s%s%s", p->doing, p->name, p->stage, done,
             p->total_bytes ? " of " : "", p->total_bytes ? total : "", a_second ? ", " : "",
             a_second ? rate : "", a_second ? "/s" : "");
}

/* A line that wraps could not be removed. */
static size_t columns(void)
{
    struct winsize size = {0};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : COLUMNS;
}

static void draw(struct progress *p, uint64_t now)
{
    char line[256];
    size_t room = columns();
    format_line(p, now, line, sizeof(line));
    if (room < sizeof(line))
        line[room - 1] = '\0';
    fputc('\r', stderr);
    text_print_line(stderr, line);
    fputs("\033[K", stderr);
    fflush(stderr);
    p->shown = true;
    p->shown_ns = now;
}

static void move_marks(struct progress *p, uint64_t now, bool anew)
{
    struct progress_mark here = {now, p->done_bytes};
    if (anew) {
        p->marks[0] = p->marks[1] = here;
    } else if (now - p->marks[1].ns >= SECOND_NS) {
        p->marks[0] = p->marks[1];
        p->marks[1] = here;
    }
}

void progress_update(struct progress *p, const Ferry__Progress *news)
{
    uint64_t now = now_ns();
    char stage[sizeof(p->stage)];
    snprintf(stage, sizeof(stage), "%s", *news->stage ? news->stage : "working");
    bool anew = strcmp(stage, p->stage) != 0 || news->done_bytes < p->done_bytes;
    memcpy(p->stage, stage, sizeof(stage));
    p->done_bytes = news->done_bytes;
    p->total_bytes = news->total_bytes;
    p->round = news->round;
    p->rate_bytes = news->rate_bytes;
    p->dirty_bytes = news->dirty_rate_bytes;
    p->downtime_ns = news->expected_downtime_ns;
    snprintf(p->why, sizeof(p->why), "%s", news->why);
    move_marks(p, now, anew);
    if (p->terminal && (!p->shown || now - p->shown_ns >= DRAW_NS))
        draw(p, now);
}

void progress_tick(struct progress *p)
{
    uint64_t now = now_ns();
    if (p->terminal && now - p->since_ns >= SECOND_NS)
        draw(p, now);
}

void progress_end(struct progress *p)
{
    if (p->shown)
        fputs("\r\033[K", stderr);
    p->shown = false;
}
