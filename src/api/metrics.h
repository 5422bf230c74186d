/*
 * api/metrics: the numbers that dashboards read, as Prometheus text. [etcd-v3-surface 6]
 *
 * Only what is counted in here is kept in here: calls and messages by method, probes, and how long
 * reads and hashes take. Everything else is asked of the room that knows it when the page is
 * written. docs/metrics.md says which of etcd's rows are left out, and why.
 *
 * Invariants:
 *   M1  what a client can say (its version) makes a bounded number of series
 */
#ifndef NABATA_API_METRICS_H
#define NABATA_API_METRICS_H

#include "base/histogram.h"
#include "rpc/rpc.h"

enum {
    API_METHOD_COUNT_MAX = 64,
    API_HANDLING_BUCKET_COUNT = 11, /* of grpc_server_handling_seconds */
    API_CLIENT_VERSION_COUNT_MAX = 16,
    API_CLIENT_VERSION_SIZE_MAX = 31,
};

struct api_method_metrics {
    const struct rpc_method *method; /* NULL: unused */
    uint64_t started;
    uint64_t handled[RPC_STATUS_COUNT];
    uint64_t received, sent; /* messages */
    /* With --metrics=extensive: */
    uint64_t took[API_HANDLING_BUCKET_COUNT]; /* not cumulative */
    uint64_t took_count;
    double took_s;
};

/* Reads that never enter the log; the log's own are counted by the replica. */
enum api_read { API_READ_RANGE, API_READ_TXN, API_READ_COUNT };

enum api_probe { API_PROBE_LIVEZ, API_PROBE_READYZ, API_PROBE_COUNT };
enum { API_CHECK_COUNT_MAX = 4 };

struct api_metrics {
    struct api_method_metrics methods[API_METHOD_COUNT_MAX];
    size_t method_count;
    bool extensive;
    uint64_t received_bytes, sent_bytes;
    uint64_t health_success, health_failure;
    uint64_t page_count; /* of /metrics itself */

    struct api_client_version {
        char text[API_CLIENT_VERSION_SIZE_MAX + 1];
        uint64_t unary, stream;
    } versions[API_CLIENT_VERSION_COUNT_MAX];
    size_t version_count, version_last; /* last: the one that came last, looked at first */

    struct api_check_metrics {
        uint64_t good, bad;
        bool last_good;
    } checks[API_PROBE_COUNT][API_CHECK_COUNT_MAX];

    struct nb_histogram hash, hash_rev;
    struct nb_histogram range[2];                    /* [success] */
    struct nb_histogram requests[API_READ_COUNT][2]; /* [success] */

    uint64_t promote_success;
    uint64_t promote_failures[NB_STATUS_COUNT];
};

extern const double api_handling_bounds[API_HANDLING_BUCKET_COUNT];

/* Registers all methods, so that each series exists from the start with 0. */
void api_metrics_init(struct api_metrics *m, const struct rpc_method *methods, size_t count,
                      bool extensive);
void api_metrics_start(struct api_metrics *m, const struct rpc_method *method);
/* `begun_ns` counts only when `extensive`. */
void api_metrics_end(struct api_metrics *m, const struct rpc_method *method, enum rpc_status status,
                     uint64_t begun_ns);
void api_metrics_message(struct api_metrics *m, const struct rpc_method *method, bool sent);
/* A call of a client of this version, "unknown" when it does not say. Beyond the bound: "other". */
void api_metrics_client(struct api_metrics *m, bool stream, struct nb_bytes version);
void api_metrics_check(struct api_metrics *m, enum api_probe probe, unsigned check, bool good);
void api_metrics_read(struct api_metrics *m, enum api_read read, bool good, uint64_t took_ns);

#endif
