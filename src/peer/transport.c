#include "peer/internal.h"

#include <string.h>

enum {
    TICKS_MISSED = 3, /* a tick this late shows that we slept, not the others */
    DOWN_LOG_S = 1,
};

static const uint64_t ms = 1000000, second = 1000000000;

/* ---- events and lifetimes ---- */

void peer_enter(struct peer_transport *t)
{
    t->entered++;
}

static void free_peer(struct peer *p)
{
    nb_free(p->addresses);
    nb_free(p);
}

static void free_removed(struct peer_transport *t)
{
    while (t->removed != NULL) {
        struct peer *p = t->removed;
        t->removed = p->next_removed;
        free_peer(p);
    }
}

static void free_transport(struct peer_transport *t)
{
    free_removed(t);
    nb_arena_deinit(&t->arena);
    nb_free(t->calls_in);
    nb_free((void *)(uintptr_t)t->config.name);
    nb_free((void *)(uintptr_t)t->config.version);
    nb_free((void *)(uintptr_t)t->config.card.data);
    nb_free(t);
}

void peer_leave(struct peer_transport *t)
{
    nb_assert(t->entered != 0);
    t->entered--;
    if (t->entered != 0) {
        return;
    }
    free_removed(t);
    if (t->destroyed) {
        free_transport(t);
    }
}

uint64_t peer_now(const struct peer_transport *t)
{
    return net_loop_now_ns(t->config.loop);
}

/* ---- what is done later, because P3 keeps it out of calls ---- */

void peer_defer(struct peer_transport *t, uint64_t delay_ns)
{
    uint64_t due_ns = peer_now(t) + delay_ns;
    if (t->deferred_due_ns == 0 || due_ns < t->deferred_due_ns) {
        t->deferred_due_ns = due_ns;
        net_timer_start(t->deferred, delay_ns, 0);
    }
}

void peer_note_unreachable(struct peer *p)
{
    p->status.sent_failures++;
    if (!p->unreachable) {
        p->unreachable = true;
        peer_defer(p->transport, 0);
    }
}

/* The next member whose loss of messages is to be told now; NULL when there is none. */
static struct peer *take_unreachable(struct peer_transport *t, uint64_t now_ns)
{
    for (size_t i = 0; i < t->peer_count; i++) {
        struct peer *p = t->peers[i];
        if (!p->unreachable) {
            continue;
        }
        uint64_t due_ns = p->unreachable_ns + t->config.unreachable_interval_ns;
        if (p->unreachable_ns != 0 && due_ns > now_ns) {
            peer_defer(t, due_ns - now_ns);
            continue;
        }
        p->unreachable = false;
        p->unreachable_ns = now_ns;
        return p;
    }
    return NULL;
}

static void on_deferred(void *user)
{
    struct peer_transport *t = user;
    peer_enter(t);
    t->deferred_due_ns = 0;
    peer_source_finish_ended(t);
    peer_call_finish_due(t);
    peer_probe_finish_due(t);
    peer_sink_finish_ended(t);
    peer_sink_resume_due(t);
    if (!t->destroyed) {
        uint64_t now_ns = peer_now(t);
        for (struct peer *p = take_unreachable(t, now_ns); p != NULL;
             p = t->destroyed ? NULL : take_unreachable(t, now_ns)) {
            if (t->config.events->on_unreachable != NULL) {
                t->config.events->on_unreachable(t->config.user, p->id);
            }
        }
    }
    peer_leave(t);
}

/* ---- the tick: pings, and connections that went silent ---- */

static const char *silence_of(const struct peer_conn *c, uint64_t now_ns)
{
    const struct peer_config *config = &c->transport->config;
    uint64_t silent_ns = peer_since(now_ns, c->heard_ns);
    if (c->state == PEER_CONN_HANDSHAKE) {
        return c->accepted && peer_since(now_ns, c->opened_ns) > config->handshake_timeout_ns
                   ? "no handshake in time"
                   : NULL;
    }
    if (c->sink != NULL || c->channel == PEER_CHANNEL_SNAPSHOT) {
        return c->accepted && silent_ns > config->snapshot_stall_ns && peer_sink_waits_for_sender(c)
                   ? "the sender makes no progress"
                   : NULL;
    }
    /* The answers to our pings on the log channel stand behind all that is queued there, so its
     * silence says nothing; the user timeout watches that one. */
    bool watched = c->accepted || c->channel == PEER_CHANNEL_CONTROL;
    return watched && silent_ns > config->receive_timeout_ns ? "nothing heard" : NULL;
}

