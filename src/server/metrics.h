/*
 * server/metrics: what /metrics shows of the peers.
 */
#ifndef NABATA_SERVER_METRICS_H
#define NABATA_SERVER_METRICS_H

#include "base/histogram.h"
#include "peer/peer.h"
#include "server/config.h"

/* Transfers of snapshots with one member, one way. */
struct server_transfers {
    uint64_t id; /* 0: unused */
    uint64_t success, failure, running;
    uint64_t begun_ns;
    struct nb_histogram seconds;
};

struct server_metrics {
    struct server_transfers sent[PEER_COUNT_MAX], received[PEER_COUNT_MAX];
    struct nb_histogram snapshot_sync, snapshot_save; /* of received ones */
    bool gates[SERVER_GATE_COUNT];
    struct server_round_trips {
        uint64_t id; /* 0: unused */
        struct nb_histogram seconds;
    } round_trips[PEER_COUNT_MAX];
};

void server_metrics_init(struct server_metrics *m, const bool gates[SERVER_GATE_COUNT]);
/* A transfer with member `id` begins; ends. More members than the bound are not counted. */
void server_metrics_transfer_begin(struct server_transfers all[PEER_COUNT_MAX], uint64_t id);
void server_metrics_transfer_end(struct server_transfers all[PEER_COUNT_MAX], uint64_t id,
                                 bool good);
void server_metrics_round_trip(struct server_metrics *m, uint64_t id, uint64_t round_trip_ns);
/* Appends the rows of all peers as Prometheus text; `local` is this member. */
void server_metrics_write(const struct server_metrics *m, const struct peer_transport *peers,
                          uint64_t local, struct nb_buf *out);

#endif
