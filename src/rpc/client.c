/*
 * The client side of gRPC: one HTTP/2 session, many calls.
 *
 * Invariants:
 *   L1  every call in `calls` has a stream in the session (perhaps still queued there); it is freed
 *       when that closes, or with the client
 *   L2  a call that is `over` (done or canceled) makes no callback
 */
#include "rpc/framing.h"
#include "rpc/pool.h"
#include "rpc/rpc.h"
#include "rpc/text.h"

#include <stdio.h>
#include <string.h>

enum {
    KEEP_BYTES_MAX = 2048,
    FREE_CALLS_MAX = 4096,
    COMPACT_BYTES = 64 << 10,
    FRAME_HEAD_SIZE = 9,
    METADATA_MAX = 32,
    MESSAGE_TEXT_MAX = 64 << 10, /* of grpc-message */
    POOL_IDLE_BYTES_MAX = 4 << 20,
};

struct rpc_client_call {
    struct rpc_client *client;
    struct rpc_client_call *next, *previous;
    const struct rpc_client_events *events;
    void *user;
    uint64_t deadline_ns;
    struct rpc_reader reader;
    struct nb_buf out;  /* owned; out_at bytes of it are sent */
    struct nb_buf note; /* owned; grpc-message as it came */
    size_t out_at;
    int32_t stream_id;
    uint32_t http_status;
    uint32_t status; /* grpc-status as it came */
    bool has_status, closing, deferred, over;
};

struct rpc_client {
    struct rpc_client_config config;
    nghttp2_session *session;
    struct rpc_pool pool;
    uint64_t now_ns, input_ns, ping_ns;
    struct rpc_client_call *calls, *free_calls, *recent;
    size_t call_count, free_count;
    struct nb_buf *out;
    bool dirty, doomed, gone_away, feeding, sending, ping_waiting, drained;
};

static void dirty(struct rpc_client *c)
{
    c->drained = false;
    if (!c->dirty) {
        c->dirty = true;
        c->config.on_output(c, c->config.user);
    }
}

/* ---- a call's life ---- */

static struct rpc_client_call *acquire(struct rpc_client *c)
{
    struct rpc_client_call *call = c->free_calls;
    if (call != NULL) {
        c->free_calls = call->next;
        c->free_count--;
        struct nb_buf partial = call->reader.partial, out = call->out, note = call->note;
        memset(call, 0, sizeof *call);
        call->reader.partial = partial;
        call->out = out;
        call->note = note;
    } else {
        call = nb_alloc_zero(1, sizeof *call);
    }
    call->client = c;
    call->next = c->calls;
    if (c->calls != NULL) {
        c->calls->previous = call;
    }
    c->calls = call;
    return call;
}

static void recycle(struct nb_buf *b)
{
    if (b->capacity > KEEP_BYTES_MAX) {
        nb_buf_deinit(b);
    }
    nb_buf_clear(b);
}

static void release(struct rpc_client_call *call)
{
    struct rpc_client *c = call->client;
    c->recent = c->recent == call ? NULL : c->recent;
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        c->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    bool keep = c->free_count < FREE_CALLS_MAX;
    rpc_reader_reset(&call->reader, keep);
    if (keep) {
        recycle(&call->out);
        recycle(&call->note);
        call->next = c->free_calls;
        c->free_calls = call;
        c->free_count++;
        return;
    }
    nb_buf_deinit(&call->out);
    nb_buf_deinit(&call->note);
    nb_free(call);
}

static void done(struct rpc_client_call *call, enum rpc_status status, struct nb_bytes message)
{
    if (call->over) {
        return;
    }
    call->over = true;
    call->client->call_count--;
    call->events->on_done(call, call->user, status, message);
}

static void reset(struct rpc_client_call *call, uint32_t error_code)
{
    (void)nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                    error_code);
    dirty(call->client);
}

/* What came cannot be the answer: end the call and its stream. */
static void fail(struct rpc_client_call *call, enum rpc_status status, const char *message)
{
    reset(call, NGHTTP2_CANCEL);
    done(call, status, nb_bytes_str(message));
}

static enum rpc_status status_of_http(uint32_t http_status)
{
    switch (http_status) {
    case 400:
        return RPC_INTERNAL;
    case 401:
        return RPC_UNAUTHENTICATED;
    case 403:
        return RPC_PERMISSION_DENIED;
    case 404:
        return RPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return RPC_UNAVAILABLE;
    default:
        return RPC_UNKNOWN;
    }
}

