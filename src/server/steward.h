/*
 * server/steward: a running pod of a StatefulSet: what steward/ decides, carried out.
 *
 * On the leader a round every 100 ms gathers facts (peers, progress, the API) and does what the
 * keeper says. All members answer probes with their card, and calls of members. What a pod does
 * when it is told to stop is in stopping.c.
 */
#ifndef NABATA_SERVER_STEWARD_H
#define NABATA_SERVER_STEWARD_H

#include "peer/peer.h"
#include "replica/replica.h"
#include "server/scale.h"
#include "steward/stops.h"

struct server;

enum server_stop_step {
    SERVER_STOP_NOT,
    SERVER_STOP_LOOKING, /* restart or scaled down? The API is asked */
    SERVER_STOP_LEAVING, /* scaled down: until the cluster has let us go */
    SERVER_STOP_ASKING,  /* a restart: the leader is asked whether we may */
    SERVER_STOP_HANDING, /* a leader that may: until another one leads */
    SERVER_STOP_GONE,    /* drains */
};

struct server_stopping {
    enum server_stop_step step;
    uint64_t began_ns, step_ns;
    uint64_t answers_needed; /* of the API: older ones may speak of before */
    bool calling;
    uint64_t called_ns;
    uint64_t leaderless_ns; /* since when there is no leader; 0: there is one */
    uint64_t logged_ns;
    char words[STEWARD_WORDS_SIZE_MAX + 1]; /* why not yet, as logged last */
};

struct server_steward {
    struct server *server;
    struct server_scale *scale;
    struct net_timer *timer;
    struct steward_keeper keeper;
    struct steward_stops stops;
    uint64_t led_ns; /* since when we lead; 0: we do not */
    struct replica_request request;
    bool changing;
    struct steward_action action;           /* under way when changing; its target is not kept */
    char words[STEWARD_WORDS_SIZE_MAX + 1]; /* why nothing is done, as logged last */
    bool warned_of_annotation;
    char unready[STEWARD_WORDS_SIZE_MAX + 64]; /* as told to the api */
    struct server_stopping stopping;
};

NB_MUST_USE struct server_steward *server_steward_create(struct server *s);
void server_steward_destroy(struct server_steward *w); /* NULL is fine */

/* A probe came: our card becomes the answer. */
void server_steward_on_probe(struct server_steward *w, const struct peer_hello *hello);
/* A member of our cluster that we do not know, and we know no members yet: it is to be dialled. */
void server_steward_on_stranger(struct server_steward *w, const struct peer_hello *hello,
                                struct peer_refusal *out);
void server_steward_on_call(struct server_steward *w, uint64_t from, uint64_t call,
                            struct nb_bytes request);
/* The cluster has removed this member: true when that was what we waited for. */
bool server_steward_on_removed(struct server_steward *w);

/* Clients may be served: a founder waits until a majority of the expected pods has joined. */
bool server_steward_may_serve(const struct server_steward *w);

/* What the members are like, for keeper and arbiter; `items` has room for all. */
void server_steward_facts(struct server_steward *w,
                          struct steward_fact items[MACHINE_MEMBER_COUNT_MAX],
                          struct steward_facts *out);

/* -- stopping.c -- */

/* Told to stop: decides how, and ends in server_drain. */
void server_stopping_begin(struct server_steward *w);
void server_stopping_turn(struct server_steward *w);

#endif
