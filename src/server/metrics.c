#include "server/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

void server_metrics_init(struct server_metrics *m, const bool gates[SERVER_GATE_COUNT])
{
    *m = (struct server_metrics){0};
    memcpy(m->gates, gates, sizeof m->gates);
    nb_histogram_init(&m->snapshot_sync, 0.001, 2, 14);
    nb_histogram_init(&m->snapshot_save, 0.1, 2, 10);
}

/* The row of a member, made when there is none; NULL: no room for it. */
static struct server_transfers *transfers_of(struct server_transfers all[PEER_COUNT_MAX],
                                             uint64_t id)
{
    for (size_t i = 0; i < PEER_COUNT_MAX; i++) {
        if (all[i].id == id) {
            return &all[i];
        }
        if (all[i].id == 0) {
            all[i].id = id;
            nb_histogram_init(&all[i].seconds, 0.1, 2, 10);
            return &all[i];
        }
    }
    return NULL;
}

void server_metrics_transfer_begin(struct server_transfers all[PEER_COUNT_MAX], uint64_t id)
{
    struct server_transfers *t = transfers_of(all, id);
    if (t != NULL) {
        t->running++;
        t->begun_ns = net_now_ns();
    }
}

void server_metrics_transfer_end(struct server_transfers all[PEER_COUNT_MAX], uint64_t id,
                                 bool good)
{
    struct server_transfers *t = transfers_of(all, id);
    if (t == NULL || t->running == 0) {
        return;
    }
    t->running--;
    t->success += good ? 1 : 0;
    t->failure += good ? 0 : 1;
    if (good) {
        nb_histogram_observe_ns(&t->seconds, net_now_ns() - t->begun_ns);
    }
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

/* Rows of one number a member. */
static void write_transfer_row(const struct server_transfers all[PEER_COUNT_MAX], const char *way,
                               const char *label, const char *what, const char *type, size_t offset,
                               struct nb_buf *out)
{
    nb_buf_printf(out,
                  "# HELP etcd_network_snapshot_%s_%s Snapshots exchanged with a member.\n"
                  "# TYPE etcd_network_snapshot_%s_%s %s\n",
                  way, what, way, what, type);
    for (size_t i = 0; i < PEER_COUNT_MAX && all[i].id != 0; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&all[i] + offset, sizeof value);
        nb_buf_printf(out, "etcd_network_snapshot_%s_%s{%s=\"%" PRIx64 "\"} %" PRIu64 "\n", way,
                      what, label, all[i].id, value);
    }
}

static void write_transfers(const struct server_transfers all[PEER_COUNT_MAX], const char *way,
                            const char *label, struct nb_buf *out)
{
    char name[80], labels[64];
    if (all[0].id == 0) {
        return; /* as etcd's: no family before there is a series */
    }
    write_transfer_row(all, way, label, "success", "counter",
                       offsetof(struct server_transfers, success), out);
    write_transfer_row(all, way, label, "failures", "counter",
                       offsetof(struct server_transfers, failure), out);
    write_transfer_row(all, way, label, "inflights_total", "gauge",
                       offsetof(struct server_transfers, running), out);
    (void)snprintf(name, sizeof name, "etcd_network_snapshot_%s_total_duration_seconds", way);
    nb_buf_printf(out,
                  "# HELP %s Total latency distributions of v3 snapshot %ss\n# TYPE %s histogram\n",
                  name, way, name);
    for (size_t i = 0; i < PEER_COUNT_MAX && all[i].id != 0; i++) {
        (void)snprintf(labels, sizeof labels, "%s=\"%" PRIx64 "\"", label, all[i].id);
        nb_histogram_write(&all[i].seconds, name, labels, out);
    }
}

static void write_files(const struct server_metrics *m, struct nb_buf *out)
{
    nb_buf_append_str(out, "# HELP etcd_snap_db_fsync_duration_seconds The latency distributions "
                           "of fsyncing .snap.db file\n"
                           "# TYPE etcd_snap_db_fsync_duration_seconds histogram\n");
    nb_histogram_write(&m->snapshot_sync, "etcd_snap_db_fsync_duration_seconds", "", out);
    nb_buf_append_str(out, "# HELP etcd_snap_db_save_total_duration_seconds The total latency "
                           "distributions of v3 snapshot save\n"
                           "# TYPE etcd_snap_db_save_total_duration_seconds histogram\n");
    nb_histogram_write(&m->snapshot_save, "etcd_snap_db_save_total_duration_seconds", "", out);
}

static void write_gates(const struct server_metrics *m, struct nb_buf *out)
{
    nb_buf_append_str(out, "# HELP etcd_server_feature_enabled Whether or not a feature is "
                           "enabled. 1 is enabled, 0 is not.\n"
                           "# TYPE etcd_server_feature_enabled gauge\n");
    for (size_t i = 0; i < SERVER_GATE_COUNT; i++) {
        nb_buf_printf(out, "etcd_server_feature_enabled{name=\"%s\",stage=\"%s\"} %d\n",
                      server_gate_name((enum server_gate)i), server_gate_stage((enum server_gate)i),
                      m->gates[i]);
    }
}

void server_metrics_write(const struct server_metrics *m, const struct peer_transport *peers,
                          uint64_t local, struct nb_buf *out)
{
    write_transfers(m->sent, "send", "To", out);
    write_transfers(m->received, "receive", "From", out);
    write_files(m, out);
    write_gates(m, out);
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
