/*
 * HTTP/2 by nghttp2: its callbacks, and the budgets it does not keep itself. Each DATA frame is
 * written straight from the call's output to the connection's (no_copy). nghttp2's own limits in
 * use: queued SETTINGS and PING answers, SETTINGS entries, CONTINUATION frames. [N03, N05]
 */
#include "rpc/conn.h"
#include "rpc/text.h"

#include <string.h>

enum { CONTINUATIONS_MAX = 16, SMALL_DATA_BYTES = 64, PING_STRIKES_MAX = 2, FRAME_HEAD_SIZE = 9 };

static const uint64_t no_stream_ping_ns = UINT64_C(7200) * 1000000000; /* as grpc-go */

/* Tokens come back with time. */
static void refill(struct rpc_conn *c)
{
    uint64_t elapsed_ms = (c->now_ns - c->refill_ns) / 1000000;
    if (c->now_ns > c->refill_ns && elapsed_ms >= 10) {
        elapsed_ms = elapsed_ms < 1000000 ? elapsed_ms : 1000000;
        rpc_budget_add(&c->noise, c->noise.per_second * elapsed_ms / 1000);
        rpc_budget_add(&c->resets, c->resets.per_second * elapsed_ms / 1000);
        c->refill_ns = c->now_ns;
    }
}

/* False when the budget is used up: the connection then ends with ENHANCE_YOUR_CALM. */
static bool spend(struct rpc_conn *c, struct rpc_budget *b, const char *words)
{
    if (b->left == 0) {
        refill(c);
    }
    if (b->left == 0) {
        rpc_h2_goaway(c, NGHTTP2_ENHANCE_YOUR_CALM, words);
        rpc_conn_doom(c);
        return false;
    }
    b->left--;
    return true;
}

void rpc_h2_goaway(struct rpc_conn *c, uint32_t error_code, const char *words)
{
    int rc = nghttp2_submit_goaway(c->session, NGHTTP2_FLAG_NONE,
                                   nghttp2_session_get_last_proc_stream_id(c->session), error_code,
                                   (const uint8_t *)words, strlen(words));
    nb_assert(rc == 0 || rc == NGHTTP2_ERR_INVALID_ARGUMENT);
    rpc_conn_dirty(c);
}

static struct rpc_call *find_call(struct rpc_conn *c, int32_t stream_id)
{
    if (c->recent != NULL && c->recent->stream_id == stream_id) {
        return c->recent;
    }
    struct rpc_call *call = nghttp2_session_get_stream_user_data(c->session, stream_id);
    if (call != NULL) {
        c->recent = call;
    }
    return call;
}

