/* The record of ownership: what it says, who may write it, and what is made of damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ownership.h"
#include "tests/temp.h"

static const struct uuid uuid = {.bytes = {1, 2, 3}};

struct place {
    char dir[64], path[80];
};

static void make(struct place *p)
{
    assert_true(temp_dir(p->dir, sizeof(p->dir)));
    snprintf(p->path, sizeof(p->path), "%s/record", p->dir);
}

static void drop(const struct place *p)
{
    unlink(p->path);
    assert_int_equal(rmdir(p->dir), 0);
}

static int open_file(const struct place *p)
{
    int fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static struct ownership look(const struct place *p)
{
    struct ownership o;
    struct err err = {0};
    int fd = open_file(p);
    assert_int_equal(ownership_read(&o, fd, &uuid, &err), 0);
    close(fd);
    return o;
}

static void test_what_is_written_is_read(void **state)
{
    struct place p;
    struct ownership o;
    struct err err = {0};
    make(&p);
    assert_int_equal(look(&p).owner, FERRY__OWNER__OWNER_NONE);
    assert_int_equal(ownership_open(&o, open_file(&p), &uuid, &err), 0);
    assert_int_equal(ownership_write(&o, FERRY__OWNER__OWNER_OURS, 7, "there:1", &err), 0);
    assert_int_equal(ownership_write(&o, FERRY__OWNER__OWNER_HANDED_OFF, 7, NULL, &err), 0);
    struct ownership now = look(&p); /* while another holds it */
    assert_int_equal(now.owner, FERRY__OWNER__OWNER_HANDED_OFF);
    assert_int_equal(now.epoch, 7);
    assert_string_equal(now.peer, "there:1");
    ownership_close(&o);
    drop(&p);
}

/* The right to write goes along with the descriptor, and ends with the last copy of it. */
static void test_one_writer(void **state)
{
    struct place p;
    struct ownership first, second, third;
    struct err err = {0};
    make(&p);
    assert_int_equal(ownership_open(&first, open_file(&p), &uuid, &err), 0);
    int passed = dup(first.fd);
    assert_int_equal(ownership_open(&second, open_file(&p), &uuid, &err), -EBUSY);
    ownership_close(&second);
    ownership_close(&first);
    assert_int_equal(ownership_open(&second, open_file(&p), &uuid, &err), -EBUSY);
    ownership_close(&second);
    assert_int_equal(ownership_open(&third, passed, &uuid, &err), 0);
    ownership_close(&third);
    assert_int_equal(ownership_open(&second, open_file(&p), &uuid, &err), 0);
    ownership_close(&second);
    drop(&p);
}

/* A write that was cut short leaves what was said before; nothing whole is no answer at all. */
static void test_damage(void **state)
{
    struct place p;
    struct ownership o;
    struct err err = {0};
    make(&p);
    assert_int_equal(ownership_open(&o, open_file(&p), &uuid, &err), 0);
    assert_int_equal(ownership_write(&o, FERRY__OWNER__OWNER_OURS, 3, "there:1", &err), 0);
    assert_int_equal(ownership_write(&o, FERRY__OWNER__OWNER_HANDED_OFF, 3, NULL, &err), 0);
    assert_int_equal(pwrite(o.fd, "torn", 4, 24), 4);
    assert_int_equal(look(&p).owner, FERRY__OWNER__OWNER_OURS);
    assert_int_equal(pwrite(o.fd, "torn", 4, 4096 + 24), 4);
    struct ownership now;
    assert_int_equal(ownership_read(&now, o.fd, &uuid, &err), -EBADMSG);
    assert_non_null(strstr(err.text, "record of ownership"));
    ownership_close(&o);
    drop(&p);
}

static void test_of_another_guest(void **state)
{
    static const struct uuid other = {.bytes = {9}};
    struct place p;
    struct ownership o, now;
    struct err err = {0};
    make(&p);
    assert_int_equal(ownership_open(&o, open_file(&p), &uuid, &err), 0);
    assert_int_equal(ownership_write(&o, FERRY__OWNER__OWNER_OURS, 3, "there:1", &err), 0);
    assert_int_equal(ownership_read(&now, o.fd, &other, &err), -EBADMSG);
    ownership_close(&o);
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_one_writer),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_of_another_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
