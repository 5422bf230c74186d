/*
 * rpc: gRPC over HTTP/2, and HTTP/1.1, as bytes in and bytes out. No sockets, no clock, no threads.
 *
 * A server has one `struct rpc_server` (tables and limits) and one `struct rpc_conn` for each
 * connection; a client has one `struct rpc_client` for each. The owner feeds what it read, is told
 * by `on_output` that there is something to write, and takes it once a turn:
 *
 *     on_data:   if (rpc_conn_feed(conn, bytes, now_ns) != NB_OK) { close after flushing }
 *     on_output: net_conn_want_flush(nc)
 *     on_flush:  rpc_conn_output(conn, net_conn_output(nc), 1 << 20);
 *                if (rpc_conn_is_done(conn)) { close after flushing }
 *     on_close:  rpc_conn_destroy(conn)
 *     a timer, about every second (and every 100 ms or so for sharp deadlines): rpc_conn_tick(conn,
 * now_ns)
 *
 * Invariants:
 *   C1  a call's handle is valid from its first callback until rpc_call_finish, or until its
 * on_cancel returns, whichever comes first; nothing of it is called back afterwards [Z01] C2
 * on_cancel comes exactly once for a call that is not finished when its client goes away, resets
 *       it, lets its deadline pass, or the connection is destroyed; and never for a finished one
 * [N12] C3  what a peer can make us hold is bounded by struct rpc_limits [N01-N10, Z03] C4
 * rpc_call_send and rpc_call_finish may be called at any time, from within any callback or none, in
 * any order among calls; neither calls back into the owner but for on_output C5  an idle connection
 * holds no more than its sessions' bookkeeping (see rpc_memory_test.c)
 */
#ifndef NABATA_RPC_RPC_H
#define NABATA_RPC_RPC_H

#include "base/bytes.h"
#include "base/status.h"

/* ---- status ---- */

/* The codes of gRPC. [grpc statuscodes.md] */
enum rpc_status {
    RPC_OK,
    RPC_CANCELED,
    RPC_UNKNOWN,
    RPC_INVALID_ARGUMENT,
    RPC_DEADLINE_EXCEEDED,
    RPC_NOT_FOUND,
    RPC_ALREADY_EXISTS,
    RPC_PERMISSION_DENIED,
    RPC_RESOURCE_EXHAUSTED,
    RPC_FAILED_PRECONDITION,
    RPC_ABORTED,
    RPC_OUT_OF_RANGE,
    RPC_UNIMPLEMENTED,
    RPC_INTERNAL,
    RPC_UNAVAILABLE,
    RPC_DATA_LOSS,
    RPC_UNAUTHENTICATED,
    RPC_STATUS_COUNT
};

/* "OK", "InvalidArgument", ... as grpc-go prints them. Never NULL; "Code(99)" comes as "Unknown".
 */
const char *rpc_status_name(enum rpc_status status);

/* ---- server ---- */

struct rpc_server;
struct rpc_conn;
struct rpc_call;
struct rpc_http;

enum rpc_kind {
    RPC_UNARY,         /* one message in, one out */
    RPC_SERVER_STREAM, /* one in, many out */
    RPC_BIDI,          /* many in, many out; also stands for a client's stream */
};

enum rpc_cancel {
    RPC_CANCEL_RESET,    /* the client reset the stream */
    RPC_CANCEL_DEADLINE, /* grpc-timeout has passed; the client is told DeadlineExceeded */
    RPC_CANCEL_GONE,     /* the connection ended */
};

/* One row of the dispatch table. */
struct rpc_method {
    const char *path; /* "/etcdserverpb.KV/Range" */
    enum rpc_kind kind;
    unsigned tag; /* the owner's, for its own tables; see rpc_call_method */
    /* RPC_BIDI: its headers have come; may be NULL. Never called for the other kinds. */
    void (*on_open)(struct rpc_call *call);
    /* The message, borrowed for the call: of a unary or server-streaming method its only one, after
     * the client has half-closed; of a bidi method each one in order. */
    void (*on_message)(struct rpc_call *call, struct nb_bytes message);
    /* RPC_BIDI: the client sends no more; may be NULL, then nothing happens. */
    void (*on_half_close)(struct rpc_call *call);
    /* Pending bytes had reached send_high_bytes and fell below half of that; may be NULL. */
    void (*on_drain)(struct rpc_call *call);
    /* See C1, C2. May be NULL for methods that answer at once. */
    void (*on_cancel)(struct rpc_call *call, enum rpc_cancel why);
};

