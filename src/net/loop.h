/*
 * net/loop: what the files of this room share: the loop's insides and a connection's.
 */
#ifndef NABATA_NET_LOOP_H
#define NABATA_NET_LOOP_H

#include "net/net.h"

#include <uv.h>

enum {
    NET_READ_SIZE = 64 << 10,
    NET_HOOKS_MAX = 8,
    NET_POOL_BUFFERS_MAX = 64,
    NET_POOL_BUFFER_BYTES_MAX = 256 << 10, /* larger ones are freed */
    NET_PEER_TEXT_SIZE = 56,
};

struct net_hook {
    void (*call)(void *user);
    void *user;
};

struct net_loop {
    uv_loop_t uv;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;    /* runs when the loop must not wait */
    uv_timer_t linger; /* runs while connections close */
    bool busy;         /* net_loop_set_busy */
    bool stirred;      /* a callback has run since the last end of a turn */
    bool stopping;     /* net_loop_destroy */
    size_t hook_count;
    struct net_hook hooks[NET_HOOKS_MAX];
    struct net_conn *conns; /* all, by their `next` */
    struct net_conn *dirty; /* those with something to flush, by next_dirty */
    struct net_listener *listeners;
    size_t conn_count, closing_count;
    struct nb_buf pool[NET_POOL_BUFFERS_MAX]; /* empty buffers with memory */
    size_t pool_count;
    struct nb_buf sink;      /* output of connections that have ended */
    uint8_t *read_buffer;    /* NET_READ_SIZE bytes, shared by all connections */
    struct net_names *names; /* owned; NULL until a name is asked for */
};

struct net_conn {
    union {
        uv_handle_t any;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } handle;
    struct net_loop *loop;
    const struct net_conn_events *events; /* NULL until started */
    void *user;
    struct net_conn *next, *previous, *next_dirty;
    struct nb_buf out;    /* to be written at the end of the turn */
    struct nb_buf flight; /* with the kernel's queue full: being written by libuv */
    size_t flight_at;     /* how much of it was written at once */
    uv_write_t *write;    /* owned; non-NULL while `flight` is */
    uint64_t close_by_ns;
    size_t high_bytes;
    enum nb_status reason;
    bool read_while_full, reading, paused, above, listed, want_flush, closing, ended;
    char peer[NET_PEER_TEXT_SIZE];
};

/* loop.c: the start of every callback from libuv. */
static inline void net_stir(struct net_loop *loop)
{
    loop->stirred = true;
}
enum nb_status net_status_of_uv(int error);
void net_error_set(struct net_error *error, const char *format, ...) NB_PRINTF(2, 3);

/* names.c: the resolves must have ended or been canceled. */
void net_names_destroy(struct net_loop *loop);

/* connect.c: numbers to an address; false when they are none. */
NB_MUST_USE bool net_sockaddr_of(const char *host, uint16_t port, struct sockaddr_storage *out);

/* conn.c */
NB_MUST_USE struct net_conn *net_conn_new(struct net_loop *loop, bool is_pipe);
void net_conn_describe(struct net_conn *conn); /* fills `peer`, sets socket options */
void net_conn_end(struct net_conn *conn, enum nb_status reason);
void net_conn_flush(struct net_conn *conn);
void net_loop_flush(struct net_loop *loop);
void net_loop_linger(struct net_loop *loop); /* closes those whose time is over */

/* listener.c */
void net_listeners_resume(struct net_loop *loop);
void net_listeners_close(struct net_loop *loop);

#endif
