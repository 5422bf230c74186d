#include "server/metrics.h"

#include <inttypes.h>
#include <stdio.h>

void server_metrics_round_trip(struct server_metrics *m, uint64_t id, uint64_t round_trip_ns)
{
    size_t i = 0;
    while (i < PEER_COUNT_MAX && m->round_trips[i].id != id && m->round_trips[i].id != 0) {
        i++;
    }
    if (i == PEER_COUNT_MAX) {
        return;
    }
    if (m->round_trips[i].id == 0) {
        m->round_trips[i].id = id;
        nb_histogram_init(&m->round_trips[i].seconds, 0.0001, 2, 16);
    }
    nb_histogram_observe_ns(&m->round_trips[i].seconds, round_trip_ns);
}

static uint64_t sent_bytes(const struct peer_status *p)
{
    return p->sent_bytes;
}

static uint64_t received_bytes(const struct peer_status *p)
{
    return p->received_bytes;
}

static uint64_t sent_failures(const struct peer_status *p)
{
    return p->sent_failures;
}

static uint64_t received_failures(const struct peer_status *p)
{
    return p->received_failures;
}

static uint64_t active(const struct peer_status *p)
{
    return p->control_up;
}

static uint64_t known(const struct peer_status *p)
{
    (void)p;
    return 1;
}

static uint64_t disconnected(const struct peer_status *p)
{
    return p->down_count;
}

static const struct row {
    const char *name, *type, *help;
    const char *remote_label; /* NULL: Local and Remote */
    uint64_t (*value)(const struct peer_status *p);
} rows[] = {
    {"etcd_network_peer_sent_bytes_total", "counter", "The total number of bytes sent to peers.",
     "To", sent_bytes},
    {"etcd_network_peer_received_bytes_total", "counter",
     "The total number of bytes received from peers.", "From", received_bytes},
    {"etcd_network_peer_sent_failures_total", "counter",
     "The total number of send failures from peers.", "To", sent_failures},
    {"etcd_network_peer_received_failures_total", "counter",
     "The total number of receive failures from peers.", "From", received_failures},
    {"etcd_network_active_peers", "gauge", "The current number of active peer connections.", NULL,
     active},
    {"etcd_network_known_peers", "gauge", "The current number of known peers.", NULL, known},
    {"etcd_network_disconnected_peers_total", "counter", "The total number of disconnected peers.",
     NULL, disconnected},
};

void server_metrics_write(const struct server_metrics *m, const struct peer_transport *peers,
                          uint64_t local, struct nb_buf *out)
{
    uint64_t ids[PEER_COUNT_MAX];
    size_t count = peer_transport_ids(peers, ids);
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        nb_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[i].name, rows[i].help, rows[i].name,
                      rows[i].type);
        for (size_t k = 0; k < count; k++) {
            struct peer_status p;
            if (!peer_status_of(peers, ids[k], &p)) {
                continue;
            }
            if (rows[i].remote_label != NULL) {
                nb_buf_printf(out, "%s{%s=\"%" PRIx64 "\"} %" PRIu64 "\n", rows[i].name,
                              rows[i].remote_label, ids[k], rows[i].value(&p));
            } else {
                nb_buf_printf(out, "%s{Local=\"%" PRIx64 "\",Remote=\"%" PRIx64 "\"} %" PRIu64 "\n",
                              rows[i].name, local, ids[k], rows[i].value(&p));
            }
        }
    }
    nb_buf_append_str(out, "# HELP etcd_network_peer_round_trip_time_seconds Round-Trip-Time "
                           "histogram between peers\n"
                           "# TYPE etcd_network_peer_round_trip_time_seconds histogram\n");
    for (size_t i = 0; i < PEER_COUNT_MAX && m->round_trips[i].id != 0; i++) {
        char label[64];
        (void)snprintf(label, sizeof label, "To=\"%" PRIx64 "\"", m->round_trips[i].id);
        nb_histogram_write(&m->round_trips[i].seconds, "etcd_network_peer_round_trip_time_seconds",
                           label, out);
    }
}
