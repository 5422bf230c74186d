/* api/metrics_page: /metrics, row by row. Names, types, labels and buckets are etcd's. */
#include "api/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void head(struct nb_buf *out, const char *name, const char *type, const char *help)
{
    nb_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void number(struct nb_buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    head(out, name, type, help);
    nb_buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void histogram(struct nb_buf *out, const char *name, const char *help,
                      const struct nb_histogram *h)
{
    head(out, name, "histogram", help);
    nb_histogram_write(h, name, "", out);
}

/* One series of a family that exists only as far as there is something to show; `*begun` says
 * whether its head is there already. */
static void series(struct nb_buf *out, bool *begun, const char *name, const char *help,
                   const char *labels, const struct nb_histogram *h)
{
    if (h->count == 0) {
        return;
    }
    if (!*begun) {
        head(out, name, "histogram", help);
        *begun = true;
    }
    nb_histogram_write(h, name, labels, out);
}

/* Text between the quotes of a label. */
static void label_text(struct nb_buf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            nb_buf_append_str(out, "\\n");
            continue;
        }
        if (*text == '"' || *text == '\\') {
            nb_buf_append(out, "\\", 1);
        }
        nb_buf_append(out, text, 1);
    }
}

/* ---- calls ---- */

/* "/etcdserverpb.KV/Range" as labels of grpc_server_*. */
static void method_labels(const struct rpc_method *method, char *to, size_t size)
{
    static const char *const types[] = {"unary", "server_stream", "bidi_stream"};
    const char *service = method->path + 1;
    const char *slash = strchr(service, '/');
    nb_assert(slash != NULL);
    (void)snprintf(to, size, "grpc_method=\"%s\",grpc_service=\"%.*s\",grpc_type=\"%s\"", slash + 1,
                   (int)(slash - service), service, types[method->kind]);
}

/* A counter for each method; `offset` finds it in struct api_method_metrics. */
static void write_method_counter(const struct api_metrics *m, const char *name, const char *help,
                                 size_t offset, struct nb_buf *out)
{
    char labels[256];
    head(out, name, "counter", help);
    for (size_t i = 0; i < m->method_count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&m->methods[i] + offset, sizeof value);
        method_labels(m->methods[i].method, labels, sizeof labels);
        nb_buf_printf(out, "%s{%s} %" PRIu64 "\n", name, labels, value);
    }
}

static void write_handling(const struct api_metrics *m, struct nb_buf *out)
{
    char labels[256];
    head(out, "grpc_server_handling_seconds", "histogram",
         "Histogram of response latency (seconds) of gRPC that had been application-level handled "
         "by the server.");
    for (size_t i = 0; i < m->method_count; i++) {
        const struct api_method_metrics *c = &m->methods[i];
        uint64_t sum = 0;
        method_labels(c->method, labels, sizeof labels);
        for (size_t b = 0; b < API_HANDLING_BUCKET_COUNT; b++) {
            sum += c->took[b];
            nb_buf_printf(out, "grpc_server_handling_seconds_bucket{%s,le=\"%g\"} %" PRIu64 "\n",
                          labels, api_handling_bounds[b], sum);
        }
        nb_buf_printf(out, "grpc_server_handling_seconds_bucket{%s,le=\"+Inf\"} %" PRIu64 "\n",
                      labels, c->took_count);
        nb_buf_printf(out, "grpc_server_handling_seconds_sum{%s} %.9g\n", labels, c->took_s);
        nb_buf_printf(out, "grpc_server_handling_seconds_count{%s} %" PRIu64 "\n", labels,
                      c->took_count);
    }
}