static enum rpc_status status_of_reset(uint32_t error_code)
{
    switch (error_code) {
    case NGHTTP2_REFUSED_STREAM:
        return RPC_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return RPC_CANCELED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return RPC_RESOURCE_EXHAUSTED;
    default:
        return RPC_INTERNAL;
    }
}

/* The stream is closed: say how it went. */
static void conclude(struct rpc_client_call *call, uint32_t error_code)
{
    char text[96];
    if (call->over) {
        return;
    }
    if (call->has_status) {
        if (call->status == RPC_OK && rpc_reader_is_partial(&call->reader)) {
            done(call, RPC_INTERNAL, nb_bytes_str("unexpected EOF"));
            return;
        }
        struct nb_buf decoded = {0};
        rpc_percent_decode(nb_buf_bytes(&call->note), &decoded);
        done(call, call->status < RPC_STATUS_COUNT ? (enum rpc_status)call->status : RPC_UNKNOWN,
             nb_buf_bytes(&decoded));
        nb_buf_deinit(&decoded);
    } else if (error_code != NGHTTP2_NO_ERROR) {
        (void)snprintf(text, sizeof text, "stream terminated by RST_STREAM with error code: %s",
                       nghttp2_http2_strerror(error_code));
        done(call, status_of_reset(error_code), nb_bytes_str(text));
    } else if (call->http_status != 0 && call->http_status != 200) {
        (void)snprintf(text, sizeof text, "unexpected HTTP status code received from server: %u",
                       (unsigned)call->http_status);
        done(call, status_of_http(call->http_status), nb_bytes_str(text));
    } else {
        done(call, RPC_INTERNAL, nb_bytes_str("server closed the stream without sending trailers"));
    }
}

/* ---- nghttp2's callbacks ---- */

static struct rpc_client_call *find(struct rpc_client *c, int32_t stream_id)
{
    if (c->recent != NULL && c->recent->stream_id == stream_id) {
        return c->recent;
    }
    struct rpc_client_call *call = nghttp2_session_get_stream_user_data(c->session, stream_id);
    if (call != NULL) {
        c->recent = call;
    }
    return call;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, nghttp2_rcbuf *name,
                     nghttp2_rcbuf *value, uint8_t flags, void *user)
{
    (void)session;
    (void)flags;
    struct rpc_client_call *call = find(user, frame->hd.stream_id);
    if (call == NULL || call->over) {
        return 0;
    }
    nghttp2_vec n = nghttp2_rcbuf_get_buf(name), v = nghttp2_rcbuf_get_buf(value);
    struct nb_bytes name_bytes = nb_bytes_of(n.base, n.len),
                    value_bytes = nb_bytes_of(v.base, v.len);
    uint64_t number;
    if (RPC_IS(name_bytes, ":status")) {
        call->http_status =
            rpc_decimal_parse(value_bytes, 999, &number) ? (uint32_t)number : RPC_UNKNOWN;
    } else if (RPC_IS(name_bytes, "grpc-status")) {
        call->has_status = true;
        call->status =
            rpc_decimal_parse(value_bytes, UINT32_MAX, &number) ? (uint32_t)number : RPC_UNKNOWN;
    } else if (RPC_IS(name_bytes, "grpc-message") && v.len <= MESSAGE_TEXT_MAX) {
        nb_buf_clear(&call->note);
        nb_buf_append_bytes(&call->note, value_bytes);
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *data, size_t len, void *user)
{
    (void)session;
    (void)flags;
    struct rpc_client *c = user;
    struct rpc_client_call *call = find(c, stream_id);
    struct nb_bytes bytes = nb_bytes_of(data, len), message;
    char text[96];
    while (call != NULL && !call->over && bytes.len != 0 && call->http_status == 200) {
        switch (rpc_reader_next(&call->reader, &bytes, c->config.message_bytes_max, &message)) {
        case RPC_READ_MORE:
            break;
        case RPC_READ_MESSAGE:
            if (call->events->on_message != NULL) {
                call->events->on_message(call, call->user, message);
            }
            break;
        case RPC_READ_TOO_LARGE:
            (void)snprintf(
                text, sizeof text, "grpc: received message larger than max (%lu vs. %lu)",
                (unsigned long)call->reader.need, (unsigned long)c->config.message_bytes_max);
            fail(call, RPC_RESOURCE_EXHAUSTED, text);
            break;
        case RPC_READ_COMPRESSED:
            fail(call, RPC_INTERNAL, "grpc: compressed flag set with identity or empty encoding");
            break;
        case RPC_READ_BAD_FLAG:
            fail(call, RPC_INTERNAL, "grpc: received unexpected payload format");
            break;
        }
    }
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    (void)session;
    struct rpc_client *c = user;
    if (frame->hd.type == NGHTTP2_GOAWAY && !c->gone_away) {
        c->gone_away = true;
        if (c->config.on_goaway != NULL) {
            c->config.on_goaway(c, c->config.user);
        }
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    (void)session;
    struct rpc_client_call *call = find(user, stream_id);
    if (call != NULL) {
        conclude(call, error_code);
        release(call);
    }
    return 0;
}

static int send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                     size_t len, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)frame;
    struct rpc_client *c = user;
    struct rpc_client_call *call = source->ptr;
    uint8_t *to = nb_buf_extend(c->out, FRAME_HEAD_SIZE + len);
    memcpy(to, head, FRAME_HEAD_SIZE);
    if (len != 0) {
        memcpy(to + FRAME_HEAD_SIZE, call->out.data + call->out_at, len);
    }
    call->out_at += len;
    if (call->out_at == call->out.len) {
        call->out_at = 0;
        recycle(&call->out);
    }
    return 0;
}

