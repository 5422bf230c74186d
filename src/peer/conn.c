/*
 * One connection, from its first byte to on_close. The table below says which frame may come where:
 * what has no handler there is a protocol error and ends the connection.
 */
#include "peer/internal.h"

#include <string.h>

typedef void frame_handler(struct peer_conn *c, struct nb_bytes payload);

/* ---- life ---- */

static void unlink_conn(struct peer_conn *c)
{
    struct peer_transport *t = c->transport;
    nb_assert(c->state != PEER_CONN_ENDED);
    if (c->accepted && c->state == PEER_CONN_HANDSHAKE) {
        nb_assert(t->unauthenticated_count != 0);
        t->unauthenticated_count--;
    }
    c->state = PEER_CONN_ENDED;
    if (c->previous != NULL) {
        c->previous->next = c->next;
    } else {
        t->conns = c->next;
    }
    if (c->next != NULL) {
        c->next->previous = c->previous;
    }
    c->next = c->previous = NULL;
}

/* Cuts all that points here, so that only on_close is left to come. */
static void detach(struct peer_conn *c, const char *why)
{
    unlink_conn(c);
    if (c->link != NULL) {
        c->link->conn = NULL;
    }
    if (c->sink != NULL) {
        peer_sink_conn_ended(c, why);
    }
    peer_call_conn_ended(c);
}

void peer_conn_abort(struct peer_conn *c)
{
    detach(c, "connection closed");
    c->transport = NULL;
    net_conn_abort(c->net);
}

void peer_conn_close(struct peer_conn *c)
{
    detach(c, "connection closed");
    c->transport = NULL;
    net_conn_close(c->net);
}

/* After detach: tells whom it concerns. */
static void tell(struct peer_conn *c, enum peer_conn_state was, enum peer_down_reason reason,
                 const char *why)
{
    if (c->link != NULL) {
        peer_link_lost(c->link, reason, why);
    } else if (c->source != NULL) {
        peer_source_end(c->source, reason == PEER_DOWN_TIMEOUT ? NB_BUSY : NB_CLOSED);
    } else if (c->probe != NULL) {
        peer_probe_lost(c->probe, why);
    } else if (c->peer != NULL) {
        struct peer *p = c->peer;
        if (was == PEER_CONN_UP && c->channel == PEER_CHANNEL_CONTROL) {
            peer_report_down(p, reason);
        }
        if (!p->removed) {
            peer_drop_unused(p);
        }
    }
}

void peer_conn_fail(struct peer_conn *c, enum peer_down_reason reason, const char *why)
{
    enum peer_conn_state was = c->state;
    detach(c, why);
    struct peer_transport *t = c->transport;
    c->transport = NULL;
    net_conn_abort(c->net); /* on_close comes later: `c` stays for this call */
    peer_enter(t);
    tell(c, was, reason, why);
    peer_leave(t);
}

/* ---- frames out ---- */

void peer_conn_sent(struct peer_conn *c, size_t bytes)
{
    if (c->peer != NULL) {
        c->peer->status.sent_bytes += bytes;
    }
}

void peer_conn_frame(struct peer_conn *c, enum peer_frame_type type, struct nb_bytes first,
                     struct nb_bytes second)
{
    struct nb_buf *output = net_conn_output(c->net);
    size_t begin = peer_frame_begin(output);
    nb_buf_append_bytes(output, first);
    nb_buf_append_bytes(output, second);
    peer_frame_end(output, begin, type);
    peer_conn_sent(c, output->len - begin);
}

/* ---- frames in ---- */

static void malformed(struct peer_conn *c)
{
    if (c->peer != NULL) {
        c->peer->status.received_failures++;
    }
    peer_conn_fail(c, PEER_DOWN_PROTOCOL, "malformed frame");
}

static void on_ping(struct peer_conn *c, struct nb_bytes payload)
{
    if (payload.len != 8 ||
        net_conn_pending_bytes(c->net) > c->transport->config.control_queue_bytes_max) {
        malformed(c); /* it asks and asks and does not read */
        return;
    }
    peer_conn_frame(c, PEER_FRAME_PONG, payload, (struct nb_bytes){0});
}

static void on_pong(struct peer_conn *c, struct nb_bytes payload)
{
    uint64_t now_ns = net_now_ns();
    if (payload.len != 8 || nb_get_u64(payload.data) > now_ns) {
        malformed(c);
        return;
    }
    if (c->channel != PEER_CHANNEL_CONTROL) {
        return;
    }
    const struct peer_config *config = &c->transport->config;
    c->peer->status.round_trip_ns = now_ns - nb_get_u64(payload.data);
    if (config->events->on_round_trip != NULL) {
        config->events->on_round_trip(config->user, c->peer->id, c->peer->status.round_trip_ns);
    }
}

