/* vmctl stop: the power button, then patience, then ferryd kills. */
#include "base/cleanup.h"
#include "base/units.h"
#include "cli/act.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "cli/vm.h"

/* Done is done, but a guest that had to be killed may have lost what it did not write. */
static void tell_if_killed(const struct args *args)
{
    CLEAN(client_clean_reply) Ferry__Reply *reply = NULL;
    struct err ignored; /* removed or started again since: nothing to tell */
    char limit[32];
    if (vm_ask(args->run, args->words[0], &reply, &ignored) < 0)
        return;
    const Ferry__VmDetail *vm = reply->vm;
    if (!vm_is_alive(vm->summary->state) && vm->ending &&
        vm->ending->kind == FERRY__END_KIND__END_KILLED)
        text_note("'%s' did not switch itself off within %s and was killed", args->words[0],
                  units_format_time(args->timeout_ms, limit, sizeof(limit)));
}

int cmd_stop(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__StopRequest body = FERRY__STOP_REQUEST__INIT;
    const struct act act = {.doing = "stopping", .name = args->words[0]};
    body.name = (char *)act.name;
    body.timeout_ms = args->timeout_ms;
    request.body_case = FERRY__REQUEST__BODY_STOP;
    request.stop = &body;
    int rc = act_run(&act, args, &request, err);
    if (rc == 0)
        tell_if_killed(args);
    return rc;
}