static void write_calls(const struct api_metrics *m, struct nb_buf *out)
{
    char labels[256];
    write_method_counter(m, "grpc_server_started_total",
                         "Total number of RPCs started on the server.",
                         offsetof(struct api_method_metrics, started), out);
    write_method_counter(m, "grpc_server_msg_received_total",
                         "Total number of RPC stream messages received on the server.",
                         offsetof(struct api_method_metrics, received), out);
    write_method_counter(m, "grpc_server_msg_sent_total",
                         "Total number of gRPC stream messages sent by the server.",
                         offsetof(struct api_method_metrics, sent), out);
    head(out, "grpc_server_handled_total", "counter",
         "Total number of RPCs completed on the server, regardless of success or failure.");
    for (size_t i = 0; i < m->method_count; i++) {
        method_labels(m->methods[i].method, labels, sizeof labels);
        for (int code = 0; code < RPC_STATUS_COUNT; code++) {
            nb_buf_printf(out, "grpc_server_handled_total{grpc_code=\"%s\",%s} %" PRIu64 "\n",
                          rpc_status_name((enum rpc_status)code), labels,
                          m->methods[i].handled[code]);
        }
    }
    if (m->extensive) {
        write_handling(m, out);
    }
    number(out, "etcd_network_client_grpc_received_bytes_total", "counter",
           "The total number of bytes received from grpc clients.", m->received_bytes);
    number(out, "etcd_network_client_grpc_sent_bytes_total", "counter",
           "The total number of bytes sent to grpc clients.", m->sent_bytes);
}

static void write_clients(const struct api_metrics *m, struct nb_buf *out)
{
    bool begun = false;
    for (size_t i = 0; i < m->version_count; i++) {
        const struct api_client_version *v = &m->versions[i];
        for (int stream = 0; stream < 2; stream++) {
            uint64_t count = stream ? v->stream : v->unary;
            if (count == 0) {
                continue;
            }
            if (!begun) {
                head(out, "etcd_server_client_requests_total", "counter",
                     "The total number of client requests per client version.");
                begun = true;
            }
            nb_buf_append_str(out, "etcd_server_client_requests_total{client_api_version=\"");
            label_text(out, v->text);
            nb_buf_printf(out, "\",type=\"%s\"} %" PRIu64 "\n", stream ? "stream" : "unary", count);
        }
    }
}

/* ---- probes ---- */

static void write_check(const struct api_metrics *m, bool totals, struct nb_buf *out)
{
    static const char *const probes[] = {"livez", "readyz"};
    bool begun = false;
    for (size_t p = 0; p < API_PROBE_COUNT; p++) {
        for (unsigned c = 0; c < API_CHECK_COUNT_MAX; c++) {
            const struct api_check_metrics *k = &m->checks[p][c];
            if (k->good + k->bad == 0) {
                continue;
            }
            if (!begun && totals) {
                head(out, "etcd_server_healthchecks_total", "counter",
                     "The total number of each health check type, name and status.");
            } else if (!begun) {
                head(out, "etcd_server_healthcheck", "gauge",
                     "The result of each kind of healthcheck.");
            }
            begun = true;
            for (int good = 0; totals && good < 2; good++) {
                if ((good ? k->good : k->bad) != 0) {
                    nb_buf_printf(out,
                                  "etcd_server_healthchecks_total{name=\"%s\",status=\"%s\","
                                  "type=\"%s\"} %" PRIu64 "\n",
                                  api_check_name(c), good ? "success" : "error", probes[p],
                                  good ? k->good : k->bad);
                }
            }
            if (!totals) {
                nb_buf_printf(out, "etcd_server_healthcheck{name=\"%s\",type=\"%s\"} %d\n",
                              api_check_name(c), probes[p], k->last_good);
            }
        }
    }
}

static void write_probes(const struct api_metrics *m, struct nb_buf *out)
{
    number(out, "etcd_server_health_success", "counter",
           "The total number of successful health checks", m->health_success);
    number(out, "etcd_server_health_failures", "counter",
           "The total number of failed health checks", m->health_failure);
    write_check(m, false, out);
    write_check(m, true, out);
    head(out, "promhttp_metric_handler_requests_total", "counter",
         "Total number of scrapes by HTTP status code.");
    nb_buf_printf(out, "promhttp_metric_handler_requests_total{code=\"200\"} %" PRIu64 "\n",
                  m->page_count);
}

/* ---- the replica ---- */

