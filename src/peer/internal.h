/*
 * peer/internal: what the files of this room share.
 *
 *   transport.c  the whole: members, listeners, the tick, deferred callbacks
 *   conn.c       one connection, dialled or accepted: frames in, and which handler takes each
 *   link.c       a channel to a member: dial, back-off, handshake, send
 *   accept.c     the handshake of who dials us
 *   call.c       calls and their answers
 *   source.c     a snapshot on its way out
 *   sink.c       a snapshot on its way in
 *   probe.c      who lives at an address
 *
 * Lifetimes: a peer_conn lives until its net_conn's on_close, whatever happens to the rest; then
 * `transport` is NULL when the transport went before it. A struct peer that is removed from within
 * a callback, and the transport itself, are freed when the outermost event of the loop is done
 * (peer_enter, peer_leave).
 */
#ifndef NABATA_PEER_INTERNAL_H
#define NABATA_PEER_INTERNAL_H

#include "base/random.h"
#include "peer/frame.h"
#include "peer/hello.h"
#include "peer/peer.h"

#include <stdio.h>

enum {
    PEER_CALL_COUNT_MAX = 4096, /* unanswered, of ours; and of others to us */
    PEER_CALL_HEADER_SIZE = 64, /* room for number and status beside a call's bytes */
};

struct peer;
struct peer_sink;
struct peer_source;

enum peer_conn_state {
    PEER_CONN_HANDSHAKE,
    PEER_CONN_UP,
    PEER_CONN_ENDED, /* nothing of it is used any more; it waits for on_close */
};

struct peer_conn {
    struct peer_transport *transport; /* NULL when gone */
    struct net_conn *net;
    struct peer_conn *next, *previous; /* in transport->conns */
    struct peer *peer;                 /* dialled: whom; accepted: known after the handshake */
    bool accepted;
    enum peer_channel channel;
    enum peer_conn_state state;
    uint64_t boot_id; /* of the other side, after the handshake */
    uint64_t opened_ns, heard_ns;
    bool heard; /* anything at all */
    struct peer_frame_reader reader;
    struct nb_buf held; /* input that waits for peer_snapshot_resume */
    /* At most one of these, when the connection is for it. */
    struct peer_link *link;
    struct peer_source *source;
    struct peer_probe *probe;
    struct peer_sink *sink;
    bool sink_finished; /* the result is sent; what still comes is of no interest */
};

/* A channel to a member: control or log. At most one of connect, conn and a running timer. */
struct peer_link {
    struct peer *peer;
    enum peer_channel channel;
    struct net_connect *connect;
    struct peer_conn *conn;
    struct net_timer *timer; /* the next attempt, or the end of patience with a handshake */
    uint64_t backoff_ns;     /* 0: none yet */
    /* A round tries every address once: the names from address_good on, and the learned one before
     * or after them. Then comes a wait. */
    size_t round_at;    /* attempts made in this round; 0: it is to begin */
    bool learned_first; /* in this round */
    size_t tried;       /* the last attempt: place in addresses, or their count for `learned` */
    uint64_t up_ns;
    uint64_t logged_ns; /* when its troubles were last logged; 0 is never */
    enum nb_status logged_status;
};

struct peer {
    struct peer_transport *transport;
    uint64_t id;
    bool set;     /* by peer_transport_set; else it goes with its last connection */
    bool removed; /* waits to be freed */
    struct peer *next_removed;
    struct net_address *addresses; /* owned */
    size_t address_count;
    size_t address_good;        /* where it was last found; address_count: at `learned` */
    struct net_address learned; /* where it was last heard from; port 0: nowhere */
    struct peer_link control, log;
    struct peer_source *source;   /* the transfer to it */
    uint64_t boot_id, boot_count; /* the highest seen */
    uint64_t earlier_boot_count;  /* the highest of boots before that one */
    bool gone_unreported;         /* it went down, and no refused attempt was reported yet */
    bool unreachable;             /* to be reported */
    uint64_t unreachable_ns;      /* last reported */
    uint64_t down_logged_ns;      /* 0: never */
    struct peer_status status;    /* the counters and texts of it */
};

/* One of ours that waits for its answer, or for `done` to be told. */
struct peer_call_out {
    struct peer_call_out *next;
    uint64_t number;
    uint64_t to;
    struct peer_conn *conn; /* NULL when `status` is final */
    uint64_t due_ns;
    enum nb_status status;
    void (*done)(void *user, enum nb_status status, struct nb_bytes answer);
    void *user;
};

