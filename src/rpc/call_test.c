/* Calls between a client's and a server's session, joined in memory. */
#include "base/random.h"
#include "tests/support/rpc_pair.h"
#include "tests/support/unit.h"

#define NS_PER_S UINT64_C(1000000000)

static void assert_text(struct nb_buf *b, const char *text)
{
    nb_buf_append(b, "", 1);
    b->len--;
    assert_string_equal((char *)b->data, text);
}

/* One call; its status and text are as given. */
static void expect(struct pair *p, const char *path, struct nb_bytes message,
                   enum rpc_status status, const char *text)
{
    struct outcome o;
    assert_non_null(pair_call(p, path, message, &o));
    (void)pair_pump(p);
    assert_int_equal(o.done, 1);
    assert_int_equal(o.status, status);
    assert_text(&o.text, text);
    outcome_deinit(&o);
}

static void N10_calls_work_at_every_split_of_the_bytes(void **state)
{
    (void)state;
    for (size_t split = 1; split < 200; split = split < 40 ? split + 1 : split * 2) {
        struct pair p;
        pair_init(&p, NULL, NULL);
        p.split = split;
        struct outcome a, b, c;
        (void)pair_call(&p, "/t.S/Echo", nb_bytes_str("hello"), &a);
        (void)pair_call(&p, "/t.S/Count", nb_bytes_str("abcdefghij"), &b);
        (void)pair_call(&p, "/t.S/Chat", nb_bytes_str("chat"), &c);
        (void)pair_pump(&p);
        assert_int_equal(a.status + b.status + c.status, RPC_OK);
        assert_int_equal(a.done + b.done + c.done, 3);
        assert_text(&a.bytes, "hello");
        assert_int_equal(b.messages, 10);
        assert_int_equal(b.bytes.len, 55);
        assert_text(&c.bytes, "chat!");
        assert_int_equal(p.opened + p.half_closed, 2);
        assert_int_equal(rpc_conn_call_count(p.conn), 0);
        outcome_deinit(&a);
        outcome_deinit(&b);
        outcome_deinit(&c);
        pair_deinit(&p);
    }
}

static void errors_of_grpc_itself_have_grpc_gos_words(void **state)
{
    (void)state;
    struct pair p;
    struct rpc_limits limits = {.message_bytes_max = 1000};
    pair_init(&p, &limits, NULL);
    uint8_t big[1001] = {0};
    struct nb_bytes none = {0};
    expect(&p, "/t.S/Nope", none, RPC_UNIMPLEMENTED, "unknown method Nope for service t.S");
    expect(&p, "/u.S/Nope", none, RPC_UNIMPLEMENTED, "unknown service u.S");
    expect(&p, "/t.SS/Echo", none, RPC_UNIMPLEMENTED, "unknown service t.SS");
    expect(&p, "/nope", none, RPC_UNIMPLEMENTED, "malformed method name: \"/nope\"");
    expect(&p, "/t.S/Echo", nb_bytes_of(big, sizeof big), RPC_RESOURCE_EXHAUSTED,
           "grpc: received message larger than max (1001 vs. 1000)");
    expect(&p, "/t.S/Echo", nb_bytes_of(big, 1000), RPC_OK, "");
    struct outcome o = {0};
    struct rpc_metadata gzip = {"grpc-encoding", nb_bytes_str("gzip")};
    struct rpc_client_request r = {.path = "/t.S/Echo",
                                   .metadata = &gzip,
                                   .metadata_count = 1,
                                   .events = &outcome_events,
                                   .user = &o};
    assert_non_null(rpc_client_unary(p.client, &r, none));
    (void)pair_pump(&p);
    assert_int_equal(o.status, RPC_UNIMPLEMENTED);
    assert_text(&o.text, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"");
    outcome_deinit(&o);
    pair_deinit(&p);
}

