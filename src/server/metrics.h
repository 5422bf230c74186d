/*
 * server/metrics: what /metrics shows of the peers.
 */
#ifndef NABATA_SERVER_METRICS_H
#define NABATA_SERVER_METRICS_H

#include "base/histogram.h"
#include "peer/peer.h"

struct server_metrics {
    struct server_round_trips {
        uint64_t id; /* 0: unused */
        struct nb_histogram seconds;
    } round_trips[PEER_COUNT_MAX];
};

void server_metrics_round_trip(struct server_metrics *m, uint64_t id, uint64_t round_trip_ns);
/* Appends the rows of all peers as Prometheus text; `local` is this member. */
void server_metrics_write(const struct server_metrics *m, const struct peer_transport *peers,
                          uint64_t local, struct nb_buf *out);

#endif
