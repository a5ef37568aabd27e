/* A ferryd that is not what it should be, and the limits of a client's patience with it. */
#include "tests/unit/cli/fake_ferryd.h"

#include "cli/client.h"

/* Asks for a version and expects a failure whose sentence has `what` in it. */
static void expect_failure(void (*serve)(struct fake *, int), void *data, const char *what)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__VersionRequest version = FERRY__VERSION_REQUEST__INIT;
    Ferry__Reply *reply = NULL;
    struct fake fake;
    struct err err = {0};
    request.body_case = FERRY__REQUEST__BODY_VERSION;
    request.version = &version;
    fake_start(&fake, serve, data);
    int rc = client_ask(fake.run, &request, FERRY__REPLY__BODY_VERSION, &reply, &err);
    fake_stop(&fake);
    if (rc == 0 || !strstr(err.text, what))
        print_error("%d '%s', not '%s'\n", rc, err.text, what);
    assert_true(rc < 0);
    assert_null(reply);
    assert_non_null(strstr(err.text, what));
}

static void serve_bytes(struct fake *f, int fd)
{
    const struct buf *bytes = f->data;
    Ferry__Request *hello = fake_read(fd);
    frame_free(hello ? &hello->base : NULL);
    fake_write(fd, bytes->data, bytes->len);
    shutdown(fd, SHUT_WR);
    while (fake_read_all(fd, (char[1]){0}, 1))
        ;
}

static void expect_bytes_fail(const void *data, size_t n, const char *what)
{
    struct buf b = {.data = (uint8_t *)data, .len = n};
    expect_failure(serve_bytes, &b, what);
}

static void garbage_is_refused(void **state)
{
    expect_bytes_fail("", 0, "closed the connection");
    expect_bytes_fail("\x05\x00\x00", 3, "closed the connection");
    expect_bytes_fail("\x05\x00\x00\x00xx", 6, "closed the connection");
    expect_bytes_fail("\0\0\0\0", 4, "frame length is 0");
    expect_bytes_fail("\x01\x00\x10\x00", 4, "over the limit");
    expect_bytes_fail("\xff\xff\xff\xff", 4, "over the limit");
    expect_bytes_fail("HTTP/1.1 400 Bad Request\r\n\r\n", 28, "over the limit");
    expect_bytes_fail("\x04\x00\x00\x00\xff\xff\xff\xff", 8, "not a valid Reply");
    expect_bytes_fail("\x02\x00\x00\x00\x22\x7f", 6, "not a valid Reply");
    /* error = "\033" */
    expect_bytes_fail("\x07\x00\x00\x00\x08\x01\x18\x01\x22\x01\x1b", 11, "clean UTF-8");
}

/* What the scripted replies below are made of. */
struct script {
    bool hello;       /* first a proper one */
    int32_t id_shift; /* of the reply, from the request's id */
    Ferry__Reply reply;
    unsigned times;
};

static void serve_script(struct fake *f, int fd)
{
    const struct script *s = f->data;
    Ferry__Reply reply = s->reply;
    if (s->hello && !fake_greet(fd))
        return;
    Ferry__Request *request = fake_read(fd);
    if (!request)
        return;
    reply.id = (uint32_t)((int32_t)request->id + s->id_shift);
    frame_free(&request->base);
    for (unsigned i = 0; i < s->times && fake_send(fd, &reply); i++)
        ;
    while (fake_read_all(fd, (char[1]){0}, 1))
        ;
}

static struct script make_script(bool hello)
{
    struct script s = {.hello = hello, .times = 1, .reply = FERRY__REPLY__INIT};
    s.reply.last = 1;
    return s;
}

