/*
 * net: the loop, TCP and the resolver: sockets, and nothing of what is said over them.
 *
 * One thread runs a loop and owns everything here; the only call another thread may make is
 * net_wake_send. The order of a turn:
 *
 *   timers → ready sockets, descriptors, wakes (on_data, on_accept, ...)
 *          → turn hooks, in the order they were added (the server batches here)
 *          → on_flush of the connections that asked for it
 *          → one write for each connection with output
 *
 * Invariants:
 *   N1  no callback of a handle runs after its on_close, or after its destroy or cancel call
 *       returned
 *   N2  every handle may be closed or destroyed from within any callback, its own included
 *   N3  a started connection gets exactly one on_close, never from within net_conn_close or
 *       net_conn_abort themselves but later in the loop; the handle is gone when on_close returns
 *   N4  an idle connection holds no buffers: input is read into one buffer shared by the loop,
 *       output buffers come from a pool and go back when empty
 *   N5  nothing blocks: name servers are asked over sockets of the loop, each name on its own, so
 *       that a silent server delays nobody but who waits for its answer [K02]
 *   N6  all descriptors are close-on-exec, SIGPIPE is ignored [Z07]
 */
#ifndef NABATA_NET_NET_H
#define NABATA_NET_NET_H

#include "base/bytes.h"
#include "base/status.h"

struct net_loop;
struct net_timer;
struct net_watch;
struct net_signal;
struct net_wake;
struct net_listener;
struct net_conn;
struct net_connect;
struct net_resolve;

/* Words for a person about the last failure; filled only on failure. */
struct net_error {
    char text[256];
};

/* ---- the loop ---- */

NB_MUST_USE struct net_loop *net_loop_create(void);
/* Closes what connections (on_close, NB_CANCELED) and listeners are left, and frees all. Timers,
 * watches, signals, wakes and connects must have been destroyed or canceled before. Not from within
 * a callback. */
void net_loop_destroy(struct net_loop *loop);
/* Turns until net_loop_stop, or until nothing is left to wait for. */
void net_loop_run(struct net_loop *loop);
/* One turn; waits for something to happen first when `wait`. False when nothing is left to wait
 * for. */
bool net_loop_run_once(struct net_loop *loop, bool wait);
void net_loop_stop(struct net_loop *loop);

/* Monotonic time of the system, now; and as it was when the current turn began (cheap). */
uint64_t net_now_ns(void);
uint64_t net_loop_now_ns(const struct net_loop *loop);

/* `hook` runs at the end of every turn, after all ready sockets were read and before output is
 * written. At most 8 hooks; they stay until the loop goes. */
void net_loop_add_turn_hook(struct net_loop *loop, void (*hook)(void *user), void *user);
/* While busy, turns do not wait: for the short time in which an answer is awaited. */
void net_loop_set_busy(struct net_loop *loop, bool busy);

/* ---- timers (of millisecond grain, delays are rounded up) ---- */

NB_MUST_USE struct net_timer *net_timer_create(struct net_loop *loop, void (*on_fire)(void *user),
                                               void *user);
/* Fires once after `delay_ns`, then every `repeat_ns` if that is not 0. Restarts a running timer.
 */
void net_timer_start(struct net_timer *timer, uint64_t delay_ns, uint64_t repeat_ns);
void net_timer_stop(struct net_timer *timer);
bool net_timer_running(const struct net_timer *timer);
void net_timer_destroy(struct net_timer *timer); /* NULL is fine */

/* ---- descriptors, signals, other threads ---- */

/* Calls `on_readable` in every turn in which `fd` (borrowed, stays open until the watch is
 * destroyed) has something to read. For eventfds and pipes. */
NB_MUST_USE struct net_watch *net_watch_create(struct net_loop *loop, int fd,
                                               void (*on_readable)(void *user), void *user);
void net_watch_destroy(struct net_watch *watch); /* NULL is fine */

NB_MUST_USE struct net_signal *net_signal_create(struct net_loop *loop, int signal_number,
                                                 void (*on_signal)(void *user, int signal_number),
                                                 void *user);
void net_signal_destroy(struct net_signal *signal); /* NULL is fine */

/* Any thread may send; the loop thread runs `on_wake` soon after, once for several sends. The other
 * thread must have stopped sending before the wake is destroyed. */
NB_MUST_USE struct net_wake *net_wake_create(struct net_loop *loop, void (*on_wake)(void *user),
                                             void *user);
void net_wake_send(struct net_wake *wake);
void net_wake_destroy(struct net_wake *wake); /* NULL is fine */

/* Runs `work` on a pool thread, then `done` on the loop. For slow cryptography and the like; cannot
 * be canceled: `done` always runs (net_loop_destroy waits for it). */
