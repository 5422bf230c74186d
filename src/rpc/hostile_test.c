/* Peers that mean harm, frame by frame, against the server's session. */
#include "tests/support/rpc_pair.h"
#include "tests/support/unit.h"

#include <nghttp2/nghttp2.h>

#define NS_PER_S UINT64_C(1000000000)

enum { DATA = 0, HEADERS = 1, PRIORITY = 2, RESET = 3, SETTINGS = 4, PING = 6, GOAWAY = 7 };
enum { WINDOW_UPDATE = 8, CONTINUATION = 9, END_STREAM = 1, END_HEADERS = 4 };

struct peer {
    struct pair pair;
    struct nb_buf in; /* to be fed */
    struct nb_buf out;
    uint32_t goaway_code;
    char goaway_text[64];
    size_t goaways, resets, responses;
};

static void frame(struct peer *p, unsigned type, unsigned flags, uint32_t stream, const void *data,
                  size_t len)
{
    const uint8_t head[9] = {
        (uint8_t)(len >> 16),    (uint8_t)(len >> 8),    (uint8_t)len,
        (uint8_t)type,           (uint8_t)flags,         (uint8_t)(stream >> 24),
        (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    nb_buf_append(&p->in, head, sizeof head);
    nb_buf_append(&p->in, data, len);
}

static void field(struct nb_buf *b, const char *name, const char *value)
{
    const uint8_t kind = 0; /* a literal, not indexed */
    const uint8_t name_len = (uint8_t)strlen(name), value_len = (uint8_t)strlen(value);
    nb_assert(name_len < 127 && value_len < 127);
    nb_buf_append(b, &kind, 1);
    nb_buf_append(b, &name_len, 1);
    nb_buf_append_str(b, name);
    nb_buf_append(b, &value_len, 1);
    nb_buf_append_str(b, value);
}

static struct nb_buf request(const char *path)
{
    struct nb_buf b = {0};
    field(&b, ":method", "POST");
    field(&b, ":scheme", "http");
    field(&b, ":path", path);
    field(&b, ":authority", "a");
    field(&b, "content-type", "application/grpc");
    return b;
}

static void headers(struct peer *p, unsigned flags, uint32_t stream, const char *path)
{
    struct nb_buf b = request(path);
    frame(p, HEADERS, flags, stream, b.data, b.len);
    nb_buf_deinit(&b);
}

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Counts the frames of `out`. */
static void look(struct peer *p)
{
    size_t at = 0;
    while (at + 9 <= p->out.len) {
        const uint8_t *f = p->out.data + at;
        size_t len = (size_t)f[0] << 16 | (size_t)f[1] << 8 | f[2];
        nb_assert(at + 9 + len <= p->out.len);
        p->resets += f[3] == RESET;
        p->responses += f[3] == HEADERS && (f[4] & END_STREAM) != 0;
        if (f[3] == GOAWAY) {
            p->goaways++;
            p->goaway_code = u32_at(f + 13);
            size_t text_len = len - 8 < 63 ? len - 8 : 63;
            memcpy(p->goaway_text, f + 17, text_len);
            p->goaway_text[text_len] = 0;
        }
        at += 9 + len;
    }
    nb_buf_clear(&p->out);
}

/* Feeds what was gathered, takes the output. */
static enum nb_status say(struct peer *p)
{
    enum nb_status status = pair_feed(&p->pair, p->in.data, p->in.len);
    nb_buf_clear(&p->in);
    while (rpc_conn_output(p->pair.conn, &p->out, 1 << 20)) {
    }
    look(p);
    return status;
}

static void begin(struct peer *p, const struct rpc_limits *limits)
{
    memset(p, 0, sizeof *p);
    pair_init(&p->pair, limits, NULL);
    nb_buf_append_str(&p->in, NGHTTP2_CLIENT_MAGIC);
    frame(p, SETTINGS, 0, 0, "", 0);
    assert_int_equal(say(p), NB_OK);
}

static void end(struct peer *p)
{
    nb_buf_deinit(&p->in);
    nb_buf_deinit(&p->out);
    pair_deinit(&p->pair);
}

static void assert_ended(struct peer *p, uint32_t code)
{
    assert_true(p->goaways >= 1);
    assert_int_equal(p->goaway_code, code);
    assert_true(rpc_conn_is_done(p->pair.conn));
}

static const uint8_t cancel_code[4] = {0, 0, 0, 8};

static void N01_rapid_reset_ends_the_connection(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    for (uint32_t i = 0; i < 3000 && p.pair.conn_status == NB_OK; i++) {
        headers(&p, END_HEADERS, 1 + 2 * i, "/t.S/Chat");
        frame(&p, RESET, 0, 1 + 2 * i, cancel_code, 4);
        (void)say(&p);
        assert_in_range(rpc_conn_call_count(p.pair.conn), 0, 1);
    }
    assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_in_range(p.pair.opened, 900, 1100);
    assert_in_range(p.pair.canceled, p.pair.opened - 1, p.pair.opened);
    end(&p);
}

static void N01_resets_of_ordinary_clients_are_within_the_budget(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    for (uint32_t i = 0; i < 5000; i++) { /* 50 a second */
        headers(&p, END_HEADERS, 1 + 2 * i, "/t.S/Chat");
        frame(&p, RESET, 0, 1 + 2 * i, cancel_code, 4);
        p.pair.now_ns += NS_PER_S / 50;
        assert_int_equal(say(&p), NB_OK);
    }
    end(&p);
}

static void N01_running_calls_are_limited(void **state)
{
    (void)state;
    struct rpc_limits limits = {.calls_max = 10};
    struct peer p;
    begin(&p, &limits);
    for (uint32_t i = 0; i < 30; i++) {
        headers(&p, END_HEADERS, 1 + 2 * i, "/t.S/Chat");
    }
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.pair.opened, 10);
    assert_int_equal(p.resets, 20);
    end(&p);
}

static void N02_provoked_resets_use_the_same_budget(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    struct nb_buf bad = request("/t.S/Chat");
    field(&bad, "UPPER", "case"); /* a stream error */
    for (uint32_t i = 0; i < 3000 && p.pair.conn_status == NB_OK; i++) {
        frame(&p, HEADERS, END_HEADERS, 1 + 2 * i, bad.data, bad.len);
        (void)say(&p);
    }
    nb_buf_deinit(&bad);
    assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_in_range(p.resets, 900, 1100);
    assert_int_equal(p.pair.opened, 0);
    end(&p);
}

static void N03_a_flood_of_continuations_ends_the_connection(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    headers(&p, 0, 1, "/t.S/Chat");
    struct nb_buf more = {0};
    field(&more, "x", "y");
    for (int i = 0; i < 40; i++) {
        frame(&p, CONTINUATION, 0, 1, more.data, more.len);
    }
    nb_buf_deinit(&more);
    assert_int_not_equal(say(&p), NB_OK);
    assert_int_equal(p.pair.opened, 0);
    assert_true(rpc_conn_is_done(p.pair.conn));
    end(&p);
}

static void N04_a_header_list_beyond_the_limit_resets_its_stream(void **state)
{
    (void)state;
    struct rpc_limits limits = {.header_bytes_max = 4096};
    struct peer p;
    begin(&p, &limits);
    struct nb_buf b = request("/t.S/Chat");
    /* One entry of 100 bytes into the table, then a byte for each further copy: a bomb. */
    const uint8_t kind = 0x40, name_len = 1, value_len = 100;
    nb_buf_append(&b, &kind, 1);
    nb_buf_append(&b, &name_len, 1);
    nb_buf_append_str(&b, "b");
    nb_buf_append(&b, &value_len, 1);
    memset(nb_buf_extend(&b, 100), 'v', 100);
    memset(nb_buf_extend(&b, 10000), 0x80 | 62, 10000);
    frame(&p, HEADERS, END_HEADERS, 1, b.data, b.len);
    nb_buf_deinit(&b);
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.resets, 1);
    assert_int_equal(p.pair.opened, 0);
    headers(&p, END_HEADERS, 3, "/t.S/Chat"); /* the connection goes on */
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.pair.opened, 1);
    end(&p);
}