/* Frames that cost us and bring nothing: [N01, N05, N06] */
static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    (void)session;
    struct rpc_conn *c = user;
    bool allowed = true;
    switch (hd->type) {
    case NGHTTP2_HEADERS:
        break;
    case NGHTTP2_DATA:
        if (hd->length < SMALL_DATA_BYTES && (hd->flags & NGHTTP2_FLAG_END_STREAM) == 0) {
            allowed = spend(c, &c->noise, "too_many_small_frames");
        }
        break;
    case NGHTTP2_RST_STREAM:
        allowed = spend(c, &c->resets, "too_many_resets");
        break;
    default:
        allowed = spend(c, &c->noise, "too_many_control_frames");
        break;
    }
    return allowed ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct rpc_conn *c = user;
    if (frame->hd.type != NGHTTP2_HEADERS) {
        return 0;
    }
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) { /* trailers, of which gRPC has no use [N06] */
        return spend(c, &c->noise, "too_many_trailers") ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (c->call_count >= c->server->limits.calls_max ||
        c->stream_count >= (size_t)c->server->limits.calls_max * 2) {
        /* The second: finished calls whose answers nobody takes. [N01] */
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    struct rpc_call *call = rpc_call_acquire(c, frame->hd.stream_id);
    int rc = nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    nb_assert(rc == 0);
    c->recent = call;
    return 0;
}

static void take_path(struct rpc_call *call, struct nb_bytes path)
{
    call->method = rpc_server_lookup(call->conn->server, path);
    if (call->method == NULL) {
        nb_buf_clear(&call->note);
        nb_buf_append_bytes(&call->note, path);
    }
}

/* True if the header is one of ours; else it is metadata. */
static bool take_reserved(struct rpc_call *call, struct nb_bytes name, struct nb_bytes value)
{
    if (name.data[0] == ':') {
        if (RPC_IS(name, ":path")) {
            take_path(call, value);
        } else if (RPC_IS(name, ":method")) {
            call->post = RPC_IS(value, "POST");
            if (!call->post) {
                rpc_call_add_metadata(call, name, value);
            }
        }
        return true;
    }
    if (RPC_IS(name, "content-type")) {
        call->typed = true;
        call->grpc = rpc_content_type_is_grpc(value);
        if (!call->grpc) {
            rpc_call_add_metadata(call, name, value);
        }
        return true;
    }
    if (RPC_IS(name, "grpc-timeout")) {
        uint64_t timeout_ns = 0;
        call->timeout_bad = !rpc_timeout_parse(value, &timeout_ns);
        uint64_t now = call->conn->now_ns;
        call->deadline_ns = timeout_ns < UINT64_MAX - now ? now + timeout_ns : UINT64_MAX;
        return true;
    }
    if (RPC_IS(name, "grpc-encoding")) {
        call->encoded = !RPC_IS(value, "identity") && value.len != 0;
        if (call->encoded) {
            rpc_call_add_metadata(call, name, value);
        }
        return true;
    }
    return RPC_IS(name, "te") || RPC_IS(name, "user-agent") || RPC_IS(name, "content-length") ||
           (name.len >= 5 && memcmp(name.data, "grpc-", 5) == 0);
}

/*
 * nghttp2's own checks are off (no_http_messaging), because they refuse what etcd clients send: the
 * Go client of etcd 3.4 says ":authority: http://host:port". What stays forbidden: a pseudo-header
 * twice, unknown, or behind an ordinary one; upper case and blank names; headers of the connection.
 * [RFC 9113, 8.2 and 8.3] The value of :authority is nobody's business here.
 */
static bool header_is_well_formed(struct rpc_call *call, struct nb_bytes name)
{
    static const char *const pseudo[] = {":method", ":scheme", ":authority", ":path"};
    if (name.len == 0) {
        return false;
    }
    if (name.data[0] == ':') {
        for (unsigned i = 0; i < NB_ARRAY_LEN(pseudo); i++) {
            if (nb_bytes_equal(name, nb_bytes_str(pseudo[i]))) {
                bool fresh = (call->pseudo_seen & 1u << i) == 0;
                call->pseudo_seen = (uint8_t)(call->pseudo_seen | 1u << i) & 15u;
                return fresh && !call->regular_seen;
            }
        }
        return false;
    }
    call->regular_seen = 1;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = name.data[i];
        if (byte <= ' ' || byte >= 0x7f || (byte >= 'A' && byte <= 'Z') || byte == ':') {
            return false;
        }
    }
    return !RPC_IS(name, "connection") && !RPC_IS(name, "transfer-encoding") &&
           !RPC_IS(name, "upgrade") && !RPC_IS(name, "keep-alive") &&
           !RPC_IS(name, "proxy-connection");
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)session;
    (void)flags;
    struct rpc_conn *c = user;
    struct rpc_call *call = find_call(c, frame->hd.stream_id);
    if (call == NULL || call->open) {
        return 0; /* refused, or trailers */
    }
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name);
    nghttp2_vec v = nghttp2_rcbuf_get_buf(value);
    call->header_bytes += (uint32_t)(n.len + v.len + 32);
    if (call->header_bytes > c->server->limits.header_bytes_max) {
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* this stream is reset [N04] */
    }
    struct nb_bytes name_bytes = nb_bytes_of(n.base, n.len);
    struct nb_bytes value_bytes = nb_bytes_of(v.base, v.len);
    if (!header_is_well_formed(call, name_bytes)) {
        call->malformed = 1;
        return 0; /* reset when all its headers have come, so that the table stays in step */
    }
    if (!take_reserved(call, name_bytes, value_bytes)) {
        rpc_call_add_metadata(call, name_bytes, value_bytes);
    }
    return 0;
}

