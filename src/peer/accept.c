/*
 * Who dials us: nothing is believed, and little is spent, before a hello has been checked. [N15]
 */
#include "peer/internal.h"

#include <string.h>

enum { GARBAGE_LOG_S = 10 };

static const uint64_t second = 1000000000;

/* The connection without a handshake that has been open for longest. */
static struct peer_conn *oldest_unauthenticated(struct peer_transport *t)
{
    struct peer_conn *oldest = NULL;
    for (struct peer_conn *c = t->conns; c != NULL; c = c->next) {
        if (c->accepted && c->state == PEER_CONN_HANDSHAKE &&
            (oldest == NULL || c->opened_ns <= oldest->opened_ns)) {
            oldest = c;
        }
    }
    return oldest;
}

void peer_on_accept(void *user, struct net_conn *net)
{
    struct peer_transport *t = user;
    peer_enter(t);
    t->counters.accepted++;
    /* A member says hello within a round trip; who sits there silently makes room. */
    if (t->unauthenticated_count >= t->config.unauthenticated_count_max) {
        peer_conn_abort(oldest_unauthenticated(t));
        t->counters.garbage++;
    }
    (void)peer_conn_create(t, net, true, PEER_CHANNEL_CONTROL);
    t->unauthenticated_count++;
    peer_leave(t);
}

/* ---- what is not a hello ---- */

static bool looks_like_http(const uint8_t *head)
{
    for (int i = 0; i < 3; i++) {
        if (head[i] < 'A' || head[i] > 'Z') {
            return false;
        }
    }
    return (head[3] >= 'A' && head[3] <= 'Z') || head[3] == ' ';
}

static const char http_answer[] =
    "HTTP/1.1 400 Bad Request\r\n"
    "Content-Type: text/plain\r\n"
    "Content-Length: 77\r\n"
    "Connection: close\r\n"
    "\r\n"
    "this is nabata's peer port; clients use the client port (2379 unless changed)";

void peer_accept_garbage(struct peer_conn *c, enum nb_status status)
{
    struct peer_transport *t = c->transport;
    const uint8_t *head = c->reader.head;
    bool http = status != NB_CORRUPT && looks_like_http(head);
    bool tls = status != NB_CORRUPT && head[0] == 0x16 && head[1] == 0x03;
    t->counters.garbage++;
    uint64_t now_ns = peer_now(t);
    if (t->garbage_logged_ns == 0 ||
        peer_since(now_ns, t->garbage_logged_ns) > GARBAGE_LOG_S * second) {
        nb_log(t->config.logger, NB_LOG_WARN, "peer.garbage",
               "closed a connection to the peer port that is none of a member's",
               NB_KV_STR("remote-addr", net_conn_peer(c->net)),
               NB_KV_STR("looks-like", http  ? "HTTP"
                                       : tls ? "TLS"
                                             : "noise"),
               NB_KV_STR("error", nb_status_text(status)),
               NB_KV_U64("not-logged-before", t->garbage_unlogged), NB_KV_END);
        t->garbage_logged_ns = now_ns;
        t->garbage_unlogged = 0;
    } else {
        t->garbage_unlogged++;
    }
    if (http) {
        net_conn_write(c->net, nb_bytes_str(http_answer));
        peer_conn_close(c);
    } else {
        peer_conn_abort(c);
    }
}

/* ---- a hello ---- */

static const struct {
    const char *event_text; /* etcd's words, where tools wait for them */
} refusal_logs[PEER_REFUSAL_COUNT] = {
    [PEER_REFUSAL_CLUSTER] = {"request cluster ID mismatch"},
    [PEER_REFUSAL_TO] = {"ignored streaming request; ID mismatch"},
    [PEER_REFUSAL_REMOVED] = {"rejected stream from remote peer because it was removed"},
};

/* A member that is refused comes back every second, and several of them in turn: one line for each
 * change is enough. */
static bool is_news(struct peer_transport *t, const struct peer_hello *h,
                    enum peer_refusal_code code)
{
    for (size_t i = 0; i < PEER_REFUSED_LOGGED_MAX; i++) {
        const struct peer_refused *r = &t->refused[i];
        if (r->code == code && r->from == h->from && r->cluster_id == h->cluster_id &&
            r->boot_id == h->boot_id) {
            return false;
        }
    }
    t->refused[t->refused_next++ % PEER_REFUSED_LOGGED_MAX] = (struct peer_refused){
        .code = code, .from = h->from, .cluster_id = h->cluster_id, .boot_id = h->boot_id};
    return true;
}

