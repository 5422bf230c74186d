#include "api/metrics.h"

#include "api/internal.h"
#include "base/histogram.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void api_metrics_init(struct api_metrics *m, const struct rpc_method *methods, size_t count)
{
    nb_assert(count <= API_METHOD_COUNT_MAX);
    *m = (struct api_metrics){.method_count = count};
    for (size_t i = 0; i < count; i++) {
        nb_assert(methods[i].tag == i);
        m->methods[i].method = &methods[i];
    }
}

void api_metrics_start(struct api_metrics *m, const struct rpc_method *method)
{
    if (method == NULL) {
        return; /* a method that does not exist has no series */
    }
    m->methods[method->tag].started++;
}

void api_metrics_end(struct api_metrics *m, const struct rpc_method *method, enum rpc_status status)
{
    if (method != NULL && (unsigned)status < RPC_STATUS_COUNT) {
        m->methods[method->tag].handled[status]++;
    }
}

/* ---- the page ---- */

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

static void write_calls(const struct api_metrics *m, struct nb_buf *out)
{
    char labels[256];
    head(out, "grpc_server_started_total", "counter",
         "Total number of RPCs started on the server.");
    for (size_t i = 0; i < m->method_count; i++) {
        method_labels(m->methods[i].method, labels, sizeof labels);
        nb_buf_printf(out, "grpc_server_started_total{%s} %" PRIu64 "\n", labels,
                      m->methods[i].started);
    }
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
    number(out, "etcd_network_client_grpc_received_bytes_total", "counter",
           "The total number of bytes received from grpc clients.", m->received_bytes);
    number(out, "etcd_network_client_grpc_sent_bytes_total", "counter",
           "The total number of bytes sent to grpc clients.", m->sent_bytes);
    number(out, "etcd_server_health_success", "counter",
           "The total number of successful health checks", m->health_success);
    number(out, "etcd_server_health_failures", "counter",
           "The total number of failed health checks", m->health_failure);
}

static void write_replica(struct api *a, struct nb_buf *out)
{
    struct replica *r = a->config.replica;
    struct replica_status s;
    replica_status(r, &s);
    number(out, "etcd_server_has_leader", "gauge",
           "Whether or not a leader exists. 1 is existence, 0 is not.", s.raft.leader_id != 0);
    number(out, "etcd_server_is_leader", "gauge",
           "Whether or not this member is a leader. 1 if is, 0 otherwise.",
           s.raft.role == RAFT_LEADER);
    number(out, "etcd_server_is_learner", "gauge",
           "Whether or not this member is a learner. 1 if is, 0 otherwise.", s.is_learner);
    number(out, "etcd_server_leader_changes_seen_total", "counter",
           "The number of leader changes seen.", s.leader_change_count);
    number(out, "etcd_server_proposals_committed_total", "gauge",
           "The total number of consensus proposals committed.", s.raft.commit_index);
    number(out, "etcd_server_proposals_applied_total", "gauge",
           "The total number of consensus proposals applied.",
           machine_applied_index(replica_machine(r)));
    number(out, "etcd_server_proposals_pending", "gauge",
           "The current number of pending proposals to commit.", s.pending_count);
    number(out, "etcd_server_proposals_failed_total", "counter",
           "The total number of failed proposals seen.", s.proposal_failed_count);
    number(out, "etcd_server_read_indexes_failed_total", "counter",
           "The total number of failed read indexes seen.", s.read_failed_count);
    head(out, "etcd_server_id", "gauge", "Server or member ID in hexadecimal format.");
    nb_buf_printf(out, "etcd_server_id{server_id=\"%" PRIx64 "\"} 1\n", a->config.member_id);
    head(out, "etcd_server_version", "gauge", "Which version is running.");
    nb_buf_printf(out, "etcd_server_version{server_version=\"" API_ETCD_VERSION "\"} 1\n");
    head(out, "etcd_cluster_version", "gauge", "Which version is running.");
    const char *version = machine_cluster_version(replica_machine(r));
    if (version[0] != '\0') {
        nb_buf_printf(out, "etcd_cluster_version{cluster_version=\"%.3s\"} 1\n", version);
    }
    struct replica_timings t;
    replica_timings(r, &t);
    head(out, "etcd_disk_wal_fsync_duration_seconds", "histogram",
         "The latency distributions of fsync called by WAL.");
    nb_histogram_write(&t.log_sync, "etcd_disk_wal_fsync_duration_seconds", "", out);
    head(out, "etcd_disk_backend_commit_duration_seconds", "histogram",
         "The latency distributions of commit called by backend.");
    nb_histogram_write(&t.backend_commit, "etcd_disk_backend_commit_duration_seconds", "", out);
    number(out, "etcd_disk_wal_write_bytes_total", "gauge", "Total number of bytes written in WAL.",
           t.log_bytes);
}