/* As etcd names what its log holds. */
static const char *operation_name(unsigned kind)
{
    static const char *const names[MACHINE_KIND_END] = {
        [MACHINE_PUT] = "Put",
        [MACHINE_DELETE_RANGE] = "DeleteRange",
        [MACHINE_TXN] = "Txn",
        [MACHINE_COMPACTION] = "Compaction",
        [MACHINE_MEMBER_ATTRIBUTES] = "ClusterMemberAttrSet",
        [MACHINE_CLUSTER_VERSION] = "ClusterVersionSet",
        [MACHINE_ALARM] = "Alarm",
    };
    return kind < MACHINE_KIND_END && names[kind] != NULL ? names[kind] : machine_kind_name(kind);
}

static void write_durations(const struct api_metrics *m, const struct replica_timings *t,
                            struct nb_buf *out)
{
    static const char *const truth[] = {"false", "true"};
    static const char *const reads[] = {"Range", "ReadonlyTxn"};
    char labels[128];
    bool begun = false;
    for (unsigned kind = 0; kind < MACHINE_KIND_END; kind++) {
        for (int good = 0; good < 2; good++) {
            (void)snprintf(labels, sizeof labels, "op=\"%s\",success=\"%s\",version=\"v3\"",
                           operation_name(kind), truth[good]);
            series(out, &begun, "etcd_server_apply_duration_seconds",
                   "The latency distributions of v2 apply called by backend.", labels,
                   &t->kinds[kind].apply[good]);
        }
    }
    begun = false;
    for (unsigned kind = 0; kind < MACHINE_KIND_END + API_READ_COUNT; kind++) {
        bool logged = kind < MACHINE_KIND_END;
        const struct nb_histogram *h =
            logged ? t->kinds[kind].request : m->requests[kind - MACHINE_KIND_END];
        for (int good = 0; good < 2; good++) {
            (void)snprintf(labels, sizeof labels, "success=\"%s\",type=\"%s\"", truth[good],
                           logged ? operation_name(kind) : reads[kind - MACHINE_KIND_END]);
            series(out, &begun, "etcd_server_request_duration_seconds",
                   "Response latency distribution in seconds for each type.", labels, &h[good]);
        }
    }
    begun = false;
    for (int good = 0; good < 2; good++) {
        (void)snprintf(labels, sizeof labels, "success=\"%s\"", truth[good]);
        series(out, &begun, "etcd_server_range_duration_seconds",
               "The latency distributions of txn.Range", labels, &m->range[good]);
    }
}

static void write_promotions(const struct api_metrics *m, struct nb_buf *out)
{
    number(out, "etcd_server_learner_promote_successes", "counter",
           "The total number of successful learner promotions while this member is leader.",
           m->promote_success);
    bool begun = false;
    for (int status = 0; status < NB_STATUS_COUNT; status++) {
        if (m->promote_failures[status] == 0) {
            continue;
        }
        if (!begun) {
            head(out, "etcd_server_learner_promote_failures", "counter",
                 "The total number of failed learner promotions (likely learner not ready) while "
                 "this member is leader.");
            begun = true;
        }
        nb_buf_printf(out, "etcd_server_learner_promote_failures{Reason=\"%s\"} %" PRIu64 "\n",
                      api_error_of((enum nb_status)status).text, m->promote_failures[status]);
    }
}

static void write_disk(const struct replica_timings *t, struct nb_buf *out)
{
    histogram(out, "etcd_disk_wal_fsync_duration_seconds",
              "The latency distributions of fsync called by WAL.", &t->log_sync);
    histogram(out, "etcd_disk_wal_write_duration_seconds",
              "The latency distributions of write called by WAL.", &t->log_write);
    number(out, "etcd_disk_wal_write_bytes_total", "gauge", "Total number of bytes written in WAL.",
           t->log_bytes);
    histogram(out, "etcd_disk_backend_commit_duration_seconds",
              "The latency distributions of commit called by backend.", &t->backend_commit);
    histogram(out, "etcd_disk_backend_snapshot_duration_seconds",
              "The latency distribution of backend snapshots.", &t->backend_copy);
}

