/*
 * rpc/conn: what the files of the server side share: a server, a connection, a call.
 *
 * conn.c tells HTTP/2 from HTTP/1.1 and owns the phases; h2.c speaks HTTP/2 through nghttp2 and
 * upholds its budgets; call.c is what handlers call; http1.c is the other protocol.
 *
 * Invariants:
 *   K1  every call of `calls` has a stream in the session, and the reverse holds for streams not
 *       refused at once; a call is freed when its stream closes, or with the connection
 *   K2  call_count counts calls that are neither finished nor canceled
 *   K3  unfinished_bytes is the sum of what the calls' readers hold
 *   K4  unread_bytes is the sum of what the calls' outputs hold, sent parts left out
 */
#ifndef NABATA_RPC_CONN_H
#define NABATA_RPC_CONN_H

#include "rpc/framing.h"
#include "rpc/pool.h"
#include "rpc/rpc.h"

struct rpc_http1;

/* A bucket of tokens: what a peer may do that costs us and gains it nothing. */
struct rpc_budget {
    uint64_t left, max;
    uint64_t per_second;
};

static inline void rpc_budget_add(struct rpc_budget *b, uint64_t tokens)
{
    b->left = b->max - b->left < tokens ? b->max : b->left + tokens;
}

enum rpc_phase {
    RPC_PHASE_SNIFF, /* too few bytes to know the protocol */
    RPC_PHASE_H2,
    RPC_PHASE_HTTP1,
};

struct rpc_method_slot {
    uint64_t hash;
    const struct rpc_method *method; /* NULL: free */
    uint32_t path_len;
};

struct rpc_server {
    struct rpc_server_config config;
    struct rpc_limits limits;      /* defaults filled in */
    struct rpc_method_slot *slots; /* open addressing; a power of two, at most half full */
    size_t slot_count;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    struct rpc_pool pool;
    struct rpc_call *free_calls; /* linked by `next` */
    size_t free_call_count;
    size_t conn_count;
};

struct rpc_call {
    struct rpc_conn *conn;
    struct rpc_call *next, *previous; /* among conn->calls */
    const struct rpc_method *method;  /* NULL: unknown */
    void *user;
    uint64_t deadline_ns;
    uint64_t begun_ns;
    uint64_t progress_ns; /* when its request last grew */
    struct rpc_reader reader;
    struct nb_buf out;  /* framed messages; out_at bytes of them are with nghttp2's frames */
    struct nb_buf meta; /* records: u32 name length, u32 value length, name, value */
    struct nb_buf note; /* the encoded grpc-message; while headers come, the unknown path */
    size_t out_at;
    uint32_t header_bytes;
    int32_t stream_id;
    uint16_t http_status;    /* of a refusal; else 200 */
    uint8_t status;          /* enum rpc_status */
    uint8_t started : 1;     /* on_call_start was called */
    uint8_t open : 1;        /* its headers are complete */
    uint8_t dispatched : 1;  /* a handler has been called */
    uint8_t held : 1;        /* the unary message waits for the half-close */
    uint8_t half_closed : 1; /* by the client */
    uint8_t responded : 1;   /* response headers are submitted */
    uint8_t finished : 1;    /* by the handler, or refused */
    uint8_t over : 1;        /* canceled: its handle is dead */
    uint8_t above : 1;       /* pending reached the high mark */
    uint8_t deferred : 1;    /* nghttp2 waits for rpc_call's next bytes */
    uint8_t grpc : 1;        /* content type is gRPC's */
    uint8_t post : 1;
    uint8_t typed : 1; /* has a content type */
    uint8_t timeout_bad : 1;
    uint8_t malformed : 1;    /* its headers break the rules of HTTP/2: the stream is reset */
    uint8_t regular_seen : 1; /* while headers come: one that is no pseudo-header */
    uint8_t pseudo_seen : 4;  /* a bit for :method, :scheme, :authority, :path */
    uint8_t oversized : 1;    /* an answer was longer than a client takes: it ends with an error */
    uint8_t encoded : 1;      /* grpc-encoding is there, and not identity; its name is in meta */
};

