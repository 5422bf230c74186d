/*
 * tests/support/peer_testing: what the tests of peer/ share: nodes that note what happens to them,
 * and a stranger who speaks raw bytes. Everything runs in one loop, over loopback, driven by
 * events.
 */
#ifndef NABATA_TESTS_SUPPORT_PEER_TESTING_H
#define NABATA_TESTS_SUPPORT_PEER_TESTING_H

#include "base/checksum.h"
#include "peer/internal.h"
#include "tests/support/unit.h"

#include <sys/mman.h>
#include <unistd.h>

enum { NODES_MAX = 4, DEADLINE_S = 30, CLUSTER = 0xc1 };

static const uint64_t test_ms = 1000000;

struct node {
    struct peer_transport *t;
    struct peer_config config;
    uint16_t port;
    /* What happened. */
    unsigned up, down[PEER_DOWN_REASON_COUNT], refused, unreachable, round_trips, messages;
    enum peer_refusal_code refusal;
    struct peer_hello hello; /* of the last on_up */
    struct peer_hello heard; /* the last that dialled us */
    uint64_t last_context;   /* of the last READ */
    uint64_t last_index;     /* of the last entry */
    bool in_order;
    size_t payload_bytes;
    uint8_t payload_byte; /* that all payload bytes have; in_order turns false else */
    unsigned begun, ended, aborted;
    uint64_t transfer, snapshot_bytes;
    uint32_t snapshot_crc;
    char why[128];
    struct raft_snapshot label;
    /* What it does. */
    enum peer_refusal_code refuse_hello;
    bool refuse_snapshot, hold_answer;
    enum peer_take take;
    unsigned take_after; /* chunks before `take` */
    unsigned chunks;
    bool destroy_in_callback, remove_in_callback;
    uint64_t call; /* the last one asked */
    bool hold_reply;
};

struct world {
    struct net_loop *loop;
    struct node nodes[NODES_MAX]; /* node i is member i + 1 */
    uint64_t deadline_ns;
    uint64_t turns;
};

static inline void node_act(struct node *n)
{
    if (n->destroy_in_callback) {
        struct peer_transport *t = n->t;
        n->t = NULL;
        n->destroy_in_callback = false;
        peer_transport_destroy(t);
    } else if (n->remove_in_callback) {
        n->remove_in_callback = false;
        uint64_t ids[PEER_COUNT_MAX];
        size_t count = peer_transport_ids(n->t, ids);
        for (size_t i = 0; i < count; i++) {
            peer_transport_remove(n->t, ids[i]);
        }
    }
}

static inline void node_on_message(void *user, uint64_t from, const struct raft_msg *m)
{
    struct node *n = user;
    assert_int_equal(from, m->from);
    n->messages++;
    if (m->type == RAFT_MSG_READ) {
        n->in_order = n->in_order && m->read.context == n->last_context + 1;
        n->last_context = m->read.context;
    }
    if (m->type == RAFT_MSG_APPEND) {
        for (size_t i = 0; i < m->append.entry_count; i++) {
            const struct raft_entry *e = &m->append.entries[i];
            n->in_order = n->in_order && e->id.index == n->last_index + 1;
            n->last_index = e->id.index;
            struct nb_bytes bytes = nb_payload_bytes(e->payload);
            n->payload_bytes += bytes.len;
            for (size_t k = 0; k < bytes.len; k++) {
                n->in_order = n->in_order && bytes.data[k] == n->payload_byte;
            }
        }
    }
    node_act(n);
}

static inline void node_on_hello(void *user, const struct peer_hello *h, struct peer_refusal *out)
{
    struct node *n = user;
    n->heard = *h;
    out->code = n->refuse_hello;
}

static inline void node_on_up(void *user, uint64_t id, const struct peer_hello *h)
{
    struct node *n = user;
    (void)id;
    n->up++;
    n->hello = *h;
    node_act(n);
}

static inline void node_on_down(void *user, uint64_t id, enum peer_down_reason reason)
{
    struct node *n = user;
    (void)id;
    n->down[reason]++;
    node_act(n);
}

