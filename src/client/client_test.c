/* The client against servers of ours in the same loop. */
#include "client/client.h"

#include "tests/support/unit.h"

#include <string.h>

enum { SERVERS = 2 };

/* What a server does with the next calls. */
enum act { ACT_ANSWER, ACT_UNAVAILABLE, ACT_LEARNER, ACT_IGNORE, ACT_CLOSE, ACT_CANCEL_LATE };

struct node {
    struct net_listener *listener;
    struct rpc_server *server;
    enum act act;
    unsigned calls;
    char endpoint[32];
};

struct peer {
    struct node *node;
    struct net_conn *conn;
    struct rpc_conn *rpc;
};

static struct net_loop *loop;
static struct node nodes[SERVERS];

static void on_call(struct rpc_call *call, struct nb_bytes message)
{
    struct peer *peer = rpc_conn_user(rpc_call_conn(call));
    peer->node->calls++;
    switch (peer->node->act) {
    case ACT_ANSWER:
        rpc_call_reply(call, message, nb_bytes_str("!"));
        break;
    case ACT_UNAVAILABLE:
        rpc_call_finish(call, RPC_UNAVAILABLE, "etcdserver: no leader");
        break;
    case ACT_LEARNER:
        rpc_call_finish(call, RPC_FAILED_PRECONDITION, "etcdserver: rpc not supported for learner");
        break;
    case ACT_IGNORE:
        break;
    case ACT_CANCEL_LATE: /* at the client's deadline, as a server that keeps it too */
        while (net_now_ns() < rpc_call_deadline_ns(call)) {
        }
        rpc_call_finish(call, RPC_CANCELED, "reset");
        break;
    case ACT_CLOSE:
        net_conn_close(peer->conn);
        break;
    }
}

static const struct rpc_method methods[] = {
    {.path = "/test/Echo", .kind = RPC_UNARY, .on_message = on_call}};

static void on_output(struct rpc_conn *rpc, void *user)
{
    (void)rpc;
    struct peer *peer = user;
    net_conn_want_flush(peer->conn);
}

static void on_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    struct peer *peer = user;
    if (rpc_conn_feed(peer->rpc, bytes, net_now_ns()) != NB_OK) {
        net_conn_close(conn);
    }
}

static void on_flush(struct net_conn *conn, void *user)
{
    struct peer *peer = user;
    if (rpc_conn_output(peer->rpc, net_conn_output(conn), 1 << 20)) {
        net_conn_want_flush(conn);
    }
}

static void on_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    (void)reason;
    struct peer *peer = user;
    rpc_conn_destroy(peer->rpc);
    nb_free(peer);
}

static const struct net_conn_events events = {
    .on_data = on_data, .on_flush = on_flush, .on_close = on_close};

static void on_accept(void *user, struct net_conn *conn)
{
    struct peer *peer = nb_alloc_zero(1, sizeof *peer);
    peer->node = user;
    peer->conn = conn;
    peer->rpc = rpc_conn_create(peer->node->server, net_now_ns(), peer);
    net_conn_start(conn, &events, peer, NULL);
}

static int set_up(void **state)
{
    (void)state;
    struct net_address any;
    struct net_error error;
    loop = net_loop_create();
    assert_true(net_address_parse("127.0.0.1:0", 0, &any, &error));
    for (size_t i = 0; i < SERVERS; i++) {
        struct rpc_server_config config = {
            .methods = methods, .method_count = 1, .on_output = on_output};
        nodes[i] = (struct node){.server = rpc_server_create(&config)};
        assert_int_equal(
            net_listener_open(loop, &any, NULL, on_accept, &nodes[i], &nodes[i].listener, &error),
            NB_OK);
        (void)snprintf(nodes[i].endpoint, sizeof nodes[i].endpoint, "127.0.0.1:%u",
                       (unsigned)net_listener_port(nodes[i].listener));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < SERVERS; i++) {
        net_listener_close(nodes[i].listener);
    }
    net_loop_destroy(loop);
    for (size_t i = 0; i < SERVERS; i++) {
        rpc_server_destroy(nodes[i].server);
    }
    return 0;
}

