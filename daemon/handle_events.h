/* Those who follow the events of a daemon. [loop] */
#pragma once

/* `ctx` is the daemon; called behind every event that is added. */
void handle_events_added(void *ctx);