static inline void node_on_refused(void *user, uint64_t id, enum peer_refusal_code code,
                                   const char *text)
{
    struct node *n = user;
    (void)id;
    assert_true(text[0] != 0);
    n->refused++;
    n->refusal = code;
    node_act(n);
}

static inline void node_on_unreachable(void *user, uint64_t id)
{
    struct node *n = user;
    (void)id;
    n->unreachable++;
    node_act(n);
}

static inline void node_on_round_trip(void *user, uint64_t id, uint64_t ns)
{
    struct node *n = user;
    (void)id;
    (void)ns;
    n->round_trips++;
}

static inline void node_on_call(void *user, uint64_t from, uint64_t call, struct nb_bytes request)
{
    struct node *n = user;
    (void)from;
    n->call = call;
    if (!n->hold_reply) {
        peer_reply(n->t, call, NB_OK, request);
    }
    node_act(n);
}

static inline bool node_on_begin(void *user, uint64_t from, uint64_t transfer, uint64_t total)
{
    struct node *n = user;
    (void)from;
    (void)total;
    n->begun++;
    n->transfer = transfer;
    n->snapshot_bytes = 0;
    n->snapshot_crc = 0;
    return !n->refuse_snapshot;
}

static inline enum peer_take node_on_chunk(void *user, uint64_t from, uint64_t transfer,
                                           uint64_t offset, uint64_t total, struct nb_bytes bytes)
{
    struct node *n = user;
    (void)from;
    assert_int_equal(transfer, n->transfer);
    assert_int_equal(offset, n->snapshot_bytes);
    assert_true(offset + bytes.len <= total);
    n->snapshot_bytes += bytes.len;
    n->snapshot_crc = nb_crc32c(n->snapshot_crc, bytes.data, bytes.len);
    n->chunks++;
    enum peer_take take = n->chunks > n->take_after ? n->take : PEER_TAKE;
    node_act(n);
    return take;
}

static inline void node_on_end(void *user, uint64_t from, uint64_t transfer,
                               const uint8_t hash[PEER_HASH_SIZE], const struct raft_msg *announce)
{
    struct node *n = user;
    (void)from;
    (void)hash;
    n->ended++;
    n->label = *announce->snapshot;
    if (!n->hold_answer) {
        assert_true(peer_snapshot_answer(n->t, transfer, NB_OK));
    }
    node_act(n);
}

static inline void node_on_abort(void *user, uint64_t from, uint64_t transfer, const char *why)
{
    struct node *n = user;
    (void)from;
    (void)transfer;
    n->aborted++;
    (void)snprintf(n->why, sizeof n->why, "%s", why);
}

static const struct peer_events node_events = {
    .on_message = node_on_message,
    .on_hello = node_on_hello,
    .on_up = node_on_up,
    .on_down = node_on_down,
    .on_refused = node_on_refused,
    .on_unreachable = node_on_unreachable,
    .on_round_trip = node_on_round_trip,
    .on_call = node_on_call,
    .on_snapshot_begin = node_on_begin,
    .on_snapshot_chunk = node_on_chunk,
    .on_snapshot_end = node_on_end,
    .on_snapshot_abort = node_on_abort,
};

static inline void world_init(struct world *w)
{
    *w = (struct world){.loop = net_loop_create()};
    w->deadline_ns = net_now_ns() + (uint64_t)DEADLINE_S * 1000 * test_ms;
}

static inline void world_deinit(struct world *w)
{
    for (int i = 0; i < NODES_MAX; i++) {
        peer_transport_destroy(w->nodes[i].t);
    }
    net_loop_destroy(w->loop);
}

static inline void world_turn(struct world *w)
{
    (void)net_loop_run_once(w->loop, true);
    w->turns++;
    assert_true(net_now_ns() < w->deadline_ns);
}

#define RUN_UNTIL(w, fact)                                                                         \
    do {                                                                                           \
        while (!(fact)) {                                                                          \
            world_turn(w);                                                                         \
        }                                                                                          \
    } while (false)