static void on_message(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    struct peer *p = c->peer;
    struct raft_msg msg;
    enum nb_status status = raft_msg_decode(payload, &msg, &t->arena);
    if (status == NB_OK) {
        if (msg.from == p->id && msg.to == t->config.member_id && msg.type != RAFT_MSG_SNAPSHOT) {
            p->status.received_messages++;
            t->config.events->on_message(t->config.user, p->id, &msg);
        } else {
            status = NB_FOREIGN;
        }
        raft_msg_release(&msg);
    }
    nb_arena_reset(&t->arena);
    if (status != NB_OK) {
        malformed(c);
    }
}

static void on_welcome(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_hello hello;
    if (peer_hello_decode(payload, &hello) != NB_OK) {
        malformed(c);
        return;
    }
    peer_remote_ip(c->net, hello.remote, sizeof hello.remote);
    if (c->link != NULL) {
        peer_link_on_welcome(c->link, &hello);
    } else if (c->source != NULL) {
        peer_source_on_welcome(c->source, &hello);
    } else {
        peer_probe_on_welcome(c->probe, &hello);
    }
}

static void on_refuse(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_refusal refusal;
    if (peer_refusal_decode(payload, &refusal) != NB_OK) {
        malformed(c);
    } else if (c->link != NULL) {
        peer_link_on_refused(c->link, &refusal);
    } else if (c->source != NULL) {
        peer_source_on_refused(c->source, &refusal);
    } else {
        peer_probe_on_refused(c->probe, &refusal);
    }
}

/* What the dialling side may hear, and what the accepting side: a row a channel. */
static frame_handler *const up_handlers[2][PEER_CHANNEL_COUNT][PEER_FRAME_TYPE_COUNT] = {
    [false] =
        {
            [PEER_CHANNEL_CONTROL] =
                {[PEER_FRAME_PONG] = on_pong, [PEER_FRAME_REPLY] = peer_call_on_reply},
            [PEER_CHANNEL_LOG] = {[PEER_FRAME_PONG] = on_pong},
            [PEER_CHANNEL_SNAPSHOT] = {[PEER_FRAME_SNAPSHOT_PROGRESS] = peer_source_on_progress,
                                       [PEER_FRAME_SNAPSHOT_RESULT] = peer_source_on_result},
        },
    [true] =
        {
            [PEER_CHANNEL_CONTROL] = {[PEER_FRAME_PING] = on_ping,
                                      [PEER_FRAME_MESSAGE] = on_message,
                                      [PEER_FRAME_CALL] = peer_call_on_call},
            [PEER_CHANNEL_LOG] = {[PEER_FRAME_PING] = on_ping, [PEER_FRAME_MESSAGE] = on_message},
            [PEER_CHANNEL_SNAPSHOT] = {[PEER_FRAME_SNAPSHOT_BEGIN] = peer_sink_on_begin,
                                       [PEER_FRAME_SNAPSHOT_CHUNK] = peer_sink_on_chunk,
                                       [PEER_FRAME_SNAPSHOT_END] = peer_sink_on_end},
        },
};

static frame_handler *handler_of(const struct peer_conn *c, enum peer_frame_type type)
{
    if (c->state == PEER_CONN_UP) {
        return up_handlers[c->accepted][c->channel][type];
    }
    if (c->accepted) {
        return type == PEER_FRAME_HELLO ? peer_accept_hello : NULL;
    }
    return type == PEER_FRAME_WELCOME ? on_welcome : type == PEER_FRAME_REFUSE ? on_refuse : NULL;
}

static void on_bad_stream(struct peer_conn *c, enum nb_status status)
{
    if (c->accepted && c->state == PEER_CONN_HANDSHAKE) {
        peer_accept_garbage(c, status);
    } else {
        malformed(c);
    }
}

/* Takes frame after frame. Every handler may end the connection, remove the member or destroy the
 * transport, so nothing but `c` is looked at afterwards. */
static void feed(struct peer_conn *c, struct nb_bytes input)
{
    while (c->state != PEER_CONN_ENDED) {
        if (c->sink != NULL && peer_sink_is_paused(c)) {
            nb_buf_append_bytes(&c->held, input); /* at most what was read at once */
            return;
        }
        struct peer_frame frame;
        enum nb_status status = peer_frame_next(&c->reader, &input, &frame);
        if (status == NB_TRUNCATED) {
            return;
        }
        frame_handler *handler = status == NB_OK ? handler_of(c, frame.type) : NULL;
        if (handler == NULL) {
            on_bad_stream(c, status == NB_OK ? NB_MALFORMED : status);
            return;
        }
        if (c->peer != NULL) {
            c->peer->status.received_bytes += PEER_FRAME_HEADER_SIZE + frame.payload.len;
        }
        handler(c, frame.payload);
    }
}