/* Whom grpc-go answers at once, in its words. True if refused. */
static bool refuse_headers(struct rpc_call *call)
{
    struct nb_bytes value;
    struct nb_buf text = {0};
    unsigned http_status = 200;
    enum rpc_status status = RPC_OK;
    if (!call->grpc) {
        http_status = 415;
        status = RPC_INVALID_ARGUMENT;
        value = (struct nb_bytes){0};
        (void)!rpc_call_metadata(call, "content-type", &value);
        nb_buf_append_str(&text, "invalid gRPC request content-type ");
        rpc_quote(value, &text);
    } else if (!call->post) {
        http_status = 405;
        status = RPC_INTERNAL;
        value = (struct nb_bytes){0};
        (void)!rpc_call_metadata(call, ":method", &value);
        nb_buf_append_str(&text, "Received a HEADERS frame with :method ");
        rpc_quote(value, &text);
        nb_buf_append_str(&text, " which should be POST");
    } else if (call->timeout_bad) {
        http_status = 400;
        status = RPC_INTERNAL;
        nb_buf_append_str(&text, "malformed grpc-timeout");
    } else if (call->method == NULL) {
        status = RPC_UNIMPLEMENTED;
        struct nb_bytes path = nb_buf_bytes(&call->note);
        struct nb_bytes rest = path.len != 0 && path.data[0] == '/' ? nb_bytes_from(path, 1) : path;
        const uint8_t *slash = rest.len == 0 ? NULL : memrchr(rest.data, '/', rest.len);
        if (slash == NULL) {
            nb_buf_append_str(&text, "malformed method name: ");
            rpc_quote(path, &text);
        } else {
            size_t service_len = (size_t)(slash - rest.data);
            size_t method_len = rest.len - service_len - 1;
            bool known = false;
            const struct rpc_server *s = call->conn->server;
            for (size_t i = 0; i < s->config.method_count && !known; i++) {
                known = strncmp(s->config.methods[i].path + 1, (const char *)rest.data,
                                service_len + 1) == 0;
            }
            if (known) {
                nb_buf_append_str(&text, "unknown method ");
                nb_buf_append(&text, slash + 1, method_len);
                nb_buf_append_str(&text, " for service ");
            } else {
                nb_buf_append_str(&text, "unknown service ");
            }
            nb_buf_append(&text, rest.data, service_len);
        }
    } else if (call->encoded) {
        status = RPC_UNIMPLEMENTED;
        value = (struct nb_bytes){0};
        (void)!rpc_call_metadata(call, "grpc-encoding", &value);
        nb_buf_append_str(&text, "grpc: Decompressor is not installed for grpc-encoding ");
        rpc_quote(value, &text);
    }
    if (status == RPC_OK) {
        return false;
    }
    nb_buf_append(&text, "", 1);
    rpc_call_refuse(call, http_status, status, (const char *)text.data);
    nb_buf_deinit(&text);
    return true;
}