enum nb_log_level peer_refusal_level(enum peer_refusal_code code)
{
    return code == PEER_REFUSAL_NO_CLUSTER || code == PEER_REFUSAL_BUSY ? NB_LOG_INFO : NB_LOG_WARN;
}

static void refuse(struct peer_conn *c, const struct peer_hello *h,
                   const struct peer_refusal *refusal)
{
    struct peer_transport *t = c->transport;
    t->counters.refused++;
    const char *text = refusal_logs[refusal->code].event_text;
    if (is_news(t, h, refusal->code)) {
        nb_log(t->config.logger, peer_refusal_level(refusal->code), "peer.hello_refused",
               text != NULL ? text : "refused a connection from a remote peer",
               NB_KV_STR("remote-addr", net_conn_peer(c->net)),
               NB_KV_ID("local-member-id", t->config.member_id),
               NB_KV_ID("local-member-cluster-id", t->config.cluster_id),
               NB_KV_ID("remote-peer-id", h->from), NB_KV_STR("remote-peer-name", h->name),
               NB_KV_ID("remote-peer-cluster-id", h->cluster_id), NB_KV_ID("meant-for", h->to),
               NB_KV_STR("reason",
                         refusal->text[0] != 0 ? refusal->text : peer_refusal_name(refusal->code)),
               NB_KV_END);
    }
    struct nb_buf *output = net_conn_output(c->net);
    size_t begin = peer_frame_begin(output);
    peer_refusal_encode(refusal, output);
    peer_frame_end(output, begin, PEER_FRAME_REFUSE);
    peer_conn_close(c);
}

void peer_remote_ip(const struct net_conn *net, char *to, size_t size)
{
    static const char mapped[] = "::ffff:";
    char text[80];
    (void)snprintf(text, sizeof text, "%s", net_conn_peer(net));
    char *from = text, *end = strrchr(text, ':');
    to[0] = 0;
    if (end == NULL) {
        return; /* a unix socket */
    }
    *end = 0;
    if (text[0] == '[' && end[-1] == ']') {
        end[-1] = 0;
        from = text + 1;
    }
    if (strncmp(from, mapped, sizeof mapped - 1) == 0 && strchr(from, '.') != NULL) {
        from += sizeof mapped - 1;
    }
    (void)snprintf(to, size, "%s", from);
}

/* A probe that names itself: where a member of ours was seen, if nobody knows better. */
static void learn_from_probe(struct peer_transport *t, const struct peer_hello *h)
{
    struct peer *p = peer_find(t, h->from);
    struct peer_status s;
    if (p == NULL || !p->set || !peer_status_of(t, h->from, &s) || s.heard_up || s.control_up ||
        (h->cluster_id != t->config.cluster_id && h->cluster_id != 0) ||
        (h->boot_count <= p->boot_count && h->boot_id != p->boot_id)) {
        return;
    }
    peer_learn(p, h->remote, h->listen_port);
}

static enum peer_refusal_code check_identity(const struct peer_transport *t,
                                             const struct peer_hello *h)
{
    if (h->channel == PEER_CHANNEL_PROBE) {
        return PEER_REFUSAL_NONE;
    }
    if (t->config.cluster_id == 0) {
        return PEER_REFUSAL_NO_CLUSTER;
    }
    if (h->cluster_id != t->config.cluster_id) {
        const struct peer_events *events = t->config.events;
        bool former = events->is_former_cluster != NULL &&
                      events->is_former_cluster(t->config.user, h->cluster_id);
        return former ? PEER_REFUSAL_REMOVED : PEER_REFUSAL_CLUSTER;
    }
    if (h->to != t->config.member_id) {
        return PEER_REFUSAL_TO;
    }
    return h->from == t->config.member_id ? PEER_REFUSAL_DUPLICATE : PEER_REFUSAL_NONE;
}

/* Asks the server; without one, who was set is a member. */
static void ask_server(struct peer_transport *t, const struct peer_hello *h,
                       struct peer_refusal *out)
{
    const struct peer *p = peer_find(t, h->from);
    if (t->config.events->on_hello != NULL) {
        t->config.events->on_hello(t->config.user, h, out);
    } else if (h->channel != PEER_CHANNEL_PROBE && (p == NULL || !p->set)) {
        out->code = PEER_REFUSAL_UNKNOWN;
    }
}