static struct peer_conn *find_silent(struct peer_transport *t, uint64_t now_ns,
                                     const char **out_why)
{
    for (struct peer_conn *c = t->conns; c != NULL; c = c->next) {
        *out_why = silence_of(c, now_ns);
        if (*out_why != NULL) {
            return c;
        }
    }
    return NULL;
}

/* We were stopped or starved: what the others sent meanwhile waits in the sockets, unread, so their
 * silence means nothing yet. */
static void forget_pause(struct peer_transport *t, uint64_t now_ns)
{
    for (struct peer_conn *c = t->conns; c != NULL; c = c->next) {
        c->heard_ns = now_ns;
        c->opened_ns = now_ns;
    }
    for (size_t i = 0; i < t->peer_count; i++) {
        if (t->peers[i]->source != NULL) {
            peer_source_forget_pause(t->peers[i]->source, now_ns);
        }
    }
}

static void ping(struct peer_conn *c)
{
    uint8_t clock[8];
    nb_put_u64(clock, net_now_ns());
    peer_conn_frame(c, PEER_FRAME_PING, nb_bytes_of(clock, sizeof clock), (struct nb_bytes){0});
}

static void on_tick(void *user)
{
    struct peer_transport *t = user;
    peer_enter(t);
    uint64_t now_ns = peer_now(t);
    if (peer_since(now_ns, t->tick_ns) > TICKS_MISSED * t->config.ping_interval_ns) {
        forget_pause(t, now_ns);
    }
    t->tick_ns = now_ns;
    const char *why = NULL;
    for (struct peer_conn *c = find_silent(t, now_ns, &why); c != NULL;
         c = find_silent(t, now_ns, &why)) {
        peer_conn_fail(c, PEER_DOWN_TIMEOUT, why);
    }
    for (struct peer_conn *c = t->conns; c != NULL; c = c->next) {
        if (c->state == PEER_CONN_UP && c->link != NULL) {
            ping(c);
        }
        if (c->sink != NULL) {
            peer_sink_tick(c);
        }
        peer_frame_reader_trim(&c->reader);
    }
    for (size_t i = t->peer_count; i > 0; i--) {
        struct peer *p = t->peers[i - 1];
        if (p->source != NULL) {
            peer_source_tick(p->source, now_ns);
        }
        peer_drop_unused(p);
    }
    peer_leave(t);
}

/* ---- members ---- */

static size_t lower_bound(const struct peer_transport *t, uint64_t id)
{
    size_t at = 0;
    while (at < t->peer_count && t->peers[at]->id < id) {
        at++;
    }
    return at;
}

struct peer *peer_find(const struct peer_transport *t, uint64_t id)
{
    size_t at = lower_bound(t, id);
    return at < t->peer_count && t->peers[at]->id == id ? t->peers[at] : NULL;
}

struct peer *peer_ensure(struct peer_transport *t, uint64_t id)
{
    size_t at = lower_bound(t, id);
    if (at < t->peer_count && t->peers[at]->id == id) {
        return t->peers[at];
    }
    if (t->peer_count == PEER_COUNT_MAX) {
        return NULL;
    }
    struct peer *p = nb_alloc_zero(1, sizeof *p);
    p->transport = t;
    p->id = id;
    p->status.id = id;
    peer_link_init(&p->control, p, PEER_CHANNEL_CONTROL);
    peer_link_init(&p->log, p, PEER_CHANNEL_LOG);
    memmove(t->peers + at + 1, t->peers + at, (t->peer_count - at) * sizeof(struct peer *));
    t->peers[at] = p;
    t->peer_count++;
    return p;
}

static struct peer_conn *conn_of_peer(struct peer_transport *t, const struct peer *p)
{
    struct peer_conn *c = t->conns;
    while (c != NULL && c->peer != p) {
        c = c->next;
    }
    return c;
}

