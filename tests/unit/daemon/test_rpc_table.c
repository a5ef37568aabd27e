/* The table of requests: nothing is allowed that no row allows, and refusals say what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "daemon/registry.h"
#include "daemon/rpc_table.h"

#define BODY(name) FERRY__REQUEST__BODY_##name

static void test_default_is_no(void **state)
{
    assert_null(rpc_table_find(BODY(_NOT_SET)));
    assert_null(rpc_table_find(BODY(HELLO)));
    assert_null(rpc_table_find(BODY(CANCEL)));
    assert_null(rpc_table_find((Ferry__Request__BodyCase)1));
    assert_null(rpc_table_find((Ferry__Request__BodyCase)1000));
    assert_null(rpc_table_find((Ferry__Request__BodyCase)-1));
}

/* A request of the .proto without a row would be one that was forgotten. */
static void test_every_request_has_a_row(void **state)
{
    const ProtobufCMessageDescriptor *d = &ferry__request__descriptor;
    for (unsigned i = 0; i < d->n_fields; i++) {
        uint32_t tag = d->fields[i].id;
        if (tag == 1 || tag == BODY(HELLO) || tag == BODY(CANCEL))
            continue;
        const struct rpc_row *row = rpc_table_find((Ferry__Request__BodyCase)tag);
        if (!row)
            fail_msg("%s has no row", d->fields[i].name);
        assert_non_null(row->handle);
        assert_true(row->privilege == PRIVILEGE_READ || row->privilege == PRIVILEGE_MANAGE);
        assert_int_equal(row->about_vm && row->states == 0, 0);
    }
}

/* What changes something, or shows what people type, is not for readers. */
static void test_readers_only_read(void **state)
{
    static const Ferry__Request__BodyCase manage[] = {
        BODY(START), BODY(STOP),   BODY(KILL),    BODY(RESET),        BODY(REMOVE),
        BODY(PAUSE), BODY(RESUME), BODY(CONSOLE), BODY(CONSOLE_INPUT)};
    for (size_t i = 0; i < sizeof(manage) / sizeof(manage[0]); i++)
        assert_int_equal(rpc_table_find(manage[i])->privilege, PRIVILEGE_MANAGE);
}

static void expect(Ferry__Request__BodyCase what, Ferry__VmState vm, const char *sentence)
{
    struct err err = {0};
    const struct rpc_row *row = rpc_table_find(what);
    assert_false(row->states & SM_TO(vm));
    assert_true(rpc_table_refuse_state(row, "web", vm, &err) < 0);
    assert_string_equal(err.text, sentence);
}

static void test_sentences(void **state)
{
    expect(BODY(PAUSE), FERRY__VM_STATE__VM_STOPPED, "'web' is stopped: start it first");
    expect(BODY(PAUSE), FERRY__VM_STATE__VM_PAUSED, "'web' is paused already");
    expect(BODY(RESUME), FERRY__VM_STATE__VM_RUNNING, "'web' is not paused");
    expect(BODY(KILL), FERRY__VM_STATE__VM_CRASHED, "'web' does not run: it is crashed");
    expect(BODY(REMOVE), FERRY__VM_STATE__VM_RUNNING, "'web' is running: stop or kill it first");
    expect(BODY(START), FERRY__VM_STATE__VM_PAUSED, "'web' is paused already");
    expect(BODY(STATS), FERRY__VM_STATE__VM_STARTING,
           "'web' is starting: wait until it runs, or kill it");
    expect(BODY(STOP), FERRY__VM_STATE__VM_FAILED,
           "'web' is failed: show tells how; reset, kill or rm it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_no),
        cmocka_unit_test(test_every_request_has_a_row),
        cmocka_unit_test(test_readers_only_read),
        cmocka_unit_test(test_sentences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
