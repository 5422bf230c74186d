/*
 * tests/support/rpc_pair: a server's connection and a client, joined in memory.
 *
 * The methods: /t.S/Echo (unary: the message back), /t.S/Later (unary: kept until asked),
 * /t.S/Count (server stream: as many messages as the request is long), /t.S/Chat (bidi: echoes).
 */
#ifndef NABATA_TESTS_SUPPORT_RPC_PAIR_H
#define NABATA_TESTS_SUPPORT_RPC_PAIR_H

#include "rpc/rpc.h"

#include <string.h>

enum { PAIR_KEPT_MAX = 4096 };

struct pair {
    struct rpc_server *server;
    struct rpc_conn *conn;
    struct rpc_client *client;
    uint64_t now_ns;
    size_t split;  /* bytes of one feed; 0: all there are */
    size_t budget; /* bytes_max of one output; 0: 1 MiB */
    struct nb_buf up, down;
    enum nb_status conn_status, client_status;
    /* the server's side */
    struct rpc_call *kept[PAIR_KEPT_MAX];
    size_t kept_count, messages, opened, half_closed, canceled, drained, started, ended;
    enum rpc_cancel cancel_why;
    struct rpc_http *http;
    size_t http_count, http_canceled;
};

/* What became of one call of the client. */
struct outcome {
    struct nb_buf bytes; /* all messages in a row */
    struct nb_buf text;
    size_t messages, done;
    enum rpc_status status;
};

static inline struct pair *pair_of(struct rpc_call *call)
{
    return rpc_conn_user(rpc_call_conn(call));
}

static inline void pair_echo(struct rpc_call *call, struct nb_bytes message)
{
    pair_of(call)->messages++;
    rpc_call_reply(call, message, (struct nb_bytes){0});
}

static inline void pair_later(struct rpc_call *call, struct nb_bytes message)
{
    struct pair *p = pair_of(call);
    (void)message;
    p->messages++;
    nb_assert(p->kept_count < PAIR_KEPT_MAX);
    p->kept[p->kept_count++] = call;
}

static inline void pair_count(struct rpc_call *call, struct nb_bytes message)
{
    pair_of(call)->messages++;
    for (size_t i = 0; i < message.len; i++) {
        rpc_call_send(call, nb_bytes_of(message.data, i), nb_bytes_of("x", 1));
    }
    rpc_call_finish(call, RPC_OK, NULL);
}

static inline void pair_open(struct rpc_call *call)
{
    pair_of(call)->opened++;
}

static inline void pair_chat(struct rpc_call *call, struct nb_bytes message)
{
    pair_of(call)->messages++;
    rpc_call_send(call, message, nb_bytes_str("!"));
}

static inline void pair_hang_up(struct rpc_call *call)
{
    pair_of(call)->half_closed++;
    rpc_call_finish(call, RPC_OK, NULL);
}

static inline void pair_drained(struct rpc_call *call)
{
    pair_of(call)->drained++;
}

static inline void pair_canceled(struct rpc_call *call, enum rpc_cancel why)
{
    struct pair *p = pair_of(call);
    p->canceled++;
    p->cancel_why = why;
    for (size_t i = 0; i < p->kept_count; i++) {
        if (p->kept[i] == call) {
            p->kept[i] = p->kept[--p->kept_count];
        }
    }
}

static inline void pair_http(struct rpc_http *http, void *user)
{
    struct pair *p = rpc_conn_user(rpc_http_conn(http));
    (void)user;
    p->http_count++;
    const struct rpc_http_request *r = rpc_http_request(http);
    if (nb_bytes_equal(r->path, nb_bytes_str("/later"))) {
        p->http = http;
        return;
    }
    struct nb_buf b = {0};
    nb_buf_append_bytes(&b, r->method);
    nb_buf_append_str(&b, " ");
    nb_buf_append_bytes(&b, r->path);
    nb_buf_append_str(&b, " ");
    nb_buf_append_bytes(&b, r->query);
    nb_buf_append_str(&b, " ");
    nb_buf_append_bytes(&b, r->body);
    rpc_http_reply(http, 200, "text/plain", NULL, nb_buf_bytes(&b));
    nb_buf_deinit(&b);
}

static inline void pair_http_canceled(struct rpc_http *http)
{
    struct pair *p = rpc_conn_user(rpc_http_conn(http));
    p->http_canceled++;
    p->http = NULL;
}

static inline void pair_started(void *user, const struct rpc_method *method)
{
    (void)method;
    ((struct pair *)user)->started++;
}

static inline void pair_ended(void *user, const struct rpc_method *method, enum rpc_status status,
                              uint64_t begun_ns)
{
    (void)begun_ns;
    (void)method;
    (void)status;
    ((struct pair *)user)->ended++;
}

static inline void pair_conn_output(struct rpc_conn *conn, void *user)
{
    (void)conn;
    (void)user;
}