/* A field of 0 means its default. */
struct rpc_limits {
    size_t message_bytes_max; /* 2,097,152 (1.5 MiB + 512 KiB) [N11] */
    uint32_t streams_max;     /* 4,294,967,295 as etcd announces; see calls_max */
    uint32_t calls_max;       /* running calls of one connection: 16,384; more are refused [N01] */
    size_t unfinished_bytes_max;      /* partial messages of one connection: 64 MiB [N10] */
    size_t output_bytes_max;          /* unread output of one connection, the last message left out:
                                         256 MiB, then closed [N06] */
    size_t send_high_bytes;           /* of one call, for on_drain: 256 KiB */
    size_t header_bytes_max;          /* decoded header list of a request: 64 KiB [N03, N04] */
    uint32_t stream_window_bytes;     /* 1 MiB [N08] */
    uint32_t connection_window_bytes; /* 16 MiB */
    uint64_t preface_timeout_ns;      /* first bytes, HTTP/1 headers: 10 s [N07] */
    uint64_t body_timeout_ns;         /* without progress within a request's body: 60 s [N07] */
    uint64_t http_idle_timeout_ns;    /* HTTP/1 keep-alive: 120 s */
    uint64_t
        keepalive_min_ns; /* least distance of a client's pings: 5 s; UINT64_MAX: do not enforce */
    bool keepalive_permit_without_stream;
    uint64_t keepalive_interval_ns; /* our pings after such an idle time: 2 h */
    uint64_t keepalive_timeout_ns;  /* 20 s */
    size_t http_body_bytes_max;     /* 4 MiB */
};

struct rpc_server_config {
    const struct rpc_method *methods; /* borrowed for the server's life */
    size_t method_count;
    struct rpc_limits limits;
    /* An HTTP/1.1 request is complete; answer with rpc_http_reply, now or later. NULL: 404 to all.
     */
    void (*on_http)(struct rpc_http *http, void *server_user);
    /* The client of an unanswered request (or unended chunked reply) has gone; the handle ends with
     * this callback. NULL if on_http always answers at once. */
    void (*on_http_cancel)(struct rpc_http *http);
    /* There is output where there was none since the last rpc_conn_output. */
    void (*on_output)(struct rpc_conn *conn, void *conn_user);
    /* For metrics; each may be NULL. on_call_end comes for every call, with the status it was told
     * (or RPC_CANCELED), also for those refused before a handler saw them (method is then NULL if
     * unknown), and with when it began on the clock of rpc_conn_feed. */
    void (*on_call_start)(void *server_user, const struct rpc_method *method);
    void (*on_call_end)(void *server_user, const struct rpc_method *method, enum rpc_status status,
                        uint64_t begun_ns);
    /* A message went to a handler (`sent` false), or came from one. */
    void (*on_call_message)(void *server_user, const struct rpc_method *method, bool sent);
    void *user; /* server_user */
};

NB_MUST_USE struct rpc_server *rpc_server_create(const struct rpc_server_config *config);
/* Memory that is kept for calls and connections to come goes back to malloc. */
void rpc_server_drain(struct rpc_server *server);
void rpc_server_destroy(struct rpc_server *server); /* after all its connections */

/* No callback of a connection may feed, tick, destroy or take output from it: that is for later in
 * the turn. */
NB_MUST_USE struct rpc_conn *rpc_conn_create(struct rpc_server *server, uint64_t now_ns,
                                             void *conn_user);
/* Cancels what is still running. */
void rpc_conn_destroy(struct rpc_conn *conn);
/* Takes bytes from the client. Anything but NB_OK: it will take no more; write what rpc_conn_output
 * gives and close. Handlers run inside. */
NB_MUST_USE enum nb_status rpc_conn_feed(struct rpc_conn *conn, struct nb_bytes bytes,
                                         uint64_t now_ns);
/* Appends output to `out`, stopping soon after `bytes_max`. True when there is more, which is then
 * to be asked for when `out` has been written. */