static void write_raft(struct api *a, const struct replica_status *s,
                       const struct replica_timings *t, struct nb_buf *out)
{
    number(out, "etcd_server_has_leader", "gauge",
           "Whether or not a leader exists. 1 is existence, 0 is not.", s->raft.leader_id != 0);
    number(out, "etcd_server_is_leader", "gauge",
           "Whether or not this member is a leader. 1 if is, 0 otherwise.",
           s->raft.role == RAFT_LEADER);
    number(out, "etcd_server_is_learner", "gauge",
           "Whether or not this member is a learner. 1 if is, 0 otherwise.", s->is_learner);
    number(out, "etcd_server_leader_changes_seen_total", "counter",
           "The number of leader changes seen.", s->leader_change_count);
    number(out, "etcd_server_proposals_committed_total", "gauge",
           "The total number of consensus proposals committed.", s->raft.commit_index);
    number(out, "etcd_server_proposals_applied_total", "gauge",
           "The total number of consensus proposals applied.",
           machine_applied_index(replica_machine(a->config.replica)));
    number(out, "etcd_server_proposals_pending", "gauge",
           "The current number of pending proposals to commit.", s->pending_count);
    number(out, "etcd_server_proposals_failed_total", "counter",
           "The total number of failed proposals seen.", s->proposal_failed_count);
    number(out, "etcd_server_read_indexes_failed_total", "counter",
           "The total number of failed read indexes seen.", s->read_failed_count);
    number(out, "etcd_server_slow_read_indexes_total", "counter",
           "The total number of pending read indexes not in sync with leader's or timed out read "
           "index requests.",
           t->slow_read_count);
    number(out, "etcd_server_slow_apply_total", "counter",
           "The total number of slow apply requests (likely overloaded from slow disk).",
           t->slow_apply_count);
    number(out, "etcd_server_heartbeat_send_failures_total", "counter",
           "The total number of leader heartbeat send failures (likely overloaded from slow disk).",
           t->late_heartbeat_count);
    number(out, "etcd_server_snapshot_apply_in_progress_total", "gauge",
           "1 if the server is applying the incoming snapshot. 0 if none.", s->installing);
}

static void write_identity(struct api *a, struct nb_buf *out)
{
    struct machine *machine = replica_machine(a->config.replica);
    head(out, "etcd_server_id", "gauge", "Server or member ID in hexadecimal format.");
    nb_buf_printf(out, "etcd_server_id{server_id=\"%" PRIx64 "\"} 1\n", a->config.member_id);
    head(out, "etcd_server_version", "gauge", "Which version is running.");
    nb_buf_printf(out, "etcd_server_version{server_version=\"" API_ETCD_VERSION "\"} 1\n");
    head(out, "nabata_build_info", "gauge", "Which build of nabata is running.");
    nb_buf_printf(out,
                  "nabata_build_info{version=\"" NB_VERSION "\",compiler=\"" __VERSION__ "\"} 1\n");
    const char *version = machine_cluster_version(machine);
    if (version[0] != '\0') {
        head(out, "etcd_cluster_version", "gauge", "Which version is running.");
        nb_buf_printf(out, "etcd_cluster_version{cluster_version=\"%.3s\"} 1\n", version);
    }
    static const char *const alarm_names[] = {"NONE", "NOSPACE", "CORRUPT"};
    size_t count;
    const struct machine_alarm_member *alarms = machine_alarms(machine, &count);
    if (count != 0) {
        head(out, "etcd_debugging_server_alarms", "gauge",
             "Alarms for every member in cluster. 1 for 'server_id' tag with current ID. 2 for "
             "'alarm_type' tag with type of this alarm");
    }
    for (size_t i = 0; i < count; i++) {
        nb_buf_printf(
            out, "etcd_debugging_server_alarms{alarm_type=\"%s\",server_id=\"%" PRIx64 "\"} 1\n",
            alarms[i].alarm < NB_ARRAY_LEN(alarm_names) ? alarm_names[alarms[i].alarm] : "UNKNOWN",
            alarms[i].member_id);
    }
}

/* ---- the store ---- */

