/*
 * server/seeking: a pod with --statefulset that is in no cluster yet: it asks the other pods, and
 * founds a cluster or joins one.
 *
 * Runs before the replica exists, on a loop of its own: only the peer port (for probes) and the
 * metrics port are up. /livez is good, /readyz is not and says why.
 */
#ifndef NABATA_SERVER_SEEKING_H
#define NABATA_SERVER_SEEKING_H

#include "server/internal.h"

/* Until the store has a cluster, or a signal came (s->signal_number). SERVER_EXIT_OK, or an exit
 * code with a line in `message`. */
NB_MUST_USE int server_seek(struct server *s, struct nb_buf *message);

#endif
