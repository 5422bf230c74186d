/* api: the ports, their connections, and the table of methods. */
#include "api/internal.h"

#include <malloc.h>

enum { LISTENER_COUNT_MAX = 32, OUTPUT_BYTES_A_FLUSH = 1 << 20, SCRATCH_KEPT_BYTES = 4 << 20 };

static const uint64_t tick_ns = 100 * 1000 * 1000;

struct api_conn {
    struct api *api;
    struct net_conn *net;
    struct rpc_conn *rpc;
    struct api_conn *next, **link; /* in api->conns */
    bool held;                     /* not read until the api serves */
    bool client;                   /* came on the client port */
};

#define UNARY(service, name, handler, number)                                                      \
    {                                                                                              \
        .path = "/" service "/" name, .kind = RPC_UNARY, .tag = number, .on_message = handler,     \
        .on_cancel = api_on_cancel                                                                 \
    }
#define STREAM(service, name, handler, number)                                                     \
    {                                                                                              \
        .path = "/" service "/" name, .kind = RPC_SERVER_STREAM, .tag = number,                    \
        .on_message = handler, .on_cancel = api_on_cancel                                          \
    }

/* clang-format off */
static const struct rpc_method methods[] = {
    UNARY("etcdserverpb.KV",          "Range",       api_range,        0),
    STREAM("etcdserverpb.KV",         "RangeStream", api_range_stream, 1),
    UNARY("etcdserverpb.KV",          "Put",         api_put,          2),
    UNARY("etcdserverpb.KV",          "DeleteRange", api_delete_range, 3),
    UNARY("etcdserverpb.KV",          "Txn",         api_txn,          4),
    UNARY("etcdserverpb.KV",          "Compact",     api_compact,      5),
    UNARY("etcdserverpb.Maintenance", "Status",      api_status,       6),
    UNARY("etcdserverpb.Maintenance", "Alarm",       api_alarm,        7),
    UNARY("etcdserverpb.Maintenance", "Hash",        api_hash,         8),
    UNARY("etcdserverpb.Maintenance", "HashKV",      api_hash_kv,      9),
    UNARY("etcdserverpb.Maintenance", "MoveLeader",  api_move_leader,  10),
    UNARY("etcdserverpb.Cluster",     "MemberList",  api_member_list,  11),
    UNARY("grpc.health.v1.Health",    "Check",       api_health_check, 12),
    UNARY("nabatapb.Inspect",         "Node",        api_node,         13),
    STREAM("nabatapb.Inspect",        "Log",         api_log,          14),
    STREAM("grpc.health.v1.Health",   "Watch",       api_health_watch, 15),
    UNARY("etcdserverpb.Cluster",     "MemberAdd",     api_member_add,     16),
    UNARY("etcdserverpb.Cluster",     "MemberRemove",  api_member_remove,  17),
    UNARY("etcdserverpb.Cluster",     "MemberUpdate",  api_member_update,  18),
    UNARY("etcdserverpb.Cluster",     "MemberPromote", api_member_promote, 19),
};
/* clang-format on */

struct api *api_of_conn(const struct rpc_conn *conn)
{
    const struct api_conn *c = rpc_conn_user(conn);
    return c->api;
}

bool api_conn_is_client(const struct rpc_conn *conn)
{
    const struct api_conn *c = rpc_conn_user(conn);
    return c->client;
}

/* ---- connections ---- */

static void on_output(struct rpc_conn *rpc, void *conn_user)
{
    (void)rpc;
    struct api_conn *c = conn_user;
    net_conn_want_flush(c->net);
}

static void on_data(struct net_conn *net, void *user, struct nb_bytes bytes)
{
    struct api_conn *c = user;
    c->api->metrics.received_bytes += bytes.len;
    if (rpc_conn_feed(c->rpc, bytes, net_loop_now_ns(c->api->config.loop)) != NB_OK) {
        net_conn_want_flush(net);
        net_conn_close(net);
    }
}

static void on_flush(struct net_conn *net, void *user)
{
    struct api_conn *c = user;
    struct nb_buf *out = net_conn_output(net);
    size_t before = out->len;
    bool more = rpc_conn_output(c->rpc, out, OUTPUT_BYTES_A_FLUSH);
    c->api->metrics.sent_bytes += out->len - before;
    if (more) {
        net_conn_want_flush(net);
    } else if (rpc_conn_is_done(c->rpc)) {
        net_conn_close(net);
    }
}

static void on_close(struct net_conn *net, void *user, enum nb_status reason)
{
    (void)net;
    (void)reason; /* clients come and go; what is wrong with one is its own log's matter */
    struct api_conn *c = user;
    c->api->conn_count--;
    *c->link = c->next;
    if (c->next != NULL) {
        c->next->link = c->link;
    }
    rpc_conn_destroy(c->rpc);
    nb_free(c);
}