static ssize_t read_output(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t len,
                           uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    (void)session;
    (void)stream_id;
    (void)buf;
    (void)user;
    struct rpc_client_call *call = source->ptr;
    size_t pending = call->out.len - call->out_at;
    if (pending == 0 && !call->closing) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (call->closing && pending <= len) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)(pending < len ? pending : len);
}

/* ---- the session ---- */

static void open_session(struct rpc_client *c)
{
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    int rc = nghttp2_session_callbacks_new(&callbacks);
    nb_assert(rc == 0);
    rc = nghttp2_option_new(&option);
    nb_assert(rc == 0);
    nghttp2_session_callbacks_set_on_header_callback2(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_continuations(option, 16);
    rc = nghttp2_session_client_new3(&c->session, callbacks, c, option, &c->pool.mem);
    nb_assert(rc == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, c->config.stream_window_bytes},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    rc = nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, NB_ARRAY_LEN(settings));
    nb_assert(rc == 0);
    rc = nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0,
                                               (int32_t)c->config.connection_window_bytes);
    nb_assert(rc == 0);
}

struct rpc_client *rpc_client_create(const struct rpc_client_config *config, uint64_t now_ns)
{
    struct rpc_client *c = nb_alloc_zero(1, sizeof *c);
    c->config = *config;
    nb_assert(config->on_output != NULL && config->authority != NULL);
    struct rpc_client_config *f = &c->config;
    f->user_agent = f->user_agent != NULL ? f->user_agent : "nabata";
    f->message_bytes_max = f->message_bytes_max != 0 ? f->message_bytes_max : INT32_MAX;
    f->stream_window_bytes = f->stream_window_bytes != 0 ? f->stream_window_bytes : 4 << 20;
    f->connection_window_bytes =
        f->connection_window_bytes != 0 ? f->connection_window_bytes : 64 << 20;
    f->keepalive_timeout_ns =
        f->keepalive_timeout_ns != 0 ? f->keepalive_timeout_ns : UINT64_C(20000000000);
    nb_assert(f->stream_window_bytes <= INT32_MAX && f->connection_window_bytes <= INT32_MAX);
    c->now_ns = c->input_ns = now_ns;
    rpc_pool_init(&c->pool, POOL_IDLE_BYTES_MAX);
    open_session(c);
    dirty(c);
    return c;
}

/* Nobody will answer any more. */
static void end_calls(struct rpc_client *c)
{
    for (struct rpc_client_call *call = c->calls; call != NULL;) {
        if (call->over) {
            call = call->next;
            continue;
        }
        done(call, RPC_UNAVAILABLE, nb_bytes_str("connection closed"));
        call = c->calls; /* the callback may have changed the list */
    }
}

