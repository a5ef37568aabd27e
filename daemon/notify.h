/* Telling the service manager: sd_notify by hand, one datagram to $NOTIFY_SOCKET. */
#pragma once

/* Remembers $NOTIFY_SOCKET and takes it out of the environment, so that no worker speaks for us. */
void notify_init(void);

/* E.g. "READY=1". Without a manager, or when it does not listen, nothing happens. */
void notify_send(const char *text);