static bool on_eof(struct net_conn *net, void *user)
{
    (void)net;
    struct api_conn *c = user;
    return rpc_conn_input_ended(c->rpc);
}

static const struct net_conn_events conn_events = {
    .on_data = on_data,
    .on_eof = on_eof,
    .on_flush = on_flush,
    .on_close = on_close,
};

static void accept_for(struct api *a, struct rpc_server *server, struct net_conn *net, bool hold)
{
    struct api_conn *c = nb_alloc_zero(1, sizeof *c);
    c->api = a;
    c->net = net;
    c->client = server == a->client_server;
    c->rpc = rpc_conn_create(server, net_loop_now_ns(a->config.loop), c);
    c->next = a->conns;
    c->link = &a->conns;
    if (c->next != NULL) {
        c->next->link = &c->next;
    }
    a->conns = c;
    a->conn_count++;
    if (a->conn_count > a->conn_count_peak) {
        a->conn_count_peak = a->conn_count;
    }
    net_conn_start(net, &conn_events, c, NULL);
    if (hold) {
        c->held = true;
        net_conn_pause_reading(net);
    }
    if (a->stopping) {
        rpc_conn_shutdown(c->rpc);
    }
}

static void on_client(void *user, struct net_conn *net)
{
    struct api *a = user;
    accept_for(a, a->client_server, net, !a->serving && !a->stopping);
}

static void on_metrics_client(void *user, struct net_conn *net)
{
    struct api *a = user;
    accept_for(a, a->metrics_server, net, false);
}

/* A crowd has gone: what malloc keeps of it between what is still in use goes back to the kernel.
 */
static void release_memory(struct api *a)
{
    enum { CROWD_CONN_COUNT = 256, KEPT_SIZE_BYTES = 2 << 20 };
    if (a->conn_count + CROWD_CONN_COUNT <= a->conn_count_peak) {
        rpc_server_drain(a->client_server);
        rpc_server_drain(a->metrics_server);
        (void)malloc_trim(KEPT_SIZE_BYTES);
        a->conn_count_peak = a->conn_count;
    }
}

static void on_tick(void *user)
{
    struct api *a = user;
    uint64_t now_ns = net_loop_now_ns(a->config.loop);
    for (struct api_conn *c = a->conns, *next; c != NULL; c = next) {
        next = c->next;
        if (!c->held && rpc_conn_tick(c->rpc, now_ns) != NB_OK) {
            net_conn_want_flush(c->net);
            net_conn_close(c->net);
        }
    }
    release_memory(a);
}

/* ---- life ---- */

static void on_call_start(void *user, const struct rpc_method *method)
{
    struct api *a = user;
    api_metrics_start(&a->metrics, method);
}

/* In a bad second all calls are slow: one line says how many. */
static void note_slow_call(struct api *a, const struct rpc_method *method, enum rpc_status status,
                           uint64_t took_ns)
{
    static const uint64_t second = 1000 * 1000 * 1000;
    uint64_t now_ns = net_loop_now_ns(a->config.loop);
    if (a->slow_logged_ns != 0 && now_ns - a->slow_logged_ns < second) {
        a->slow_count++;
        return;
    }
    nb_log(a->config.log, NB_LOG_WARN, "api.slow_request", "request stats",
           NB_KV_STR("response-type", method->path), NB_KV_STR("status", rpc_status_name(status)),
           NB_KV_U64("took-ms", took_ns / 1000000),
           NB_KV_U64("expected-ms", a->config.slow_request_ns / 1000000),
           NB_KV_U64("others", a->slow_count), NB_KV_END);
    a->slow_logged_ns = now_ns;
    a->slow_count = 0;
}

static void on_call_end(void *user, const struct rpc_method *method, enum rpc_status status,
                        uint64_t begun_ns)
{
    struct api *a = user;
    api_metrics_end(&a->metrics, method, status, begun_ns);
    uint64_t took_ns = net_loop_now_ns(a->config.loop) - begun_ns;
    if (a->config.slow_request_ns != 0 && took_ns > a->config.slow_request_ns && method != NULL &&
        method->kind == RPC_UNARY) {
        note_slow_call(a, method, status, took_ns);
    }
}

static void on_call_message(void *user, const struct rpc_method *method, bool sent)
{
    struct api *a = user;
    api_metrics_message(&a->metrics, method, sent);
}

static void on_wake(void *user)
{
    (void)user; /* the turn hook does the work */
}