static void write_store(struct api *a, struct nb_buf *out)
{
    struct replica *r = a->config.replica;
    struct mvcc *m = machine_mvcc(replica_machine(r));
    struct mvcc_stats s = mvcc_stats(m);
    struct replica_status status;
    replica_status(r, &status);
    number(out, "etcd_mvcc_db_total_size_in_bytes", "gauge",
           "Total size of the underlying database physically allocated in bytes.",
           status.db_allocated_bytes);
    number(out, "etcd_mvcc_db_total_size_in_use_in_bytes", "gauge",
           "Total size of the underlying database logically in use in bytes.",
           status.db_used_bytes);
    number(out, "etcd_server_quota_backend_bytes", "gauge",
           "Current backend storage quota size in bytes.",
           a->config.quota_bytes == UINT64_MAX ? 0 : a->config.quota_bytes);
    number(out, "etcd_mvcc_put_total", "counter", "Total number of puts seen by this member.",
           s.put_count);
    number(out, "etcd_mvcc_delete_total", "counter", "Total number of deletes seen by this member.",
           s.delete_count);
    number(out, "etcd_mvcc_txn_total", "counter", "Total number of txns seen by this member.",
           s.txn_count);
    number(out, "etcd_mvcc_range_total", "counter", "Total number of ranges seen by this member.",
           s.range_count);
    number(out, "etcd_debugging_mvcc_keys_total", "gauge", "Total number of keys.", s.key_count);
    number(out, "etcd_debugging_mvcc_current_revision", "gauge", "The current revision of store.",
           (uint64_t)mvcc_current_revision(m));
    int64_t compacted = mvcc_compact_revision(m);
    number(out, "etcd_debugging_mvcc_compact_revision", "gauge",
           "The revision of the last compaction in store.",
           compacted < 0 ? 0 : (uint64_t)compacted);
    number(out, "etcd_debugging_mvcc_total_put_size_in_bytes", "gauge",
           "The total size of put kv pairs seen by this member.", s.put_bytes);
    number(out, "nabata_mvcc_index_bytes", "gauge", "Memory of the index of keys.", s.index_bytes);
    number(out, "nabata_mvcc_pending_bytes", "gauge",
           "Written revisions that the backend has not committed yet.", s.pending_bytes);
}

/* The rows of /proc that every Prometheus client reports. */
static void write_process(struct nb_buf *out)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        double seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        head(out, "process_cpu_seconds_total", "counter",
             "Total user and system CPU time spent in seconds.");
        nb_buf_printf(out, "process_cpu_seconds_total %.2f\n", seconds);
    }
    char line[128];
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm != NULL) {
        char *at = fgets(line, sizeof line, statm);
        if (at != NULL) {
            uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
            uint64_t size = strtoull(at, &at, 10);
            uint64_t resident = strtoull(at, &at, 10);
            number(out, "process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.",
                   size * page);
            number(out, "process_resident_memory_bytes", "gauge", "Resident memory size in bytes.",
                   resident * page);
        }
        (void)fclose(statm);
    }
    DIR *fds = opendir("/proc/self/fd");
    if (fds != NULL) {
        uint64_t count = 0;
        while (readdir(fds) != NULL) {
            count++;
        }
        (void)closedir(fds);
        number(out, "process_open_fds", "gauge", "Number of open file descriptors.", count - 3);
        number(out, "os_fd_used", "gauge", "The number of used file descriptors.", count - 3);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        number(out, "process_max_fds", "gauge", "Maximum number of open file descriptors.",
               limit.rlim_cur);
        number(out, "os_fd_limit", "gauge", "The file descriptor limit.", limit.rlim_cur);
    }
}

void api_metrics_write(struct api *a, struct nb_buf *out)
{
    write_replica(a, out);
    write_store(a, out);
    write_calls(&a->metrics, out);
    write_process(out);
    if (a->extra_metrics != NULL) {
        a->extra_metrics(a->extra_user, out);
    }
}