static void N04_an_overlong_integer_is_a_compression_error(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    frame(&p, HEADERS, END_HEADERS, 1, "\x00\x7f\xff\xff\xff\xff\xff\xff\xff\x7f", 10);
    (void)say(&p);
    assert_ended(&p, NGHTTP2_COMPRESSION_ERROR);
    end(&p);
}

static void N05_a_flood_of_settings_or_pings_ends_the_connection(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        struct rpc_limits limits = {.keepalive_min_ns = UINT64_MAX};
        struct peer p;
        begin(&p, &limits);
        for (int i = 0; i < 5000; i++) {
            if (kind == 0) {
                frame(&p, SETTINGS, 0, 0, "", 0);
            } else {
                frame(&p, PING, 0, 0, "12345678", 8);
            }
        }
        assert_int_not_equal(say(&p), NB_OK);
        assert_true(rpc_conn_is_done(p.pair.conn));
        assert_true(p.out.capacity < 64 << 10); /* the answers to at most 1,000 */
        end(&p);
    }
}

static void N06_frames_that_bring_nothing_are_counted(void **state)
{
    (void)state;
    /* Frames of unknown types are not among them: nghttp2 passes over them for the cost of reading.
     */
    for (int kind = 0; kind < 3; kind++) {
        struct peer p;
        begin(&p, NULL);
        headers(&p, END_HEADERS, 1, "/t.S/Chat");
        for (int i = 0; i < 30000 && p.pair.conn_status == NB_OK; i++) {
            switch (kind) {
            case 0:
                frame(&p, DATA, 0, 1, "", 0);
                break;
            case 1:
                frame(&p, PRIORITY, 0, 1, "\0\0\0\0\0", 5);
                break;
            default:
                frame(&p, WINDOW_UPDATE, 0, 1, "\0\0\0\1", 4);
                break;
            }
            if (i % 100 == 0) {
                (void)say(&p);
            }
        }
        assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
        end(&p);
    }
}