void net_work(struct net_loop *loop, void (*work)(void *user), void (*done)(void *user),
              void *user);

/* ---- addresses ---- */

enum net_scheme {
    NET_SCHEME_NONE,
    NET_SCHEME_HTTP,
    NET_SCHEME_HTTPS,
    NET_SCHEME_UNIX,
    NET_SCHEME_UNIXS
};

struct net_address {
    enum net_scheme scheme;
    char
        host[256]; /* name, IPv4, IPv6 without brackets, or "" for all; the path of a unix socket */
    uint16_t port; /* 0 of a unix socket, or "any free port" to listen on */
};

/*
 * Takes "http://host:port", "https://host:port" (a path of "/" alone is allowed after it),
 * "unix://path", "host:port", "[::1]:port", ":port", and "host" if `default_port` is not 0.
 * Otherwise false, with words like: "m1:99999": port must be from 0 to 65535.
 */
NB_MUST_USE bool net_address_parse(const char *text, uint16_t default_port, struct net_address *out,
                                   struct net_error *error);
/* "host:port" with brackets around IPv6; `size` of 280 suffices for all. */
void net_address_format(const struct net_address *a, char *to, size_t size);
/* True when the host is written as numbers, so that no resolver is asked. */
bool net_address_is_numeric(const struct net_address *a);

/* ---- names ---- */

enum { NET_RESOLVED_MAX = 16, NET_SRV_MAX = 64 }; /* what is left out of a longer answer */

/* Where names come from. All zero is what a program wants: /etc/resolv.conf with its search list
 * and ndots, read again when it has changed, and /etc/hosts; neither has to be there. */
struct net_names_config {
    const char *resolv_conf; /* NULL: /etc/resolv.conf */
    const char *servers;     /* NULL: those of resolv.conf; else "127.0.0.1:5353,[::1]:53" */
    uint64_t query_ns;       /* 0: 1 s for the first try of each server; it doubles each round */
    uint64_t timeout_ns;     /* 0: 5 s for a name as a whole */
};

/* For what is asked from now on. Strings are copied. */
void net_loop_set_names(struct net_loop *loop, const struct net_names_config *config);

/*
 * The addresses of a name, as numbers, with port 0; families alternate and no address comes twice,
 * in the order in which they should be tried. A and AAAA are asked together, and after
 * query_ns without both answers A alone; truncated answers are asked for again over TCP.
 * `localhost` and what ends in `.localhost` are 127.0.0.1 and ::1 without asking anybody [RFC
 * 6761]; numbers are themselves. Calls `on_done` once, later: NB_OK and at least one address;
 * NB_NOT_FOUND: no such name, or not yet; NB_BUSY: no server answered in time; NB_IO: they failed,
 * or answered what makes no sense; NB_INVALID: not a name. The last come with words. No retries:
 * those are the caller's.
 */
NB_MUST_USE struct net_resolve *net_resolve_start(
    struct net_loop *loop, const char *name,
    void (*on_done)(void *user, enum nb_status status, const struct net_address *addresses,
                    size_t count, const char *error),
    void *user);

/* A service's place, out of an SRV record. [RFC 2782] */
struct net_srv {
    char target[256]; /* a name, without the last dot */
    uint16_t port, priority, weight;
};

/* The SRV records of a name such as "_etcd-server._tcp.example.com": by priority rising, then
 * weight falling, then target and port, so that everybody who asks sees one order. Statuses as
 * above; a target of "." is NB_NOT_FOUND. */
NB_MUST_USE struct net_resolve *net_resolve_srv_start(
    struct net_loop *loop, const char *name,
    void (*on_done)(void *user, enum nb_status status, const struct net_srv *records, size_t count,
                    const char *error),
    void *user);
/* Only before on_done, which then does not come. */
void net_resolve_cancel(struct net_resolve *resolve);

/* ---- listening ---- */

/* So that those who come in any number leave room for the few that must get in. [N16] */
enum { NET_RESERVE_CLIENTS = 32, NET_RESERVE_PROBES = 24, NET_RESERVE_PEERS = 12 };

struct net_listen_options {
    bool reuse_port; /* SO_REUSEPORT; SO_REUSEADDR is always set */
    int backlog;     /* 0: 1024 */
    /* Accepting pauses while fewer than this many descriptors are free; they are kept for the disk
     * and for whoever has a smaller reserve. 0: NET_RESERVE_CLIENTS. Accepting goes on when
     * connections close, or after a second. [N16] */
    unsigned descriptor_reserve;
};

/* Takes a name only when it is "localhost" or numeric. A unix socket that nobody listens at (any
 * more) is replaced; it goes when the listener closes. The accept callback must call net_conn_start
 * or net_conn_abort before it returns. Failure: NB_INVALID, NB_LOCKED (address in use), NB_ACCESS,
 * NB_IO, with words in `error` (may be NULL). */
