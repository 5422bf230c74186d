/*
 * client: the etcd v3 client of the command line: endpoints, connections, retry and failover.
 *
 * It carries encoded protobuf messages and knows nothing of what they say. Everything runs on the
 * caller's loop, without threads. One connection an endpoint is opened when a call first needs it
 * (or as many as asked for: the "lanes" of a benchmark).
 *
 * A call goes to one endpoint by name, or to any: then to those that are connected, in turn. While
 * none is connected a call waits, all endpoints are being dialed, and after dial_timeout_ns without
 * luck it ends as Unavailable, with what went wrong at each.
 *
 * Invariants:
 *   L1  a call gets exactly one on_done unless it is canceled, never from within client_start
 *   L2  a call is sent a second time only if it is CLIENT_READ, ended as Unavailable and has
 * delivered no message; or if the server, being a learner, refused it. A write that may have been
 * sent is never sent again L3  a call ends at its deadline at the latest (give or take the tick of
 * 50 ms)
 */
#ifndef NABATA_CLIENT_CLIENT_H
#define NABATA_CLIENT_CLIENT_H

#include "net/net.h"
#include "rpc/rpc.h"

struct client;
struct client_call;

#define CLIENT_ANY SIZE_MAX

enum {
    CLIENT_READ = 1,      /* may be sent again, see L2 */
    CLIENT_FAIL_FAST = 2, /* ends with the first failed dial of its endpoint */
};

struct client_config {
    const char *const *endpoints; /* "host:port", "http://host:port", "unix://path"; copied */
    size_t endpoint_count;        /* at least 1 */
    unsigned lanes;               /* connections an endpoint; 0: 1 */
    uint64_t dial_timeout_ns;     /* 0: 2 s */
    uint64_t call_timeout_ns;     /* of calls without their own; 0: 5 s */
};

/* How a call ended. Borrowed for on_done. */
struct client_reply {
    enum rpc_status status;
    struct nb_bytes message; /* the answer of a unary call without on_message */
    const char *error;       /* words when status is not RPC_OK, else "" */
    size_t endpoint;         /* who answered; CLIENT_ANY if nobody did */
    bool sent;               /* it may have reached a server */
    uint64_t took_ns;        /* from client_start on */
};

struct client_request {
    const char *path;        /* "/etcdserverpb.KV/Range"; borrowed until on_done */
    struct nb_bytes message; /* encoded; copied */
    unsigned flags;
    size_t endpoint;     /* place in the list of endpoints, or CLIENT_ANY */
    unsigned lane;       /* taken modulo the count of lanes */
    uint64_t timeout_ns; /* 0: call_timeout_ns */
    /* Each message as it comes, borrowed for the call. NULL: the last one is in the reply. */
    void (*on_message)(void *user, struct nb_bytes message);
    void (*on_done)(void *user, const struct client_reply *reply);
    void *user;
};

/* NB_INVALID: an endpoint that cannot be used; `error` has words. */
NB_MUST_USE enum nb_status client_create(struct net_loop *loop, const struct client_config *config,
                                         struct client **out, struct net_error *error);
/* Cancels what is running, without callbacks, and closes all connections: turns the loop until they
 * are. Not from within a callback. NULL is fine. */
void client_destroy(struct client *client);

size_t client_endpoint_count(const struct client *client);
const char *client_endpoint_name(const struct client *client, size_t endpoint); /* as given */
struct net_loop *client_loop(const struct client *client);
/* Calls begun and not done. */
size_t client_call_count(const struct client *client);

struct client_call *client_start(struct client *client, const struct client_request *request);
/* No callback follows; the handle is gone. */
void client_cancel(struct client_call *call);

/* Turns the loop until no call is left, or `stop` (may be NULL) becomes true. */
void client_run(struct client *client, const bool *stop);

/* ---- for commands that do one thing after the other ---- */

/* All zero is a valid empty one. */
struct client_answer {
    enum rpc_status status;
    struct nb_buf message; /* owned */
    char *error;           /* owned; NULL when status is RPC_OK */
    size_t endpoint;
    bool sent;
    uint64_t took_ns;
};

/* Starts the call and turns the loop until it is done. on_done and user of the request are not used
 * unless there is an on_message (which gets user). */
void client_call_sync(struct client *client, const struct client_request *request,
                      struct client_answer *out);
void client_answer_deinit(struct client_answer *answer);

#endif
