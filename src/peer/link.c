/*
 * A channel to a member, kept up for ever. It is idle (no address, no cluster yet), waits for its
 * next attempt, connects, shakes hands, or is up; the first four may follow one another for days
 * without a line in the log each time.
 */
#include "peer/internal.h"

enum { STILL_FAILING_LOG_S = 60 };

static const uint64_t second = 1000000000;

static void on_timer(void *user);

void peer_link_init(struct peer_link *l, struct peer *p, enum peer_channel channel)
{
    *l = (struct peer_link){.peer = p, .channel = channel};
    l->timer = net_timer_create(p->transport->config.loop, on_timer, l);
}

void peer_link_deinit(struct peer_link *l)
{
    nb_assert(l->conn == NULL);
    if (l->connect != NULL) {
        net_connect_cancel(l->connect);
        l->connect = NULL;
    }
    net_timer_destroy(l->timer);
    l->timer = NULL;
}

void peer_link_reset_backoff(struct peer_link *l)
{
    l->backoff_ns = 0;
}

/* ---- trouble ---- */

/* The next wait: doubled each time, between half of it and all of it by chance, so that members
 * that lost the same peer do not come back in step. */
static uint64_t next_delay(struct peer_link *l)
{
    struct peer_transport *t = l->peer->transport;
    uint64_t max_ns = t->config.backoff_max_ns;
    l->backoff_ns = l->backoff_ns == 0 ? t->config.backoff_min_ns : l->backoff_ns * 2;
    l->backoff_ns = l->backoff_ns > max_ns ? max_ns : l->backoff_ns;
    return l->backoff_ns / 2 + nb_random_below(&t->random, l->backoff_ns / 2 + 1);
}

static void retry_later(struct peer_link *l)
{
    struct peer *p = l->peer;
    if (p->removed || p->transport->destroyed) {
        return;
    }
    /* All addresses of a round are tried in quick succession. */
    if (l->round_at >= peer_address_count(p)) {
        l->round_at = 0;
    }
    net_timer_start(l->timer, l->round_at == 0 ? next_delay(l) : 0, 0);
}

/* One line when the kind of trouble changes, then one a minute. */
static void note_trouble(struct peer_link *l, enum nb_status status, const char *what)
{
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    (void)snprintf(p->status.last_error, sizeof p->status.last_error, "%s", what);
    uint64_t now_ns = peer_now(t);
    if (l->logged_ns != 0 && l->logged_status == status &&
        peer_since(now_ns, l->logged_ns) < STILL_FAILING_LOG_S * second) {
        return;
    }
    l->logged_ns = now_ns;
    l->logged_status = status;
    nb_log(t->config.logger, NB_LOG_WARN, "peer.unreachable", "failed to dial remote peer",
           NB_KV_ID("local-member-id", t->config.member_id), NB_KV_ID("remote-peer-id", p->id),
           NB_KV_STR("remote-peer-name", p->status.name),
           NB_KV_STR("channel", peer_channel_name(l->channel)), NB_KV_STR("error", what),
           NB_KV_END);
}

void peer_link_lost(struct peer_link *l, enum peer_down_reason reason, const char *why)
{
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    net_timer_stop(l->timer);
    uint64_t up_ns = l->up_ns;
    l->up_ns = 0;
    if (up_ns == 0) {
        note_trouble(l, NB_CLOSED, why);
        retry_later(l);
        return;
    }
    (void)snprintf(p->status.last_error, sizeof p->status.last_error, "%s", why);
    if (peer_since(peer_now(t), up_ns) >= t->config.stable_ns) {
        l->backoff_ns = 0;
    }
    retry_later(l);
    if (l->channel == PEER_CHANNEL_CONTROL) {
        peer_report_down(p, reason);
    } else { /* what was on its way is gone, and nothing may follow that would show it [R22] */
        peer_note_unreachable(p);
    }
}

/* ---- dialling ---- */

static void on_connected(void *user, struct net_conn *net, enum nb_status status, const char *error)
{
    struct peer_link *l = user;
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    peer_enter(t);
    l->connect = NULL;
    if (net == NULL) {
        note_trouble(l, status, error);
        retry_later(l);
        if (status == NB_CLOSED && p->gone_unreported && l->channel == PEER_CHANNEL_CONTROL) {
            p->gone_unreported = false;
            if (t->config.events->on_down != NULL) {
                t->config.events->on_down(t->config.user, p->id, PEER_DOWN_REFUSED);
            }
        }
        peer_leave(t);
        return;
    }
    l->conn = peer_conn_create(t, net, false, l->channel);
    l->conn->link = l;
    l->conn->peer = p;
    struct peer_hello hello = peer_own_hello(t, l->channel, p->id);
    struct nb_buf *output = net_conn_output(net);
    size_t begin = peer_frame_begin(output);
    peer_hello_encode(&hello, output);
    peer_frame_end(output, begin, PEER_FRAME_HELLO);
    peer_conn_sent(l->conn, output->len - begin);
    net_timer_start(l->timer, t->config.handshake_timeout_ns, 0);
    if (l->channel == PEER_CHANNEL_CONTROL) {
        peer_link_kick(&p->log); /* somebody is there */
    }
    peer_leave(t);
}

