/*
 * A program that knows what its memory, its registers and its clocks must hold.
 *
 *     judge memory N      checks and rewrites its pages for ever, works and rests by turns, and
 *                         says "judge N: count=.. errors=.." about once a second
 *     judge file PATH N   writes N records to a file, each one synced, reads all of them again
 *     judge tcp PORT      accepts one connection and sends back all that comes, until it closes
 *
 * What is wrong is told as "judge N: FAIL ...", and counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE_WORDS 512u
#define PAGES 256u
#define WORK_NS 30000000l
#define REST_NS 30000000l
#define PERIOD_NS 1000000000l
#define TOLD_MAX 10u /* errors in detail */

struct judge {
    const char *name;
    uint64_t (*pages)[PAGE_WORDS];
    uint64_t pass, errors;
    uint64_t whole; /* the same sum, by integer and by floating-point registers */
    double sum;
    int64_t before_ns; /* the monotonic clock when it was last looked at */
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void wrong(struct judge *j, const char *what, uint64_t have, uint64_t want)
{
    if (j->errors++ < TOLD_MAX)
        dprintf(1, "judge %s: FAIL %s have=%#lx want=%#lx pass=%lu\n", j->name, what, have, want,
                j->pass);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000l + t.tv_nsec;
}

static int64_t look_at_clock(struct judge *j)
{
    int64_t now = now_ns();
    if (now < j->before_ns)
        wrong(j, "the clock went back", (uint64_t)now, (uint64_t)j->before_ns);
    j->before_ns = now;
    return now;
}

static void fill(uint64_t *page, uint64_t number, uint64_t pass)
{
    uint64_t word = mix(number << 40 ^ pass);
    for (unsigned i = 0; i < PAGE_WORDS; i++)
        page[i] = word + i;
}

static void check(struct judge *j, unsigned number)
{
    const volatile uint64_t *page = j->pages[number];
    uint64_t word = mix((uint64_t)number << 40 ^ j->pass);
    for (unsigned i = 0; i < PAGE_WORDS; i++)
        if (page[i] != word + i) {
            wrong(j, "memory", page[i], word + i);
            return;
        }
}

/* Whole numbers below 2^53 are exact in both. */
static void add(struct judge *j)
{
    j->whole += j->pass % 1000;
    j->sum += (double)(j->pass % 1000);
    if ((uint64_t)j->sum != j->whole)
        wrong(j, "floating point", (uint64_t)j->sum, j->whole);
}

static void work(struct judge *j)
{
    for (unsigned i = 0; i < PAGES; i++) {
        check(j, i);
        fill(j->pages[i], i, j->pass + 1);
    }
    j->pass++;
    add(j);
}

static int judge_memory(char **argv)
{
    struct judge j = {.name = argv[0], .before_ns = now_ns()};
    int64_t told = 0;
    j.pages = mmap(NULL, sizeof(*j.pages) * PAGES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (j.pages == MAP_FAILED)
        return 1;
    for (unsigned i = 0; i < PAGES; i++)
        fill(j.pages[i], i, 0);
    for (;;) {
        int64_t now = look_at_clock(&j), begin = now;
        for (; now - begin < WORK_NS; now = look_at_clock(&j))
            work(&j);
        if (now - told > PERIOD_NS) {
            dprintf(1, "judge %s: count=%lu errors=%lu\n", j.name, j.pass, j.errors);
            told = now;
        }
        nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
    }
}

static int fail(const char *what)
{
    dprintf(1, "judge: FAIL %s: %s\n", what, strerror(errno));
    return 1;
}

/* A record is a page that knows its place. */
static int judge_file(char **argv)
{
    static uint64_t want[PAGE_WORDS], have[PAGE_WORDS];
    unsigned records = argv[1] ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    int fd = open(argv[0], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(argv[0]);
    for (unsigned i = 0; i < records; i++) {
        fill(want, i, records);
        if (pwrite(fd, want, sizeof(want), (off_t)(i * sizeof(want))) != sizeof(want) ||
            fsync(fd) < 0)
            return fail("write");
        dprintf(1, "judge file: record=%u\n", i);
    }
    for (unsigned i = 0; i < records; i++) {
        fill(want, i, records);
        if (pread(fd, have, sizeof(have), (off_t)(i * sizeof(have))) != sizeof(have))
            return fail("read");
        if (memcmp(want, have, sizeof(want)) != 0)
            return fail("a record is not what was written");
    }
    dprintf(1, "judge file: records=%u errors=0\n", records);
    return 0;
}

static int judge_tcp(char **argv)
{
    static char data[4096];
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[0]))};
    uint64_t bytes = 0;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (listener < 0 || bind(listener, (struct sockaddr *)&any, sizeof(any)) < 0 ||
        listen(listener, 1) < 0)
        return fail("listen");
    dprintf(1, "judge tcp: listening\n");
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = 0, sent = 0;
    while (fd >= 0 && sent >= 0 && (n = read(fd, data, sizeof(data))) > 0)
        for (ssize_t done = 0; done < n && sent >= 0; done += sent, bytes += (uint64_t)sent)
            if ((sent = write(fd, data + done, (size_t)(n - done))) < 0)
                break;
    if (fd < 0 || n < 0 || sent < 0)
        return fail("connection");
    dprintf(1, "judge tcp: bytes=%lu errors=0\n", bytes);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(char **argv);
    } modes[] = {{"memory", judge_memory}, {"file", judge_file}, {"tcp", judge_tcp}};
    for (size_t i = 0; argc > 2 && i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(argv[1], modes[i].name) == 0)
            return modes[i].run(argv + 2);
    dprintf(1, "judge: FAIL usage: judge memory N | file PATH RECORDS | tcp PORT\n");
    return 2;
}