/* Takes it out of the table; freed when no event is under way. */
static void remove_peer(struct peer *p)
{
    struct peer_transport *t = p->transport;
    nb_assert(!p->removed);
    size_t at = lower_bound(t, p->id);
    nb_assert(at < t->peer_count && t->peers[at] == p);
    t->peer_count--;
    memmove(t->peers + at, t->peers + at + 1, (t->peer_count - at) * sizeof(struct peer *));
    p->removed = true;
    if (p->source != NULL) {
        peer_source_end(p->source, NB_CANCELED);
    }
    for (struct peer_conn *c = conn_of_peer(t, p); c != NULL; c = conn_of_peer(t, p)) {
        peer_conn_close(c);
    }
    peer_link_deinit(&p->control);
    peer_link_deinit(&p->log);
    if (t->entered != 0) {
        p->next_removed = t->removed;
        t->removed = p;
    } else {
        free_peer(p);
    }
}

void peer_drop_unused(struct peer *p)
{
    if (!p->set && !p->removed && conn_of_peer(p->transport, p) == NULL) {
        remove_peer(p);
    }
}

enum nb_status peer_parse_address(const char *text, struct net_address *out,
                                  struct net_error *error)
{
    if (!net_address_parse(text, 0, out, error)) {
        return NB_INVALID;
    }
    if (out->host[0] == 0 || (out->port == 0 && out->scheme != NET_SCHEME_UNIX)) {
        (void)snprintf(error->text, sizeof error->text, "\"%.200s\": needs a host and a port",
                       text);
        return NB_INVALID;
    }
    if (out->scheme == NET_SCHEME_HTTPS || out->scheme == NET_SCHEME_UNIXS) {
        (void)snprintf(error->text, sizeof error->text, "\"%.200s\": no TLS between members here",
                       text);
        return NB_INVALID;
    }
    return NB_OK;
}

enum nb_status peer_transport_set(struct peer_transport *t, uint64_t id,
                                  const char *const *addresses, size_t address_count,
                                  struct net_error *error)
{
    struct net_error ignored;
    error = error == NULL ? &ignored : error;
    if (id == 0 || id == t->config.member_id || address_count > PEER_ADDRESS_COUNT_MAX) {
        (void)snprintf(error->text, sizeof error->text,
                       "not a member to dial, or too many addresses");
        return NB_INVALID;
    }
    struct net_address parsed[PEER_ADDRESS_COUNT_MAX];
    for (size_t i = 0; i < address_count; i++) {
        enum nb_status status = peer_parse_address(addresses[i], &parsed[i], error);
        if (status != NB_OK) {
            return status;
        }
    }
    struct peer *p = peer_ensure(t, id);
    if (p == NULL) {
        (void)snprintf(error->text, sizeof error->text, "too many members");
        return NB_TOO_LARGE;
    }
    p->set = true;
    nb_free(p->addresses);
    p->addresses = NULL;
    p->address_count = address_count;
    if (address_count != 0) {
        p->addresses = nb_alloc(address_count * sizeof *p->addresses);
        memcpy(p->addresses, parsed, address_count * sizeof *p->addresses);
    }
    p->address_good = 0;
    p->control.round_at = 0;
    p->log.round_at = 0;
    peer_transport_reconnect_now(t, id);
    return NB_OK;
}

const struct net_address *peer_address(const struct peer *p, size_t at)
{
    nb_assert(at < peer_address_count(p));
    return at < p->address_count ? &p->addresses[at] : &p->learned;
}

size_t peer_address_count(const struct peer *p)
{
    return p->address_count + (p->learned.port != 0 ? 1 : 0);
}

void peer_learn(struct peer *p, const char *ip, uint16_t port)
{
    struct net_address a = {.scheme = NET_SCHEME_HTTP, .port = port};
    if (port == 0 || strlen(ip) >= sizeof a.host) {
        return;
    }
    (void)snprintf(a.host, sizeof a.host, "%s", ip);
    if (!net_address_is_numeric(&a)) {
        return;
    }
    bool changed = p->learned.port != port || strcmp(p->learned.host, ip) != 0;
    if (changed) {
        p->learned = a;
        net_address_format(&a, p->status.learned, sizeof p->status.learned);
        nb_log(p->transport->config.logger, NB_LOG_DEBUG, "peer.learned",
               "a member was heard from another address",
               NB_KV_ID("local-member-id", p->transport->config.member_id),
               NB_KV_ID("remote-peer-id", p->id), NB_KV_STR("address", p->status.learned),
               NB_KV_END);
    }
    peer_link_try_learned(&p->control, changed);
    peer_link_try_learned(&p->log, changed);
}