/* The next address of the round. Who talks to us from somewhere, or was last found there, is
 * sought there first: no name server is needed. Else the names come first [K01]. */
static size_t next_address(struct peer_link *l)
{
    const struct peer *p = l->peer;
    bool learned = p->learned.port != 0;
    if (l->round_at == 0) {
        struct peer_status s = {0};
        (void)!peer_status_of(p->transport, p->id, &s);
        l->learned_first = learned && (s.heard_up || p->address_good == p->address_count);
    }
    size_t at = l->round_at++;
    if (learned && at == (l->learned_first ? 0 : p->address_count)) {
        return p->address_count;
    }
    at -= learned && l->learned_first ? 1 : 0;
    size_t good = p->address_good < p->address_count ? p->address_good : 0;
    return (good + at) % p->address_count;
}

/* An attempt under way elsewhere, or where the member was before, may take its whole time. */
void peer_link_try_learned(struct peer_link *l, bool changed)
{
    struct peer *p = l->peer;
    if (p->removed || p->transport->destroyed || l->conn != NULL) {
        return;
    }
    if (l->connect != NULL) {
        if (l->tried == p->address_count && !changed) {
            return;
        }
        net_connect_cancel(l->connect);
        l->connect = NULL;
    }
    l->round_at = 0;
    l->backoff_ns = 0;
    p->address_good = p->address_count; /* so the round begins there */
    peer_link_kick(l);
}

void peer_link_kick(struct peer_link *l)
{
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    if (p->removed || t->destroyed || p->address_count == 0 || t->config.cluster_id == 0 ||
        l->connect != NULL || l->conn != NULL) {
        return;
    }
    /* One dialler a member while nobody answers: the log channel follows the control channel. */
    if (l->channel == PEER_CHANNEL_LOG && p->control.conn == NULL) {
        net_timer_stop(l->timer);
        return;
    }
    net_timer_stop(l->timer);
    l->tried = next_address(l);
    const struct net_address *to = peer_address(p, l->tried);
    p->status.connect_count++;
    l->connect =
        net_connect_start(t->config.loop, to, t->config.connect_timeout_ns, on_connected, l);
}

static void on_timer(void *user)
{
    struct peer_link *l = user;
    struct peer_transport *t = l->peer->transport;
    peer_enter(t);
    if (l->conn == NULL) {
        peer_link_kick(l);
    } else if (l->conn->state == PEER_CONN_HANDSHAKE) {
        peer_conn_fail(l->conn, PEER_DOWN_TIMEOUT, "no answer to the handshake");
    }
    peer_leave(t);
}

/* ---- the answer ---- */

bool peer_check_welcome(struct peer *p, const struct peer_hello *h, struct peer_refusal *out)
{
    const struct peer_transport *t = p->transport;
    *out = (struct peer_refusal){0};
    if (h->cluster_id != t->config.cluster_id) {
        out->code = PEER_REFUSAL_CLUSTER;
    } else if (h->from != p->id || h->to != t->config.member_id) {
        out->code = PEER_REFUSAL_TO; /* a stranger lives at that address now */
    } else {
        out->code = peer_admit_boot(p, h);
    }
    return out->code == PEER_REFUSAL_NONE;
}

/* Refused, by it or by us: `p` is not who we can talk to. The server hears only what is said of
 * this member: that the other one is an old copy is no reason to stop. */
static void note_refusal(struct peer_link *l, const struct peer_refusal *refusal, bool by_us)
{
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    const char *text = refusal->text[0] != 0 ? refusal->text : peer_refusal_name(refusal->code);
    (void)snprintf(p->status.last_error, sizeof p->status.last_error, "%s", text);
    bool stranger = refusal->code == PEER_REFUSAL_TO || refusal->code == PEER_REFUSAL_CLUSTER ||
                    refusal->code == PEER_REFUSAL_NO_CLUSTER;
    if (stranger && l->tried == p->address_count) {
        peer_unlearn(p); /* somebody else has that address now [M09] */
    }
    bool changed = p->status.refusal != refusal->code || p->status.refused_by_us != by_us;
    p->status.refusal = refusal->code;
    p->status.refused_by_us = by_us;
    retry_later(l);
    if (!changed) {
        return;
    }
    nb_log(t->config.logger, peer_refusal_level(refusal->code), "peer.refused",
           "remote peer refused the connection", NB_KV_ID("local-member-id", t->config.member_id),
           NB_KV_ID("remote-peer-id", p->id), NB_KV_STR("remote-peer-name", p->status.name),
           NB_KV_ID("local-member-cluster-id", t->config.cluster_id), NB_KV_STR("error", text),
           NB_KV_END);
    if (t->config.events->on_refused != NULL) {
        t->config.events->on_refused(t->config.user, p->id, refusal->code, text);
    }
}