/* Enforcement as grpc-go's: pings only every keepalive_min, and only with a call running. */
static int on_ping(struct rpc_conn *c)
{
    const struct rpc_limits *l = &c->server->limits;
    uint64_t since_ns = c->now_ns - c->client_ping_ns;
    bool first = c->client_ping_ns == 0;
    c->client_ping_ns = c->now_ns;
    if (l->keepalive_min_ns == UINT64_MAX) {
        return 0;
    }
    if (c->ping_reset || first) {
        c->ping_reset = false;
        c->ping_strikes = 0;
        return 0;
    }
    uint64_t least_ns = c->stream_count == 0 && !l->keepalive_permit_without_stream
                            ? no_stream_ping_ns
                            : l->keepalive_min_ns;
    if (since_ns < least_ns) {
        c->ping_strikes++;
    }
    if (c->ping_strikes > PING_STRIKES_MAX) {
        rpc_h2_goaway(c, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
        rpc_conn_doom(c);
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    enum { PSEUDO_WANTED = 1 | 2 | 8 }; /* :method, :scheme, :path */
    struct rpc_conn *c = user;
    struct rpc_call *call;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        call = find_call(c, frame->hd.stream_id);
        if (call != NULL && !call->open) {
            call->open = true;
            if (call->malformed || (call->pseudo_seen & PSEUDO_WANTED) != PSEUDO_WANTED) {
                call->malformed = true;
                (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                                NGHTTP2_PROTOCOL_ERROR);
                return 0; /* counted when it is sent [N02] */
            }
            call->half_closed = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
            if (!refuse_headers(call)) {
                rpc_call_opened(call);
            }
        }
        break;
    case NGHTTP2_DATA:
        break;
    case NGHTTP2_PING:
        return (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0 ? on_ping(c) : 0;
    case NGHTTP2_SETTINGS:
        c->settled = true;
        return 0;
    default:
        return 0;
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        call = find_call(c, frame->hd.stream_id);
        if (call != NULL && !call->malformed) {
            rpc_call_half_closed(call);
        }
    }
    return c->doomed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t len, void *user)
{
    (void)session;
    struct rpc_conn *c = user;
    struct rpc_call *call = find_call(c, stream_id);
    if (call != NULL && !call->malformed) {
        rpc_call_data(call, nb_bytes_of(data, len), (flags & NGHTTP2_FLAG_END_STREAM) != 0);
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    (void)session;
    (void)error_code;
    struct rpc_conn *c = user;
    struct rpc_call *call = find_call(c, stream_id);
    if (call != NULL) {
        rpc_call_cancel(call, RPC_CANCEL_RESET);
        rpc_call_release(call);
        rpc_budget_add(&c->noise, 2);
    }
    return 0;
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct rpc_conn *c = user;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        c->ping_reset = true;
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
            struct rpc_call *call = find_call(c, frame->hd.stream_id);
            if (call != NULL && !call->half_closed) {
                (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                                NGHTTP2_NO_ERROR);
            } else {
                rpc_budget_add(&c->resets, 1);
            }
        }
    } else if (frame->hd.type == NGHTTP2_RST_STREAM &&
               frame->rst_stream.error_code != NGHTTP2_NO_ERROR) {
        (void)spend(c, &c->resets, "too_many_resets"); /* those it made us send [N02] */
    }
    return 0;
}

/* The frame's head, then its bytes out of the call's output. */
static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                     size_t len, nghttp2_data_source *source, void *user)
{
    (void)session;
    struct rpc_conn *c = user;
    struct rpc_call *call = source->ptr;
    nb_assert(frame->data.padlen == 0 && len <= call->out.len - call->out_at);
    uint8_t *to = nb_buf_extend(c->out, FRAME_HEAD_SIZE + len);
    memcpy(to, head, FRAME_HEAD_SIZE);
    if (len != 0) {
        memcpy(to + FRAME_HEAD_SIZE, call->out.data + call->out_at, len);
    }
    call->out_at += len;
    c->unread_bytes -= len;
    c->ping_reset = true;
    rpc_budget_add(&c->noise, 2);
    if (call->out_at == call->out.len) {
        call->out_at = 0;
        if (call->out.capacity > 4096) {
            nb_buf_deinit(&call->out);
        }
        nb_buf_clear(&call->out);
    }
    if (call->above && rpc_call_pending_bytes(call) < c->server->limits.send_high_bytes / 2) {
        call->above = false;
        if (!call->finished && !call->over && call->method->on_drain != NULL) {
            call->method->on_drain(call);
        }
    }
    return 0;
}

void rpc_h2_setup(struct rpc_server *s)
{
    int rc = nghttp2_session_callbacks_new(&s->callbacks);
    nb_assert(rc == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(s->callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(s->callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback2(s->callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(s->callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(s->callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(s->callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(s->callbacks, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(s->callbacks, send_data);
    rc = nghttp2_option_new(&s->option);
    nb_assert(rc == 0);
    nghttp2_option_set_no_closed_streams(s->option, 1);
    nghttp2_option_set_no_http_messaging(s->option, 1); /* see header_is_well_formed */
    nghttp2_option_set_max_continuations(s->option, CONTINUATIONS_MAX);
    /* Resets are counted here, by the owner's clock. */
    nghttp2_option_set_stream_reset_rate_limit(s->option, UINT64_MAX / 2, UINT32_MAX);
}

void rpc_h2_begin(struct rpc_conn *c)
{
    struct rpc_server *s = c->server;
    int rc = nghttp2_session_server_new3(&c->session, s->callbacks, c, s->option, &s->pool.mem);
    nb_assert(rc == 0);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, s->limits.stream_window_bytes},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)s->limits.header_bytes_max},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, s->limits.streams_max},
    };
    size_t count = NB_ARRAY_LEN(settings);
    if (s->limits.streams_max == UINT32_MAX) {
        count--; /* as etcd: no limit is announced */
    }
    rc = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, count);
    nb_assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)s->limits.connection_window_bytes);
    nb_assert(rc == 0);
    if (c->shutting) {
        rpc_h2_goaway(c, NGHTTP2_NO_ERROR, "");
    }
    rpc_conn_dirty(c);
}

