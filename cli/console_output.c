/* See console_output.h. */
#include "cli/console_output.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/json.h"
#include "cli/text.h"
#include "cli/tty.h"

/* No more is taken from ferryd while this much waits... */
#define PENDING_HIGH (64u << 10)

/* ...so the buffer holds that and one reply of FRAME_BODY_MAX, which JSON makes up to 8 times as
 * long. */
#define PENDING_MAX (16u << 20)

void console_output_init(struct console_output *out, bool json)
{
    int fd = tty_open_nonblock(STDOUT_FILENO);
    *out = (struct console_output){.fd = fd < 0 ? STDOUT_FILENO : fd,
                                   .json = json,
                                   .terminal = !json && isatty(STDOUT_FILENO)};
    buf_init(&out->pending, PENDING_MAX);
}

void console_output_fini(struct console_output *out)
{
    if (out->fd != STDOUT_FILENO)
        clean_fd(&out->fd);
    buf_fini(&out->pending);
}

bool console_output_wants(const struct console_output *out)
{
    return out->pending.len < PENDING_HIGH;
}

static int add_json(struct console_output *out, const Ferry__ConsoleOutput *said, struct err *err)
{
    CLEAN(clean_free) char *line = NULL;
    size_t size;
    struct json j;
    FILE *f = open_memstream(&line, &size);
    if (!f)
        return err_sys(err, errno, "no memory for a line of JSON");
    json_begin(&j, f);
    json_object(&j, NULL);
    json_u64(&j, "offset", said->offset);
    json_string_n(&j, "text", said->data.data, said->data.len);
    json_base64(&j, "base64", said->data.data, said->data.len);
    int rc = json_finish(&j, err);
    if (fclose(f) != 0 || (rc == 0 && buf_append(&out->pending, line, size) < 0))
        rc = err_set(err, ENOBUFS, "no room for a line of JSON");
    return rc;
}

/* A tail begins anywhere: what is left of its first line, maybe half an escape sequence, goes. */
static size_t skip_part_line(const struct console_output *out, const Ferry__ConsoleOutput *said)
{
    if (out->begun || !out->terminal || said->offset == 0)
        return 0;
    const uint8_t *newline = memchr(said->data.data, '\n', said->data.len);
    return newline ? (size_t)(newline - said->data.data) + 1 : 0;
}

int console_output_add(struct console_output *out, const Ferry__ConsoleOutput *said,
                       struct err *err)
{
    if (said->data.len == 0)
        return 0;
    if (out->begun && said->offset > out->offset)
        text_note("%" PRIu64 " bytes are missing here: the guest spoke faster than they were read",
                  said->offset - out->offset);
    size_t skip = skip_part_line(out, said);
    out->begun = true;
    out->offset = said->offset + said->data.len;
    if (out->json)
        return add_json(out, said, err);
    if (buf_append(&out->pending, said->data.data + skip, said->data.len - skip) < 0)
        return err_set(err, ENOBUFS, "no room for what the guest said");
    return 0;
}

int console_output_pump(struct console_output *out, short revents, struct err *err)
{
    size_t n = out->pending.len;
    if (revents & (POLLERR | POLLHUP | POLLNVAL))
        out->closed = true;
    if (!(revents & POLLOUT) || n == 0)
        return 0;
    /* A descriptor that blocks takes this much without blocking when it is writable. */
    if (out->fd == STDOUT_FILENO && n > PIPE_BUF)
        n = PIPE_BUF;
    ssize_t done = write(out->fd, out->pending.data, n);
    if (done > 0)
        buf_consume(&out->pending, (size_t)done);
    else if (done < 0 && (errno == EPIPE || errno == EIO))
        out->closed = true;
    else if (done < 0 && errno != EAGAIN && errno != EINTR)
        return err_sys(err, errno, "cannot write what the guest said");
    return 0;
}
