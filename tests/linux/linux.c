/* See linux.h. */
#include "tests/linux/linux.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"
#include "tests/kvm/health.h"

/* For a kernel that is emulated, on a machine that does other things too. */
#define PATIENCE_MS 240000u
#define SKIPPED 77

/* What takes instructions that an emulator lacks, hypercalls among them, is switched off; programs
 * keep to SSE2, since such a kernel does not save more of a process. A TSC that is promised to be
 * invariant would be preferred to the paravirtual clock, which alone follows the clock policy on
 * every host; one that is not promised would be watched, and an emulated kernel reads clocks too
 * slowly for that. */
#define CPU "host,-cx16,-nonstop_tsc,-kvm_pv_send_ipi,-kvm_pv_unhalt"
#define CMDLINE                                                                                    \
    "console=ttyS0~noxsave~rodata=off~tsc=nowatchdog~"                                             \
    "clearcpuid=smap,smep,popcnt,erms,fsrm,umip,pcid,invpcid,fsgsbase~"                            \
    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW"

static void give_up(const char *why)
{
    print_message("skipped: %s\n", why);
    exit(SKIPPED);
}

/* ctest says where things are. */
static const char *place(const char *variable)
{
    const char *path = getenv(variable);
    if (!path)
        give_up("FERRY_SOURCE and FERRY_BUILD are not set");
    return path;
}

static void find_initrd(void)
{
    char path[4200];
    snprintf(path, sizeof(path), "%s/guests/linux.initrd", place("FERRY_BUILD"));
    if (access(path, R_OK) < 0)
        give_up("no initial RAM disk: busybox-static and cpio were not there when this was built");
}

/* The line that a script beside this file prints. */
static void ask_script(const char *name, char *line, size_t size)
{
    char command[4200];
    snprintf(command, sizeof(command), "'%s/tests/linux/%s'", place("FERRY_SOURCE"), name);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    bool got = fgets(line, (int)size, f) != NULL;
    int status = pclose(f);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        give_up("there is no kernel");
    if (status != 0 || !got) {
        print_message("%s fails\n", name);
        exit(1);
    }
    line[strcspn(line, "\n")] = '\0';
}

void linux_need(struct linux_kernel *k)
{
    find_initrd();
    ask_script("kernel.py", k->dir, sizeof(k->dir));
}

void linux_need_stock(char *path, size_t size)
{
    find_initrd();
    ask_script("stock.sh", path, size);
}

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
    char command[9000];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof(command), format, list);
    va_end(list);
    if (system(command) != 0)
        fail_msg("%s fails", command);
}

void linux_start(struct host *h, const struct linux_kernel *k, const struct linux_options *o)
{
    char begin[200] = "--initrd %G/linux.initrd";
    if (o->from_disk) {
        shell("cp '%s/guests/linux.initrd.ext4' '%s/%s.ext4'", h->build, h->dir, o->name);
        snprintf(begin, sizeof(begin), "--disk %s/%s.ext4", h->dir, o->name);
    }
    host_must(h,
              "start %s --kernel %s/%s %s %s --memory 64M --cpus %u --cpu " CPU
              " --cmdline " CMDLINE "%s%s%s",
              o->name, k->dir, o->kernel, begin, o->more ? o->more : "", o->cpus,
              o->from_disk ? "~root=/dev/vda~rw~init=/init" : "", o->cmdline ? "~" : "",
              o->cmdline ? o->cmdline : "");
}

void linux_expect_clean_disk(struct host *h, const char *name)
{
    shell("PATH=$PATH:/usr/sbin:/sbin e2fsck -fn '%s/%s.ext4' >/dev/null 2>&1", h->dir, name);
}

/* What is waited for on a console. */
struct wish {
    bool (*come)(const struct wish *w, const char *console);
    const char *text;
    unsigned number;
    const uint64_t *counts;
};

/* Looks until it has come; returns the console of then, which the caller frees. */
static char *await(struct host *h, const char *name, const struct wish *w)
{
    uint64_t until = now_ns() + PATIENCE_MS * 1000000ull;
    for (;;) {
        char *all = console_of(h, name);
        if (w->come(w, all))
            return all;
        if (now_ns() > until) {
            size_t n = strlen(all);
            fail_msg("%s says nothing of '%s', but: %s", name, w->text,
                     n > 4000 ? all + n - 4000 : all);
        }
        free(all);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

/* The count in the last whole line of a judge; 0 without one. */
static uint64_t last_count(const char *console, unsigned judge)
{
    char word[32];
    uint64_t count = 0;
    snprintf(word, sizeof(word), "judge %u: count=", judge);
    for (const char *at = console; (at = strstr(at, word)); at += strlen(word))
        if (strchr(at, '\n'))
            count = strtoull(at + strlen(word), NULL, 10);
    return count;
}

static bool all_count_on(const struct wish *w, const char *console)
{
    for (unsigned i = 0; i < w->number; i++)
        if (last_count(console, i) <= w->counts[i])
            return false;
    return true;
}

static void check_clean(const char *name, const char *console)
{
    const char *bad = strstr(console, "FAIL");
    if (bad)
        fail_msg("%s: %.400s", name, bad);
}

void linux_expect_healthy(struct host *h, const char *name, unsigned cpus)
{
    uint64_t counts[LINUX_CPUS_MAX] = {0};
    struct wish more = {
        .come = all_count_on, .text = "judge N: count=", .number = cpus, .counts = counts};
    assert_in_range(cpus, 1, LINUX_CPUS_MAX);
    char *all = await(h, name, &more);
    for (unsigned i = 0; i < cpus; i++)
        counts[i] = last_count(all, i);
    free(all);
    all = await(h, name, &more);
    check_clean(name, all);
    free(all);
}

static bool said_so_often(const struct wish *w, const char *console)
{
    unsigned times = 0;
    for (const char *at = console; (at = strstr(at, w->text)); at += strlen(w->text))
        times += strchr(at, '\n') != NULL;
    return times >= w->number;
}

void linux_expect(struct host *h, const char *name, const char *text, unsigned times)
{
    free(await(h, name, &(struct wish){.come = said_so_often, .text = text, .number = times}));
}

int linux_ask(struct host *h, const char *name, char *answer, size_t size, const char *words)
{
    static unsigned asked;
    char token[16], line[300], done[40];
    snprintf(token, sizeof(token), "t%u", ++asked);
    snprintf(line, sizeof(line), "%s %s\n", token, words);
    snprintf(done, sizeof(done), "init: %s done status=", token);
    host_type(h, name, line, done, PATIENCE_MS);
    char *all = await(h, name, &(struct wish){.come = said_so_often, .text = done, .number = 1});
    snprintf(line, sizeof(line), "init: %s", token);
    if (answer)
        snprintf(answer, size, "%s", strstr(all, line));
    int status = (int)strtol(strstr(all, done) + strlen(done), NULL, 10);
    free(all);
    return status;
}

void linux_expect_no_complaint(struct host *h, const char *name, bool booting)
{
    char answer[4000];
    if (linux_ask(h, name, answer, sizeof(answer),
                  booting ? "complaints but-late" : "complaints") != 0)
        fail_msg("%s: %s", name, answer);
}