void peer_unlearn(struct peer *p)
{
    p->learned.port = 0;
    p->status.learned[0] = 0;
    if (p->address_good >= p->address_count) {
        p->address_good = 0;
    }
    p->control.round_at = 0;
    p->log.round_at = 0;
}

void peer_transport_learn(struct peer_transport *t, uint64_t id, const char *ip, uint16_t port)
{
    struct peer *p = peer_find(t, id);
    if (p != NULL) {
        peer_learn(p, ip, port);
    }
}

void peer_transport_remove(struct peer_transport *t, uint64_t id)
{
    struct peer *p = peer_find(t, id);
    if (p != NULL) {
        remove_peer(p);
    }
}

void peer_transport_reconnect_now(struct peer_transport *t, uint64_t id)
{
    struct peer *p = peer_find(t, id);
    if (p != NULL) {
        peer_link_reset_backoff(&p->control);
        peer_link_reset_backoff(&p->log);
        peer_link_kick(&p->control);
        peer_link_kick(&p->log);
    }
}

/* ---- boots ---- */

/* A connection from or to another boot of `p` than `boot_id`. */
static struct peer_conn *other_boot(const struct peer *p, uint64_t boot_id)
{
    struct peer_conn *c = p->transport->conns;
    while (c != NULL && (c->peer != p || c->state != PEER_CONN_UP || c->boot_id == boot_id)) {
        c = c->next;
    }
    return c;
}

enum peer_refusal_code peer_admit_boot(struct peer *p, const struct peer_hello *h)
{
    struct peer_transport *t = p->transport;
    if (h->boot_count < p->boot_count) {
        return PEER_REFUSAL_STALE_BOOT;
    }
    if (h->boot_count == p->boot_count && h->boot_id != p->boot_id) {
        return PEER_REFUSAL_DUPLICATE; /* two copies of one data folder */
    }
    /* A later boot. The earlier one is dead, or about to be found out as such: one that still talks
     * keeps its place [K05]. */
    uint64_t now_ns = peer_now(t);
    uint64_t alive_ns = 3 * t->config.ping_interval_ns;
    for (struct peer_conn *c = t->conns; c != NULL; c = c->next) {
        if (c->peer == p && c->state == PEER_CONN_UP && c->boot_id != h->boot_id && c->accepted &&
            peer_since(now_ns, c->heard_ns) < alive_ns) {
            return PEER_REFUSAL_DUPLICATE;
        }
    }
    if (p->boot_id != h->boot_id) {
        p->earlier_boot_count = p->boot_count;
        p->boot_count = h->boot_count;
        p->boot_id = h->boot_id;
    }
    for (struct peer_conn *c = other_boot(p, h->boot_id); c != NULL;
         c = p->removed || t->destroyed ? NULL : other_boot(p, h->boot_id)) {
        peer_conn_fail(c, PEER_DOWN_RESET, "the member started anew");
    }
    return PEER_REFUSAL_NONE;
}

struct peer_hello peer_own_hello(const struct peer_transport *t, enum peer_channel channel,
                                 uint64_t to)
{
    struct peer_hello h = {.channel = channel,
                           .protocol_version = PEER_PROTOCOL_VERSION,
                           .cluster_id = t->config.cluster_id,
                           .from = t->config.member_id,
                           .to = to,
                           .boot_id = t->config.boot_id,
                           .boot_count = t->config.boot_count,
                           .fresh = t->config.fresh,
                           .listen_port = t->listen_port,
                           .card = t->config.card};
    (void)snprintf(h.name, sizeof h.name, "%s", t->config.name);
    (void)snprintf(h.version, sizeof h.version, "%s", t->config.version);
    return h;
}