NB_MUST_USE enum nb_status net_listener_open(struct net_loop *loop, const struct net_address *at,
                                             const struct net_listen_options *options, /* or NULL */
                                             void (*on_accept)(void *user, struct net_conn *conn),
                                             void *user, struct net_listener **out,
                                             struct net_error *error);
uint16_t net_listener_port(const struct net_listener *listener); /* the real one, if 0 was asked */
bool net_listener_is_paused(const struct net_listener *listener);
void net_listener_close(struct net_listener *listener); /* NULL is fine */

/* ---- connections ---- */

struct net_conn_events {
    /* Bytes in the order they came; borrowed for the call. */
    void (*on_data)(struct net_conn *conn, void *user, struct nb_bytes bytes);
    /* After net_conn_want_flush: the end of the turn, or as soon as less than output_high_bytes
     * wait to be written. The owner now puts its output into net_conn_output. May be NULL. */
    void (*on_flush)(struct net_conn *conn, void *user);
    /* The other side will say no more, and may still listen. True: stay open for what is owed to
     * it, the owner closes; false, or NULL: closed as by net_conn_close. */
    bool (*on_eof)(struct net_conn *conn, void *user);
    /* Output had reached output_high_bytes and has fallen below half of it. May be NULL. */
    void (*on_drain)(struct net_conn *conn, void *user);
    /* The last callback; `reason` is NB_OK when the other side ended or we closed, else NB_IO
     * (reset, user timeout), NB_CANCELED (net_conn_abort, loop destroyed). The handle is gone
     * afterwards. */
    void (*on_close)(struct net_conn *conn, void *user, enum nb_status reason);
};

struct net_conn_options {
    size_t output_high_bytes; /* 0: 1 MiB */
    /* Normally nothing is read while output is at its high mark, so that who does not read is not
     * served. At most one end of a connection may do that, or both can wait for each other: true
     * for clients and for peers. */
    bool read_while_full;
};

/* Begins to read. `events` is borrowed until on_close; `options` (or NULL) for the call. */
void net_conn_start(struct net_conn *conn, const struct net_conn_events *events, void *user,
                    const struct net_conn_options *options);
/* Appends to the output, which is written at the end of this turn. Ignored after close. */
void net_conn_write(struct net_conn *conn, struct nb_bytes bytes);
/* The output itself, to append to (and nothing else), without a copy in between. Valid until the
 * callback at hand returns. */
NB_MUST_USE struct nb_buf *net_conn_output(struct net_conn *conn);
/* Asks for one on_flush; cheap, and may be asked often. */
void net_conn_want_flush(struct net_conn *conn);
/* Bytes taken by net_conn_write and not yet by the kernel. */
size_t net_conn_pending_bytes(const struct net_conn *conn);
void net_conn_pause_reading(struct net_conn *conn);
void net_conn_resume_reading(struct net_conn *conn);
/* Reads no more; asks a last on_flush if one was wanted; closes when the output is written, or
 * after 5 s. A second call is ignored. */
void net_conn_close(struct net_conn *conn);
/* Drops the output and closes. */
void net_conn_abort(struct net_conn *conn);
/* Keepalive probes after `idle_s`, and the end of the connection (NB_IO) when sent data stays
 * unacknowledged for `timeout_ms` (TCP_USER_TIMEOUT). For peers. [N15] */
void net_conn_set_keepalive(struct net_conn *conn, unsigned idle_s, unsigned timeout_ms);
/* "1.2.3.4:567", "[::1]:567" or "@" for a unix socket: the other side, as text; and our side. */
const char *net_conn_peer(const struct net_conn *conn);
void net_conn_local(const struct net_conn *conn, char *to, size_t size);
void *net_conn_user(const struct net_conn *conn);
struct net_loop *net_conn_loop(const struct net_conn *conn);
size_t net_loop_conn_count(const struct net_loop *loop);

/* ---- connecting ---- */

/* Resolves `to` as net_resolve_start does and tries its addresses in order, each for at most
 * `timeout_ns` (0: 5 s). Calls `on_done` once, later: with a connection to be started or aborted
 * before it returns, or with NULL, a status (NB_NOT_FOUND: no such name, or not yet; NB_CLOSED:
 * refused; NB_BUSY: timed out; NB_IO) and words. No retries: those are the caller's. */
NB_MUST_USE struct net_connect *net_connect_start(
    struct net_loop *loop, const struct net_address *to, uint64_t timeout_ns,
    void (*on_done)(void *user, struct net_conn *conn, enum nb_status status, const char *error),
    void *user);
/* Only before on_done, which then does not come. */
void net_connect_cancel(struct net_connect *connect);

#endif
