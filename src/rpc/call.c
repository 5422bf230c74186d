#include "rpc/conn.h"
#include "rpc/text.h"

#include <stdio.h>
#include <string.h>

enum {
    KEEP_BYTES_MAX = 2048,
    FREE_CALLS_MAX = 4096,
    COMPACT_BYTES = 64 << 10,
    MESSAGE_BYTES_MAX = INT32_MAX /* sent: as etcd */
};

/* nghttp2's struct wants bytes that are not const; it only reads them. */
static uint8_t name_http_status[] = ":status", value_200[] = "200";
static uint8_t name_type[] = "content-type", value_type[] = "application/grpc";
static uint8_t name_status[] = "grpc-status", name_message[] = "grpc-message";
static uint8_t status_texts[RPC_STATUS_COUNT][3] = {
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"};

enum { NV_FLAGS = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE };

#define NV(name, value)                                                                            \
    {                                                                                              \
        (name), (value), sizeof(name) - 1, sizeof(value) - 1, (uint8_t)NV_FLAGS                    \
    }

static const nghttp2_nv response_head[] = {NV(name_http_status, value_200),
                                           NV(name_type, value_type)};

/* ---- life ---- */

struct rpc_call *rpc_call_acquire(struct rpc_conn *c, int32_t stream_id)
{
    struct rpc_server *s = c->server;
    struct rpc_call *call = s->free_calls;
    if (call != NULL) {
        s->free_calls = call->next;
        s->free_call_count--;
        struct nb_buf partial = call->reader.partial, out = call->out;
        struct nb_buf meta = call->meta, note = call->note;
        memset(call, 0, sizeof *call);
        call->reader.partial = partial;
        call->out = out;
        call->meta = meta;
        call->note = note;
    } else {
        call = nb_alloc_zero(1, sizeof *call);
    }
    call->conn = c;
    call->stream_id = stream_id;
    call->deadline_ns = UINT64_MAX;
    call->progress_ns = call->begun_ns = c->now_ns;
    call->http_status = 200;
    call->next = c->calls;
    if (c->calls != NULL) {
        c->calls->previous = call;
    }
    c->calls = call;
    c->call_count++;
    c->stream_count++;
    return call;
}

static void recycle(struct nb_buf *b)
{
    if (b->capacity > KEEP_BYTES_MAX) {
        nb_buf_deinit(b);
    }
    nb_buf_clear(b);
}

void rpc_call_release(struct rpc_call *call)
{
    struct rpc_conn *c = call->conn;
    struct rpc_server *s = c->server;
    nb_assert(call->finished || call->over);
    c->unread_bytes -= rpc_call_pending_bytes(call);
    c->unfinished_bytes -= rpc_reader_held_bytes(&call->reader);
    c->stream_count--;
    c->recent = c->recent == call ? NULL : c->recent;
    if (call->previous != NULL) {
        call->previous->next = call->next;
    } else {
        c->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->previous = call->previous;
    }
    bool keep = s->free_call_count < FREE_CALLS_MAX;
    rpc_reader_reset(&call->reader, keep);
    if (keep) {
        recycle(&call->out);
        recycle(&call->meta);
        recycle(&call->note);
        call->next = s->free_calls;
        s->free_calls = call;
        s->free_call_count++;
        return;
    }
    nb_buf_deinit(&call->out);
    nb_buf_deinit(&call->meta);
    nb_buf_deinit(&call->note);
    nb_free(call);
}

/* ---- to the client ---- */

/* The last headers of the call into `nva`; returns how many. */
static size_t trailers(struct rpc_call *call, nghttp2_nv nva[static 2])
{
    uint8_t *digits = status_texts[call->status];
    nva[0] = (nghttp2_nv){name_status, digits, sizeof name_status - 1, strlen((char *)digits),
                          (uint8_t)NV_FLAGS};
    if (call->note.len == 0) {
        return 1;
    }
    /* Copied by nghttp2, and not put into its table: such texts seldom come twice. */
    nva[1] = (nghttp2_nv){name_message, call->note.data, sizeof name_message - 1, call->note.len,
                          NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX};
    return 2;
}

/* nghttp2 asks how much it may send; the bytes themselves are taken by send_data (h2.c). */
static ssize_t read_output(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t len,
                           uint32_t *data_flags, nghttp2_data_source *source, void *user)
{
    (void)buf;
    (void)user;
    struct rpc_call *call = source->ptr;
    size_t pending = call->out.len - call->out_at;
    if (pending == 0 && !call->finished) {
        call->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (call->finished && pending <= len) {
        *data_flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_nv nva[2];
        size_t count = trailers(call, nva);
        if (nghttp2_submit_trailer(session, stream_id, nva, count) != 0) {
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)(pending < len ? pending : len);
}

/* Lets nghttp2 know that there is something new in `out`, or that it is complete. */
static void announce(struct rpc_call *call)
{
    struct rpc_conn *c = call->conn;
    if (!call->responded) {
        call->responded = true;
        nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_output};
        (void)nghttp2_submit_response(c->session, call->stream_id, response_head,
                                      NB_ARRAY_LEN(response_head), &provider);
    } else if (call->deferred) {
        call->deferred = false;
        (void)nghttp2_session_resume_data(c->session, call->stream_id);
    }
    rpc_conn_dirty(c);
}

static void respond_with_trailers_only(struct rpc_call *call)
{
    nghttp2_nv nva[4] = {response_head[0], response_head[1]};
    char digits[8];
    if (call->http_status != 200) {
        int len = snprintf(digits, sizeof digits, "%u", (unsigned)call->http_status);
        nva[0].value = (uint8_t *)digits;
        nva[0].valuelen = (size_t)len;
        nva[0].flags = NGHTTP2_NV_FLAG_NO_COPY_NAME;
    }
    size_t count = 2 + trailers(call, nva + 2);
    call->responded = true;
    (void)nghttp2_submit_response(call->conn->session, call->stream_id, nva, count, NULL);
    rpc_conn_dirty(call->conn);
}

static void count_start(struct rpc_call *call)
{
    const struct rpc_server_config *config = &call->conn->server->config;
    if (!call->started && config->on_call_start != NULL) {
        config->on_call_start(config->user, call->method);
    }
    call->started = true;
}

static void count_end(const struct rpc_call *call, enum rpc_status status)
{
    const struct rpc_server_config *config = &call->conn->server->config;
    if (config->on_call_end != NULL) {
        config->on_call_end(config->user, call->method, status, call->begun_ns);
    }
}

static void count_message(const struct rpc_call *call, bool sent)
{
    const struct rpc_server_config *config = &call->conn->server->config;
    if (config->on_call_message != NULL) {
        config->on_call_message(config->user, call->method, sent);
    }
}

static void end_call(struct rpc_call *call, enum rpc_status status, const char *message)
{
    struct rpc_conn *c = call->conn;
    call->finished = true;
    call->status = (uint8_t)((unsigned)status < RPC_STATUS_COUNT ? status : RPC_UNKNOWN);
    nb_buf_clear(&call->note);
    if (message != NULL) {
        rpc_percent_encode(nb_bytes_str(message), &call->note);
    }
    c->call_count--;
    count_start(call); /* refused with its headers: both at once */
    count_end(call, call->status);
    if (c->doomed) {
        return;
    }
    if (call->responded || call->out.len != 0) {
        announce(call);
    } else {
        respond_with_trailers_only(call);
    }
}

/* In grpc-go's words. False: the message is left out, and rpc_call_finish will say so. */
static bool fits(struct rpc_call *call, size_t len)
{
    if (len > MESSAGE_BYTES_MAX && !call->oversized) {
        call->oversized = true;
        nb_buf_clear(&call->note);
        nb_buf_printf(&call->note, "grpc: trying to send message larger than max (%zu vs. %d)", len,
                      MESSAGE_BYTES_MAX);
    }
    return !call->oversized;
}

void rpc_call_send(struct rpc_call *call, struct nb_bytes head, struct nb_bytes body)
{
    struct rpc_conn *c = call->conn;
    nb_assert(!call->finished);
    if (call->over || c->doomed || !fits(call, head.len + body.len)) {
        return;
    }
    if (call->out_at >= COMPACT_BYTES && call->out_at > call->out.len / 2) {
        nb_buf_consume(&call->out, call->out_at);
        call->out_at = 0;
    }
    count_message(call, true);
    size_t len = head.len + body.len;
    uint8_t *to = nb_buf_extend(&call->out, RPC_PREFIX_SIZE + len);
    rpc_prefix_put(to, len);
    if (head.len != 0) {
        memcpy(to + RPC_PREFIX_SIZE, head.data, head.len);
    }
    if (body.len != 0) {
        memcpy(to + RPC_PREFIX_SIZE + head.len, body.data, body.len);
    }
    /* What was there before counts: one answer may be larger than the bound, and must arrive, or it
     * would be asked for for ever. [N06] */
    bool unread = c->unread_bytes > c->server->limits.output_bytes_max;
    c->unread_bytes += RPC_PREFIX_SIZE + len;
    if (rpc_call_pending_bytes(call) >= c->server->limits.send_high_bytes) {
        call->above = true;
    }
    if (unread) {
        rpc_h2_goaway(c, NGHTTP2_ENHANCE_YOUR_CALM, "output_not_read");
        rpc_conn_doom(c);
        return;
    }
    announce(call);
}

size_t rpc_call_pending_bytes(const struct rpc_call *call)
{
    return call->out.len - call->out_at;
}

void rpc_call_finish(struct rpc_call *call, enum rpc_status status, const char *message)
{
    nb_assert(!call->finished);
    if (call->over) {
        return;
    }
    if (call->oversized) {
        char text[128];
        (void)snprintf(text, sizeof text, "%.*s", (int)call->note.len, (char *)call->note.data);
        end_call(call, RPC_RESOURCE_EXHAUSTED, text);
        return;
    }
    end_call(call, status, message);
}

void rpc_call_reply(struct rpc_call *call, struct nb_bytes head, struct nb_bytes body)
{
    rpc_call_send(call, head, body);
    rpc_call_finish(call, RPC_OK, NULL);
}

/* ---- from the client ---- */

void rpc_call_cancel(struct rpc_call *call, enum rpc_cancel why)
{
    if (call->finished || call->over) {
        return;
    }
    call->over = true; /* whatever the handler still says is ignored */
    if (call->dispatched && call->method->on_cancel != NULL) {
        call->method->on_cancel(call, why);
    }
    if (why == RPC_CANCEL_DEADLINE) {
        end_call(call, RPC_DEADLINE_EXCEEDED, "context deadline exceeded");
        return;
    }
    call->conn->call_count--;
    if (call->started) {
        count_end(call, RPC_CANCELED);
    }
}

void rpc_call_refuse(struct rpc_call *call, unsigned http_status, enum rpc_status status,
                     const char *message)
{
    nb_assert(!call->finished && !call->over);
    if (call->dispatched) {
        call->over = true;
        if (call->method->on_cancel != NULL) {
            call->method->on_cancel(call, RPC_CANCEL_RESET);
        }
    }
    call->http_status = (uint16_t)http_status;
    end_call(call, status, message);
}

void rpc_call_opened(struct rpc_call *call)
{
    count_start(call);
    if (call->method->kind == RPC_BIDI) {
        call->dispatched = true;
        if (call->method->on_open != NULL) {
            call->method->on_open(call);
        }
    }
}

static void refuse_message(struct rpc_call *call, enum rpc_read why)
{
    struct rpc_limits *l = &call->conn->server->limits;
    char text[128];
    switch (why) {
    case RPC_READ_TOO_LARGE:
        (void)snprintf(text, sizeof text, "grpc: received message larger than max (%lu vs. %lu)",
                       (unsigned long)call->reader.need, (unsigned long)l->message_bytes_max);
        rpc_call_refuse(call, 200, RPC_RESOURCE_EXHAUSTED, text);
        return;
    case RPC_READ_COMPRESSED:
        /* A named encoding was refused with the headers, as none is installed. */
        rpc_call_refuse(call, 200, RPC_INTERNAL,
                        "grpc: compressed flag set with identity or empty encoding");
        return;
    case RPC_READ_BAD_FLAG:
        (void)snprintf(text, sizeof text, "grpc: received unexpected payload format %u",
                       (unsigned)call->reader.prefix[0]);
        rpc_call_refuse(call, 200, RPC_INTERNAL, text);
        return;
    case RPC_READ_MORE:
    case RPC_READ_MESSAGE:
        break;
    }
    nb_unreachable("not a refusal");
}

static void dispatch(struct rpc_call *call, struct nb_bytes message)
{
    call->dispatched = true;
    count_message(call, false);
    call->method->on_message(call, message);
}

static void take_message(struct rpc_call *call, struct nb_bytes message, bool last)
{
    if (call->method->kind == RPC_BIDI) {
        dispatch(call, message);
    } else if (call->dispatched) {
        return; /* bytes behind the only message, within its last frame */
    } else if (last) {
        call->half_closed = true;
        dispatch(call, message);
    } else {
        size_t before = rpc_reader_held_bytes(&call->reader);
        rpc_reader_hold(&call->reader, message);
        call->conn->unfinished_bytes += rpc_reader_held_bytes(&call->reader) - before;
        call->held = true;
    }
}

void rpc_call_data(struct rpc_call *call, struct nb_bytes bytes, bool last)
{
    struct rpc_conn *c = call->conn;
    call->progress_ns = c->now_ns;
    while (bytes.len != 0 && call->open && !call->finished && !call->over) {
        if (call->held) {
            rpc_call_refuse(call, 200, RPC_INTERNAL,
                            "cardinality violation: received multiple request messages for "
                            "non-client-streaming RPC");
            return;
        }
        struct nb_bytes message;
        size_t before = rpc_reader_held_bytes(&call->reader);
        enum rpc_read read =
            rpc_reader_next(&call->reader, &bytes, c->server->limits.message_bytes_max, &message);
        c->unfinished_bytes -= before;
        c->unfinished_bytes += rpc_reader_held_bytes(&call->reader);
        if (read == RPC_READ_MESSAGE) {
            rpc_budget_add(&c->noise, 1); /* a small frame, but one that said something */
            take_message(call, message, last && bytes.len == 0);
        } else if (read != RPC_READ_MORE) {
            refuse_message(call, read);
            return;
        }
        if (c->unfinished_bytes > c->server->limits.unfinished_bytes_max && !call->finished &&
            !call->over) {
            rpc_call_refuse(call, 200, RPC_RESOURCE_EXHAUSTED,
                            "too many unfinished request bytes on this connection");
            return;
        }
    }
}

void rpc_call_half_closed(struct rpc_call *call)
{
    call->half_closed = true;
    if (call->finished || call->over) {
        return;
    }
    bool bidi = call->method->kind == RPC_BIDI;
    if (!call->held && rpc_reader_is_partial(&call->reader)) {
        rpc_call_refuse(call, 200, RPC_INTERNAL, "unexpected EOF");
    } else if (bidi) {
        if (call->method->on_half_close != NULL) {
            call->method->on_half_close(call);
        }
    } else if (call->held) {
        call->held = false;
        dispatch(call, nb_buf_bytes(&call->reader.partial));
    } else if (!call->dispatched) {
        rpc_call_refuse(call, 200, RPC_INTERNAL,
                        "cardinality violation: received no request message from "
                        "non-client-streaming RPC");
    }
}

/* ---- what handlers may know ---- */

enum { RECORD_HEAD_SIZE = 8 };

void rpc_call_add_metadata(struct rpc_call *call, struct nb_bytes name, struct nb_bytes value)
{
    uint8_t *to = nb_buf_extend(&call->meta, RECORD_HEAD_SIZE + name.len + value.len);
    nb_put_u32(to, (uint32_t)name.len);
    nb_put_u32(to + 4, (uint32_t)value.len);
    memcpy(to + RECORD_HEAD_SIZE, name.data, name.len);
    if (value.len != 0) {
        memcpy(to + RECORD_HEAD_SIZE + name.len, value.data, value.len);
    }
}

bool rpc_call_metadata(const struct rpc_call *call, const char *name, struct nb_bytes *out)
{
    size_t wanted = strlen(name);
    for (size_t at = 0; at < call->meta.len;) {
        const uint8_t *record = call->meta.data + at;
        size_t name_len = nb_get_u32(record);
        size_t value_len = nb_get_u32(record + 4);
        if (name_len == wanted && memcmp(record + RECORD_HEAD_SIZE, name, wanted) == 0) {
            *out = nb_bytes_of(record + RECORD_HEAD_SIZE + name_len, value_len);
            return true;
        }
        at += RECORD_HEAD_SIZE + name_len + value_len;
    }
    return false;
}

const struct rpc_method *rpc_call_method(const struct rpc_call *call)
{
    return call->method;
}

struct rpc_conn *rpc_call_conn(const struct rpc_call *call)
{
    return call->conn;
}

void *rpc_call_user(const struct rpc_call *call)
{
    return call->user;
}

void rpc_call_set_user(struct rpc_call *call, void *user)
{
    call->user = user;
}

uint64_t rpc_call_deadline_ns(const struct rpc_call *call)
{
    return call->deadline_ns;
}
