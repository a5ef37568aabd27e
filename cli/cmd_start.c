/* vmctl start: defines and starts, or starts again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli/act.h"
#include "cli/commands.h"

/* ferryd has another working directory: `path` behind ours. NULL stays NULL. */
static int make_absolute(const char *path, char **out, struct err *err)
{
    CLEAN(clean_free) char *here = NULL;
    *out = NULL;
    if (!path)
        return 0;
    if (path[0] == '/') {
        *out = strdup(path);
    } else {
        here = getcwd(NULL, 0);
        if (!here)
            return err_sys(err, errno, "cannot tell the working directory, needed for '%s'", path);
        if (asprintf(out, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path) < 0)
            *out = NULL;
    }
    return *out ? 0 : err_set(err, ENOMEM, "no memory for a path");
}

int cmd_start(const struct args *args, struct err *err)
{
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    Ferry__StartRequest start = FERRY__START_REQUEST__INIT;
    Ferry__Request request = FERRY__REQUEST__INIT;
    CLEAN(clean_free) char *kernel = NULL;
    CLEAN(clean_free) char *initrd = NULL;
    if (make_absolute(args->kernel, &kernel, err) < 0 ||
        make_absolute(args->initrd, &initrd, err) < 0)
        return -err->code;
    config.name = (char *)args->words[0];
    if (kernel) {
        config.kernel = kernel;
        config.initrd = initrd ? initrd : config.initrd;
        config.cmdline = args->cmdline ? (char *)args->cmdline : config.cmdline;
        config.memory_bytes = args->memory_bytes;
        config.cpus = (uint32_t)args->cpus;
        config.cpu_profile = (char *)args->cpu;
    }
    start.config = &config;
    start.paused = args->paused;
    request.body_case = FERRY__REQUEST__BODY_START;
    request.start = &start;
    const struct act act = {.doing = "starting", .name = args->words[0]};
    return act_run(&act, args, &request, err);
}
