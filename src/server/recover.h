/*
 * server/recover: one survivor goes on alone when the quorum is lost for good. [M13]
 *
 * The survivor's data, with everything in its log, committed or not (it may have been acknowledged
 * by members that are gone), becomes the data of a new cluster with this one member: new cluster
 * id, new member id. The old folder is kept beside it as `before-recovery-<time>`. The old
 * cluster's id is remembered in the data and travels with every snapshot, so that members of the
 * old cluster that come back are told that they were removed, instead of making a quorum with those
 * who went on.
 *
 * Crash-safe: all is built in `<data-dir>/recovering/`, marked complete, and moved into place by
 * renames that a restart finishes.
 */
#ifndef NABATA_SERVER_RECOVER_H
#define NABATA_SERVER_RECOVER_H

#include "machine/machine.h"

enum { SERVER_FORMER_COUNT_MAX = 64 };

/* What a data folder holds. */
struct server_survivor {
    uint64_t cluster_id, member_id;
    uint64_t term;                  /* the highest it has seen */
    uint64_t last_index, last_term; /* of its log */
    uint64_t applied_index;         /* in its backend */
    struct machine_members members; /* owned; as of applied_index */
};

void server_survivor_deinit(struct server_survivor *s);

/* Reads without changing anything, also while a server runs there. On failure an exit code of
 * server.h, and a line in `message`. */
NB_MUST_USE int server_recover_look(const char *data_dir, struct server_survivor *out,
                                    struct nb_buf *message);

/* Does it; `message` gets lines that tell what was done, or why not. NB_LOCKED's exit code is
 * SERVER_EXIT_START with `*out_running` set: a server runs there, see server_recover_order. */
NB_MUST_USE int server_recover(const char *data_dir, uint64_t cluster_id, bool *out_running,
                               struct nb_buf *message);

/* Leaves the order for the next start of the server in that folder. */
NB_MUST_USE int server_recover_order(const char *data_dir, uint64_t cluster_id,
                                     struct nb_buf *message);
/* At a start, before the folder is opened: finishes a recovery that a crash interrupted, and
 * carries out an order. `out_done` tells whether anything was done. */
NB_MUST_USE int server_recover_ordered(const char *data_dir, bool *out_done,
                                       struct nb_buf *message);

/* Ids of the clusters that this one went on from; the count. */
size_t server_former_clusters(struct backend *b, uint64_t out[SERVER_FORMER_COUNT_MAX]);

#endif
