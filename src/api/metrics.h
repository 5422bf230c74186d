/*
 * api/metrics: the numbers that dashboards read, as Prometheus text. [etcd-v3-surface 6]
 *
 * Only what is counted in here is kept in here: calls by method and code. Everything else is asked
 * of the room that knows it when the page is written.
 */
#ifndef NABATA_API_METRICS_H
#define NABATA_API_METRICS_H

#include "rpc/rpc.h"

enum { API_METHOD_COUNT_MAX = 64 };

struct api_method_metrics {
    const struct rpc_method *method; /* NULL: unused */
    uint64_t started;
    uint64_t handled[RPC_STATUS_COUNT];
};

struct api_metrics {
    struct api_method_metrics methods[API_METHOD_COUNT_MAX];
    size_t method_count;
    uint64_t received_bytes, sent_bytes;
    uint64_t health_success, health_failure;
};

/* Registers all methods, so that each series exists from the start with 0. */
void api_metrics_init(struct api_metrics *m, const struct rpc_method *methods, size_t count);
void api_metrics_start(struct api_metrics *m, const struct rpc_method *method);
void api_metrics_end(struct api_metrics *m, const struct rpc_method *method,
                     enum rpc_status status);

#endif