static void on_data(struct net_conn *net, void *user, struct nb_bytes bytes)
{
    (void)net;
    struct peer_conn *c = user;
    struct peer_transport *t = c->transport;
    if (t == NULL) {
        return;
    }
    peer_enter(t);
    c->heard_ns = peer_now(t);
    c->heard = true;
    if (c->peer != NULL) {
        c->peer->status.heard_ns = c->heard_ns;
    }
    feed(c, bytes);
    peer_leave(t);
}

void peer_conn_resume(struct peer_conn *c)
{
    struct nb_buf held = c->held;
    c->held = (struct nb_buf){0};
    feed(c, nb_buf_bytes(&held));
    nb_buf_deinit(&held);
    if (c->state != PEER_CONN_ENDED && !(c->sink != NULL && peer_sink_is_paused(c))) {
        c->heard_ns = peer_now(c->transport);
        net_conn_resume_reading(c->net);
    }
}

static void on_flush(struct net_conn *net, void *user)
{
    (void)net;
    struct peer_conn *c = user;
    if (c->transport == NULL || c->source == NULL) {
        return;
    }
    struct peer_transport *t = c->transport;
    peer_enter(t);
    peer_source_on_room(c->source);
    peer_leave(t);
}

static void on_close(struct net_conn *net, void *user, enum nb_status reason)
{
    (void)net;
    struct peer_conn *c = user;
    struct peer_transport *t = c->transport;
    if (t != NULL) {
        peer_enter(t);
        enum peer_conn_state was = c->state;
        bool orderly = reason == NB_OK;
        detach(c, orderly ? "connection ended by the other side" : "connection broken");
        c->transport = NULL;
        tell(c, was, orderly ? PEER_DOWN_EOF : PEER_DOWN_RESET,
             orderly ? "connection ended by the other side" : "connection broken");
        peer_leave(t);
    }
    peer_frame_reader_deinit(&c->reader);
    nb_buf_deinit(&c->held);
    nb_free(c);
}

static const struct net_conn_events conn_events = {
    .on_data = on_data,
    .on_flush = on_flush,
    .on_close = on_close,
};

struct peer_conn *peer_conn_create(struct peer_transport *t, struct net_conn *net, bool accepted,
                                   enum peer_channel channel)
{
    struct peer_conn *c = nb_alloc_zero(1, sizeof *c);
    c->transport = t;
    c->net = net;
    c->accepted = accepted;
    c->channel = channel;
    c->opened_ns = c->heard_ns = peer_now(t);
    c->reader.payload_size_max = PEER_HELLO_SIZE_MAX;
    c->next = t->conns;
    if (c->next != NULL) {
        c->next->previous = c;
    }
    t->conns = c;
    /* Both ends of a connection write, so neither may wait for its output before it reads; what is
     * written without being asked for by us is bounded where it is written. */
    struct net_conn_options options = {.read_while_full = true};
    if (channel == PEER_CHANNEL_SNAPSHOT && !accepted) {
        options.output_high_bytes = 2 * t->config.snapshot_chunk_bytes; /* as in source.c */
    }
    net_conn_start(net, &conn_events, c, &options);
    unsigned timeout_ms = (unsigned)(t->config.receive_timeout_ns / 1000000);
    net_conn_set_keepalive(net, 15, timeout_ms == 0 ? 1 : timeout_ms);
    return c;
}

void peer_conn_up(struct peer_conn *c, struct peer *p, const struct peer_hello *hello)
{
    nb_assert(c->state == PEER_CONN_HANDSHAKE);
    if (c->accepted) {
        c->transport->unauthenticated_count--;
    }
    c->state = PEER_CONN_UP;
    c->peer = p;
    c->boot_id = hello->boot_id;
    size_t max = PEER_HELLO_SIZE_MAX;
    switch (c->channel) {
    case PEER_CHANNEL_CONTROL:
    case PEER_CHANNEL_LOG:
        max = c->transport->config.message_bytes_max;
        if (max < PEER_CALL_SIZE_MAX + PEER_CALL_HEADER_SIZE) {
            max = PEER_CALL_SIZE_MAX + PEER_CALL_HEADER_SIZE;
        }
        break;
    case PEER_CHANNEL_SNAPSHOT:
        max = (1u << 20) + 64;
        break;
    case PEER_CHANNEL_PROBE:
    case PEER_CHANNEL_COUNT:
        break;
    }
    c->reader.payload_size_max = max;
    (void)snprintf(p->status.name, sizeof p->status.name, "%s", hello->name);
    (void)snprintf(p->status.version, sizeof p->status.version, "%s", hello->version);
}