/* One of theirs that waits for peer_reply. */
struct peer_call_in {
    uint64_t number;        /* ours, for peer_reply */
    uint64_t remote_number; /* the asker's */
    struct peer_conn *conn;
};

struct peer_probe {
    struct peer_transport *transport;
    struct peer_probe *next;
    struct net_connect *connect;
    struct peer_conn *conn;
    struct net_timer *timer;
    enum nb_status status; /* of a probe that could not begin */
    char error[256];
    void (*done)(void *user, enum nb_status status, const struct peer_hello *answer,
                 const char *error);
    void *user;
};

enum { PEER_REFUSED_LOGGED_MAX = 16 };

struct peer_transport {
    struct peer_config config; /* strings and card owned */
    struct net_listener *listeners[PEER_LISTEN_COUNT_MAX];
    size_t listener_count;
    uint16_t listen_port;               /* of the first one that has a port */
    struct peer *peers[PEER_COUNT_MAX]; /* owned; ascending by id */
    size_t peer_count;
    struct peer *removed;    /* to be freed by peer_leave */
    struct peer_conn *conns; /* all that have not ended */
    size_t unauthenticated_count;
    struct peer_source *ended_sources; /* `done` is due */
    struct peer_sink *ended_sinks;     /* on_snapshot_abort is due */
    struct peer_call_out *calls;
    size_t call_count;
    struct peer_call_in *calls_in; /* owned array */
    size_t call_in_count, call_in_capacity;
    struct peer_probe *probes;
    uint64_t next_number;  /* of calls and transfers; never 0 */
    struct nb_arena arena; /* of the message at hand */
    struct nb_random random;
    struct net_timer *tick;
    uint64_t tick_ns;           /* of the last tick */
    struct net_timer *deferred; /* callbacks that P3 keeps out of calls */
    uint64_t deferred_due_ns;   /* 0 when it does not run */
    struct net_timer *call_timer;
    uint64_t garbage_logged_ns;
    uint64_t garbage_unlogged;
    struct peer_refused {
        enum peer_refusal_code code;
        uint64_t from, cluster_id, boot_id;
    } refused[PEER_REFUSED_LOGGED_MAX]; /* logged last, in a ring */
    size_t refused_next;
    struct peer_transport_counters counters;
    unsigned entered;
    bool destroyed;
};

/* -- transport.c -- */

void peer_enter(struct peer_transport *t);
void peer_leave(struct peer_transport *t); /* `t` may be gone afterwards */
uint64_t peer_now(const struct peer_transport *t);
/* The loop's time may have moved on since `now_ns` was taken. */
static inline uint64_t peer_since(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}
struct peer *peer_find(const struct peer_transport *t, uint64_t id);
/* Finds or adds; NULL at the bound. */
struct peer *peer_ensure(struct peer_transport *t, uint64_t id);
/* Drops a member that nobody set and nothing refers to. */
void peer_drop_unused(struct peer *p);
/* Runs peer_transport_deferred soon, from the loop. */
void peer_defer(struct peer_transport *t, uint64_t delay_ns);
void peer_note_unreachable(struct peer *p);
/* Address `at` of a member: of those it was set to, or (at their count) the learned one. */
const struct net_address *peer_address(const struct peer *p, size_t at);
size_t peer_address_count(const struct peer *p); /* with the learned one */
/* `p` was heard from `ip` and listens on `port`: dialled there at once if it is not connected. */
void peer_learn(struct peer *p, const char *ip, uint16_t port);
void peer_unlearn(struct peer *p);
/* What we say of ourselves. */
struct peer_hello peer_own_hello(const struct peer_transport *t, enum peer_channel channel,
                                 uint64_t to);
/* Whether boot `h` of `p` may talk to us [K05]; if so, connections of earlier boots end. */
enum peer_refusal_code peer_admit_boot(struct peer *p, const struct peer_hello *h);
/* A control connection to or from `p` ended. */
void peer_report_down(struct peer *p, enum peer_down_reason reason);
NB_MUST_USE enum nb_status peer_parse_address(const char *text, struct net_address *out,
                                              struct net_error *error);

/* -- conn.c -- */

struct peer_conn *peer_conn_create(struct peer_transport *t, struct net_conn *net, bool accepted,
                                   enum peer_channel channel);