static void any_status_and_text_arrives_as_it_was_given(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    for (unsigned status = 0; status < RPC_STATUS_COUNT; status++) {
        struct outcome o;
        (void)pair_call(&p, "/t.S/Later", nb_bytes_str("x"), &o);
        (void)pair_pump(&p);
        assert_int_equal(p.kept_count, 1);
        assert_int_equal(o.done, 0);
        rpc_call_finish(p.kept[0], status, "50% of h\xc3\xa4lf\nis \"none\"");
        p.kept_count = 0;
        (void)pair_pump(&p);
        assert_int_equal(o.done, 1);
        assert_int_equal(o.status, status);
        assert_text(&o.text, "50% of h\xc3\xa4lf\nis \"none\"");
        outcome_deinit(&o);
    }
    pair_deinit(&p);
}

static void many_calls_are_answered_out_of_order(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    struct pair p;
    pair_init(&p, NULL, NULL);
    static struct outcome o[COUNT];
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    for (uint32_t i = 0; i < COUNT; i++) {
        (void)pair_call(&p, "/t.S/Later", nb_bytes_of(&i, sizeof i), &o[i]);
    }
    (void)pair_pump(&p);
    assert_int_equal(p.kept_count, COUNT);
    assert_int_equal(rpc_conn_call_count(p.conn), COUNT);
    while (p.kept_count != 0) {
        size_t i = nb_random_below(&random, p.kept_count);
        struct rpc_call *call = p.kept[i];
        p.kept[i] = p.kept[--p.kept_count];
        rpc_call_reply(call, nb_bytes_of(&i, 1), nb_bytes_str("abc"));
        if (nb_random_chance(&random, 1, 20)) {
            (void)pair_pump(&p);
        }
    }
    (void)pair_pump(&p);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(o[i].done, 1);
        assert_int_equal(o[i].status, RPC_OK);
        assert_int_equal(o[i].bytes.len, 4);
        outcome_deinit(&o[i]);
    }
    assert_int_equal(rpc_conn_call_count(p.conn), 0);
    assert_int_equal(rpc_conn_unread_bytes(p.conn), 0);
    pair_deinit(&p);
}

/* Whatever the windows, both ends come to the end of all calls. */
static void N08_both_ends_progress_through_small_windows(void **state)
{
    (void)state;
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    uint8_t *data = nb_alloc_zero(1, 1 << 20);
    for (uint64_t round = 0; round < unit_scaled(30); round++) {
        struct rpc_limits limits = {
            .stream_window_bytes = (uint32_t)(1 + nb_random_below(&random, 70000)),
            .connection_window_bytes = (uint32_t)(65535 + nb_random_below(&random, 100000)),
            .send_high_bytes = 1000,
        };
        struct rpc_client_config client = {
            .stream_window_bytes = (uint32_t)(1 + nb_random_below(&random, 70000)),
            .connection_window_bytes = (uint32_t)(65535 + nb_random_below(&random, 100000)),
        };
        struct pair p;
        pair_init(&p, &limits, &client);
        p.split = nb_random_below(&random, 3) == 0 ? 1 + nb_random_below(&random, 5000) : 0;
        p.budget = 1 + nb_random_below(&random, 100000);
        struct outcome o[8];
        size_t sizes[8];
        for (size_t i = 0; i < 8; i++) {
            sizes[i] = nb_random_below(&random, nb_random_chance(&random, 1, 2) ? 100000 : 100);
            (void)pair_call(&p, i % 2 == 0 ? "/t.S/Echo" : "/t.S/Chat", nb_bytes_of(data, sizes[i]),
                            &o[i]);
        }
        p.now_ns += NS_PER_S;
        for (int more = 0; more < 40;
             more++) { /* tiny windows use up the noise budget: time goes on */
            p.now_ns += 20 * NS_PER_S;
            (void)pair_pump(&p);
        }
        for (size_t i = 0; i < 8; i++) {
            if (limits.stream_window_bytes > 64 && client.stream_window_bytes > 64) {
                assert_int_equal(o[i].done, 1);
                assert_int_equal(o[i].status, RPC_OK);
                assert_int_equal(o[i].bytes.len, sizes[i] + (i % 2));
            }
        }
        pair_deinit(&p);
        for (size_t i = 0; i < 8; i++) {
            outcome_deinit(&o[i]);
        }
    }
    nb_free(data);
}

