/*
 * The first process of the tests' Linux guests.
 *
 * It mounts what programs expect, tells what the kernel found ("init: ready cpus=2 ..."), starts a
 * judge on each CPU, and then does what a line on the console or the power button wants. A line is
 * "TOKEN VERB [ARGUMENT]"; the answer goes from "init: TOKEN VERB" to "init: TOKEN done status=N":
 *
 *     clocks          the clocks, in milliseconds
 *     log TEXT        lines of the kernel log that hold TEXT; status 1 without one
 *     complaints      what the kernel log tells of trouble, and clears it; status 1 if there is
 * any; "complaints but-late": but for that of watchdogs run COMMAND     a command of the shell, and
 * its status poweroff, reboot
 *
 * A judge that ends is told as "init: FAIL"; init itself never ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX 512
#define LOG_MAX (256 << 10)
#define KLOG_READ_ALL 3
#define KLOG_CLEAR 5
#define JUDGES_MAX 8

static pid_t judges[JUDGES_MAX];

/* One line by one write: those of the judges do not get in between. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[LINE_MAX + 64];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof(line) - 1, format, list);
    va_end(list);
    if (n > (int)sizeof(line) - 2)
        n = (int)sizeof(line) - 2;
    line[n++] = '\n';
    if (write(1, line, (size_t)n) < 0)
        _exit(1); /* no console: the kernel's panic is all that can be seen */
}

static void mount_all(void)
{
    static const char *const places[][2] = {
        {"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/run"}};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        mkdir(places[i][1], 0755);
        if (mount(places[i][0], places[i][1], places[i][0], 0, NULL) < 0)
            say("init: FAIL cannot mount %s: %s", places[i][1], strerror(errno));
    }
}

/* A kernel that finds no /dev/console in its root starts this with no files open. */
static void open_console(void)
{
    while (fcntl(2, F_GETFD) < 0)
        if (open("/dev/console", O_RDWR) < 0)
            _exit(1);
}

/* Lines come whole, and what is typed is not repeated. */
static void set_terminal(void)
{
    struct termios t;
    if (tcgetattr(0, &t) == 0) {
        t.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSANOW, &t);
    }
}

