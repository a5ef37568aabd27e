/* See counters.h. */
#include "machine/counters.h"

static const char *const names[COUNTER_KINDS] = {
    [COUNTER_PORT_IN] = "exits_port_in",     [COUNTER_PORT_OUT] = "exits_port_out",
    [COUNTER_MMIO_READ] = "exits_mmio_read", [COUNTER_MMIO_WRITE] = "exits_mmio_write",
    [COUNTER_UNCLAIMED] = "exits_unclaimed", [COUNTER_HLT] = "exits_hlt",
    [COUNTER_SIGNAL] = "exits_signal",       [COUNTER_SYSTEM_EVENT] = "exits_system_event",
    [COUNTER_FAULT] = "exits_fault",         [COUNTER_OTHER] = "exits_other",
};

const char *counter_name(enum counter_kind kind)
{
    return names[kind];
}
