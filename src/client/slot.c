#include "client/slot.h"

#include <stdio.h>

enum {
    OUTPUT_TURN_BYTES = 1 << 20,
    CLIENT_PORT_DEFAULT = 2379,
};

static const uint64_t backoff_first_ns = 50ULL * 1000 * 1000;
static const uint64_t backoff_max_ns = 2ULL * 1000 * 1000 * 1000;
static const uint64_t keepalive_ns = 10ULL * 1000 * 1000 * 1000;
static const uint64_t keepalive_timeout_ns = 6ULL * 1000 * 1000 * 1000;

/* A connection lives until its on_close, also when its slot has forgotten it (after GOAWAY). */
struct link {
    struct client_slots *slots;
    struct slot *slot; /* NULL: forgotten */
    struct link *next, *previous;
    struct net_conn *conn;
    struct rpc_client *rpc; /* owned */
};

struct slot {
    struct client_slots *slots;
    size_t endpoint;
    struct link *link;           /* connected */
    struct net_connect *connect; /* on its way */
    uint64_t dial_after_ns, backoff_ns;
    char error[256]; /* of the last dial; "" when it went well */
};

struct endpoint {
    char *name; /* owned; as given */
    struct net_address address;
    char authority[280];
};

struct client_slots {
    struct net_loop *loop;
    struct endpoint *endpoints; /* owned */
    size_t endpoint_count;
    struct slot *slots; /* owned; endpoint_count rows of `lanes` */
    unsigned lanes;
    struct link *links; /* all that are not closed */
    uint64_t dial_timeout_ns;
    bool closing;
    void (*on_change)(void *user);
    void *user;
};

static struct slot *slot_at(const struct client_slots *slots, size_t endpoint, unsigned lane)
{
    nb_assert(endpoint < slots->endpoint_count);
    return &slots->slots[endpoint * slots->lanes + lane % slots->lanes];
}

/* ---- a connection ---- */

static void link_forget(struct link *link)
{
    if (link->slot != NULL) {
        nb_assert(link->slot->link == link);
        link->slot->link = NULL;
        link->slot = NULL;
    }
}

static void link_fail(struct link *link)
{
    link_forget(link);
    net_conn_close(link->conn);
}

static void on_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    (void)conn;
    struct link *link = user;
    if (rpc_client_feed(link->rpc, bytes, net_loop_now_ns(link->slots->loop)) != NB_OK) {
        link_fail(link);
    }
}

static void on_flush(struct net_conn *conn, void *user)
{
    struct link *link = user;
    if (rpc_client_output(link->rpc, net_conn_output(conn), OUTPUT_TURN_BYTES)) {
        net_conn_want_flush(conn);
    }
    if (rpc_client_is_done(link->rpc)) {
        link_fail(link);
    }
}

static void on_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    (void)reason;
    struct link *link = user;
    struct client_slots *slots = link->slots;
    link_forget(link);
    if (link->previous != NULL) {
        link->previous->next = link->next;
    } else {
        slots->links = link->next;
    }
    if (link->next != NULL) {
        link->next->previous = link->previous;
    }
    rpc_client_destroy(link->rpc); /* tells the calls that were running */
    nb_free(link);
    if (!slots->closing) {
        slots->on_change(slots->user);
    }
}

static const struct net_conn_events conn_events = {
    .on_data = on_data, .on_flush = on_flush, .on_close = on_close};

static void on_rpc_output(struct rpc_client *rpc, void *user)
{
    (void)rpc;
    struct link *link = user;
    net_conn_want_flush(link->conn);
}

static void on_rpc_goaway(struct rpc_client *rpc, void *user)
{
    (void)rpc;
    link_forget(user);
}

/* ---- dialing ---- */

static void link_open(struct slot *slot, struct net_conn *conn)
{
    struct client_slots *slots = slot->slots;
    struct link *link = nb_alloc_zero(1, sizeof *link);
    link->slots = slots;
    link->slot = slot;
    link->conn = conn;
    link->next = slots->links;
    if (slots->links != NULL) {
        slots->links->previous = link;
    }
    slots->links = link;
    slot->link = link;
    struct rpc_client_config config = {
        .authority = slots->endpoints[slot->endpoint].authority,
        .keepalive_interval_ns = keepalive_ns,
        .keepalive_timeout_ns = keepalive_timeout_ns,
        .on_output = on_rpc_output,
        .on_goaway = on_rpc_goaway,
        .user = link,
    };
    struct net_conn_options options = {.read_while_full = true};
    net_conn_start(conn, &conn_events, link, &options);
    link->rpc = rpc_client_create(&config, net_now_ns());
    net_conn_want_flush(conn);
}