struct rpc_conn {
    struct rpc_server *server;
    void *user;
    uint64_t now_ns;
    uint64_t begin_ns;
    enum rpc_phase phase;
    uint8_t sniff_len;
    bool feeding; /* within nghttp2's receiving */
    bool sending; /* within nghttp2's sending */
    bool dirty;   /* on_output was called and the output not yet taken */
    bool doomed;  /* an error: the last words go out, nothing more is read */
    bool drained; /* nothing was left after the last rpc_conn_output */
    bool shutting;
    bool ping_reset;   /* something was sent since the client's last ping */
    bool ping_waiting; /* for the answer to ours */
    bool settled;      /* the client's SETTINGS have come */
    uint8_t ping_strikes;
    uint8_t sniff[NGHTTP2_CLIENT_MAGIC_LEN];
    nghttp2_session *session; /* owned; NULL unless RPC_PHASE_H2 */
    struct rpc_http1 *http1;  /* owned; NULL unless RPC_PHASE_HTTP1 */
    struct rpc_call *calls;
    struct rpc_call *recent; /* the last one looked up */
    size_t call_count, stream_count;
    size_t unfinished_bytes, unread_bytes;
    struct rpc_budget noise, resets;
    uint64_t refill_ns;
    uint64_t input_ns; /* when something last came */
    uint64_t client_ping_ns;
    uint64_t ping_ns;
    struct nb_buf *out; /* where output goes, during rpc_conn_output */
};

/* conn.c */
void rpc_conn_dirty(struct rpc_conn *c);
/* The last words are queued; nothing more is read, running calls are canceled with the connection.
 */
void rpc_conn_doom(struct rpc_conn *c);

/* h2.c */
void rpc_h2_setup(struct rpc_server *s);
void rpc_h2_begin(struct rpc_conn *c);
NB_MUST_USE enum nb_status rpc_h2_feed(struct rpc_conn *c, struct nb_bytes bytes);
bool rpc_h2_output(struct rpc_conn *c, struct nb_buf *out, size_t bytes_max);
NB_MUST_USE enum nb_status rpc_h2_tick(struct rpc_conn *c);
void rpc_h2_end(struct rpc_conn *c);
void rpc_h2_goaway(struct rpc_conn *c, uint32_t error_code, const char *words);

/* call.c */
struct rpc_call *rpc_call_acquire(struct rpc_conn *c, int32_t stream_id);
void rpc_call_release(struct rpc_call *call);
void rpc_call_cancel(struct rpc_call *call, enum rpc_cancel why);
void rpc_call_refuse(struct rpc_call *call, unsigned http_status, enum rpc_status status,
                     const char *message);
void rpc_call_add_metadata(struct rpc_call *call, struct nb_bytes name, struct nb_bytes value);
void rpc_call_data(struct rpc_call *call, struct nb_bytes bytes, bool last);
void rpc_call_opened(struct rpc_call *call);
void rpc_call_half_closed(struct rpc_call *call);

/* server.c */
const struct rpc_method *rpc_server_lookup(const struct rpc_server *s, struct nb_bytes path);

/* http1.c */
struct rpc_http1 *rpc_http1_create(struct rpc_conn *c);
void rpc_http1_destroy(struct rpc_http1 *h);
NB_MUST_USE enum nb_status rpc_http1_feed(struct rpc_http1 *h, struct nb_bytes bytes);
bool rpc_http1_output(struct rpc_http1 *h, struct nb_buf *out, size_t bytes_max);
NB_MUST_USE enum nb_status rpc_http1_tick(struct rpc_http1 *h);
bool rpc_http1_is_idle(const struct rpc_http1 *h);
bool rpc_http1_input_ended(struct rpc_http1 *h);
void rpc_http1_shutdown(struct rpc_http1 *h);
size_t rpc_http1_unread_bytes(const struct rpc_http1 *h);

#endif