/* A config of quick patience; node i is member i + 1 and boots for the first time. */
static inline struct node *node_prepare(struct world *w, int i)
{
    struct node *n = &w->nodes[i];
    *n = (struct node){.in_order = true};
    peer_config_defaults(&n->config);
    n->config.loop = w->loop;
    n->config.events = &node_events;
    n->config.user = n;
    n->config.cluster_id = CLUSTER;
    n->config.member_id = (uint64_t)i + 1;
    n->config.boot_id = 100 + (uint64_t)i;
    n->config.boot_count = 1;
    n->config.name = "node";
    n->config.version = "0.1.0";
    n->config.backoff_min_ns = 2 * test_ms;
    n->config.backoff_max_ns = 20 * test_ms;
    n->config.ping_interval_ns = 50 * test_ms;
    n->config.receive_timeout_ns = 1000 * test_ms;
    n->config.handshake_timeout_ns = 1000 * test_ms;
    n->config.unreachable_interval_ns = 10 * test_ms;
    return n;
}

static inline void node_start(struct node *n) /* at n->port, or at any that is free */
{
    assert_int_equal(peer_transport_create(&n->config, &n->t), NB_OK);
    struct net_address at = {.host = "127.0.0.1", .port = n->port};
    struct net_error error;
    assert_int_equal(peer_transport_listen(n->t, &at, &n->port, &error), NB_OK);
}

static inline struct node *node_add(struct world *w, int i)
{
    struct node *n = node_prepare(w, i);
    node_start(n);
    return n;
}

static inline void node_set_port(struct node *n, uint64_t id, const char *host, uint16_t port)
{
    char text[64];
    (void)snprintf(text, sizeof text, "http://%s:%u", host, (unsigned)port);
    const char *addresses[] = {text};
    struct net_error error;
    assert_int_equal(peer_transport_set(n->t, id, addresses, 1, &error), NB_OK);
}

static inline void node_dial(struct node *n, const struct node *to)
{
    node_set_port(n, to->config.member_id, "127.0.0.1", to->port);
}

static inline struct peer_status node_status(const struct node *n, uint64_t id)
{
    struct peer_status s = {0};
    (void)!peer_status_of(n->t, id, &s);
    return s;
}

static inline bool node_is_up(const struct node *n, uint64_t id)
{
    struct peer_status s = node_status(n, id);
    return s.control_up && s.log_up;
}

/* Two members, each dialling the other. */
static inline void world_pair(struct world *w)
{
    node_dial(node_add(w, 0), node_add(w, 1));
    node_dial(&w->nodes[1], &w->nodes[0]);
    RUN_UNTIL(w, node_is_up(&w->nodes[0], 2) && node_is_up(&w->nodes[1], 1));
}

static inline struct raft_msg read_msg(uint64_t from, uint64_t to, uint64_t context)
{
    return (struct raft_msg){
        .type = RAFT_MSG_READ, .from = from, .to = to, .term = 1, .read = {.context = context}};
}

/* ---- a stranger ---- */

struct stranger {
    struct net_conn *conn;
    struct net_listener *listener;
    bool connected, closed, deaf;
    enum nb_status reason;
    struct nb_buf got;
    struct nb_buf answer; /* written as soon as anything comes */
};

static inline void stranger_on_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    struct stranger *s = user;
    nb_buf_append_bytes(&s->got, bytes);
    if (s->answer.len != 0) {
        net_conn_write(conn, nb_buf_bytes(&s->answer));
        nb_buf_clear(&s->answer);
    }
    if (s->deaf) {
        net_conn_pause_reading(conn);
    }
}

static inline void stranger_on_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    struct stranger *s = user;
    if (s->conn == conn) {
        s->closed = true;
        s->conn = NULL;
        s->reason = reason;
    }
}

static const struct net_conn_events stranger_events = {.on_data = stranger_on_data,
                                                       .on_close = stranger_on_close};

static inline void stranger_on_done(void *user, struct net_conn *conn, enum nb_status status,
                                    const char *error)
{
    (void)error;
    struct stranger *s = user;
    assert_int_equal(status, NB_OK);
    s->conn = conn;
    s->connected = true;
    net_conn_start(conn, &stranger_events, s, NULL);
}