static void N06_output_that_nobody_reads_is_bounded(void **state)
{
    (void)state;
    struct rpc_limits limits = {.output_bytes_max = 1 << 20};
    struct peer p;
    begin(&p, &limits);
    for (uint32_t i = 0; i < 2000 && p.pair.conn_status == NB_OK; i++) {
        headers(&p, END_HEADERS, 1 + 2 * i, "/t.S/Count");
        uint8_t message[5 + 100] = {0, 0, 0, 0, 100};
        frame(&p, DATA, END_STREAM, 1 + 2 * i, message, sizeof message);
        (void)pair_feed(&p.pair, p.in.data, p.in.len); /* and no output is taken */
        nb_buf_clear(&p.in);
        assert_true(rpc_conn_unread_bytes(p.pair.conn) <= (1 << 20) + 200);
    }
    assert_int_not_equal(p.pair.conn_status, NB_OK);
    (void)say(&p);
    assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_string_equal(p.goaway_text, "output_not_read");
    end(&p);
}

static void N07_each_phase_has_its_time(void **state)
{
    (void)state;
    struct pair q;
    pair_init(&q, NULL, NULL); /* no preface */
    assert_int_equal(rpc_conn_feed(q.conn, nb_bytes_str("PRI * HT"), q.now_ns), NB_OK);
    assert_int_equal(rpc_conn_tick(q.conn, q.now_ns + 10 * NS_PER_S - 1), NB_OK);
    assert_int_equal(rpc_conn_tick(q.conn, q.now_ns + 10 * NS_PER_S), NB_CLOSED);
    assert_true(rpc_conn_is_done(q.conn));
    pair_deinit(&q);
    pair_init(&q, NULL, NULL); /* no SETTINGS */
    assert_int_equal(rpc_conn_feed(q.conn, nb_bytes_str(NGHTTP2_CLIENT_MAGIC), q.now_ns), NB_OK);
    assert_int_equal(rpc_conn_tick(q.conn, q.now_ns + 10 * NS_PER_S), NB_CLOSED);
    pair_deinit(&q);
    struct peer p; /* a body that does not come on */
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, "/t.S/Echo");
    frame(&p, DATA, 0, 1, "\0\0\0\0\5hel", 8);
    headers(&p, END_HEADERS, 3, "/t.S/Chat"); /* this one may be silent for ever */
    assert_int_equal(say(&p), NB_OK);
    p.pair.now_ns += 60 * NS_PER_S;
    assert_int_equal(rpc_conn_tick(p.pair.conn, p.pair.now_ns), NB_OK);
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.resets, 1);
    assert_int_equal(rpc_conn_call_count(p.pair.conn), 1);
    end(&p);
}