void peer_report_down(struct peer *p, enum peer_down_reason reason)
{
    struct peer_transport *t = p->transport;
    p->status.down_count++;
    p->gone_unreported = true;
    /* Its connection to us and ours to it end together: one line for both. */
    uint64_t now_ns = peer_now(t);
    if (p->down_logged_ns == 0 || peer_since(now_ns, p->down_logged_ns) > DOWN_LOG_S * second) {
        p->down_logged_ns = now_ns;
        nb_log(t->config.logger, NB_LOG_WARN, "peer.down",
               "lost TCP streaming connection with remote peer",
               NB_KV_ID("local-member-id", t->config.member_id), NB_KV_ID("remote-peer-id", p->id),
               NB_KV_STR("remote-peer-name", p->status.name),
               NB_KV_STR("error", peer_down_name(reason)), NB_KV_END);
    }
    if (t->config.events->on_down != NULL) {
        t->config.events->on_down(t->config.user, p->id, reason);
    }
}

/* ---- the whole ---- */

void peer_config_defaults(struct peer_config *config)
{
    *config = (struct peer_config){
        .name = "",
        .version = "",
        .control_queue_bytes_max = 8u << 20,
        .log_queue_bytes_max = 64u << 20,
        .message_bytes_max = 64u << 20,
        .snapshot_chunk_bytes = 64u << 10,
        .unauthenticated_count_max = 64,
        .connect_timeout_ns = second,
        .handshake_timeout_ns = 5 * second,
        .backoff_min_ns = 10 * ms,
        .backoff_max_ns = second,
        .stable_ns = 5 * second,
        .ping_interval_ns = second,
        .receive_timeout_ns = 5 * second,
        .snapshot_stall_ns = 30 * second,
        .snapshot_answer_ns = 300 * second,
        .unreachable_interval_ns = 50 * ms,
    };
}

static bool config_makes_sense(const struct peer_config *c)
{
    return c->loop != NULL && c->events != NULL && c->events->on_message != NULL &&
           c->member_id != 0 && c->boot_id != 0 && c->boot_count != 0 && c->name != NULL &&
           c->version != NULL && strlen(c->name) <= PEER_NAME_SIZE_MAX &&
           strlen(c->version) <= PEER_VERSION_SIZE_MAX && c->card.len <= PEER_CARD_SIZE_MAX &&
           c->message_bytes_max != 0 && c->message_bytes_max <= UINT32_MAX / 2 &&
           c->snapshot_chunk_bytes != 0 && c->snapshot_chunk_bytes <= 1u << 20 &&
           c->unauthenticated_count_max != 0 && c->backoff_min_ns != 0 &&
           c->backoff_max_ns >= c->backoff_min_ns && c->ping_interval_ns != 0 &&
           c->receive_timeout_ns > c->ping_interval_ns && c->handshake_timeout_ns != 0;
}

enum nb_status peer_transport_create(const struct peer_config *config, struct peer_transport **out)
{
    if (!config_makes_sense(config)) {
        return NB_INVALID;
    }
    struct peer_transport *t = nb_alloc_zero(1, sizeof *t);
    t->config = *config;
    t->config.name = nb_strdup(config->name);
    t->config.version = nb_strdup(config->version);
    t->config.card = (struct nb_bytes){0};
    peer_transport_set_card(t, config->card);
    t->next_number = 1;
    nb_random_init(&t->random, nb_random_entropy());
    t->tick = net_timer_create(config->loop, on_tick, t);
    t->deferred = net_timer_create(config->loop, on_deferred, t);
    t->call_timer = net_timer_create(config->loop, peer_call_on_timer, t);
    t->tick_ns = peer_now(t);
    net_timer_start(t->tick, config->ping_interval_ns, config->ping_interval_ns);
    *out = t;
    return NB_OK;
}

enum nb_status peer_transport_listen(struct peer_transport *t, const struct net_address *at,
                                     uint16_t *out_port, struct net_error *error)
{
    if (t->listener_count == PEER_LISTEN_COUNT_MAX) {
        return NB_TOO_LARGE;
    }
    struct net_listener *listener;
    struct net_listen_options options = {.descriptor_reserve = NET_RESERVE_PEERS};
    enum nb_status status =
        net_listener_open(t->config.loop, at, &options, peer_on_accept, t, &listener, error);
    if (status != NB_OK) {
        return status;
    }
    t->listeners[t->listener_count++] = listener;
    t->listen_port = t->listen_port != 0 ? t->listen_port : net_listener_port(listener);
    if (out_port != NULL) {
        *out_port = net_listener_port(listener);
    }
    return NB_OK;
}