bool rpc_conn_output(struct rpc_conn *conn, struct nb_buf *out, size_t bytes_max);
/* All is said (after an error, a shutdown, or "Connection: close"): close when output is written.
 */
bool rpc_conn_is_done(const struct rpc_conn *conn);
/* Timeouts, deadlines, our pings. Not NB_OK: as for feed. */
NB_MUST_USE enum nb_status rpc_conn_tick(struct rpc_conn *conn, uint64_t now_ns);
/* GOAWAY (or "Connection: close"): running calls may end, new ones are refused; done after the
 * last. */
void rpc_conn_shutdown(struct rpc_conn *conn);
/* The client will say no more. True when an answer is still owed to it (HTTP/1.1 clients that close
 * their half are wont to wait); the connection is done after that. */
NB_MUST_USE bool rpc_conn_input_ended(struct rpc_conn *conn);
void *rpc_conn_user(const struct rpc_conn *conn);
size_t rpc_conn_call_count(const struct rpc_conn *conn);   /* running: begun and not finished */
size_t rpc_conn_unread_bytes(const struct rpc_conn *conn); /* output held for the client, about */

/* ---- a call ---- */

const struct rpc_method *rpc_call_method(const struct rpc_call *call);
struct rpc_conn *rpc_call_conn(const struct rpc_call *call);
void *rpc_call_user(const struct rpc_call *call);
void rpc_call_set_user(struct rpc_call *call, void *user);
/* Value of a request header (lower-case name); false if absent. Borrowed while the call is valid.
 * Of a name sent twice, the first. Reserved headers (":path", "te", "content-type", "user-agent",
 * "grpc-...") are not kept. */
NB_MUST_USE bool rpc_call_metadata(const struct rpc_call *call, const char *name,
                                   struct nb_bytes *out);
/* On the clock of rpc_conn_feed; UINT64_MAX when there is none. */
uint64_t rpc_call_deadline_ns(const struct rpc_call *call);
/* Adds a message (head then body, copied) to what the client will get. One of 2 GiB and more is
 * left out, and the call will end as ResourceExhausted. */
void rpc_call_send(struct rpc_call *call, struct nb_bytes head, struct nb_bytes body);
/* Sent and not yet taken by the peer's windows. Whoever streams stops at send_high_bytes and goes
 * on at on_drain. */
size_t rpc_call_pending_bytes(const struct rpc_call *call);
/* Ends the call; the handle with it. `message` (NULL: "") is percent-encoded here. */
void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *message);
/* The common pair for a unary method: send and finish with RPC_OK. */
void rpc_call_reply(struct rpc_call *call, struct nb_bytes head, struct nb_bytes body);

/* ---- HTTP/1.1 ---- */

struct rpc_http_request {
    struct nb_bytes method; /* "GET" */
    struct nb_bytes path;   /* as sent, without the query */
    struct nb_bytes query;  /* without the '?' */
    struct nb_bytes body;
};

/* All borrowed while `http` is valid: until rpc_http_reply, rpc_http_end or on_http_cancel's
 * return. */
const struct rpc_http_request *rpc_http_request(const struct rpc_http *http);
/* Header by name, any case; false if absent. */
NB_MUST_USE bool rpc_http_header(const struct rpc_http *http, const char *name,
                                 struct nb_bytes *out);
/* The i-th header; false past the last. */
NB_MUST_USE bool rpc_http_header_at(const struct rpc_http *http, size_t i, struct nb_bytes *name,
                                    struct nb_bytes *value);
struct rpc_conn *rpc_http_conn(const struct rpc_http *http);
void *rpc_http_user(const struct rpc_http *http);
void rpc_http_set_user(struct rpc_http *http, void *user);
/* A header of whatever answer comes. Line breaks in `value` are the caller's to keep out; what came
 * as a header has none. */
void rpc_http_add_header(struct rpc_http *http, const char *name, struct nb_bytes value);
/* Answers and ends the handle. `content_type` NULL leaves it out; `extra_headers` is NULL or lines
 * that each end in "\r\n". For HEAD the body is left out, its length stays. */
void rpc_http_reply(struct rpc_http *http, unsigned status, const char *content_type,
                    const char *extra_headers, struct nb_bytes body);
/* A reply in pieces (chunked): begin, any number of chunks, end. */
void rpc_http_begin(struct rpc_http *http, unsigned status, const char *content_type,
                    const char *extra_headers);