/* A stream may end before its headers have all come: what they still bring goes nowhere. */
static void N07_headers_that_do_not_come_on_end_their_stream(void **state)
{
    (void)state;
    static const char *const paths[] = {"/t.S/Echo", "/t.S/Chat", "/t.S/None"};
    for (size_t i = 0; i < NB_ARRAY_LEN(paths); i++) {
        struct peer p;
        begin(&p, NULL);
        struct nb_buf b = request(paths[i]);
        frame(&p, HEADERS, END_STREAM, 1, b.data, b.len - 5);
        assert_int_equal(say(&p), NB_OK);
        p.pair.now_ns += 60 * NS_PER_S;
        assert_int_equal(rpc_conn_tick(p.pair.conn, p.pair.now_ns), NB_OK);
        frame(&p, CONTINUATION, END_HEADERS, 1, b.data + b.len - 5, 5);
        nb_buf_deinit(&b);
        assert_int_equal(say(&p), NB_OK); /* the reset leaves after these have come */
        assert_int_equal(p.pair.messages, 0);
        assert_int_equal(p.pair.opened, 0);
        assert_int_equal(p.resets, 1);
        assert_int_equal(rpc_conn_call_count(p.pair.conn), 0);
        end(&p);
    }
}

static void N06_trailers_upon_trailers_are_counted(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, "/t.S/Chat");
    for (size_t i = 0; i < 30000 && p.pair.conn_status == NB_OK; i++) {
        struct nb_buf b = {0};
        field(&b, "x", "y");
        frame(&p, HEADERS, END_HEADERS, 1, b.data, b.len);
        nb_buf_deinit(&b);
        (void)say(&p);
    }
    assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
    end(&p);
}

static void N06_an_answer_larger_than_the_bound_reaches_who_reads(void **state)
{
    (void)state;
    struct rpc_limits limits = {.output_bytes_max = 1 << 16};
    struct peer p;
    begin(&p, &limits);
    headers(&p, END_HEADERS, 1, "/t.S/Later");
    frame(&p, DATA, END_STREAM, 1, "\0\0\0\0\0", 5);
    const uint8_t wide[4] = {0, 16, 0, 0};
    frame(&p, WINDOW_UPDATE, 0, 0, wide, sizeof wide);
    frame(&p, WINDOW_UPDATE, 0, 1, wide, sizeof wide);
    assert_int_equal(say(&p), NB_OK);
    uint8_t *body = nb_alloc_zero(1, 1 << 18);
    rpc_call_reply(p.pair.kept[0], nb_bytes_of(body, 1 << 18), (struct nb_bytes){0});
    nb_free(body);
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(rpc_conn_unread_bytes(p.pair.conn), 0);
    assert_int_equal(p.responses, 1);
    assert_int_equal(p.goaways, 0);
    end(&p);
}

