/* rpc/ and net/ joined as the server and the clients join them, over loopback. */
#include "net/net.h"
#include "rpc/rpc.h"
#include "tests/support/unit.h"

enum { OUTPUT_STEP = 256 << 10 };

struct side {
    struct net_conn *nc;
    struct rpc_conn *conn;     /* the server's */
    struct rpc_client *client; /* the client's */
};

struct world {
    struct net_loop *loop;
    struct net_timer *limit;
    struct net_listener *listener;
    struct rpc_server *server;
    struct side near, far; /* client, server */
    size_t done, failed, bytes;
};

/* ---- the server ---- */

static void echo(struct rpc_call *call, struct nb_bytes message)
{
    rpc_call_send(call, message, (struct nb_bytes){0});
    if (rpc_call_method(call)->kind == RPC_UNARY) {
        rpc_call_finish(call, RPC_OK, NULL);
    }
}

static void hang_up(struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, NULL);
}

static const struct rpc_method methods[] = {
    {.path = "/t.S/Echo", .kind = RPC_UNARY, .on_message = echo},
    {.path = "/t.S/Chat", .kind = RPC_BIDI, .on_message = echo, .on_half_close = hang_up},
};

static void conn_has_output(struct rpc_conn *conn, void *user)
{
    (void)conn;
    net_conn_want_flush(((struct side *)user)->nc);
}

static void server_data(struct net_conn *nc, void *user, struct nb_bytes bytes)
{
    struct side *s = user;
    if (rpc_conn_feed(s->conn, bytes, net_now_ns()) != NB_OK) {
        net_conn_close(nc);
    }
}

static void server_flush(struct net_conn *nc, void *user)
{
    struct side *s = user;
    if (rpc_conn_output(s->conn, net_conn_output(nc), OUTPUT_STEP)) {
        net_conn_want_flush(nc);
    }
    if (rpc_conn_is_done(s->conn)) {
        net_conn_close(nc);
    }
}

static void server_close(struct net_conn *nc, void *user, enum nb_status reason)
{
    (void)nc;
    (void)reason;
    struct side *s = user;
    rpc_conn_destroy(s->conn);
    *s = (struct side){0};
}

static const struct net_conn_events server_events = {
    .on_data = server_data, .on_flush = server_flush, .on_close = server_close};

static void on_accept(void *user, struct net_conn *nc)
{
    struct world *w = user;
    w->far.nc = nc;
    w->far.conn = rpc_conn_create(w->server, net_now_ns(), &w->far);
    net_conn_start(nc, &server_events, &w->far, NULL);
}

/* ---- the client ---- */

static void client_has_output(struct rpc_client *client, void *user)
{
    (void)client;
    net_conn_want_flush(((struct side *)user)->nc);
}

static void client_data(struct net_conn *nc, void *user, struct nb_bytes bytes)
{
    struct side *s = user;
    if (rpc_client_feed(s->client, bytes, net_now_ns()) != NB_OK) {
        net_conn_close(nc);
    }
}

static void client_flush(struct net_conn *nc, void *user)
{
    struct side *s = user;
    if (rpc_client_output(s->client, net_conn_output(nc), OUTPUT_STEP)) {
        net_conn_want_flush(nc);
    }
    if (rpc_client_is_done(s->client)) {
        net_conn_close(nc);
    }
}

static void client_close(struct net_conn *nc, void *user, enum nb_status reason)
{
    (void)nc;
    (void)reason;
    struct side *s = user;
    rpc_client_destroy(s->client);
    *s = (struct side){0};
}

static const struct net_conn_events client_events = {
    .on_data = client_data, .on_flush = client_flush, .on_close = client_close};

static void on_connect(void *user, struct net_conn *nc, enum nb_status status, const char *error)
{
    (void)error;
    struct world *w = user;
    assert_int_equal(status, NB_OK);
    struct rpc_client_config config = {
        .authority = "localhost", .on_output = client_has_output, .user = &w->near};
    struct net_conn_options options = {.read_while_full = true};
    w->near.nc = nc;
    net_conn_start(nc, &client_events, &w->near, &options);
    w->near.client = rpc_client_create(&config, net_now_ns());
}