static void write_sizes(struct api *a, const struct replica_status *s, struct nb_buf *out)
{
    struct backend_sizes sizes;
    backend_sizes(replica_backend(a->config.replica), &sizes);
    number(out, "etcd_mvcc_db_total_size_in_bytes", "gauge",
           "Total size of the underlying database physically allocated in bytes.",
           s->db_allocated_bytes);
    number(out, "etcd_mvcc_db_total_size_in_use_in_bytes", "gauge",
           "Total size of the underlying database logically in use in bytes.", s->db_used_bytes);
    number(out, "etcd_mvcc_db_open_read_transactions", "gauge",
           "The number of currently open read transactions", sizes.reader_count);
    number(out, "etcd_server_quota_backend_bytes", "gauge",
           "Current backend storage quota size in bytes.",
           a->config.quota_bytes == UINT64_MAX ? 0 : a->config.quota_bytes);
}

static void write_compaction(struct mvcc *m, const struct mvcc_stats *s,
                             const struct replica_timings *t, struct nb_buf *out)
{
    head(out, "etcd_debugging_mvcc_compact_revision", "gauge",
         "The revision of the last compaction in store.");
    nb_buf_printf(out, "etcd_debugging_mvcc_compact_revision %" PRId64 "\n",
                  mvcc_compact_revision(m));
    number(out, "etcd_debugging_mvcc_db_compaction_keys_total", "counter",
           "Total number of db keys compacted.", s->compact_row_count);
    uint64_t last = 0;
    if (t->compaction_end_ns != 0) {
        last = (uint64_t)time(NULL) - (net_now_ns() - t->compaction_end_ns) / 1000000000;
    }
    number(out, "etcd_debugging_mvcc_db_compaction_last", "gauge",
           "The unix time of the last db compaction. Resets to 0 on start.", last);
    histogram(out, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
              "Bucketed histogram of db compaction pause duration.", &t->compaction_pause_ms);
    histogram(out, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
              "Bucketed histogram of db compaction total duration.", &t->compaction_ms);
}

static void write_store(struct api *a, const struct replica_timings *t, struct nb_buf *out)
{
    struct mvcc *m = machine_mvcc(replica_machine(a->config.replica));
    struct mvcc_stats s = mvcc_stats(m);
    number(out, "etcd_mvcc_put_total", "counter", "Total number of puts seen by this member.",
           s.put_count);
    number(out, "etcd_mvcc_delete_total", "counter", "Total number of deletes seen by this member.",
           s.delete_count);
    number(out, "etcd_mvcc_txn_total", "counter", "Total number of txns seen by this member.",
           s.txn_count);
    number(out, "etcd_mvcc_range_total", "counter", "Total number of ranges seen by this member.",
           s.range_count);
    histogram(out, "etcd_mvcc_hash_duration_seconds",
              "The latency distribution of storage hash operation.", &a->metrics.hash);
    histogram(out, "etcd_mvcc_hash_rev_duration_seconds",
              "The latency distribution of storage hash by revision operation.",
              &a->metrics.hash_rev);
    number(out, "etcd_debugging_mvcc_keys_total", "gauge", "Total number of keys.", s.key_count);
    number(out, "etcd_debugging_mvcc_current_revision", "gauge", "The current revision of store.",
           (uint64_t)mvcc_current_revision(m));
    number(out, "etcd_debugging_mvcc_total_put_size_in_bytes", "gauge",
           "The total size of put kv pairs seen by this member.", s.put_bytes);
    write_compaction(m, &s, t, out);
    number(out, "nabata_mvcc_index_bytes", "gauge", "Memory of the index of keys.", s.index_bytes);
    number(out, "nabata_mvcc_pending_bytes", "gauge",
           "Written revisions that the backend has not committed yet.", s.pending_bytes);
}

void api_metrics_write(struct api *a, struct nb_buf *out)
{
    struct replica_status status;
    replica_status(a->config.replica, &status);
    const struct replica_timings *timings = replica_timings(a->config.replica);
    write_raft(a, &status, timings, out);
    write_identity(a, out);
    write_durations(&a->metrics, timings, out);
    write_promotions(&a->metrics, out);
    write_disk(timings, out);
    write_sizes(a, &status, out);
    write_store(a, timings, out);
    write_calls(&a->metrics, out);
    write_clients(&a->metrics, out);
    write_probes(&a->metrics, out);
    api_metrics_write_process(out);
    if (a->extra_metrics != NULL) {
        a->extra_metrics(a->extra_user, out);
    }
}