static struct client *client_of(const char *first, const char *second)
{
    const char *endpoints[] = {first, second};
    struct client *client;
    struct net_error error;
    struct client_config config = {.endpoints = endpoints,
                                   .endpoint_count = second != NULL ? 2 : 1,
                                   .dial_timeout_ns = 300000000,
                                   .call_timeout_ns = 2000000000};
    assert_int_equal(client_create(loop, &config, &client, &error), NB_OK);
    return client;
}

/* An address at which nobody listens. */
static const char *closed_endpoint(void)
{
    net_listener_close(nodes[1].listener);
    nodes[1].listener = NULL;
    return nodes[1].endpoint;
}

static struct client_answer call(struct client *client, unsigned flags, uint64_t timeout_ns)
{
    struct client_answer answer;
    struct client_request request = {.path = "/test/Echo",
                                     .message = nb_bytes_str("hello"),
                                     .flags = flags,
                                     .endpoint = CLIENT_ANY,
                                     .timeout_ns = timeout_ns};
    client_call_sync(client, &request, &answer);
    return answer;
}

static void a_call_is_answered(void **state)
{
    (void)state;
    struct client *client = client_of(nodes[0].endpoint, NULL);
    struct client_answer answer = call(client, 0, 0);
    assert_int_equal(answer.status, RPC_OK);
    assert_true(nb_bytes_equal(nb_buf_bytes(&answer.message), nb_bytes_str("hello!")));
    assert_int_equal(answer.endpoint, 0);
    client_answer_deinit(&answer);
    client_destroy(client);
}

static void calls_take_turns_among_endpoints(void **state)
{
    (void)state;
    struct client *client = client_of(nodes[0].endpoint, nodes[1].endpoint);
    for (unsigned i = 0; i < 1000 && (nodes[0].calls == 0 || nodes[1].calls == 0); i++) {
        struct client_answer answer = call(client, 0, 0); /* until both are connected */
        client_answer_deinit(&answer);
    }
    nodes[0].calls = nodes[1].calls = 0;
    for (unsigned i = 0; i < 20; i++) {
        struct client_answer answer = call(client, 0, 0);
        assert_int_equal(answer.status, RPC_OK);
        client_answer_deinit(&answer);
    }
    assert_int_equal(nodes[0].calls, 10);
    assert_int_equal(nodes[1].calls, 10);
    client_destroy(client);
}

static void a_read_is_sent_again_when_unavailable(void **state)
{
    (void)state;
    nodes[0].act = ACT_UNAVAILABLE;
    struct client *client = client_of(nodes[0].endpoint, nodes[1].endpoint);
    for (unsigned i = 0; i < 4; i++) {
        struct client_answer answer = call(client, CLIENT_READ, 0);
        assert_int_equal(answer.status, RPC_OK);
        assert_int_equal(answer.endpoint, 1);
        client_answer_deinit(&answer);
    }
    assert_true(nodes[0].calls > 0);
    client_destroy(client);
}

static void a_write_is_never_sent_again(void **state)
{
    (void)state;
    const enum act acts[] = {ACT_UNAVAILABLE, ACT_CLOSE};
    for (size_t i = 0; i < NB_ARRAY_LEN(acts); i++) {
        nodes[0].act = acts[i];
        nodes[0].calls = 0;
        struct client *client = client_of(nodes[0].endpoint, NULL);
        struct client_answer answer = call(client, 0, 0);
        assert_int_equal(answer.status, RPC_UNAVAILABLE);
        assert_true(answer.sent);
        assert_int_equal(nodes[0].calls, 1);
        client_answer_deinit(&answer);
        client_destroy(client);
    }
}

static void what_a_learner_refuses_goes_elsewhere(void **state)
{
    (void)state;
    nodes[0].act = ACT_LEARNER;
    struct client *client = client_of(nodes[0].endpoint, nodes[1].endpoint);
    for (unsigned i = 0; i < 4; i++) {
        struct client_answer answer = call(client, 0, 0);
        assert_int_equal(answer.status, RPC_OK);
        client_answer_deinit(&answer);
    }
    client_destroy(client);
}