static void on_message(struct rpc_client_call *call, void *user, struct nb_bytes message)
{
    (void)call;
    ((struct world *)user)->bytes += message.len;
}

static void on_done(struct rpc_client_call *call, void *user, enum rpc_status status,
                    struct nb_bytes message)
{
    (void)call;
    (void)message;
    struct world *w = user;
    w->done++;
    w->failed += status != RPC_OK;
}

static const struct rpc_client_events call_events = {on_message, on_done};

static void too_long(void *user)
{
    (void)user;
    fail_msg("nothing happened for 60 s");
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->loop = net_loop_create();
    w->limit = net_timer_create(w->loop, too_long, NULL);
    net_timer_start(w->limit, UINT64_C(60000000000), 0);
    struct rpc_server_config config = {
        .methods = methods, .method_count = NB_ARRAY_LEN(methods), .on_output = conn_has_output};
    w->server = rpc_server_create(&config);
    struct net_address at;
    assert_true(net_address_parse("127.0.0.1:0", 0, &at, NULL));
    assert_int_equal(net_listener_open(w->loop, &at, NULL, on_accept, w, &w->listener, NULL),
                     NB_OK);
    at.port = net_listener_port(w->listener);
    (void)!net_connect_start(w->loop, &at, 0, on_connect, w);
    while (w->near.nc == NULL || w->far.nc == NULL) {
        (void)net_loop_run_once(w->loop, true);
    }
}

static void close_world(struct world *w)
{
    net_timer_destroy(w->limit);
    net_loop_destroy(w->loop);
    rpc_server_destroy(w->server);
}

static void many_calls_at_once_are_all_answered(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct rpc_client_request r = {.path = "/t.S/Echo", .events = &call_events, .user = &w};
    const size_t count = unit_scaled(20000);
    for (size_t i = 0; i < count; i++) {
        assert_non_null(rpc_client_unary(w.near.client, &r, nb_bytes_str("0123456789")));
        if (i % 1000 == 0) {
            (void)net_loop_run_once(w.loop, false);
        }
    }
    while (w.done < count) {
        (void)net_loop_run_once(w.loop, true);
    }
    /* The server refuses what is above its limit of running calls; echoes never run that long. */
    assert_int_equal(w.failed, 0);
    assert_int_equal(w.bytes, count * 10);
    close_world(&w);
}

/* Both ends have more to say than all buffers and windows hold, and neither waits for ever. */
static void N08_floods_in_both_directions_do_not_block_each_other(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct rpc_client_request r = {.path = "/t.S/Chat", .events = &call_events, .user = &w};
    enum { STREAMS = 8, MESSAGES = 10, SIZE = 1000000 };
    uint8_t *data = nb_alloc_zero(1, SIZE);
    for (size_t i = 0; i < STREAMS; i++) {
        struct rpc_client_call *call = rpc_client_start(w.near.client, &r);
        for (size_t k = 0; k < MESSAGES; k++) {
            rpc_client_send(call, nb_bytes_of(data, SIZE));
        }
        rpc_client_half_close(call);
    }
    while (w.done < STREAMS) {
        (void)net_loop_run_once(w.loop, true);
    }
    assert_int_equal(w.failed, 0);
    assert_int_equal(w.bytes, (size_t)STREAMS * MESSAGES * SIZE);
    nb_free(data);
    close_world(&w);
}

static void a_server_that_shuts_down_lets_the_client_go(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct rpc_client_request r = {.path = "/t.S/Echo", .events = &call_events, .user = &w};
    (void)!rpc_client_unary(w.near.client, &r, nb_bytes_str("x"));
    while (w.done == 0) {
        (void)net_loop_run_once(w.loop, true);
    }
    rpc_conn_shutdown(w.far.conn);
    while (w.near.nc != NULL || w.far.nc != NULL) {
        (void)net_loop_run_once(w.loop, true);
    }
    assert_int_equal(net_loop_conn_count(w.loop), 0);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_calls_at_once_are_all_answered),
        cmocka_unit_test(N08_floods_in_both_directions_do_not_block_each_other),
        cmocka_unit_test(a_server_that_shuts_down_lets_the_client_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