static void a_wrong_hello_is_refused(void **state)
{
    struct script s = make_script(false);
    Ferry__Hello hello = FERRY__HELLO__INIT;
    expect_failure(serve_script, &s, "is it a ferryd?");
    s.reply.body_case = FERRY__REPLY__BODY_HELLO;
    s.reply.hello = &hello;
    expect_failure(serve_script, &s, "is it a ferryd?");
    hello.min_version = 1;
    hello.max_version = 2;
    expect_failure(serve_script, &s, "is it a ferryd?");
    hello.min_version = hello.max_version = 2;
    expect_failure(serve_script, &s, "is it a ferryd?");
    hello.min_version = hello.max_version = 1;
    s.reply.last = 0;
    expect_failure(serve_script, &s, "is it a ferryd?");
    s.reply.last = 1;
    s.id_shift = 5;
    expect_failure(serve_script, &s, "not asked (id 6)");
}

static void another_protocol_is_named(void **state)
{
    struct script s = make_script(false);
    Ferry__Hello hello = FERRY__HELLO__INIT;
    hello.min_version = 3;
    hello.max_version = 4;
    s.reply.code = EPROTONOSUPPORT;
    s.reply.body_case = FERRY__REPLY__BODY_HELLO;
    s.reply.hello = &hello;
    expect_failure(serve_script, &s, "speaks protocol 3 to 4");
}

static void a_refused_hello_tells_why(void **state)
{
    struct script s = make_script(false);
    s.reply.code = EACCES;
    s.reply.error = (char *)"you are nobody";
    expect_failure(serve_script, &s, "you are nobody");
    s.id_shift = -1; /* id 0: the connection as a whole */
    expect_failure(serve_script, &s, "you are nobody");
}

static void wrong_answers_are_refused(void **state)
{
    struct script s = make_script(true);
    expect_failure(serve_script, &s, "something else than what was asked");
    s.reply.last = 0;
    expect_failure(serve_script, &s, "in parts");
    s.reply.last = 1;
    s.id_shift = 1;
    expect_failure(serve_script, &s, "not asked");
    s.id_shift = -1; /* the hello's, which is over */
    expect_failure(serve_script, &s, "not asked");
    s.id_shift = -2;
    expect_failure(serve_script, &s, "not asked");
}

static void refusals_are_told(void **state)
{
    struct script s = make_script(true);
    s.reply.code = ENOENT;
    s.reply.error = (char *)"there is no VM 'web'";
    expect_failure(serve_script, &s, "there is no VM 'web'");
    s.reply.error = (char *)"";
    expect_failure(serve_script, &s, "No such file or directory");
    s.reply.code = UINT32_MAX;
    expect_failure(serve_script, &s, "without a reason");
}

static void serve_nothing(struct fake *f, int fd)
{
}

static void an_early_close_is_told(void **state)
{
    expect_failure(serve_nothing, NULL, "closed the connection");
}

static void serve_hello_only(struct fake *f, int fd)
{
    fake_greet(fd);
}

static void a_close_after_the_hello_is_told(void **state)
{
    expect_failure(serve_hello_only, NULL, "closed the connection");
}

static void expect_no_connection(const char *run, bool lost, const char *what)
{
    struct client c;
    struct err err = {0};
    assert_true(client_connect(&c, run, &err) < 0);
    assert_int_equal(c.lost, lost);
    assert_int_equal(c.fd, -1);
    if (!strstr(err.text, what))
        print_error("'%s', not '%s'\n", err.text, what);
    assert_non_null(strstr(err.text, what));
}

static void nobody_there_says_how_to_start(void **state)
{
    char dir[192], path[256], longer[2048];
    struct err err;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(temp_dir(dir, sizeof(dir)));
    expect_no_connection(dir, true, "start one");
    snprintf(path, sizeof(path), "%s/none", dir);
    expect_no_connection(path, true, "ferryd --root DIR --run");
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    expect_no_connection(longer, false, "cannot open the run directory");
    memset(longer, '/', 200);
    snprintf(longer + 200, sizeof(longer) - 200, "no/such/place");
    expect_no_connection(longer, true, "start one");
    /* A socket that a killed ferryd left. */
    snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/ferryd.sock", dir);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
    expect_no_connection(dir, true, "start one");
    assert_int_equal(fs_remove_tree(AT_FDCWD, dir, &err), 0);
}

