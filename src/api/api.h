/*
 * api: etcd's services on the client port, probes and metrics on it and on a plain port of their
 * own.
 *
 * A request is checked at the door in etcd's order [etcd-v3-surface 2.1], then proposed, or read
 * once the replica is as fresh as the request asks for, or answered at once; the response leaves at
 * the end of the turn. Nothing here touches Raft or disk.
 *
 * Invariants:
 *   A1  a request that may have entered the log is never answered with a definite error [R23]
 *   A2  what a client can make us hold is bounded: by rpc's limits, by the replica's count of
 *       requests, and by one scratch buffer for each kind of answer [Z03]
 *   A3  probes cost the same whatever the store holds [K14]
 */
#ifndef NABATA_API_API_H
#define NABATA_API_API_H

#include "base/log.h"
#include "net/net.h"
#include "replica/replica.h"
#include "rpc/rpc.h"

struct api;

/* What the Cluster service needs of the server; the calls come from within a turn of the api. */
struct api_cluster_world {
    void *user;
    /* Whether these are URLs to be a member by; brings them into order. False: they are not. */
    bool (*check_urls)(void *user, char **urls, size_t *count);
    uint64_t (*new_member_id)(void *user, char *const *urls, size_t count); /* never 0 */
    /* Since when there is a connection to the member (net_now_ns); 0: there is none. */
    uint64_t (*connected_since_ns)(void *user, uint64_t id);
    /* Asks `leader`; its api_cluster_asked answers. `done` comes once, later, not from within; not
     * after the server has ended its connections. */
    void (*ask)(void *user, uint64_t leader, struct nb_bytes request, uint64_t timeout_ns,
                void (*done)(void *context, enum nb_status status, struct nb_bytes answer),
                void *context);
    bool strict;                /* --strict-reconfig-check */
    uint64_t learner_count_max; /* --max-learners */
};

struct api_config {
    struct net_loop *loop;
    struct replica *replica; /* borrowed; must outlive the api. NULL: there is none yet; then only
                                the metrics port may be listened on, and its probes say so */
    uint64_t cluster_id, member_id;
    const char *name;         /* of this member */
    size_t request_bytes_max; /* of a log entry: --max-request-bytes */
    uint32_t txn_ops_max;     /* --max-txn-ops */
    uint64_t quota_bytes;     /* --quota-backend-bytes; UINT64_MAX: none */
    uint32_t streams_max;     /* --max-concurrent-streams */
    uint64_t keepalive_min_ns, keepalive_interval_ns, keepalive_timeout_ns; /* --grpc-keepalive-* */
    uint64_t request_timeout_ns; /* of probes and RangeStream's first read */
    uint64_t slow_request_ns;    /* a unary call that takes longer is logged; 0: never */
    bool metrics_extensive;      /* --metrics=extensive: how long each call takes */
    bool reuse_port;
    const char *const *cors;           /* origins, ends with NULL; {"*", NULL} lets all in */
    const char *const *host_whitelist; /* ends with NULL; {"*", NULL} lets all in */
    struct api_cluster_world cluster;
    const struct nb_logger *log;
};

NB_MUST_USE struct api *api_create(const struct api_config *config);
/* Closes all connections; the replica must be gone or stopped answering before. */
void api_destroy(struct api *a);

/* Which handlers a port has. */
enum api_port { API_PORT_CLIENT, API_PORT_METRICS };

NB_MUST_USE enum nb_status api_listen(struct api *a, enum api_port port,
                                      const struct net_address *at, struct net_error *error);

/* Once a turn, after replica_turn: long answers go on. */
void api_turn(struct api *a);
/* Another member asks us, as the leader, to change the members. `answer` comes once, later (not
 * after api_destroy), with what is to be sent back (borrowed). */
void api_cluster_asked(struct api *a, struct nb_bytes request,
                       void (*answer)(void *context, struct nb_bytes bytes), void *context);
/* GOAWAY to all clients, no new connections; the rest is answered. */
void api_shutdown(struct api *a);
/* Nothing left to answer. */
bool api_is_idle(const struct api *a);
/* Until this is called with true, what clients send on the client port is not even read; etcd's
 * port behaves so until its member is published. */
void api_set_serving(struct api *a, bool serving);

/* Why the member is not ready, beside what the api sees itself; NULL: nothing else is in the way.
 * Copied. /readyz fails with it. */
void api_set_unready(struct api *a, const char *words);

/* A row of numbers that others than the api count (peers). Appended to /metrics as they are. */
void api_set_extra_metrics(struct api *a, void (*append)(void *user, struct nb_buf *out),
                           void *user);

/* Bytes the backend has allocated, for the quota and Status; see storage/backend.h. */
uint64_t api_db_size(const struct api *a);

#endif