void rpc_http_chunk(struct rpc_http *http, struct nb_bytes bytes);
void rpc_http_end(struct rpc_http *http);
/* Value of a query parameter, percent-decoded into `out` (appended): the `nth` one of that name. */
NB_MUST_USE bool rpc_query_get(struct nb_bytes query, const char *name, size_t nth,
                               struct nb_buf *out);

/* ---- client ---- */

struct rpc_client;
struct rpc_client_call;

struct rpc_client_config {
    const char *authority;            /* borrowed for the client's life; "host:port" */
    const char *user_agent;           /* the same; NULL: "nabata" */
    bool https;                       /* what :scheme says; the bytes are the owner's to encrypt */
    size_t message_bytes_max;         /* received; 0: 2^31-1 */
    uint32_t stream_window_bytes;     /* 0: 4 MiB */
    uint32_t connection_window_bytes; /* 0: 64 MiB */
    uint64_t keepalive_interval_ns;   /* a ping after such a time without input; 0: none */
    uint64_t keepalive_timeout_ns;    /* 0: 20 s */
    bool keepalive_without_calls;
    /* As of the server; comes first from within rpc_client_create. */
    void (*on_output)(struct rpc_client *client, void *user);
    /* The server has said GOAWAY: no new calls; may be NULL. */
    void (*on_goaway)(struct rpc_client *client, void *user);
    void *user;
};

struct rpc_metadata {
    const char *name; /* lower case */
    struct nb_bytes value;
};

struct rpc_client_events {
    /* Each message, borrowed for the call. May be NULL. */
    void (*on_message)(struct rpc_client_call *call, void *user, struct nb_bytes message);
    /* The last callback, exactly once unless the call is canceled; never from within
     * rpc_client_start. Borrowed `message` is decoded. */
    void (*on_done)(struct rpc_client_call *call, void *user, enum rpc_status status,
                    struct nb_bytes message);
};

struct rpc_client_request {
    const char *path;
    const struct rpc_metadata *metadata; /* borrowed for the call of rpc_client_start */
    size_t metadata_count;
    uint64_t timeout_ns; /* 0: none; sent as grpc-timeout, and kept by rpc_client_tick */
    const struct rpc_client_events *events; /* borrowed until on_done */
    void *user;
};

/* No callback of a client may feed, destroy or take output from it: those are for later in the
 * turn. */
NB_MUST_USE struct rpc_client *rpc_client_create(const struct rpc_client_config *config,
                                                 uint64_t now_ns);
/* Running calls get on_done(RPC_UNAVAILABLE, "connection closed"). */
void rpc_client_destroy(struct rpc_client *client);
/* As rpc_conn_feed. Calls that cannot end any more are told RPC_UNAVAILABLE by it (or by destroy).
 */
NB_MUST_USE enum nb_status rpc_client_feed(struct rpc_client *client, struct nb_bytes bytes,
                                           uint64_t now_ns);
bool rpc_client_output(struct rpc_client *client, struct nb_buf *out, size_t bytes_max);
/* Deadlines (a late call ends as DeadlineExceeded "context deadline exceeded") and pings. */
NB_MUST_USE enum nb_status rpc_client_tick(struct rpc_client *client, uint64_t now_ns);
bool rpc_client_is_done(const struct rpc_client *client);
/* False after GOAWAY or an error, and when stream ids have run out. */
bool rpc_client_can_start(const struct rpc_client *client);
size_t rpc_client_call_count(const struct rpc_client *client);

/* Begins a call; NULL only when rpc_client_can_start is false. */
NB_MUST_USE struct rpc_client_call *rpc_client_start(struct rpc_client *client,
                                                     const struct rpc_client_request *request);
/* Unary: start, one message, half-close. */
NB_MUST_USE struct rpc_client_call *rpc_client_unary(struct rpc_client *client,
                                                     const struct rpc_client_request *request,
                                                     struct nb_bytes message);
void rpc_client_send(struct rpc_client_call *call, struct nb_bytes message);
void rpc_client_half_close(struct rpc_client_call *call);
size_t rpc_client_pending_bytes(const struct rpc_client_call *call);
/* Resets the stream; no callback follows and the handle is gone. */
void rpc_client_cancel(struct rpc_client_call *call);

#endif