static void serve_version(struct fake *f, int fd)
{
    Ferry__Reply reply = FERRY__REPLY__INIT;
    Ferry__VersionReply version = FERRY__VERSION_REPLY__INIT;
    Ferry__Request *request;
    if (!fake_greet(fd))
        return;
    while ((request = fake_read(fd))) {
        version.pid = request->id;
        reply.id = request->id;
        reply.last = 1;
        reply.body_case = FERRY__REPLY__BODY_VERSION;
        reply.version = &version;
        frame_free(&request->base);
        fake_send(fd, &reply);
    }
}

static void a_long_path_is_reached(void **state)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__VersionRequest version = FERRY__VERSION_REQUEST__INIT;
    Ferry__Reply *reply = NULL;
    struct fake fake;
    struct err err = {0};
    char run[512];
    int n;
    request.body_case = FERRY__REQUEST__BODY_VERSION;
    request.version = &version;
    fake_start(&fake, serve_version, NULL);
    n = snprintf(run, sizeof(run), "%s", fake.run);
    memset(run + n, '/', 200);
    run[n + 200] = '\0';
    int rc = client_ask(run, &request, FERRY__REPLY__BODY_VERSION, &reply, &err);
    fake_stop(&fake);
    if (rc < 0)
        print_error("%s\n", err.text);
    assert_int_equal(rc, 0);
    assert_int_equal(reply->version->pid, 2);
    client_clean_reply(&reply);
}

static void requests_are_counted(void **state)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__VersionRequest version = FERRY__VERSION_REQUEST__INIT;
    struct client c;
    struct fake fake;
    struct err err = {0};
    request.body_case = FERRY__REQUEST__BODY_VERSION;
    request.version = &version;
    fake_start(&fake, serve_version, NULL);
    assert_int_equal(client_connect(&c, fake.run, &err), 0);
    for (unsigned i = 1; i < CLIENT_OPEN_MAX; i++)
        assert_int_equal(client_post(&c, &request, &err), 0);
    assert_int_equal(client_post(&c, &request, &err), -EBUSY);
    for (unsigned i = 1; i < CLIENT_OPEN_MAX; i++) {
        Ferry__Reply *reply = NULL;
        assert_int_equal(client_wait(&c, -1, -1, &reply, &err), 1);
        assert_int_equal(reply->id, i + 1);
        assert_int_equal(reply->version->pid, i + 1);
        client_clean_reply(&reply);
    }
    assert_int_equal(client_post(&c, &request, &err), 0);
    client_close(&c);
    fake_stop(&fake);
}

/* Reads but never answers, as one that is stopped. */
static void serve_silence(struct fake *f, int fd)
{
    while (fake_read_all(fd, (char[1]){0}, 1))
        ;
}

static void silence_is_no_hello(void **state)
{
    struct client c;
    struct fake fake;
    struct err err = {0};
    Ferry__Reply *reply = NULL;
    fake_start(&fake, serve_silence, NULL);
    assert_int_equal(client_connect(&c, fake.run, &err), 0);
    assert_int_equal(client_wait(&c, -1, 10, &reply, &err), 0);
    c.hello_until_ns = 1; /* its time is over */
    assert_int_equal(client_timeout_ms(&c), 0);
    assert_int_equal(client_wait(&c, -1, -1, &reply, &err), -ETIMEDOUT);
    assert_true(c.lost);
    assert_non_null(strstr(err.text, "does not answer"));
    client_close(&c);
    fake_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(a_wrong_hello_is_refused),
        cmocka_unit_test(another_protocol_is_named),
        cmocka_unit_test(a_refused_hello_tells_why),
        cmocka_unit_test(wrong_answers_are_refused),
        cmocka_unit_test(refusals_are_told),
        cmocka_unit_test(an_early_close_is_told),
        cmocka_unit_test(a_close_after_the_hello_is_told),
        cmocka_unit_test(nobody_there_says_how_to_start),
        cmocka_unit_test(a_long_path_is_reached),
        cmocka_unit_test(requests_are_counted),
        cmocka_unit_test(silence_is_no_hello),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
