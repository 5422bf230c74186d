/*
 * Who lives at an address: one hello there and back.
 */
#include "peer/internal.h"

/* Takes it out of the transport and lets go of what it holds. */
static void release(struct peer_probe *p)
{
    struct peer_probe **at = &p->transport->probes;
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    if (p->connect != NULL) {
        net_connect_cancel(p->connect);
    }
    if (p->conn != NULL) {
        p->conn->probe = NULL;
        if (p->conn->state != PEER_CONN_ENDED) {
            peer_conn_abort(p->conn);
        }
    }
    net_timer_destroy(p->timer);
}

static void finish(struct peer_probe *p, enum nb_status status, const struct peer_hello *answer,
                   const char *error)
{
    release(p);
    p->done(p->user, status, answer, error);
    nb_free(p);
}

void peer_probe_destroy(struct peer_probe *p)
{
    release(p);
    nb_free(p);
}

static void on_connected(void *user, struct net_conn *net, enum nb_status status, const char *error)
{
    struct peer_probe *p = user;
    struct peer_transport *t = p->transport;
    peer_enter(t);
    p->connect = NULL;
    if (net == NULL) {
        finish(p, status, NULL, error);
        peer_leave(t);
        return;
    }
    p->conn = peer_conn_create(t, net, false, PEER_CHANNEL_PROBE);
    p->conn->probe = p;
    struct peer_hello hello = peer_own_hello(t, PEER_CHANNEL_PROBE, 0);
    struct nb_buf *output = net_conn_output(net);
    size_t begin = peer_frame_begin(output);
    peer_hello_encode(&hello, output);
    peer_frame_end(output, begin, PEER_FRAME_HELLO);
    peer_leave(t);
}

static void on_timer(void *user)
{
    struct peer_probe *p = user;
    struct peer_transport *t = p->transport;
    peer_enter(t);
    finish(p, NB_BUSY, NULL, "no answer in time");
    peer_leave(t);
}

void peer_probe(struct peer_transport *t, const char *address, uint64_t timeout_ns,
                void (*done)(void *user, enum nb_status status, const struct peer_hello *answer,
                             const char *error),
                void *user)
{
    struct peer_probe *p = nb_alloc_zero(1, sizeof *p);
    p->transport = t;
    p->done = done;
    p->user = user;
    p->next = t->probes;
    t->probes = p;
    p->timer = net_timer_create(t->config.loop, on_timer, p);
    struct net_address to;
    struct net_error error;
    p->status = peer_parse_address(address, &to, &error);
    if (p->status != NB_OK) {
        (void)snprintf(p->error, sizeof p->error, "%s", error.text);
        peer_defer(t, 0);
        return;
    }
    net_timer_start(p->timer, timeout_ns, 0);
    p->connect =
        net_connect_start(t->config.loop, &to, t->config.connect_timeout_ns, on_connected, p);
}

void peer_probe_finish_due(struct peer_transport *t)
{
    struct peer_probe *p = t->probes;
    while (p != NULL) {
        struct peer_probe *next = p->next;
        if (p->status != NB_OK) {
            finish(p, p->status, NULL, p->error);
            next = t->probes; /* `done` may have changed the list */
        }
        p = next;
    }
}

void peer_probe_on_welcome(struct peer_probe *p, const struct peer_hello *hello)
{
    finish(p, NB_OK, hello, "");
}

void peer_probe_on_refused(struct peer_probe *p, const struct peer_refusal *refusal)
{
    finish(p, NB_ACCESS, NULL, refusal->text);
}

void peer_probe_lost(struct peer_probe *p, const char *why)
{
    bool spoke = p->conn != NULL && p->conn->heard;
    finish(p, spoke ? NB_MALFORMED : NB_CLOSED, NULL, why);
}