void peer_transport_destroy(struct peer_transport *t)
{
    if (t == NULL) {
        return;
    }
    nb_assert(!t->destroyed);
    t->destroyed = true;
    peer_enter(t);
    for (size_t i = 0; i < t->listener_count; i++) {
        net_listener_close(t->listeners[i]);
    }
    t->listener_count = 0;
    while (t->probes != NULL) {
        peer_probe_destroy(t->probes);
    }
    while (t->peer_count != 0) {
        struct peer *p = t->peers[t->peer_count - 1];
        if (p->source != NULL) {
            peer_source_destroy(p->source);
        }
        remove_peer(p);
    }
    while (t->conns != NULL) {
        peer_conn_abort(t->conns);
    }
    while (t->ended_sources != NULL) {
        peer_source_destroy(t->ended_sources);
    }
    peer_sink_deinit(t);
    peer_call_deinit(t);
    net_timer_destroy(t->tick);
    net_timer_destroy(t->deferred);
    net_timer_destroy(t->call_timer);
    peer_leave(t);
}

void peer_transport_set_cluster(struct peer_transport *t, uint64_t cluster_id)
{
    nb_assert(cluster_id != 0);
    nb_assert(t->config.cluster_id == 0 || t->config.cluster_id == cluster_id);
    t->config.cluster_id = cluster_id;
    for (size_t i = 0; i < t->peer_count; i++) {
        peer_link_kick(&t->peers[i]->control);
        peer_link_kick(&t->peers[i]->log);
    }
}

void peer_transport_set_fresh(struct peer_transport *t, bool fresh)
{
    t->config.fresh = fresh;
}

void peer_transport_set_card(struct peer_transport *t, struct nb_bytes card)
{
    nb_assert(card.len <= PEER_CARD_SIZE_MAX);
    uint8_t *copy = card.len == 0 ? NULL : nb_alloc(card.len);
    if (card.len != 0) {
        memcpy(copy, card.data, card.len);
    }
    nb_free((void *)(uintptr_t)t->config.card.data);
    t->config.card = nb_bytes_of(copy, card.len);
}

/* ---- what metrics and status show ---- */

static bool heard_up(const struct peer *p)
{
    for (const struct peer_conn *c = p->transport->conns; c != NULL; c = c->next) {
        if (c->peer == p && c->accepted && c->channel == PEER_CHANNEL_CONTROL &&
            c->state == PEER_CONN_UP) {
            return true;
        }
    }
    return false;
}

static size_t queued_bytes(const struct peer_link *l)
{
    return l->conn == NULL ? 0 : net_conn_pending_bytes(l->conn->net);
}

static bool link_is_up(const struct peer_link *l)
{
    return l->conn != NULL && l->conn->state == PEER_CONN_UP;
}

bool peer_status_of(const struct peer_transport *t, uint64_t id, struct peer_status *out)
{
    const struct peer *p = peer_find(t, id);
    if (p == NULL) {
        return false;
    }
    *out = p->status;
    out->dialled = p->address_count != 0;
    out->control_up = link_is_up(&p->control);
    out->log_up = link_is_up(&p->log);
    out->heard_up = heard_up(p);
    out->up_since_ns = out->control_up ? p->control.up_ns : 0;
    out->boot_id = p->boot_id;
    out->boot_count = p->boot_count;
    out->queued_bytes = queued_bytes(&p->control) + queued_bytes(&p->log);
    return true;
}

size_t peer_transport_ids(const struct peer_transport *t, uint64_t out[PEER_COUNT_MAX])
{
    for (size_t i = 0; i < t->peer_count; i++) {
        out[i] = t->peers[i]->id;
    }
    return t->peer_count;
}

void peer_transport_counters(const struct peer_transport *t, struct peer_transport_counters *out)
{
    *out = t->counters;
    out->unauthenticated_count = t->unauthenticated_count;
}