/* As grpc-go: what no client could take is an error and not a message. */
static void an_answer_beyond_two_gigabytes_is_refused(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, "/t.S/Later");
    frame(&p, DATA, END_STREAM, 1, "\0\0\0\0\0", 5);
    assert_int_equal(say(&p), NB_OK);
    /* Nobody looks at the bytes. */
    rpc_call_reply(p.pair.kept[0], nb_bytes_of("", (size_t)5 << 30), (struct nb_bytes){0});
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.responses, 1);
    assert_int_equal(rpc_conn_call_count(p.pair.conn), 0);
    end(&p);
}

static void N08_window_overflow_is_an_error_of_stream_or_connection(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, "/t.S/Chat");
    frame(&p, WINDOW_UPDATE, 0, 1, "\x7f\xff\xff\xff", 4);
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.resets, 1);
    assert_int_equal(p.pair.canceled, 1);
    frame(&p, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
    (void)say(&p);
    assert_ended(&p, NGHTTP2_FLOW_CONTROL_ERROR);
    end(&p);
}

static void N08_more_data_than_the_window_is_refused(void **state)
{
    (void)state;
    struct rpc_limits limits = {.stream_window_bytes = 1000};
    struct peer p;
    begin(&p, &limits);
    frame(&p, SETTINGS, 1, 0, "", 0); /* ours are in force */
    headers(&p, END_HEADERS, 1, "/t.S/Echo");
    uint8_t data[1001] = {0, 0, 0, 4};
    frame(&p, DATA, 0, 1, data, sizeof data);
    (void)say(&p);
    assert_true(p.resets + p.goaways >= 1);
    assert_int_equal(p.pair.messages, 0);
    end(&p);
}

static void N09_frames_on_wrong_streams_end_the_connection(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        struct peer p;
        begin(&p, NULL);
        switch (kind) {
        case 0:
            frame(&p, DATA, 0, 5, "x", 1); /* idle */
            break;
        case 1:
            headers(&p, END_HEADERS, 2, "/t.S/Chat"); /* even */
            break;
        case 2:
            frame(&p, RESET, 0, 7, cancel_code, 4); /* idle */
            break;
        case 3:
            frame(&p, CONTINUATION, END_HEADERS, 1, "", 0); /* of nothing */
            break;
        default:
            frame(&p, DATA, 0, 0, "x", 1); /* of the connection */
            break;
        }
        (void)say(&p);
        assert_ended(&p, NGHTTP2_PROTOCOL_ERROR);
        assert_int_equal(p.pair.opened, 0);
        end(&p);
    }
}

static void N10_unfinished_messages_of_a_connection_are_bounded(void **state)
{
    (void)state;
    struct rpc_limits limits = {.unfinished_bytes_max = 100000};
    struct peer p;
    begin(&p, &limits);
    uint8_t data[10005] = {0, 0, 0, 0x40, 0};
    for (uint32_t i = 0; i < 30; i++) {
        headers(&p, END_HEADERS, 1 + 2 * i, "/t.S/Echo");
        frame(&p, DATA, 0, 1 + 2 * i, data, sizeof data);
    }
    assert_int_equal(say(&p), NB_OK);
    assert_true(p.responses >= 20); /* refused; their memory went with them */
    assert_int_equal(rpc_conn_call_count(p.pair.conn), 10);
    assert_int_equal(p.pair.messages, 0);
    end(&p);
}

/* One call, with these bytes for a body. No handler sees it, it is answered, the connection goes
 * on. */
static void expect_refusal(const char *path, const char *body, size_t len, unsigned flags)
{
    struct peer p;
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, path);
    frame(&p, DATA, flags, 1, body, len);
    assert_int_equal(say(&p), NB_OK);
    assert_int_equal(p.pair.messages, 0);
    assert_int_equal(p.responses, 1);
    assert_int_equal(p.resets, (flags & END_STREAM) == 0); /* it need not send the rest */
    assert_int_equal(p.goaways, 0);
    assert_int_equal(rpc_conn_call_count(p.pair.conn), 0);
    end(&p);
}

