/* vmctl kill, reset, rm, pause, resume: one request with a name each. */
#include "cli/act.h"
#include "cli/commands.h"

int cmd_kill(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__KillRequest body = FERRY__KILL_REQUEST__INIT;
    const struct act act = {.doing = "killing", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_KILL;
    request.kill = &body;
    return act_run(&act, args, &request, err);
}

int cmd_reset(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ResetRequest body = FERRY__RESET_REQUEST__INIT;
    const struct act act = {.doing = "resetting", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_RESET;
    request.reset = &body;
    return act_run(&act, args, &request, err);
}

int cmd_remove(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__RemoveRequest body = FERRY__REMOVE_REQUEST__INIT;
    const struct act act = {.doing = "removing", .name = args->words[0], .gone = true};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_REMOVE;
    request.remove = &body;
    return act_run(&act, args, &request, err);
}

int cmd_pause(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__PauseRequest body = FERRY__PAUSE_REQUEST__INIT;
    const struct act act = {.doing = "pausing", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_PAUSE;
    request.pause = &body;
    return act_run(&act, args, &request, err);
}

int cmd_resume(const struct args *args, struct err *err)
{
    Ferry__Request request = FERRY__REQUEST__INIT;
    Ferry__ResumeRequest body = FERRY__RESUME_REQUEST__INIT;
    const struct act act = {.doing = "resuming", .name = args->words[0]};
    body.name = (char *)act.name;
    request.body_case = FERRY__REQUEST__BODY_RESUME;
    request.resume = &body;
    return act_run(&act, args, &request, err);
}
