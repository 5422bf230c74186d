/*
 * api/internal: what the services share: the record of a request under way, and how it is answered.
 */
#ifndef NABATA_API_INTERNAL_H
#define NABATA_API_INTERNAL_H

#include "api/api.h"
#include "api/errors.h"
#include "api/metrics.h"
#include "base/version.h"
#include "base/wire.h"

/* The version of etcd that clients are told, and the versions of store and cluster. */
#define API_ETCD_VERSION NB_ETCD_VERSION
#define API_STORAGE_VERSION "3.7.0"

struct api_conn;
struct api_job;

struct api {
    struct api_config config;
    struct rpc_server *client_server, *metrics_server; /* owned */
    struct net_listener *listeners[32];                /* owned */
    size_t listener_count;
    struct api_conn *conns;             /* owned, a list */
    size_t conn_count, conn_count_peak; /* the second: since memory was last given back */
    struct net_timer *tick;
    struct api_metrics metrics;
    uint64_t slow_logged_ns;        /* when; 0: never */
    uint64_t slow_count;            /* slow calls that were not logged since, as there were many */
    uint64_t read_begun_ns;         /* of the read that is resumed; 0: it did not wait */
    struct nb_buf scratch;          /* an answer being made */
    struct nb_arena arena;          /* a request being decoded */
    struct api_job *jobs;           /* long answers that go on in api_turn: a list, owned */
    struct cluster_op *cluster_ops; /* changes of members under way: a list, owned */
    struct api_pending *free;       /* pool */
    size_t pending_count;
    bool serving, stopping;
    bool nospace_proposed; /* an alarm of ours is on its way */
    struct net_wake *wake;
    char *unready; /* owned; NULL: none */
    void (*extra_metrics)(void *user, struct nb_buf *out);
    void *extra_user;
};

/* What a call's user points to while somebody still has to answer it. */
struct api_holder {
    struct rpc_call *call; /* NULL when the client has gone */
};

/* A request that waits for the replica. */
struct api_pending {
    struct replica_request request; /* first: `done` finds the record by it */
    struct api_holder holder;
    struct api *api;
    struct rpc_http *http; /* of a probe; NULL when its client has gone */
    /* What to do once a read is possible, or NULL for a proposal. */
    void (*resume)(struct api *a, struct rpc_call *call, struct nb_bytes message);
    /* Of a proposal: what to do with a good result instead of answering with it; may be NULL. */
    void (*applied)(struct api *a, struct rpc_call *call, const struct machine_result *result);
    struct nb_buf message; /* copy of the request, for reads */
    struct api_pending *next;
};

struct api_pending *api_pending_take(struct api *a, struct rpc_call *call);
void api_pending_give(struct api_pending *p);

/* Finishes with the table's row for `status`. */
void api_refuse(struct rpc_call *call, enum nb_status status);
/* header + body + OK. `revision` 0: the current one. */
void api_reply(struct api *a, struct rpc_call *call, int64_t revision, struct nb_bytes body);
/* Encodes ResponseHeader as field 1 into `to`, which has room for 64 bytes; returns the length.
 * `with_revision` false leaves the revision out. */
size_t api_header_encode(struct api *a, uint8_t *to, int64_t revision, bool with_revision);

/* Checks 2 to 5 of [2.1]: cluster version, learner, metadata. NB_OK, or refused already. */
enum nb_status api_door(struct api *a, struct rpc_call *call, bool allowed_on_learner);

/* Counts a call by the version its client names. False: that is no text. */
NB_MUST_USE bool api_count_client(struct api *a, struct rpc_call *call);

/* Proposes `message`; the answer is header and the machine's body. */
void api_propose(struct api *a, struct rpc_call *call, enum machine_kind kind,
                 struct nb_bytes message,
                 void (*applied)(struct api *a, struct rpc_call *call,
                                 const struct machine_result *result));
