/* vmctl start: defines and starts, or starts again. */
#include "base/cleanup.h"
#include "cli/act.h"
#include "cli/commands.h"
#include "cli/disk.h"
#include "cli/net.h"
#include "cli/path.h"

int cmd_start(const struct args *args, struct err *err)
{
    Ferry__MachineConfig config = FERRY__MACHINE_CONFIG__INIT;
    Ferry__StartRequest start = FERRY__START_REQUEST__INIT;
    Ferry__Request request = FERRY__REQUEST__INIT;
    CLEAN(disk_list_fini) struct disk_list disks = {.count = 0};
    CLEAN(net_list_fini) struct net_list nets = {.count = 0};
    CLEAN(clean_free) char *kernel = NULL;
    CLEAN(clean_free) char *initrd = NULL;
    if (path_absolute(args->kernel, &kernel, err) < 0 ||
        path_absolute(args->initrd, &initrd, err) < 0 ||
        disk_list_parse(&disks, &args->disks, err) < 0 ||
        net_list_parse(&nets, &args->nets, err) < 0)
        return -err->code;
    config.name = (char *)args->words[0];
    if (kernel) {
        config.kernel = kernel;
        config.initrd = initrd ? initrd : config.initrd;
        config.cmdline = args->cmdline ? (char *)args->cmdline : config.cmdline;
        config.memory_bytes = args->memory_bytes;
        config.cpus = (uint32_t)args->cpus;
        config.cpu_profile = (char *)args->cpu;
        config.disks = disks.list;
        config.n_disks = disks.count;
        config.nets = nets.list;
        config.n_nets = nets.count;
    }
    start.config = &config;
    start.paused = args->paused;
    request.body_case = FERRY__REQUEST__BODY_START;
    request.start = &start;
    const struct act act = {.doing = "starting", .name = args->words[0]};
    return act_run(&act, args, &request, err);
}