static void refused(struct peer_link *l, const struct peer_refusal *refusal, bool by_us)
{
    struct peer_refusal r = *refusal; /* it points into the connection's input otherwise */
    peer_conn_abort(l->conn);
    net_timer_stop(l->timer);
    note_refusal(l, &r, by_us);
}

void peer_link_on_refused(struct peer_link *l, const struct peer_refusal *refusal)
{
    refused(l, refusal, false);
}

void peer_link_on_welcome(struct peer_link *l, const struct peer_hello *hello)
{
    struct peer *p = l->peer;
    struct peer_transport *t = p->transport;
    struct peer_conn *c = l->conn;
    struct peer_refusal refusal;
    bool admitted = peer_check_welcome(p, hello, &refusal);
    if (c->state == PEER_CONN_ENDED) {
        return; /* a callback of an older boot's end removed the member */
    }
    if (!admitted) {
        refused(l, &refusal, true);
        return;
    }
    net_timer_stop(l->timer);
    peer_conn_up(c, p, hello);
    l->up_ns = peer_now(t);
    l->logged_ns = 0;
    l->round_at = 0;
    p->address_good = l->tried; /* where it was is where it is sought first */
    p->status.heard_ns = c->heard_ns;
    p->status.refusal = PEER_REFUSAL_NONE;
    nb_log(t->config.logger, NB_LOG_INFO, "peer.up",
           "established TCP streaming connection with remote peer",
           NB_KV_STR("stream-writer-type", peer_channel_name(l->channel)),
           NB_KV_ID("local-member-id", t->config.member_id), NB_KV_ID("remote-peer-id", p->id),
           NB_KV_STR("remote-peer-name", hello->name), NB_KV_END);
    if (l->channel != PEER_CHANNEL_CONTROL) {
        return;
    }
    p->status.last_error[0] = 0;
    p->gone_unreported = false;
    peer_link_kick(&p->log);
    if (t->config.events->on_up != NULL) {
        t->config.events->on_up(t->config.user, p->id, hello);
    }
}

/* ---- messages out ---- */

/* Appends with entries would wait before an empty one on another channel, which then looks like a
 * gap to the follower: all appends take the log channel. */
static const enum peer_channel channel_of[RAFT_MSG_TYPE_COUNT] = {
    [RAFT_MSG_APPEND] = PEER_CHANNEL_LOG,        [RAFT_MSG_APPEND_RESULT] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_HEARTBEAT] = PEER_CHANNEL_CONTROL, [RAFT_MSG_HEARTBEAT_RESULT] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_PRE_VOTE] = PEER_CHANNEL_CONTROL,  [RAFT_MSG_PRE_VOTE_RESULT] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_VOTE] = PEER_CHANNEL_CONTROL,      [RAFT_MSG_VOTE_RESULT] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_SNAPSHOT] = PEER_CHANNEL_SNAPSHOT, [RAFT_MSG_TIMEOUT_NOW] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_READ] = PEER_CHANNEL_CONTROL,      [RAFT_MSG_READ_RESULT] = PEER_CHANNEL_CONTROL,
    [RAFT_MSG_PROPOSE] = PEER_CHANNEL_LOG,       [RAFT_MSG_REMOVED] = PEER_CHANNEL_CONTROL,
};

/* Whether `size` more bytes may wait on `l`. */
static bool has_room(const struct peer_link *l, size_t size)
{
    const struct peer_config *config = &l->peer->transport->config;
    if (l->conn == NULL || l->conn->state != PEER_CONN_UP || size > config->message_bytes_max) {
        return false;
    }
    size_t max = l->channel == PEER_CHANNEL_LOG ? config->log_queue_bytes_max
                                                : config->control_queue_bytes_max;
    size_t queued = net_conn_pending_bytes(l->conn->net);
    return queued == 0 || (queued < max && size <= max - queued);
}

bool peer_send(struct peer_transport *t, const struct raft_msg *msg)
{
    nb_assert(msg->type < RAFT_MSG_TYPE_COUNT && msg->type != RAFT_MSG_SNAPSHOT);
    struct peer *p = peer_find(t, msg->to);
    if (p == NULL) {
        return false;
    }
    struct peer_link *l = channel_of[msg->type] == PEER_CHANNEL_LOG ? &p->log : &p->control;
    if (!has_room(l, raft_msg_encoded_size(msg))) {
        peer_note_unreachable(p);
        return false;
    }
    struct nb_buf *output = net_conn_output(l->conn->net);
    size_t begin = peer_frame_begin(output);
    raft_msg_encode(msg, output);
    peer_frame_end(output, begin, PEER_FRAME_MESSAGE);
    peer_conn_sent(l->conn, output->len - begin);
    p->status.sent_messages++;
    return true;
}