static void N10_broken_framing_is_answered_and_no_handler_sees_it(void **state)
{
    (void)state;
    expect_refusal("/t.S/Echo", "\1\0\0\0\1x", 6, END_STREAM); /* compressed */
    expect_refusal("/t.S/Echo", "\7\0\0\0\1x", 6, END_STREAM); /* no such flag */
    expect_refusal("/t.S/Echo", "\0\0\0\0\2x", 6, END_STREAM); /* cut short */
    expect_refusal("/t.S/Echo", "\0\0", 2, END_STREAM);
    expect_refusal("/t.S/Echo", "", 0, END_STREAM); /* none */
    expect_refusal("/t.S/Echo", "\0\xff\xff\xff\xff", 5, 0);
    expect_refusal("/t.S/Echo", "\0\0\0\0\1x\0\0\0\0\1y", 12, 0); /* two of them */
    expect_refusal("/t.S/Chat", "\0\xff\xff\xff\xff", 5, 0);
    expect_refusal("/t.S/Chat", "\0\0\0\0\2x", 6, END_STREAM);
    expect_refusal("/nothing", "\0\0\0\0\1x", 6, END_STREAM);
}

static void N09_what_is_not_grpc_is_told_so_and_reaches_no_handler(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"GET", "application/grpc"},
                                           {"POST", "application/json"},
                                           {"POST", "application/grpc-web"}};
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct peer p;
        begin(&p, NULL);
        struct nb_buf b = {0};
        field(&b, ":method", cases[i][0]);
        field(&b, ":scheme", "http");
        field(&b, ":path", "/t.S/Chat");
        field(&b, ":authority", "a");
        field(&b, "content-type", cases[i][1]);
        frame(&p, HEADERS, END_HEADERS | END_STREAM, 1, b.data, b.len);
        nb_buf_deinit(&b);
        assert_int_equal(say(&p), NB_OK);
        assert_int_equal(p.responses, 1);
        assert_int_equal(p.pair.opened, 0);
        assert_int_equal(p.resets, 0);
        end(&p);
    }
}

/* Headers of one request as name, value pairs up to a NULL; says whether the stream was reset. */
static bool is_reset(const char *const *fields)
{
    struct peer p;
    begin(&p, NULL);
    struct nb_buf b = {0};
    for (; fields[0] != NULL; fields += 2) {
        field(&b, fields[0], fields[1]);
    }
    frame(&p, HEADERS, END_HEADERS, 1, b.data, b.len);
    nb_buf_deinit(&b);
    assert_int_equal(say(&p), NB_OK);
    bool reset = p.resets != 0;
    assert_int_equal(p.pair.opened, reset ? 0 : 1);
    end(&p);
    return reset;
}

#define GOOD ":method", "POST", ":scheme", "http", ":path", "/t.S/Chat"
#define TYPE "content-type", "application/grpc"

static void N09_malformed_headers_reset_the_stream(void **state)
{
    (void)state;
    assert_false(is_reset((const char *const[]){GOOD, ":authority", "a", TYPE, NULL}));
    /* The Go client of etcd 3.4 sends its endpoint, scheme and all. */
    assert_false(
        is_reset((const char *const[]){GOOD, ":authority", "http://127.0.0.1:2379", TYPE, NULL}));
    assert_false(is_reset((const char *const[]){GOOD, TYPE, NULL}));
    assert_true(is_reset((const char *const[]){GOOD, ":path", "/t.S/Chat", TYPE, NULL}));
    assert_true(is_reset((const char *const[]){GOOD, ":status", "200", TYPE, NULL}));
    assert_true(is_reset((const char *const[]){GOOD, TYPE, ":authority", "a", NULL}));
    assert_true(is_reset((const char *const[]){GOOD, TYPE, "Upper", "x", NULL}));
    assert_true(is_reset((const char *const[]){GOOD, TYPE, "a b", "x", NULL}));
    assert_true(is_reset((const char *const[]){GOOD, TYPE, "connection", "close", NULL}));
    assert_true(is_reset((const char *const[]){":method", "POST", ":scheme", "http", TYPE, NULL}));
}