static inline void stranger_dial(struct world *w, struct stranger *s, uint16_t port)
{
    nb_buf_deinit(&s->got);
    nb_buf_deinit(&s->answer);
    *s = (struct stranger){0};
    struct net_address to = {.host = "127.0.0.1", .port = port};
    (void)!net_connect_start(w->loop, &to, 0, stranger_on_done, s);
    RUN_UNTIL(w, s->connected);
}

static inline void stranger_on_accept(void *user, struct net_conn *conn)
{
    struct stranger *s = user;
    if (s->conn != NULL) {
        net_conn_abort(conn);
        return;
    }
    s->conn = conn;
    s->connected = true;
    net_conn_start(conn, &stranger_events, s, NULL);
}

/* Listens as if it were a member; answers the first connection with `answer`. */
static inline uint16_t stranger_listen(struct world *w, struct stranger *s)
{
    struct net_address at = {.host = "127.0.0.1"};
    struct net_error error;
    assert_int_equal(
        net_listener_open(w->loop, &at, NULL, stranger_on_accept, s, &s->listener, &error), NB_OK);
    return net_listener_port(s->listener);
}

static inline void stranger_deinit(struct stranger *s)
{
    net_listener_close(s->listener);
    if (s->conn != NULL) {
        struct net_conn *conn = s->conn;
        s->conn = NULL;
        net_conn_abort(conn);
    }
    nb_buf_deinit(&s->got);
    nb_buf_deinit(&s->answer);
}

static inline struct peer_hello stranger_hello(const struct node *to, enum peer_channel channel)
{
    return (struct peer_hello){.channel = channel,
                               .protocol_version = PEER_PROTOCOL_VERSION,
                               .cluster_id = CLUSTER,
                               .from = 77,
                               .to = to->config.member_id,
                               .boot_id = 7700,
                               .boot_count = 1,
                               .name = "stranger",
                               .version = "0"};
}

static inline void put_hello(struct nb_buf *to, enum peer_frame_type type,
                             const struct peer_hello *h)
{
    size_t begin = peer_frame_begin(to);
    peer_hello_encode(h, to);
    peer_frame_end(to, begin, type);
}

static inline void put_frame(struct nb_buf *to, enum peer_frame_type type, struct nb_bytes payload)
{
    size_t begin = peer_frame_begin(to);
    nb_buf_append_bytes(to, payload);
    peer_frame_end(to, begin, type);
}

static inline void put_message(struct nb_buf *to, const struct raft_msg *m)
{
    size_t begin = peer_frame_begin(to);
    raft_msg_encode(m, to);
    peer_frame_end(to, begin, PEER_FRAME_MESSAGE);
}

static inline void stranger_say(struct stranger *s, const struct nb_buf *bytes)
{
    if (s->conn != NULL) {
        net_conn_write(s->conn, nb_buf_bytes(bytes));
    }
}

/* How many frames of `type` came. */
static inline unsigned stranger_count(const struct stranger *s, enum peer_frame_type type)
{
    struct peer_frame_reader r = {.payload_size_max = PEER_HELLO_SIZE_MAX};
    struct nb_bytes input = nb_buf_bytes(&s->got);
    struct peer_frame f;
    unsigned count = 0;
    while (peer_frame_next(&r, &input, &f) == NB_OK) {
        count += f.type == type;
    }
    peer_frame_reader_deinit(&r);
    return count;
}

/* The type of the first frame that came; 0 when none is whole yet. */
static inline unsigned stranger_heard(const struct stranger *s)
{
    struct peer_frame_reader r = {.payload_size_max = PEER_HELLO_SIZE_MAX};
    struct nb_bytes input = nb_buf_bytes(&s->got);
    struct peer_frame f;
    unsigned type = peer_frame_next(&r, &input, &f) == NB_OK ? f.type : 0;
    peer_frame_reader_deinit(&r);
    return type;
}

#endif