static void on_connected(void *user, struct net_conn *conn, enum nb_status status,
                         const char *error)
{
    struct slot *slot = user;
    slot->connect = NULL;
    if (conn != NULL) {
        slot->error[0] = '\0';
        slot->backoff_ns = 0;
        link_open(slot, conn);
    } else {
        (void)snprintf(slot->error, sizeof slot->error, "%s",
                       error != NULL && error[0] != '\0' ? error : nb_status_text(status));
        slot->backoff_ns = slot->backoff_ns == 0 ? backoff_first_ns : slot->backoff_ns * 2;
        slot->backoff_ns = slot->backoff_ns > backoff_max_ns ? backoff_max_ns : slot->backoff_ns;
        slot->dial_after_ns = net_now_ns() + slot->backoff_ns;
    }
    slot->slots->on_change(slot->slots->user);
}

void client_slots_dial(struct client_slots *slots, size_t endpoint, unsigned lane)
{
    struct slot *slot = slot_at(slots, endpoint, lane);
    if (slot->link != NULL || slot->connect != NULL || net_now_ns() < slot->dial_after_ns) {
        return;
    }
    slot->connect = net_connect_start(slots->loop, &slots->endpoints[endpoint].address,
                                      slots->dial_timeout_ns, on_connected, slot);
}

struct rpc_client *client_slots_ready(struct client_slots *slots, size_t endpoint, unsigned lane)
{
    const struct slot *slot = slot_at(slots, endpoint, lane);
    if (slot->link == NULL || !rpc_client_can_start(slot->link->rpc)) {
        return NULL;
    }
    return slot->link->rpc;
}

const char *client_slots_error(const struct client_slots *slots, size_t endpoint, unsigned lane)
{
    const struct slot *slot = slot_at(slots, endpoint, lane);
    return slot->error[0] != '\0' ? slot->error : NULL;
}

size_t client_slots_endpoint_count(const struct client_slots *slots)
{
    return slots->endpoint_count;
}

const char *client_slots_name(const struct client_slots *slots, size_t endpoint)
{
    nb_assert(endpoint < slots->endpoint_count);
    return slots->endpoints[endpoint].name;
}

void client_slots_tick(struct client_slots *slots)
{
    uint64_t now_ns = net_now_ns();
    for (struct link *link = slots->links, *next; link != NULL; link = next) {
        next = link->next; /* a tick closes later in the loop, so `next` stays */
        if (rpc_client_tick(link->rpc, now_ns) != NB_OK) {
            link_fail(link);
        }
    }
}

/* ---- all of them ---- */

static enum nb_status endpoint_parse(const char *text, struct endpoint *out,
                                     struct net_error *error)
{
    if (!net_address_parse(text, CLIENT_PORT_DEFAULT, &out->address, error)) {
        return NB_INVALID;
    }
    if (out->address.scheme == NET_SCHEME_HTTPS || out->address.scheme == NET_SCHEME_UNIXS) {
        (void)snprintf(error->text, sizeof error->text,
                       "\"%s\": TLS is not supported by this client yet; use http://", text);
        return NB_INVALID;
    }
    if (out->address.scheme == NET_SCHEME_UNIX) {
        (void)snprintf(out->authority, sizeof out->authority, "localhost");
    } else {
        net_address_format(&out->address, out->authority, sizeof out->authority);
    }
    out->name = nb_strdup(text);
    return NB_OK;
}

enum nb_status client_slots_create(struct net_loop *loop, const struct client_slots_config *config,
                                   struct client_slots **out, struct net_error *error)
{
    nb_assert(config->endpoint_count > 0 && config->lanes > 0);
    struct client_slots *slots = nb_alloc_zero(1, sizeof *slots);
    slots->loop = loop;
    slots->lanes = config->lanes;
    slots->dial_timeout_ns = config->dial_timeout_ns;
    slots->on_change = config->on_change;
    slots->user = config->user;
    slots->endpoints = nb_alloc_zero(config->endpoint_count, sizeof *slots->endpoints);
    for (size_t i = 0; i < config->endpoint_count; i++) {
        enum nb_status status = endpoint_parse(config->endpoints[i], &slots->endpoints[i], error);
        if (status != NB_OK) {
            client_slots_destroy(slots);
            return status;
        }
        slots->endpoint_count++;
    }
    slots->slots = nb_alloc_zero(slots->endpoint_count * slots->lanes, sizeof *slots->slots);
    for (size_t i = 0; i < slots->endpoint_count * slots->lanes; i++) {
        slots->slots[i] = (struct slot){.slots = slots, .endpoint = i / slots->lanes};
    }
    *out = slots;
    return NB_OK;
}

void client_slots_destroy(struct client_slots *slots)
{
    slots->closing = true;
    if (slots->slots != NULL) {
        for (size_t i = 0; i < slots->endpoint_count * slots->lanes; i++) {
            if (slots->slots[i].connect != NULL) {
                net_connect_cancel(slots->slots[i].connect);
            }
        }
    }
    for (struct link *link = slots->links; link != NULL; link = link->next) {
        link_forget(link);
        net_conn_abort(link->conn);
    }
    while (slots->links != NULL) {
        (void)net_loop_run_once(slots->loop, true);
    }
    for (size_t i = 0; i < slots->endpoint_count; i++) {
        nb_free(slots->endpoints[i].name);
    }
    nb_free(slots->endpoints);
    nb_free(slots->slots);
    nb_free(slots);
}