/* Runs `resume` when a linearizable read is possible; `message` is copied. */
void api_read_then(struct api *a, struct rpc_call *call, struct nb_bytes message,
                   void (*resume)(struct api *a, struct rpc_call *call, struct nb_bytes message));

/* A read that waited in vain, for the metrics. */
void api_read_failed(struct api *a, const struct rpc_call *call);

struct api *api_of(const struct rpc_call *call);
struct api *api_of_conn(const struct rpc_conn *conn);

/* Proposes the NOSPACE alarm of this member, unless that is under way. */
void api_raise_nospace(struct api *a);

/* Asks for another turn of the loop soon. */
void api_wake(struct api *a);

/* on_cancel of every method: its user is a struct api_holder. */
void api_on_cancel(struct rpc_call *call, enum rpc_cancel why);

enum api_step {
    API_STEP_MORE,    /* go on in the next turn */
    API_STEP_BLOCKED, /* wait until something else gives the loop a turn */
    API_STEP_DONE,    /* answered, or nobody is left to answer: the job is freed */
};

/* So many of the long answers that have work to do get to do a piece in one turn, the others in the
 * next ones: clients that ask for thousands at once must not keep heartbeats waiting. [E11, H14] */
enum { API_JOBS_A_TURN = 16 };

/* A long answer, a bounded piece a turn. */
struct api_job {
    struct api_holder holder; /* call NULL: the next step must be the last */
    struct api_job *next;
    struct api *api;
    enum api_step (*step)(struct api_job *job);
    void (*release)(struct api_job *job); /* frees what the job owns besides itself; may be NULL */
};

/* Takes over `job` (heap) and the call. */
void api_job_add(struct api *a, struct rpc_call *call, struct api_job *job);
void api_jobs_step(struct api *a);
void api_jobs_drop(struct api *a);

/* Handlers, by service. */
void api_range(struct rpc_call *call, struct nb_bytes message);
void api_range_stream(struct rpc_call *call, struct nb_bytes message);
void api_put(struct rpc_call *call, struct nb_bytes message);
void api_delete_range(struct rpc_call *call, struct nb_bytes message);
void api_txn(struct rpc_call *call, struct nb_bytes message);
void api_compact(struct rpc_call *call, struct nb_bytes message);
void api_status(struct rpc_call *call, struct nb_bytes message);
void api_alarm(struct rpc_call *call, struct nb_bytes message);
void api_hash(struct rpc_call *call, struct nb_bytes message);
void api_hash_kv(struct rpc_call *call, struct nb_bytes message);
void api_move_leader(struct rpc_call *call, struct nb_bytes message);
void api_member_list(struct rpc_call *call, struct nb_bytes message);
void api_member_add(struct rpc_call *call, struct nb_bytes message);
void api_member_remove(struct rpc_call *call, struct nb_bytes message);
void api_member_update(struct rpc_call *call, struct nb_bytes message);
void api_member_promote(struct rpc_call *call, struct nb_bytes message);
void api_cluster_step(struct api *a);
void api_cluster_drop(struct api *a);
void api_health_check(struct rpc_call *call, struct nb_bytes message);
void api_health_watch(struct rpc_call *call, struct nb_bytes message);
void api_node(struct rpc_call *call, struct nb_bytes message);
void api_log(struct rpc_call *call, struct nb_bytes message);

/* HTTP/1.1 on the client and the metrics port. */
void api_on_http(struct rpc_http *http, void *server_user);
void api_on_http_cancel(struct rpc_http *http);

const char *api_check_name(unsigned check); /* of a probe; below API_CHECK_COUNT_MAX */

/* The JSON of /debug/vars. */
void api_debug_write(struct api *a, struct nb_buf *out);
/* Of the client port, not of --listen-metrics-urls. */
bool api_conn_is_client(const struct rpc_conn *conn);

/* Metrics text. */
void api_metrics_write(struct api *a, struct nb_buf *out);
void api_metrics_write_process(struct nb_buf *out);
uint64_t api_open_file_count(void);
uint64_t api_open_file_limit(void);

#endif
