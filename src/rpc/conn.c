#include "rpc/conn.h"

#include <string.h>

enum { RESETS_MAX = 1000, RESETS_PER_SECOND = 100, NOISE_MAX = 20000, NOISE_PER_SECOND = 1000 };

struct rpc_conn *rpc_conn_create(struct rpc_server *server, uint64_t now_ns, void *conn_user)
{
    struct rpc_conn *c = nb_alloc_zero(1, sizeof *c);
    c->server = server;
    c->user = conn_user;
    c->now_ns = c->begin_ns = c->refill_ns = c->input_ns = now_ns;
    c->noise = (struct rpc_budget){NOISE_MAX, NOISE_MAX, NOISE_PER_SECOND};
    c->resets = (struct rpc_budget){RESETS_MAX, RESETS_MAX, RESETS_PER_SECOND};
    server->conn_count++;
    return c;
}

void rpc_conn_destroy(struct rpc_conn *c)
{
    nb_assert(!c->feeding && !c->sending);
    c->doomed = true; /* what handlers still say goes nowhere */
    if (c->session != NULL) {
        rpc_h2_end(c);
    }
    if (c->http1 != NULL) {
        rpc_http1_destroy(c->http1);
    }
    c->server->conn_count--;
    nb_free(c);
}

void rpc_conn_dirty(struct rpc_conn *c)
{
    c->drained = false;
    if (!c->dirty) {
        c->dirty = true;
        c->server->config.on_output(c, c->user);
    }
}

void rpc_conn_doom(struct rpc_conn *c)
{
    c->doomed = true;
    rpc_conn_dirty(c);
}

/* Gathers first bytes until they differ from HTTP/2's preface, or are all of it. Then hands them
 * on. */
static enum nb_status sniff(struct rpc_conn *c, struct nb_bytes *bytes)
{
    size_t len = sizeof c->sniff - c->sniff_len;
    len = len < bytes->len ? len : bytes->len;
    memcpy(c->sniff + c->sniff_len, bytes->data, len);
    c->sniff_len = (uint8_t)(c->sniff_len + len);
    *bytes = nb_bytes_from(*bytes, len);
    struct nb_bytes first = nb_bytes_of(c->sniff, c->sniff_len);
    if (memcmp(c->sniff, NGHTTP2_CLIENT_MAGIC, c->sniff_len) != 0) {
        c->phase = RPC_PHASE_HTTP1;
        c->http1 = rpc_http1_create(c);
        return rpc_http1_feed(c->http1, first);
    }
    if (c->sniff_len == sizeof c->sniff) {
        c->phase = RPC_PHASE_H2;
        rpc_h2_begin(c);
        return rpc_h2_feed(c, first);
    }
    return NB_OK;
}

enum nb_status rpc_conn_feed(struct rpc_conn *c, struct nb_bytes bytes, uint64_t now_ns)
{
    nb_assert(!c->feeding && !c->sending);
    c->now_ns = c->input_ns = now_ns;
    c->ping_waiting = false;
    enum nb_status status = c->doomed ? NB_CLOSED : NB_OK;
    if (status == NB_OK && c->phase == RPC_PHASE_SNIFF && bytes.len != 0) {
        status = sniff(c, &bytes);
    }
    if (status == NB_OK && bytes.len != 0) {
        status = c->phase == RPC_PHASE_H2 ? rpc_h2_feed(c, bytes) : rpc_http1_feed(c->http1, bytes);
    }
    return status;
}

bool rpc_conn_output(struct rpc_conn *c, struct nb_buf *out, size_t bytes_max)
{
    nb_assert(!c->feeding && !c->sending);
    c->dirty = false;
    bool more = false;
    if (c->phase == RPC_PHASE_H2) {
        more = rpc_h2_output(c, out, bytes_max);
    } else if (c->phase == RPC_PHASE_HTTP1) {
        more = rpc_http1_output(c->http1, out, bytes_max);
    }
    c->drained = !more; /* with what was said meanwhile */
    c->dirty = more;    /* the owner knows that it has to come again */
    return more;
}

bool rpc_conn_is_done(const struct rpc_conn *c)
{
    if (!c->drained && !(c->phase == RPC_PHASE_SNIFF && c->shutting)) {
        return c->doomed && c->phase == RPC_PHASE_SNIFF;
    }
    if (c->doomed) {
        return true;
    }
    switch (c->phase) {
    case RPC_PHASE_SNIFF:
        return c->shutting;
    case RPC_PHASE_H2:
        return (c->shutting && c->stream_count == 0) ||
               (nghttp2_session_want_read(c->session) == 0 &&
                nghttp2_session_want_write(c->session) == 0);
    case RPC_PHASE_HTTP1:
        return c->shutting && rpc_http1_is_idle(c->http1);
    }
    nb_unreachable("phase");
}

enum nb_status rpc_conn_tick(struct rpc_conn *c, uint64_t now_ns)
{
    nb_assert(!c->feeding && !c->sending);
    c->now_ns = now_ns;
    if (c->doomed) {
        return NB_CLOSED;
    }
    switch (c->phase) {
    case RPC_PHASE_SNIFF: /* [N07] */
        if (now_ns - c->begin_ns >= c->server->limits.preface_timeout_ns) {
            c->doomed = true;
            return NB_CLOSED;
        }
        return NB_OK;
    case RPC_PHASE_H2:
        return rpc_h2_tick(c);
    case RPC_PHASE_HTTP1:
        return rpc_http1_tick(c->http1);
    }
    nb_unreachable("phase");
}

void rpc_conn_shutdown(struct rpc_conn *c)
{
    if (c->shutting) {
        return;
    }
    c->shutting = true;
    if (c->phase == RPC_PHASE_H2 && !c->doomed) {
        rpc_h2_goaway(c, NGHTTP2_NO_ERROR, "");
    }
    if (c->phase == RPC_PHASE_HTTP1) {
        rpc_http1_shutdown(c->http1);
    }
    rpc_conn_dirty(c);
}

bool rpc_conn_input_ended(struct rpc_conn *c)
{
    return c->phase == RPC_PHASE_HTTP1 && rpc_http1_input_ended(c->http1);
}

void *rpc_conn_user(const struct rpc_conn *c)
{
    return c->user;
}

size_t rpc_conn_call_count(const struct rpc_conn *c)
{
    return c->call_count;
}

size_t rpc_conn_unread_bytes(const struct rpc_conn *c)
{
    return c->unread_bytes + (c->http1 != NULL ? rpc_http1_unread_bytes(c->http1) : 0);
}