static void N12_a_canceled_call_is_told_once_and_its_handle_ends(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    struct outcome o;
    struct rpc_client_call *call = pair_call(&p, "/t.S/Later", nb_bytes_str("x"), &o);
    (void)pair_pump(&p);
    assert_int_equal(rpc_conn_call_count(p.conn), 1);
    rpc_client_cancel(call);
    (void)pair_pump(&p);
    assert_int_equal(p.canceled, 1);
    assert_int_equal(p.cancel_why, RPC_CANCEL_RESET);
    assert_int_equal(rpc_conn_call_count(p.conn), 0);
    assert_int_equal(rpc_client_call_count(p.client), 0);
    assert_int_equal(o.done, 0);
    call = pair_call(&p, "/t.S/Echo", nb_bytes_str("never sent"), &o);
    rpc_client_cancel(call); /* before its headers went out */
    (void)pair_pump(&p);
    expect(&p, "/t.S/Echo", nb_bytes_str("x"), RPC_OK, "");
    pair_deinit(&p);
}

static void N12_calls_are_canceled_when_the_connection_goes(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    struct outcome o[3];
    for (size_t i = 0; i < 3; i++) {
        (void)pair_call(&p, "/t.S/Later", nb_bytes_str("x"), &o[i]);
    }
    (void)pair_pump(&p);
    rpc_conn_destroy(p.conn);
    p.conn = NULL;
    assert_int_equal(p.canceled, 3);
    assert_int_equal(p.cancel_why, RPC_CANCEL_GONE);
    rpc_client_destroy(p.client);
    p.client = NULL;
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(o[i].done, 1);
        assert_int_equal(o[i].status, RPC_UNAVAILABLE);
        outcome_deinit(&o[i]);
    }
    pair_deinit(&p);
}

static void N12_a_deadline_cancels_at_both_ends(void **state)
{
    (void)state;
    for (int at_client = 0; at_client < 2; at_client++) {
        struct pair p;
        pair_init(&p, NULL, NULL);
        struct outcome o = {0};
        struct rpc_client_request r = {.path = "/t.S/Later",
                                       .timeout_ns = 5 * NS_PER_S,
                                       .events = &outcome_events,
                                       .user = &o};
        (void)!rpc_client_unary(p.client, &r, nb_bytes_str("x"));
        (void)pair_pump(&p);
        assert_true(rpc_call_deadline_ns(p.kept[0]) == p.now_ns + 5 * NS_PER_S);
        p.now_ns += 5 * NS_PER_S - 1;
        assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_OK);
        assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_OK);
        assert_int_equal(p.canceled + o.done, 0);
        p.now_ns += 1;
        if (at_client) {
            assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_OK);
        } else {
            assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_OK);
        }
        (void)pair_pump(&p);
        assert_int_equal(p.canceled, 1);
        assert_int_equal(p.cancel_why, at_client ? RPC_CANCEL_RESET : RPC_CANCEL_DEADLINE);
        assert_int_equal(o.done, 1);
        assert_int_equal(o.status, RPC_DEADLINE_EXCEEDED);
        assert_text(&o.text, "context deadline exceeded");
        outcome_deinit(&o);
        pair_deinit(&p);
    }
}

static void metadata_is_kept_and_reserved_headers_are_not(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    struct outcome o = {0};
    struct rpc_metadata md[] = {
        {"token", nb_bytes_str("simple.12")}, {"hasleader", nb_bytes_str("true")}, {"empty", {0}}};
    struct rpc_client_request r = {.path = "/t.S/Later",
                                   .metadata = md,
                                   .metadata_count = 3,
                                   .events = &outcome_events,
                                   .user = &o};
    (void)!rpc_client_unary(p.client, &r, nb_bytes_str("x"));
    (void)pair_pump(&p);
    struct nb_bytes value;
    assert_true(rpc_call_metadata(p.kept[0], "token", &value));
    assert_true(nb_bytes_equal(value, nb_bytes_str("simple.12")));
    assert_true(rpc_call_metadata(p.kept[0], "hasleader", &value));
    assert_true(rpc_call_metadata(p.kept[0], "empty", &value));
    assert_int_equal(value.len, 0);
    assert_false(rpc_call_metadata(p.kept[0], "user-agent", &value));
    assert_false(rpc_call_metadata(p.kept[0], "toke", &value));
    pair_deinit(&p);
    outcome_deinit(&o);
}