enum nb_status rpc_h2_feed(struct rpc_conn *c, struct nb_bytes bytes)
{
    c->feeding = true;
    ssize_t used = nghttp2_session_mem_recv(c->session, bytes.data, bytes.len);
    c->feeding = false;
    if (nghttp2_session_want_write(c->session) != 0) {
        rpc_conn_dirty(c);
    }
    if (used < 0 || c->doomed) {
        if (used == NGHTTP2_ERR_FLOODED || used == NGHTTP2_ERR_BAD_CLIENT_MAGIC) {
            rpc_h2_goaway(c, NGHTTP2_ENHANCE_YOUR_CALM, "flooded");
        }
        rpc_conn_doom(c);
        return used == NGHTTP2_ERR_FLOODED ? NB_TOO_LARGE : NB_CLOSED;
    }
    if (nghttp2_session_want_read(c->session) == 0) {
        rpc_conn_doom(c); /* a connection error: its GOAWAY is queued */
        return NB_MALFORMED;
    }
    return NB_OK;
}

bool rpc_h2_output(struct rpc_conn *c, struct nb_buf *out, size_t bytes_max)
{
    size_t begin = out->len;
    c->sending = true;
    c->out = out;
    bool more = true;
    while (out->len - begin < bytes_max) {
        const uint8_t *data;
        ssize_t len = nghttp2_session_mem_send(c->session, &data);
        if (len < 0) {
            c->doomed = true;
        }
        if (len <= 0) {
            more = false;
            break;
        }
        nb_buf_append(out, data, (size_t)len);
    }
    c->sending = false;
    c->out = NULL;
    return more;
}

/* Deadlines, bodies that do not come on [N07], keepalive. */
enum nb_status rpc_h2_tick(struct rpc_conn *c)
{
    const struct rpc_limits *l = &c->server->limits;
    refill(c);
    if (!c->settled && c->now_ns - c->begin_ns >= l->preface_timeout_ns) {
        rpc_conn_doom(c);
        return NB_CLOSED;
    }
    struct rpc_call *next;
    for (struct rpc_call *call = c->calls; call != NULL; call = next) {
        next = call->next;
        if (call->finished || call->over) {
            continue;
        }
        bool stalled = !call->half_closed &&
                       (rpc_reader_is_partial(&call->reader) || !call->dispatched) &&
                       c->now_ns - call->progress_ns >= l->body_timeout_ns;
        if (call->open && c->now_ns >= call->deadline_ns) {
            rpc_call_cancel(call, RPC_CANCEL_DEADLINE);
        } else if (stalled) {
            rpc_call_cancel(call, RPC_CANCEL_RESET);
            (void)nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                            NGHTTP2_CANCEL);
            rpc_conn_dirty(c);
        }
    }
    if (c->ping_waiting) {
        if (c->now_ns - c->ping_ns >= l->keepalive_timeout_ns) {
            rpc_conn_doom(c);
            return NB_CLOSED;
        }
    } else if (c->now_ns - c->input_ns >= l->keepalive_interval_ns) {
        (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        c->ping_waiting = true;
        c->ping_ns = c->now_ns;
        rpc_conn_dirty(c);
    }
    return NB_OK;
}

void rpc_h2_end(struct rpc_conn *c)
{
    while (c->calls != NULL) {
        struct rpc_call *call = c->calls;
        rpc_call_cancel(call, RPC_CANCEL_GONE);
        rpc_call_release(call);
    }
    nghttp2_session_del(c->session);
    c->session = NULL;
}