static void a_dead_endpoint_is_passed_over(void **state)
{
    (void)state;
    struct client *client = client_of(closed_endpoint(), nodes[0].endpoint);
    struct client_answer answer = call(client, 0, 0);
    assert_int_equal(answer.status, RPC_OK);
    assert_int_equal(answer.endpoint, 1);
    client_answer_deinit(&answer);
    client_destroy(client);
}

static void nobody_there_is_said_and_nothing_was_sent(void **state)
{
    (void)state;
    struct client *client = client_of(closed_endpoint(), NULL);
    struct client_answer answer = call(client, 0, 0);
    assert_int_equal(answer.status, RPC_UNAVAILABLE);
    assert_false(answer.sent);
    assert_non_null(strstr(answer.error, "refused"));
    assert_true(answer.took_ns < 1500000000); /* the dial timeout, not the call's */
    client_answer_deinit(&answer);
    client_destroy(client);
}

static void a_call_ends_at_its_deadline(void **state)
{
    (void)state;
    nodes[0].act = ACT_IGNORE;
    struct client *client = client_of(nodes[0].endpoint, NULL);
    struct client_answer answer = call(client, CLIENT_READ, 150000000);
    assert_int_equal(answer.status, RPC_DEADLINE_EXCEEDED);
    assert_true(answer.took_ns >= 100000000);
    client_answer_deinit(&answer);
    nodes[0].act = ACT_UNAVAILABLE;
    answer = call(client, CLIENT_READ, 150000000);
    assert_true(answer.status == RPC_DEADLINE_EXCEEDED || answer.status == RPC_UNAVAILABLE);
    assert_non_null(strstr(answer.error, "no leader"));
    client_answer_deinit(&answer);
    client_destroy(client);
}

static void a_cancel_at_the_deadline_is_the_deadline(void **state)
{
    (void)state;
    nodes[0].act = ACT_CANCEL_LATE;
    struct client *client = client_of(nodes[0].endpoint, NULL);
    struct client_answer answer = call(client, 0, 30000000);
    assert_int_equal(answer.status, RPC_DEADLINE_EXCEEDED);
    client_answer_deinit(&answer);
    client_destroy(client);
}

static void tls_is_refused_with_a_word(void **state)
{
    (void)state;
    const char *endpoints[] = {"https://127.0.0.1:2379"};
    struct client *client;
    struct net_error error;
    struct client_config config = {.endpoints = endpoints, .endpoint_count = 1};
    assert_int_equal(client_create(loop, &config, &client, &error), NB_INVALID);
    assert_non_null(strstr(error.text, "TLS"));
}

static void never(void *user, const struct client_reply *reply)
{
    (void)user;
    (void)reply;
    fail();
}

static void a_canceled_call_is_silent(void **state)
{
    (void)state;
    nodes[0].act = ACT_IGNORE;
    struct client *client = client_of(nodes[0].endpoint, NULL);
    struct client_request request = {
        .path = "/test/Echo", .endpoint = 0, .on_done = never, .message = nb_bytes_str("x")};
    client_cancel(client_start(client, &request)); /* one that waits */
    struct client_call *running = client_start(client, &request);
    while (nodes[0].calls == 0) {
        (void)net_loop_run_once(loop, true);
    }
    client_cancel(running);
    assert_int_equal(client_call_count(client), 0);
    (void)client_start(client, &request); /* left to client_destroy */
    client_destroy(client);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_is_answered),
        TEST(calls_take_turns_among_endpoints),
        TEST(a_read_is_sent_again_when_unavailable),
        TEST(a_write_is_never_sent_again),
        TEST(what_a_learner_refuses_goes_elsewhere),
        TEST(a_dead_endpoint_is_passed_over),
        TEST(nobody_there_is_said_and_nothing_was_sent),
        TEST(a_call_ends_at_its_deadline),
        TEST(a_cancel_at_the_deadline_is_the_deadline),
        TEST(tls_is_refused_with_a_word),
        TEST(a_canceled_call_is_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