void rpc_client_destroy(struct rpc_client *c)
{
    nb_assert(!c->feeding && !c->sending);
    c->doomed = true;
    c->dirty = true; /* no on_output any more */
    end_calls(c);
    while (c->calls != NULL) {
        release(c->calls);
    }
    nghttp2_session_del(c->session);
    rpc_pool_deinit(&c->pool);
    while (c->free_calls != NULL) {
        struct rpc_client_call *call = c->free_calls;
        c->free_calls = call->next;
        rpc_reader_reset(&call->reader, false);
        nb_buf_deinit(&call->out);
        nb_buf_deinit(&call->note);
        nb_free(call);
    }
    nb_free(c);
}

static enum nb_status doom(struct rpc_client *c, enum nb_status status)
{
    c->doomed = true;
    dirty(c);
    end_calls(c);
    return status;
}

enum nb_status rpc_client_feed(struct rpc_client *c, struct nb_bytes bytes, uint64_t now_ns)
{
    nb_assert(!c->feeding && !c->sending);
    c->now_ns = c->input_ns = now_ns;
    c->ping_waiting = false;
    if (c->doomed) {
        return NB_CLOSED;
    }
    c->feeding = true;
    ssize_t used = nghttp2_session_mem_recv(c->session, bytes.data, bytes.len);
    c->feeding = false;
    if (used < 0) {
        return doom(c, NB_MALFORMED);
    }
    if (nghttp2_session_want_write(c->session) != 0) {
        dirty(c);
    }
    if (nghttp2_session_want_read(c->session) == 0) {
        return doom(c, NB_CLOSED);
    }
    return NB_OK;
}

bool rpc_client_output(struct rpc_client *c, struct nb_buf *out, size_t bytes_max)
{
    nb_assert(!c->feeding && !c->sending);
    size_t begin = out->len;
    bool more = true;
    c->dirty = false;
    c->sending = true;
    c->out = out;
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
    c->drained = !more;
    c->dirty = more;
    return more;
}

enum nb_status rpc_client_tick(struct rpc_client *c, uint64_t now_ns)
{
    nb_assert(!c->feeding && !c->sending);
    c->now_ns = now_ns;
    if (c->doomed) {
        return NB_CLOSED;
    }
    for (struct rpc_client_call *call = c->calls; call != NULL;) {
        struct rpc_client_call *next = call->next;
        if (!call->over && now_ns >= call->deadline_ns) {
            fail(call, RPC_DEADLINE_EXCEEDED, "context deadline exceeded");
            next = c->calls; /* the callback may have changed the list */
        }
        call = next;
    }
    bool watched = c->config.keepalive_interval_ns != 0 &&
                   (c->call_count != 0 || c->config.keepalive_without_calls);
    if (c->ping_waiting) {
        if (now_ns - c->ping_ns >= c->config.keepalive_timeout_ns) {
            return doom(c, NB_IO);
        }
    } else if (watched && now_ns - c->input_ns >= c->config.keepalive_interval_ns) {
        (void)nghttp2_submit_ping(c->session, NGHTTP2_FLAG_NONE, NULL);
        c->ping_waiting = true;
        c->ping_ns = now_ns;
        dirty(c);
    }
    return NB_OK;
}

bool rpc_client_is_done(const struct rpc_client *c)
{
    return c->drained && (c->doomed || (c->gone_away && c->calls == NULL));
}

bool rpc_client_can_start(const struct rpc_client *c)
{
    return !c->doomed && !c->gone_away && nghttp2_session_check_request_allowed(c->session) != 0;
}

size_t rpc_client_call_count(const struct rpc_client *c)
{
    return c->call_count;
}

/* ---- calls ---- */

static uint8_t n_method[] = ":method", v_post[] = "POST", n_scheme[] = ":scheme", v_http[] = "http",
               v_https[] = "https";
static uint8_t n_path[] = ":path", n_authority[] = ":authority", n_type[] = "content-type";
static uint8_t v_grpc[] = "application/grpc", n_te[] = "te", v_trailers[] = "trailers";
static uint8_t n_agent[] = "user-agent", n_timeout[] = "grpc-timeout";

enum { NV_FLAGS = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };

static nghttp2_nv pair(uint8_t *name, size_t name_len, const void *value, size_t len, int flags)
{
    nghttp2_nv nv = {.name = name, .namelen = name_len, .valuelen = len, .flags = (uint8_t)flags};
    memcpy(&nv.value, &value, sizeof value); /* it is only read */
    return nv;
}