static inline void pair_client_output(struct rpc_client *client, void *user)
{
    (void)client;
    (void)user;
}

static const struct rpc_method pair_methods[] = {
    {.path = "/t.S/Echo", .kind = RPC_UNARY, .on_message = pair_echo, .on_cancel = pair_canceled},
    {.path = "/t.S/Later", .kind = RPC_UNARY, .on_message = pair_later, .on_cancel = pair_canceled},
    {.path = "/t.S/Count",
     .kind = RPC_SERVER_STREAM,
     .on_message = pair_count,
     .on_cancel = pair_canceled},
    {.path = "/t.S/Chat",
     .kind = RPC_BIDI,
     .on_open = pair_open,
     .on_message = pair_chat,
     .on_half_close = pair_hang_up,
     .on_drain = pair_drained,
     .on_cancel = pair_canceled},
};

static inline void pair_init(struct pair *p, const struct rpc_limits *limits,
                             const struct rpc_client_config *client)
{
    *p = (struct pair){.now_ns = UINT64_C(1000000000000)};
    struct rpc_server_config config = {
        .methods = pair_methods,
        .method_count = NB_ARRAY_LEN(pair_methods),
        .on_http = pair_http,
        .on_http_cancel = pair_http_canceled,
        .on_output = pair_conn_output,
        .on_call_start = pair_started,
        .on_call_end = pair_ended,
        .user = p,
    };
    if (limits != NULL) {
        config.limits = *limits;
    }
    p->server = rpc_server_create(&config);
    p->conn = rpc_conn_create(p->server, p->now_ns, p);
    struct rpc_client_config c = client != NULL ? *client : (struct rpc_client_config){0};
    c.authority = "test:1";
    c.on_output = pair_client_output;
    p->client = rpc_client_create(&c, p->now_ns);
}

static inline void pair_deinit(struct pair *p)
{
    if (p->client != NULL) {
        rpc_client_destroy(p->client);
    }
    if (p->conn != NULL) {
        rpc_conn_destroy(p->conn);
    }
    nb_assert(p->started == p->ended);
    rpc_server_destroy(p->server);
    nb_buf_deinit(&p->up);
    nb_buf_deinit(&p->down);
}

/* Feeds bytes to the server in pieces of `split`. */
static inline enum nb_status pair_feed(struct pair *p, const void *data, size_t len)
{
    size_t at = 0;
    while (at < len && p->conn_status == NB_OK) {
        size_t piece = p->split == 0 || p->split > len - at ? len - at : p->split;
        p->conn_status =
            rpc_conn_feed(p->conn, nb_bytes_of((const uint8_t *)data + at, piece), p->now_ns);
        at += piece;
    }
    return p->conn_status;
}

/* Carries bytes both ways until none are left. Returns how many went. */
static inline size_t pair_pump(struct pair *p)
{
    size_t total = 0, before;
    size_t budget = p->budget == 0 ? 1 << 20 : p->budget;
    do {
        before = total;
        nb_buf_clear(&p->up);
        (void)rpc_client_output(p->client, &p->up, budget);
        total += p->up.len;
        if (p->conn_status == NB_OK) {
            (void)pair_feed(p, p->up.data, p->up.len);
        }
        nb_buf_clear(&p->down);
        (void)rpc_conn_output(p->conn, &p->down, budget);
        total += p->down.len;
        size_t at = 0;
        while (at < p->down.len && p->client_status == NB_OK) {
            size_t left = p->down.len - at;
            size_t piece = p->split == 0 || p->split > left ? left : p->split;
            p->client_status =
                rpc_client_feed(p->client, nb_bytes_of(p->down.data + at, piece), p->now_ns);
            at += piece;
        }
    } while (total != before);
    return total;
}

static inline void outcome_message(struct rpc_client_call *call, void *user, struct nb_bytes m)
{
    (void)call;
    struct outcome *o = user;
    nb_buf_append_bytes(&o->bytes, m);
    o->messages++;
}

static inline void outcome_done(struct rpc_client_call *call, void *user, enum rpc_status status,
                                struct nb_bytes text)
{
    (void)call;
    struct outcome *o = user;
    o->done++;
    o->status = status;
    nb_buf_clear(&o->text);
    nb_buf_append_bytes(&o->text, text);
}

static const struct rpc_client_events outcome_events = {outcome_message, outcome_done};

static inline struct rpc_client_call *pair_call(struct pair *p, const char *path,
                                                struct nb_bytes message, struct outcome *o)
{
    struct rpc_client_request r = {.path = path, .events = &outcome_events, .user = o};
    *o = (struct outcome){0};
    return rpc_client_unary(p->client, &r, message);
}

static inline void outcome_deinit(struct outcome *o)
{
    nb_buf_deinit(&o->bytes);
    nb_buf_deinit(&o->text);
}

#endif