static void read_word(const char *path, char *word, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, word, size - 1);
    word[n < 0 ? 0 : n] = '\0';
    word[strcspn(word, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static void tell_facts(void)
{
    char clock[64];
    struct utsname uts;
    uname(&uts);
    read_word("/sys/devices/system/clocksource/clocksource0/current_clocksource", clock,
              sizeof(clock));
    say("init: ready cpus=%ld acpi=%s clocksource=%s release=%s", sysconf(_SC_NPROCESSORS_ONLN),
        access("/sys/firmware/acpi/tables", F_OK) == 0 ? "yes" : "no", clock, uts.release);
}

static pid_t start(char *const argv[], int cpu)
{
    pid_t pid = vfork();
    if (pid == 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (cpu >= 0)
            sched_setaffinity(0, sizeof(set), &set);
        execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

static void start_judges(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 0; i < cpus && i < JUDGES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        char *argv[] = {"/bin/judge", "memory", name, NULL};
        judges[i] = start(argv, i);
        if (judges[i] < 0)
            say("init: FAIL cannot start judge %d: %s", i, strerror(errno));
    }
}

static int answer_clocks(const char *token, char *argument)
{
    static const clockid_t ids[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    long ms[3];
    for (int i = 0; i < 3; i++) {
        struct timespec t;
        clock_gettime(ids[i], &t);
        ms[i] = t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    say("init: %s realtime_ms=%ld monotonic_ms=%ld boottime_ms=%ld", token, ms[0], ms[1], ms[2]);
    return 0;
}

static bool holds(const char *line, const char *const *words)
{
    for (; *words; words++)
        if (strstr(line, *words))
            return true;
    return false;
}

/* Says the lines that hold one of the words, and none of the others. */
static unsigned log_lines(const char *token, const char *label, const char *const *words,
                          const char *const *others)
{
    static char log[LOG_MAX + 1];
    unsigned found = 0;
    int n = klogctl(KLOG_READ_ALL, log, LOG_MAX);
    log[n < 0 ? 0 : n] = '\0';
    for (char *save, *line = strtok_r(log, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (!holds(line, words) || holds(line, others))
            continue;
        say("init: %s %s: %.300s", token, label, line);
        found++;
    }
    return found;
}

static const char *const no_words[] = {NULL};

static int answer_complaints(const char *token, char *argument)
{
    static const char *const words[] = {
        "BUG",      "WARNING",  "Oops",         "hard LOCKUP",   "blocked for more than",
        "stall",    "unstable", "nobody cared", "went backward", "Spurious",
        "TSC warp", NULL};
    static const char *const late[] = {"soft lockup", "stall", NULL};
    bool but_late = strcmp(argument, "but-late") == 0;
    unsigned found = log_lines(token, "FAIL kernel", words, but_late ? late : no_words);
    klogctl(KLOG_CLEAR, NULL, 0);
    return found ? 1 : 0;
}

static int answer_log(const char *token, char *argument)
{
    const char *words[] = {argument, NULL};
    return log_lines(token, "log", words, no_words) ? 0 : 1;
}

static int answer_run(const char *token, char *argument)
{
    char *argv[] = {"/bin/busybox", "sh", "-c", argument, NULL};
    int status;
    pid_t pid = start(argv, -1);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int end_system(int how)
{
    sync();
    reboot(how);
    say("init: FAIL the system goes on: %s", strerror(errno));
    return 1;
}

static int answer_poweroff(const char *token, char *argument)
{
    return end_system(RB_POWER_OFF);
}

static int answer_reboot(const char *token, char *argument)
{
    return end_system(RB_AUTOBOOT);
}

static const struct verb {
    const char *name;
    int (*answer)(const char *token, char *argument);
} verbs[] = {
    {"clocks", answer_clocks}, {"complaints", answer_complaints}, {"log", answer_log},
    {"run", answer_run},       {"poweroff", answer_poweroff},     {"reboot", answer_reboot},
};

static void obey(char *line)
{
    char *rest = line + strcspn(line, "\n");
    *rest = '\0';
    char *token = strtok_r(line, " ", &rest), *name = strtok_r(NULL, " ", &rest);
    if (!name)
        return;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].name, name) == 0) {
            say("init: %s %s", token, name);
            say("init: %s done status=%d", token, verbs[i].answer(token, rest ? rest : ""));
            return;
        }
    say("init: %s FAIL unknown verb %s", token, name);
}

static void read_line(void)
{
    char line[LINE_MAX];
    ssize_t n = read(0, line, sizeof(line) - 1);
    if (n <= 0)
        return;
    line[n] = '\0';
    obey(line);
}

static void read_button(int fd)
{
    struct input_event event;
    while (read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event))
        if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
            say("init: power button");
            end_system(RB_POWER_OFF);
        }
}

static void reap(int fd)
{
    struct signalfd_siginfo info;
    int status;
    pid_t pid;
    if (read(fd, &info, sizeof(info)) < 0)
        return;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (int i = 0; i < JUDGES_MAX; i++)
            if (judges[i] == pid)
                say("init: FAIL judge %d ended with status 0x%x", i, status);
}

static int watch_children(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(void)
{
    mount_all();
    open_console();
    set_terminal();
    tell_facts();
    int children = watch_children();
    int button = open("/dev/input/event0", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct pollfd polled[] = {{.fd = 0, .events = POLLIN},
                              {.fd = children, .events = POLLIN},
                              {.fd = button, .events = POLLIN}};
    start_judges();
    for (;;) {
        if (poll(polled, 3, -1) < 0)
            continue;
        if (polled[0].revents)
            read_line();
        if (polled[1].revents)
            reap(children);
        if (polled[2].revents)
            read_button(button);
    }
}
