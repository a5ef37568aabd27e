/* See interrupt.h. */
#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/cleanup.h"

static const int numbers[INTERRUPT_SIGNALS] = {SIGINT, SIGTERM, SIGHUP};
static int wake_fd = -1;
static volatile sig_atomic_t came;

static void on_signal(int number)
{
    int saved = errno;
    came = 1;
    if (write(wake_fd, "", 1) < 0)
        came = 1; /* a full pipe wakes as well */
    errno = saved;
}

int interrupt_open(struct interrupt *i, bool once, struct err *err)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = once ? SA_RESETHAND : 0};
    int fds[2];
    sigemptyset(&action.sa_mask);
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, errno, "cannot make a pipe");
    i->fd = fds[0];
    wake_fd = fds[1];
    came = 0;
    for (unsigned n = 0; n < INTERRUPT_SIGNALS; n++) {
        sigaction(numbers[n], NULL, &i->before[n]);
        if (i->before[n].sa_handler != SIG_IGN)
            sigaction(numbers[n], &action, NULL);
    }
    return 0;
}

void interrupt_close(struct interrupt *i)
{
    if (i->fd < 0)
        return;
    for (unsigned n = 0; n < INTERRUPT_SIGNALS; n++)
        sigaction(numbers[n], &i->before[n], NULL);
    clean_fd(&i->fd);
    clean_fd(&wake_fd);
}

bool interrupt_came(const struct interrupt *i)
{
    return i->fd >= 0 && came;
}