static void a_stream_that_waits_is_told_when_it_may_go_on(void **state)
{
    (void)state;
    struct rpc_limits limits = {.send_high_bytes = 100000};
    struct rpc_client_config client = {.stream_window_bytes = 65535};
    struct pair p;
    pair_init(&p, &limits, &client);
    struct outcome o = {0};
    struct rpc_client_request r = {.path = "/t.S/Chat", .events = &outcome_events, .user = &o};
    struct rpc_client_call *call = rpc_client_start(p.client, &r);
    uint8_t *data = nb_alloc_zero(1, 200000);
    rpc_client_send(call, nb_bytes_of(data, 200000));
    (void)pair_pump(&p);
    assert_int_equal(p.drained, 1);
    assert_int_equal(o.bytes.len, 200001);
    rpc_client_half_close(call);
    (void)pair_pump(&p);
    assert_int_equal(o.done, 1);
    nb_free(data);
    outcome_deinit(&o);
    pair_deinit(&p);
}

static void a_server_that_shuts_down_ends_what_runs_and_takes_no_more(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    struct outcome o;
    (void)pair_call(&p, "/t.S/Later", nb_bytes_str("x"), &o);
    (void)pair_pump(&p);
    rpc_conn_shutdown(p.conn);
    (void)pair_pump(&p);
    assert_false(rpc_client_can_start(p.client));
    assert_false(rpc_conn_is_done(p.conn));
    assert_int_equal(o.done, 0);
    rpc_call_reply(p.kept[0], nb_bytes_str("ok"), (struct nb_bytes){0});
    p.kept_count = 0;
    (void)pair_pump(&p);
    assert_int_equal(o.done, 1);
    assert_int_equal(o.status, RPC_OK);
    assert_true(rpc_conn_is_done(p.conn));
    assert_true(rpc_client_is_done(p.client));
    outcome_deinit(&o);
    pair_deinit(&p);
}

static void each_side_pings_an_idle_connection_and_gives_up_on_silence(void **state)
{
    (void)state;
    struct rpc_client_config client = {.keepalive_interval_ns = 30 * NS_PER_S,
                                       .keepalive_without_calls = true};
    struct pair p;
    pair_init(&p, NULL, &client);
    (void)pair_pump(&p);
    p.now_ns += 30 * NS_PER_S;
    assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_OK);
    assert_true(pair_pump(&p) > 0);
    p.now_ns += 20 * NS_PER_S;
    assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_OK); /* it was answered */
    p.now_ns += 30 * NS_PER_S;
    assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_OK);
    p.now_ns += 20 * NS_PER_S;
    assert_int_equal(rpc_client_tick(p.client, p.now_ns), NB_IO); /* nobody did */
    p.now_ns += 7200 * NS_PER_S;
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_OK);
    p.now_ns += 20 * NS_PER_S;
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_CLOSED);
    pair_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(N10_calls_work_at_every_split_of_the_bytes),
        cmocka_unit_test(errors_of_grpc_itself_have_grpc_gos_words),
        cmocka_unit_test(any_status_and_text_arrives_as_it_was_given),
        cmocka_unit_test(many_calls_are_answered_out_of_order),
        cmocka_unit_test(N08_both_ends_progress_through_small_windows),
        cmocka_unit_test(N12_a_canceled_call_is_told_once_and_its_handle_ends),
        cmocka_unit_test(N12_calls_are_canceled_when_the_connection_goes),
        cmocka_unit_test(N12_a_deadline_cancels_at_both_ends),
        cmocka_unit_test(metadata_is_kept_and_reserved_headers_are_not),
        cmocka_unit_test(a_stream_that_waits_is_told_when_it_may_go_on),
        cmocka_unit_test(a_server_that_shuts_down_ends_what_runs_and_takes_no_more),
        cmocka_unit_test(each_side_pings_an_idle_connection_and_gives_up_on_silence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