struct api *api_create(const struct api_config *config)
{
    enum { MESSAGE_OVERHEAD_BYTES = 512 * 1024 };
    struct api *a = nb_alloc_zero(1, sizeof *a);
    a->config = *config;
    api_metrics_init(&a->metrics, methods, NB_ARRAY_LEN(methods), config->metrics_extensive);
    struct rpc_server_config server = {
        .methods = methods,
        .method_count = NB_ARRAY_LEN(methods),
        .limits =
            {
                .message_bytes_max = config->request_bytes_max + MESSAGE_OVERHEAD_BYTES,
                .streams_max = config->streams_max,
                .keepalive_min_ns = config->keepalive_min_ns,
                .keepalive_interval_ns = config->keepalive_interval_ns,
                .keepalive_timeout_ns = config->keepalive_timeout_ns,
            },
        .on_http = api_on_http,
        .on_http_cancel = api_on_http_cancel,
        .on_output = on_output,
        .on_call_start = on_call_start,
        .on_call_end = on_call_end,
        .on_call_message = on_call_message,
        .user = a,
    };
    a->client_server = rpc_server_create(&server);
    server.methods = NULL;
    server.method_count = 0;
    a->metrics_server = rpc_server_create(&server);
    a->wake = net_wake_create(config->loop, on_wake, a);
    a->tick = net_timer_create(config->loop, on_tick, a);
    net_timer_start(a->tick, tick_ns, tick_ns);
    return a;
}

void api_destroy(struct api *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < a->listener_count; i++) {
        net_listener_close(a->listeners[i]);
    }
    api_jobs_drop(a);
    api_cluster_drop(a);
    for (struct api_conn *c = a->conns; c != NULL; c = c->next) {
        net_conn_abort(c->net);
    }
    while (a->conns != NULL) {
        (void)net_loop_run_once(a->config.loop, false); /* their on_close */
    }
    net_timer_destroy(a->tick);
    net_wake_destroy(a->wake);
    rpc_server_destroy(a->client_server);
    rpc_server_destroy(a->metrics_server);
    while (a->free != NULL) {
        struct api_pending *p = a->free;
        a->free = p->next;
        nb_buf_deinit(&p->message);
        nb_free(p);
    }
    nb_buf_deinit(&a->scratch);
    nb_arena_deinit(&a->arena);
    nb_free(a->unready);
    nb_free(a);
}

enum nb_status api_listen(struct api *a, enum api_port port, const struct net_address *at,
                          struct net_error *error)
{
    nb_assert(a->listener_count < LISTENER_COUNT_MAX);
    nb_assert(a->config.replica != NULL || port == API_PORT_METRICS);
    struct net_listen_options options = {
        .reuse_port = a->config.reuse_port,
        .descriptor_reserve = port == API_PORT_CLIENT ? NET_RESERVE_CLIENTS : NET_RESERVE_PROBES};
    struct net_listener *listener;
    enum nb_status status = net_listener_open(
        a->config.loop, at, &options, port == API_PORT_CLIENT ? on_client : on_metrics_client, a,
        &listener, error);
    if (status == NB_OK) {
        a->listeners[a->listener_count++] = listener;
    }
    return status;
}

void api_wake(struct api *a)
{
    net_wake_send(a->wake);
}

void api_turn(struct api *a)
{
    if (a->scratch.capacity > SCRATCH_KEPT_BYTES) {
        nb_buf_deinit(&a->scratch); /* one large answer is no reason to keep its size for ever */
    }
    if (a->jobs != NULL) {
        api_jobs_step(a);
    }
    if (a->cluster_ops != NULL) {
        api_cluster_step(a);
    }
}

void api_shutdown(struct api *a)
{
    a->stopping = true;
    a->serving = false;
    for (size_t i = 0; i < a->listener_count; i++) {
        net_listener_close(a->listeners[i]);
    }
    a->listener_count = 0;
    for (struct api_conn *c = a->conns; c != NULL; c = c->next) {
        rpc_conn_shutdown(c->rpc);
        net_conn_want_flush(c->net);
    }
}

bool api_is_idle(const struct api *a)
{
    return a->pending_count == 0 && a->jobs == NULL && a->cluster_ops == NULL;
}

void api_set_serving(struct api *a, bool serving)
{
    a->serving = serving;
    for (struct api_conn *c = a->conns; serving && c != NULL; c = c->next) {
        if (c->held) {
            c->held = false;
            net_conn_resume_reading(c->net);
        }
    }
}

void api_set_unready(struct api *a, const char *words)
{
    nb_free(a->unready);
    a->unready = words == NULL ? NULL : nb_strdup(words);
}

void api_set_extra_metrics(struct api *a, void (*append)(void *user, struct nb_buf *out),
                           void *user)
{
    a->extra_metrics = append;
    a->extra_user = user;
}
