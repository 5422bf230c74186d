/*
 * server/internal: the pieces of a running member, shared by the files that wire them.
 */
#ifndef NABATA_SERVER_INTERNAL_H
#define NABATA_SERVER_INTERNAL_H

#include "api/api.h"
#include "base/version.h"
#include "peer/peer.h"
#include "server/incoming.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/steward.h"
#include "server/store.h"

enum server_phase {
    SERVER_STARTING, /* waits to be known to the cluster */
    SERVER_SERVING,
    SERVER_HANDING_OVER, /* told to stop, still the leader */
    SERVER_DRAINING,     /* answers what is under way */
};

struct server {
    struct server_config config;
    struct nb_logger log;
    struct server_store store;
    struct net_loop *loop;
    struct replica *replica;
    struct peer_transport *peers;
    struct server_incoming *incoming;
    struct api *api;
    struct server_metrics metrics;
    struct net_timer *tick;
    struct net_watch *wal_watch, *disk_watch, *backend_watch;
    struct net_signal *signals[2];
    struct net_wake *wake;

    enum server_phase phase;
    uint64_t phase_since_ns;
    int signal_number; /* that stopped us; 0: none */
    bool failed;
    bool closing; /* the replica is going or gone: nothing of the loop may call it */
    int exit_code;

    struct server_service *service;
    uint64_t addresses_due_ns; /* server/addresses asks again */
    unsigned addresses_round;
    struct server_question {
        struct server *server;
        uint64_t id;             /* 0: free */
    } questions[PEER_COUNT_MAX]; /* under way; here, since a transport that ends answers none */
    bool fresh;                  /* has neither voted nor stored anything yet */
    struct replica_request publish;
    bool publishing;
    struct machine_members known; /* owned: everybody there may be something to say to */
    uint64_t known_version;
    struct {
        uint64_t id, due_ns;
    } leaving[PEER_COUNT_MAX]; /* out of the cluster; kept until they can have heard of it [E05] */
    size_t leaving_count;
    bool removed; /* this member; it drains and ends */
    struct replica_request versioning;
    /* Whether what is applied here holds all that the cluster had acknowledged when boot `boot_id`
     * of member `id` came, with an empty disk. [K04] */
    struct server_fresh_check {
        struct replica_request read;
        uint64_t id, boot_id;
        bool running, passed;
    } fresh_check;
    bool proposing_version;

    struct server_steward *steward; /* NULL: no pod of a StatefulSet that runs itself */
};

/* Ends the loop; server_main then closes everything and returns `exit_code`. */
void server_stop(struct server *s, int exit_code);

/* Ends gently: GOAWAY, what is under way is answered, then server_stop. */
void server_drain(struct server *s);

/* Why this member's data is of no use any more. A pod of a StatefulSet that runs itself puts it
 * aside and joins anew; for others it is the end. */
void server_log_useless(const struct server *s, const char *event, const char *text,
                        const char *error); /* NULL: none */

/* Of a pod: signals to stop wait until somebody listens to them. */
void server_hold_signals(const struct server *s, bool hold);

/* What a pod says of itself. */
void server_card(const struct server *s, struct steward_card *out);

/* The same for a process that seeks its cluster and for one that runs. */
void server_set_names(const struct server *s, struct net_loop *loop);
NB_MUST_USE int server_peers_create(const struct server *s, struct net_loop *loop,
                                    const struct peer_events *events, void *user,
                                    struct peer_transport **out, struct nb_buf *message);
NB_MUST_USE int server_listen_for(struct api *api, const struct server_addresses *addresses,
                                  enum api_port port, const char *whom, struct nb_buf *message);
/* -- peers.c -- */

/* Dials who is a member now, forgets those who left long enough ago. */
void server_peers_follow(struct server *s);
extern const struct api_cluster_world server_cluster_calls; /* without its user and settings */

/* addresses.c: now and then asks members and the service's name where members are that cannot be
 * reached; answers such questions (false: it was another one). */
void server_addresses_tick(struct server *s);
void server_addresses_found(void *server, const struct peer_hello *answer, const char *ip,
                            uint16_t port);
bool server_addresses_asked(struct server *s, uint64_t call, struct nb_bytes request);

extern const struct replica_world server_world_calls; /* without its user */
extern const struct peer_events server_peer_calls;    /* user: struct server */

#endif
