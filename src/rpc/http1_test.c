/* HTTP/1.1 as a client's bytes, against the server's session. */
#include "tests/support/rpc_pair.h"
#include "tests/support/unit.h"

#define NS_PER_S UINT64_C(1000000000)

/* Feeds `bytes` in pieces of `split`, gives back the answer as text. */
static char *ask(struct pair *p, const char *bytes)
{
    (void)pair_feed(p, bytes, strlen(bytes));
    nb_buf_clear(&p->down);
    while (rpc_conn_output(p->conn, &p->down, 1 << 20)) {
    }
    nb_buf_append(&p->down, "", 1);
    return (char *)p->down.data;
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

static void a_request_is_the_same_at_every_split(void **state)
{
    (void)state;
    for (size_t split = 0; split < 80; split++) {
        struct pair p;
        pair_init(&p, NULL, NULL);
        p.split = split;
        assert_string_equal(
            ask(&p, "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
            OK_HEAD "Content-Length: 15\r\n\r\nPOST /a b=c abc");
        assert_string_equal(ask(&p,
                                "POST /v HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                                "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"),
                            OK_HEAD "Content-Length: 22\r\n\r\nPOST /v  abc0123456789");
        assert_string_equal(ask(&p, "HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n"),
                            OK_HEAD "Content-Length: 9\r\n\r\n");
        assert_int_equal(p.conn_status, NB_OK);
        assert_false(rpc_conn_is_done(p.conn));
        pair_deinit(&p);
    }
}

static void requests_behind_one_another_are_answered_in_order(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    assert_string_equal(
        ask(&p, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n"
                "GET /c HTTP/1.0\r\n\r\n"),
        "");
    assert_int_equal(p.http_count, 1);
    struct nb_bytes value;
    assert_true(rpc_http_header(p.http, "hOST", &value));
    assert_true(nb_bytes_equal(value, nb_bytes_str("x")));
    rpc_http_reply(p.http, 503, "text/plain", "X-A: b\r\n", nb_bytes_str("no"));
    assert_string_equal(ask(&p, ""),
                        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nX-A: b\r\n"
                        "Content-Length: 2\r\n\r\nno" OK_HEAD
                        "Content-Length: 8\r\n\r\nGET /b  " OK_HEAD
                        "Connection: close\r\nContent-Length: 8\r\n\r\nGET /c  ");
    assert_true(rpc_conn_is_done(p.conn));
    pair_deinit(&p);
}

static void a_reply_may_come_in_chunks(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET /later HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    rpc_http_begin(p.http, 200, "application/json", NULL);
    rpc_http_chunk(p.http, nb_bytes_str("{}\n"));
    assert_string_equal(ask(&p, ""),
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\n{}\n\r\n");
    rpc_http_end(p.http);
    assert_string_equal(ask(&p, ""), "0\r\n\r\n");
    assert_true(rpc_conn_is_done(p.conn));
    pair_deinit(&p);
}

static void an_unanswered_request_is_canceled_with_its_connection(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    rpc_conn_destroy(p.conn);
    p.conn = NULL;
    assert_int_equal(p.http_canceled, 1);
    pair_deinit(&p);
}

static void what_is_malformed_is_refused_and_closed(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *status;
    } cases[] = {
        {"GET /\r\n\r\n", "400"},
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        {"GE\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505"},
        {"GET / HTTP/1.1\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1x\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
         "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
        {"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", "413"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", "413"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "400"},
        /* What another reader of the same bytes could take for the end of a line, or for no chunk.
         */
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;\nGET /a\r\n\r\n",
         "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0;\rGET /a\r\n\r\n",
         "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0 x\r\n\r\n", "400"},
        {"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\nB: c\r\n\r\n",
         "400"},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        for (size_t split = 0; split < 2; split++) {
            struct rpc_limits limits = {.http_body_bytes_max = 1000};
            struct pair p;
            pair_init(&p, &limits, NULL);
            p.split = split;
            const char *answer = ask(&p, cases[i].bytes);
            assert_memory_equal(answer, "HTTP/1.1 ", 9);
            assert_memory_equal(answer + 9, cases[i].status, 3);
            assert_int_equal(p.http_count, 0);
            assert_int_equal(p.conn_status, NB_CLOSED);
            assert_true(rpc_conn_is_done(p.conn));
            pair_deinit(&p);
        }
    }
}

static void N07_headers_and_bodies_have_a_bound_in_bytes_and_time(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    char *many = nb_alloc_zero(1, 70000);
    memset(many, 'a', 69999);
    assert_memory_equal(ask(&p, many), "HTTP/1.1 431", 12);
    nb_free(many);
    pair_deinit(&p);

    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET / HT");
    p.now_ns += 9 * NS_PER_S;
    (void)ask(&p, "TP/1.1\r\n"); /* a slow drip does not help */
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_OK);
    p.now_ns += NS_PER_S;
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns), NB_CLOSED);
    assert_memory_equal(ask(&p, ""), "HTTP/1.1 408", 12);
    pair_deinit(&p);

    pair_init(&p, NULL, NULL);
    (void)ask(&p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns + 60 * NS_PER_S), NB_CLOSED);
    assert_memory_equal(ask(&p, ""), "HTTP/1.1 408", 12);
    pair_deinit(&p);

    pair_init(&p, NULL, NULL); /* idle */
    (void)ask(&p, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns + 119 * NS_PER_S), NB_OK);
    assert_int_equal(rpc_conn_tick(p.conn, p.now_ns + 120 * NS_PER_S), NB_CLOSED);
    pair_deinit(&p);
}