#define FIXED(name, value) pair(name, sizeof(name) - 1, value, sizeof(value) - 1, NV_FLAGS)
#define TEXT(name, value, flags) pair(name, sizeof(name) - 1, value, strlen(value), flags)

struct rpc_client_call *rpc_client_start(struct rpc_client *c,
                                         const struct rpc_client_request *request)
{
    if (!rpc_client_can_start(c)) {
        return NULL;
    }
    nb_assert(request->metadata_count <= METADATA_MAX);
    nghttp2_nv nva[8 + METADATA_MAX];
    char timeout[RPC_TIMEOUT_TEXT_MAX];
    size_t count = 0;
    nva[count++] = FIXED(n_method, v_post);
    nva[count++] = c->config.https ? FIXED(n_scheme, v_https) : FIXED(n_scheme, v_http);
    nva[count++] = TEXT(n_path, request->path, NGHTTP2_NV_FLAG_NO_COPY_NAME);
    nva[count++] = TEXT(n_authority, c->config.authority, NV_FLAGS);
    nva[count++] = FIXED(n_type, v_grpc);
    nva[count++] = FIXED(n_te, v_trailers);
    nva[count++] = TEXT(n_agent, c->config.user_agent, NV_FLAGS);
    if (request->timeout_ns != 0) {
        size_t len = rpc_timeout_format(request->timeout_ns, timeout);
        nva[count++] =
            pair(n_timeout, sizeof n_timeout - 1, timeout, len, NGHTTP2_NV_FLAG_NO_COPY_NAME);
    }
    for (size_t i = 0; i < request->metadata_count; i++) {
        const struct rpc_metadata *m = &request->metadata[i];
        nva[count] = pair(NULL, strlen(m->name), m->value.data, m->value.len, NGHTTP2_NV_FLAG_NONE);
        memcpy(&nva[count++].name, &m->name, sizeof m->name);
    }
    struct rpc_client_call *call = acquire(c);
    call->events = request->events;
    call->user = request->user;
    bool limited = request->timeout_ns != 0 && request->timeout_ns < UINT64_MAX - c->now_ns;
    call->deadline_ns = limited ? c->now_ns + request->timeout_ns : UINT64_MAX;
    nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_output};
    int32_t id = nghttp2_submit_request(c->session, NULL, nva, count, &provider, call);
    if (id < 0) { /* stream ids have run out */
        c->gone_away = true;
        release(call);
        return NULL;
    }
    call->stream_id = id;
    c->call_count++;
    dirty(c);
    return call;
}

void rpc_client_send(struct rpc_client_call *call, struct nb_bytes message)
{
    nb_assert(!call->over && !call->closing);
    if (call->out_at >= COMPACT_BYTES && call->out_at > call->out.len / 2) {
        nb_buf_consume(&call->out, call->out_at);
        call->out_at = 0;
    }
    uint8_t *to = nb_buf_extend(&call->out, RPC_PREFIX_SIZE + message.len);
    rpc_prefix_put(to, message.len);
    if (message.len != 0) {
        memcpy(to + RPC_PREFIX_SIZE, message.data, message.len);
    }
    if (call->deferred) {
        call->deferred = false;
        (void)nghttp2_session_resume_data(call->client->session, call->stream_id);
    }
    dirty(call->client);
}

void rpc_client_half_close(struct rpc_client_call *call)
{
    nb_assert(!call->over && !call->closing);
    call->closing = true;
    if (call->deferred) {
        call->deferred = false;
        (void)nghttp2_session_resume_data(call->client->session, call->stream_id);
    }
    dirty(call->client);
}

struct rpc_client_call *rpc_client_unary(struct rpc_client *client,
                                         const struct rpc_client_request *request,
                                         struct nb_bytes message)
{
    struct rpc_client_call *call = rpc_client_start(client, request);
    if (call != NULL) {
        rpc_client_send(call, message);
        rpc_client_half_close(call);
    }
    return call;
}

size_t rpc_client_pending_bytes(const struct rpc_client_call *call)
{
    return call->out.len - call->out_at;
}

void rpc_client_cancel(struct rpc_client_call *call)
{
    nb_assert(!call->over);
    call->over = true;
    call->client->call_count--;
    if (!call->client->doomed) {
        reset(call, NGHTTP2_CANCEL);
    }
}