/* One connection a channel: the newer one stands, as the older one is dead or half open. */
static void supersede(struct peer *p, const struct peer_conn *by)
{
    for (struct peer_conn *c = p->transport->conns; c != NULL; c = c->next) {
        if (c != by && c->peer == p && c->accepted && c->state == PEER_CONN_UP &&
            c->channel == by->channel) {
            peer_conn_abort(c);
            return;
        }
    }
}

static void welcome(struct peer_conn *c, const struct peer_hello *h, uint64_t seen_boot_count)
{
    struct peer_transport *t = c->transport;
    struct peer_hello answer = peer_own_hello(t, h->channel, h->from);
    answer.seen_boot_count = seen_boot_count;
    struct nb_buf *output = net_conn_output(c->net);
    size_t begin = peer_frame_begin(output);
    peer_hello_encode(&answer, output);
    peer_frame_end(output, begin, PEER_FRAME_WELCOME);
    peer_conn_sent(c, output->len - begin);
}

/* The boot rules [K05], and a place in the table for who has none. */
static struct peer *admit(struct peer_transport *t, const struct peer_hello *h,
                          struct peer_refusal *out)
{
    struct peer *p = peer_ensure(t, h->from);
    if (p == NULL) {
        out->code = PEER_REFUSAL_BUSY;
        return NULL;
    }
    out->code = peer_admit_boot(p, h);
    if (out->code != PEER_REFUSAL_NONE && !t->destroyed && !p->removed) {
        peer_drop_unused(p);
    }
    return p;
}

void peer_accept_hello(struct peer_conn *c, struct nb_bytes payload)
{
    struct peer_transport *t = c->transport;
    struct peer_hello h;
    enum nb_status status = peer_hello_decode(payload, &h);
    if (status == NB_MALFORMED) {
        peer_accept_garbage(c, status);
        return;
    }
    peer_remote_ip(c->net, h.remote, sizeof h.remote);
    struct peer_refusal refusal = {0};
    const struct peer *known = peer_find(t, h.from);
    uint64_t seen_before = known == NULL ? 0 : known->boot_count;
    if (known != NULL) {
        refusal.seen_boot_count =
            known->boot_id == h.boot_id ? known->earlier_boot_count : known->boot_count;
    }
    refusal.code = status == NB_VERSION ? PEER_REFUSAL_VERSION : check_identity(t, &h);
    if (refusal.code == PEER_REFUSAL_NONE && h.channel != PEER_CHANNEL_PROBE && known != NULL &&
        (h.boot_count < seen_before ||
         (h.boot_count == seen_before && h.boot_id != known->boot_id))) {
        refusal.code =
            h.boot_count < seen_before ? PEER_REFUSAL_STALE_BOOT : PEER_REFUSAL_DUPLICATE;
    }
    if (refusal.code == PEER_REFUSAL_NONE) {
        ask_server(t, &h, &refusal);
    }
    struct peer *p = NULL;
    if (c->state != PEER_CONN_ENDED && refusal.code == PEER_REFUSAL_NONE &&
        h.channel != PEER_CHANNEL_PROBE) {
        p = admit(t, &h, &refusal);
    }
    if (c->state == PEER_CONN_ENDED) {
        return; /* a callback closed the house */
    }
    if (refusal.code != PEER_REFUSAL_NONE || (p != NULL && p->removed)) {
        refusal.code = refusal.code == PEER_REFUSAL_NONE ? PEER_REFUSAL_UNKNOWN : refusal.code;
        refusal.code = refusal.code < PEER_REFUSAL_COUNT ? refusal.code : PEER_REFUSAL_OTHER;
        refuse(c, &h, &refusal);
        return;
    }
    c->channel = h.channel;
    if (p == NULL) {
        welcome(c, &h, refusal.seen_boot_count);
        peer_conn_close(c);
        learn_from_probe(t, &h);
        return;
    }
    supersede(p, c);
    peer_conn_up(c, p, &h);
    p->status.heard_ns = c->heard_ns;
    welcome(c, &h, refusal.seen_boot_count);
    if (h.channel == PEER_CHANNEL_CONTROL) {
        /* It is there, whether its name says so already or not: no reason to wait any longer. */
        peer_learn(p, h.remote, h.listen_port);
        peer_link_reset_backoff(&p->control);
        peer_link_kick(&p->control);
    }
}
