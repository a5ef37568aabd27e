/* What stands against a guest that is to come here; every reason, each as one sentence. */
#pragma once

#include "daemon/daemon.h"
#include "proto/migrate.pb-c.h"

#define REASONS_MAX 16u

struct reasons {
    char *texts[REASONS_MAX]; /* owned */
    unsigned count;
};

/* Takes the sentence of an error; what does not fit is left out. */
void reasons_add(struct reasons *r, const struct err *why);
void reasons_fini(struct reasons *r);

/* Completes the offer's config on the way. */
void preflight(struct daemon *d, Ferry__PeerOffer *offer, struct reasons *r);