static void what_is_pipelined_behind_an_unanswered_request_is_bounded(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 10000 && p.conn_status == NB_OK; i++) {
        (void)ask(&p, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_int_equal(p.conn_status, NB_CLOSED);
    assert_int_equal(p.http_count, 1);
    pair_deinit(&p);
    assert_int_equal(p.http_canceled, 1);
}

static void N06_requests_wait_while_their_answers_are_not_taken(void **state)
{
    (void)state;
    enum { REQUESTS = 4000 };
    struct pair p;
    const struct rpc_limits limits = {.send_high_bytes = 1000, .header_bytes_max = 1u << 18};
    pair_init(&p, &limits, NULL);
    struct nb_buf all = {0};
    for (int i = 0; i < REQUESTS; i++) {
        nb_buf_append_str(&all, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert_int_equal(rpc_conn_feed(p.conn, nb_buf_bytes(&all), p.now_ns), NB_OK);
    nb_buf_deinit(&all);
    assert_in_range(rpc_conn_unread_bytes(p.conn), 1000, 1200);
    nb_buf_clear(&p.down);
    size_t most = 0;
    while (rpc_conn_output(p.conn, &p.down, 500)) {
        size_t held = rpc_conn_unread_bytes(p.conn);
        most = held > most ? held : most;
    }
    assert_in_range(most, 1, 1200);
    assert_int_equal(p.down.len, REQUESTS * strlen(OK_HEAD "Content-Length: 8\r\n\r\nGET /b  "));
    pair_deinit(&p);
}

static void a_client_that_has_said_all_still_gets_its_answer(void **state)
{
    (void)state;
    struct pair p;
    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_true(rpc_conn_input_ended(p.conn));
    rpc_http_reply(p.http, 200, "text/plain", NULL, nb_bytes_str("ok"));
    assert_string_equal(ask(&p, ""), OK_HEAD "Connection: close\r\nContent-Length: 2\r\n\r\nok");
    assert_true(rpc_conn_is_done(p.conn));
    pair_deinit(&p);

    pair_init(&p, NULL, NULL);
    (void)ask(&p, "GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET ");
    assert_false(rpc_conn_input_ended(p.conn)); /* nothing is owed */
    pair_deinit(&p);
}

static void query_parameters_are_decoded(void **state)
{
    (void)state;
    struct nb_bytes q = nb_bytes_str("exclude=a%20b&x&exclude=c+d&exclude=%2B&=e");
    struct nb_buf b = {0};
    assert_true(rpc_query_get(q, "exclude", 0, &b));
    assert_true(rpc_query_get(q, "exclude", 1, &b));
    assert_true(rpc_query_get(q, "exclude", 2, &b));
    assert_false(rpc_query_get(q, "exclude", 3, &b));
    assert_true(rpc_query_get(q, "x", 0, &b));
    assert_true(nb_bytes_equal(nb_buf_bytes(&b), nb_bytes_str("a bc d+")));
    nb_buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_the_same_at_every_split),
        cmocka_unit_test(requests_behind_one_another_are_answered_in_order),
        cmocka_unit_test(a_reply_may_come_in_chunks),
        cmocka_unit_test(an_unanswered_request_is_canceled_with_its_connection),
        cmocka_unit_test(what_is_malformed_is_refused_and_closed),
        cmocka_unit_test(N07_headers_and_bodies_have_a_bound_in_bytes_and_time),
        cmocka_unit_test(what_is_pipelined_behind_an_unanswered_request_is_bounded),
        cmocka_unit_test(N06_requests_wait_while_their_answers_are_not_taken),
        cmocka_unit_test(a_client_that_has_said_all_still_gets_its_answer),
        cmocka_unit_test(query_parameters_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