static void N11_pings_come_at_most_every_five_seconds(void **state)
{
    (void)state;
    struct peer p;
    begin(&p, NULL);
    headers(&p, END_HEADERS, 1, "/t.S/Chat");
    for (int i = 0; i < 20; i++) { /* at that pace all is well */
        frame(&p, PING, 0, 0, "12345678", 8);
        assert_int_equal(say(&p), NB_OK);
        p.pair.now_ns += 5 * NS_PER_S;
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(p.goaways, 0);
        frame(&p, PING, 0, 0, "12345678", 8);
        (void)say(&p);
        p.pair.now_ns += NS_PER_S;
    }
    frame(&p, PING, 0, 0, "12345678", 8);
    (void)say(&p);
    assert_ended(&p, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_string_equal(p.goaway_text, "too_many_pings");
    end(&p);
}

static void N11_pings_without_a_stream_are_not_permitted(void **state)
{
    (void)state;
    for (int permit = 0; permit < 2; permit++) {
        struct rpc_limits limits = {.keepalive_permit_without_stream = permit != 0};
        struct peer p;
        begin(&p, &limits);
        for (int i = 0; i < 4; i++) {
            frame(&p, PING, 0, 0, "12345678", 8);
            (void)say(&p);
            p.pair.now_ns += 10 * NS_PER_S;
        }
        assert_int_equal(p.goaways, permit ? 0 : 1);
        end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(N01_rapid_reset_ends_the_connection),
        cmocka_unit_test(N01_resets_of_ordinary_clients_are_within_the_budget),
        cmocka_unit_test(N01_running_calls_are_limited),
        cmocka_unit_test(N02_provoked_resets_use_the_same_budget),
        cmocka_unit_test(N03_a_flood_of_continuations_ends_the_connection),
        cmocka_unit_test(N04_a_header_list_beyond_the_limit_resets_its_stream),
        cmocka_unit_test(N04_an_overlong_integer_is_a_compression_error),
        cmocka_unit_test(N05_a_flood_of_settings_or_pings_ends_the_connection),
        cmocka_unit_test(N06_frames_that_bring_nothing_are_counted),
        cmocka_unit_test(N06_output_that_nobody_reads_is_bounded),
        cmocka_unit_test(N07_each_phase_has_its_time),
        cmocka_unit_test(N07_headers_that_do_not_come_on_end_their_stream),
        cmocka_unit_test(N06_trailers_upon_trailers_are_counted),
        cmocka_unit_test(N06_an_answer_larger_than_the_bound_reaches_who_reads),
        cmocka_unit_test(an_answer_beyond_two_gigabytes_is_refused),
        cmocka_unit_test(N08_window_overflow_is_an_error_of_stream_or_connection),
        cmocka_unit_test(N08_more_data_than_the_window_is_refused),
        cmocka_unit_test(N09_frames_on_wrong_streams_end_the_connection),
        cmocka_unit_test(N10_unfinished_messages_of_a_connection_are_bounded),
        cmocka_unit_test(N10_broken_framing_is_answered_and_no_handler_sees_it),
        cmocka_unit_test(N09_what_is_not_grpc_is_told_so_and_reaches_no_handler),
        cmocka_unit_test(N09_malformed_headers_reset_the_stream),
        cmocka_unit_test(N11_pings_come_at_most_every_five_seconds),
        cmocka_unit_test(N11_pings_without_a_stream_are_not_permitted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