/* Ends it from our side: at once, or when the output is written. Tells nobody. */
void peer_conn_abort(struct peer_conn *c);
void peer_conn_close(struct peer_conn *c);
/* Ends it and tells whom it concerns: link, transfer, calls, on_down. */
void peer_conn_fail(struct peer_conn *c, enum peer_down_reason reason, const char *why);
/* Handshake done. */
void peer_conn_up(struct peer_conn *c, struct peer *p, const struct peer_hello *hello);
/* Sends a frame of two parts. */
void peer_conn_frame(struct peer_conn *c, enum peer_frame_type type, struct nb_bytes first,
                     struct nb_bytes second);
void peer_conn_sent(struct peer_conn *c, size_t bytes); /* counts */
/* Input that was held while a sink paused. */
void peer_conn_resume(struct peer_conn *c);

/* -- link.c -- */

void peer_link_init(struct peer_link *l, struct peer *p, enum peer_channel channel);
void peer_link_deinit(struct peer_link *l);
/* Dials now if it can and is not at it already. */
void peer_link_kick(struct peer_link *l);
/* Begins a round with the learned address, also when a name is being tried. */
void peer_link_try_learned(struct peer_link *l, bool changed);
void peer_link_reset_backoff(struct peer_link *l);
/* The connection (ended already) is gone. */
void peer_link_lost(struct peer_link *l, enum peer_down_reason reason, const char *why);
void peer_link_on_welcome(struct peer_link *l, const struct peer_hello *hello);
/* Checks a WELCOME against whom we meant; what is wrong is said in `out`. */
bool peer_check_welcome(struct peer *p, const struct peer_hello *h, struct peer_refusal *out);
void peer_link_on_refused(struct peer_link *l, const struct peer_refusal *refusal);

/* -- accept.c -- */

void peer_on_accept(void *user, struct net_conn *net);
void peer_accept_hello(struct peer_conn *c, struct nb_bytes payload);
/* INFO of what passes by itself while a member joins, else WARN. */
enum nb_log_level peer_refusal_level(enum peer_refusal_code code);
/* The other side as an address alone: "10.0.0.1", also where IPv4 came through an IPv6 socket. */
void peer_remote_ip(const struct net_conn *net, char *to, size_t size);
/* Not our protocol, as `status` and the first bytes show. */
void peer_accept_garbage(struct peer_conn *c, enum nb_status status);

/* -- call.c -- */

void peer_call_on_call(struct peer_conn *c, struct nb_bytes payload);
void peer_call_on_reply(struct peer_conn *c, struct nb_bytes payload);
void peer_call_conn_ended(struct peer_conn *c);
void peer_call_finish_due(struct peer_transport *t);
void peer_call_on_timer(void *user);
void peer_call_deinit(struct peer_transport *t);

/* -- source.c -- */

void peer_source_on_welcome(struct peer_source *s, const struct peer_hello *hello);
void peer_source_on_refused(struct peer_source *s, const struct peer_refusal *refusal);
void peer_source_on_progress(struct peer_conn *c, struct nb_bytes payload);
void peer_source_on_result(struct peer_conn *c, struct nb_bytes payload);
void peer_source_on_room(struct peer_source *s);
/* Ends it; `done` is deferred. */
void peer_source_end(struct peer_source *s, enum nb_status status);
void peer_source_tick(struct peer_source *s, uint64_t now_ns);
void peer_source_finish_ended(struct peer_transport *t);
/* Ends it without `done`. */
void peer_source_destroy(struct peer_source *s);
void peer_source_forget_pause(struct peer_source *s, uint64_t now_ns);

/* -- sink.c -- */

void peer_sink_on_begin(struct peer_conn *c, struct nb_bytes payload);
void peer_sink_on_chunk(struct peer_conn *c, struct nb_bytes payload);
void peer_sink_on_end(struct peer_conn *c, struct nb_bytes payload);
/* The connection ended: the server is told soon, if it does not know. */
void peer_sink_conn_ended(struct peer_conn *c, const char *why);
void peer_sink_tick(struct peer_conn *c);
bool peer_sink_is_paused(const struct peer_conn *c);
bool peer_sink_waits_for_sender(const struct peer_conn *c);
/* Goes on with those that were resumed. */
void peer_sink_resume_due(struct peer_transport *t);
void peer_sink_finish_ended(struct peer_transport *t);
/* Of a transport that goes: frees without a word. */
void peer_sink_deinit(struct peer_transport *t);

/* -- probe.c -- */

void peer_probe_on_welcome(struct peer_probe *p, const struct peer_hello *hello);
void peer_probe_on_refused(struct peer_probe *p, const struct peer_refusal *refusal);
void peer_probe_lost(struct peer_probe *p, const char *why);
void peer_probe_finish_due(struct peer_transport *t);
void peer_probe_destroy(struct peer_probe *p);

#endif
