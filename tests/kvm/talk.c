/* See talk.h. */
#include "tests/kvm/talk.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/now.h"

#define PORT 7
#define PACKET_MAX 9000
#define ASK_MS 5
#define TURN 64 /* packets of one socket before the other has its turn */
#define EXPECT_NS 60000000000ull

static uint32_t mix(uint32_t x)
{
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    return x ^ x >> 16;
}

/* Its length and its bytes follow from its number. */
static size_t make(const struct talk *t, uint32_t number, uint8_t *packet)
{
    size_t bytes = 4 + mix(number ^ t->seed) % 1400;
    memcpy(packet, &number, 4);
    for (size_t i = 4; i < bytes; i++)
        packet[i] = (uint8_t)(mix(number + t->seed) >> (i % 4) * 8) ^ (uint8_t)i;
    return bytes;
}

static void echo(struct talk *t)
{
    uint8_t packet[PACKET_MAX];
    struct sockaddr_in from;
    for (unsigned i = 0; i < TURN; i++) {
        socklen_t len = sizeof(from);
        ssize_t n = recvfrom(t->echo_fd, packet, sizeof(packet), MSG_DONTWAIT,
                             (struct sockaddr *)&from, &len);
        if (n < 0)
            return;
        if (sendto(t->echo_fd, packet, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, len) > 0)
            t->echoed++;
    }
}

static void look(struct talk *t)
{
    uint8_t packet[PACKET_MAX], expected[PACKET_MAX];
    for (unsigned i = 0; i < TURN; i++) {
        uint32_t number;
        ssize_t n = recv(t->ask_fd, packet, sizeof(packet), MSG_DONTWAIT);
        if (n < 0)
            return;
        memcpy(&number, packet, 4);
        if (n >= 4 && number < t->number && make(t, number, expected) == (size_t)n &&
            memcmp(packet, expected, (size_t)n) == 0)
            t->answered++;
        else
            t->wrong++;
    }
}

/* What cannot be sent is lost, as on any network. */
static void ask(struct talk *t)
{
    uint8_t packet[PACKET_MAX];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    inet_pton(AF_INET, TALK_GUEST, &to.sin_addr);
    size_t bytes = make(t, t->number++, packet);
    if (sendto(t->ask_fd, packet, bytes, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) > 0)
        t->asked++;
}

static void *run(void *ctx)
{
    struct talk *t = ctx;
    struct pollfd polls[] = {{.fd = t->stop_fd, .events = POLLIN},
                             {.fd = t->echo_fd, .events = POLLIN},
                             {.fd = t->ask_fd, .events = POLLIN}};
    uint64_t next_ns = now_ns();
    while (poll(polls, 3, ASK_MS) >= 0 && !polls[0].revents) {
        if (polls[1].revents)
            echo(t);
        if (polls[2].revents)
            look(t);
        if (now_ns() < next_ns)
            continue;
        ask(t);
        next_ns = now_ns() + ASK_MS * 1000000ull;
    }
    return NULL;
}

static int open_socket(const char *device, bool bound)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(bound ? PORT : 0)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (device)
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strlen(device)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

void talk_start(struct talk *t, const char *device)
{
    memset(t, 0, sizeof(*t));
    t->seed = mix((uint32_t)now_ns());
    t->echo_fd = open_socket(device, true);
    t->ask_fd = open_socket(device, false);
    t->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&t->thread, NULL, run, t), 0);
}

void talk_stop(struct talk *t)
{
    eventfd_write(t->stop_fd, 1);
    pthread_join(t->thread, NULL);
    close(t->echo_fd);
    close(t->ask_fd);
    close(t->stop_fd);
    assert_int_equal(t->wrong, 0);
}

void talk_expect(struct talk *t, unsigned long more)
{
    unsigned long echoed = t->echoed + more, answered = t->answered + more;
    uint64_t until = now_ns() + EXPECT_NS;
    while (t->echoed < echoed || t->answered < answered) {
        if (now_ns() > until)
            fail_msg("of %lu more packets each way %ld and %ld are missing", more,
                     (long)(echoed - t->echoed), (long)(answered - t->answered));
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
}
