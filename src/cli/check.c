/* check: the work. See check.h. */
#include "cli/check.h"

#include "base/random.h"
#include "cli/commands.h"
#include "cli/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    IN_FLIGHT_MAX = 64,
    TRIES_MAX = 3,
    COMPARE_TRIES_MAX = 20,
    KEYS_MAX = 10 * 1000 * 1000,
    VALUE_SIZE_MAX = 1 << 20,
};

/* A run over many small calls, a bounded number of which are under way. */
struct sweep {
    struct check *check;
    struct progress progress;
    size_t endpoint; /* CLIENT_ANY: writes, to all */
    uint64_t next, done;
    bool stop; /* by a failure or a signal */
};

struct sweep_call {
    struct sweep *sweep;
    uint64_t key;
    unsigned tries;
};

static void sweep_more(struct sweep *s);
static void sweep_send(struct sweep_call *call);

static uint64_t timeout_ns(const struct check *c)
{
    return (uint64_t)nb_options_duration_ns(&c->cli->options, "timeout");
}

static const char *key_text(const struct check *c, uint64_t key, char text[96])
{
    (void)snprintf(text, 96, "%s%08" PRIu64, c->prefix, key);
    return text;
}

/* The value of a key: known from the key and the run, so that nothing has to be kept. */
static void value_of(const struct check *c, uint64_t key, struct nb_buf *out)
{
    struct nb_random random;
    char text[96];
    uint64_t seed = key;
    for (const char *at = key_text(c, key, text); *at != '\0'; at++) {
        seed = (seed ^ (uint8_t)*at) * 0x100000001b3u;
    }
    nb_random_init(&random, seed);
    for (size_t i = 0; i < c->value_size; i++) {
        uint8_t letter = (uint8_t)('a' + nb_random_below(&random, 26));
        nb_buf_append(out, &letter, 1);
    }
}

/* ---- writing and reading ---- */

static bool is_write(const struct sweep *s)
{
    return s->endpoint == CLIENT_ANY;
}

static void write_done(struct sweep_call *call, const struct client_reply *reply)
{
    struct check *c = call->sweep->check;
    if (reply->status != RPC_OK) {
        if (c->write_error == NULL) {
            c->write_error = nb_strdup(reply->error);
        }
        call->sweep->stop = true;
        return;
    }
    Etcdserverpb__PutResponse *put =
        etcdserverpb__put_response__unpack(NULL, reply->message.len, reply->message.data);
    if (put != NULL && put->header != NULL && put->header->revision > c->revision) {
        c->revision = put->header->revision;
    }
    cli_free(put);
    c->written_count++;
}

static void note_wrong(struct check *c, const struct check_node *node, uint64_t key,
                       const char *what)
{
    char text[96];
    if (c->first_wrong == NULL) {
        c->first_wrong =
            nb_sprintf("%s through %s: %s", key_text(c, key, text), node->endpoint, what);
    }
}

static void read_done(struct sweep_call *call, const struct client_reply *reply)
{
    struct check *c = call->sweep->check;
    struct check_node *node = &c->nodes[call->sweep->endpoint];
    node->read_count++;
    if (reply->status != RPC_OK) {
        node->unread_count++;
        note_wrong(c, node, call->key, reply->error);
        return;
    }
    struct nb_buf expected = {0};
    value_of(c, call->key, &expected);
    Etcdserverpb__RangeResponse *range =
        etcdserverpb__range_response__unpack(NULL, reply->message.len, reply->message.data);
    if (range == NULL || range->n_kvs != 1) {
        node->wrong_count++;
        note_wrong(c, node, call->key, "is not there");
    } else if (!nb_bytes_equal(nb_bytes_of(range->kvs[0]->value.data, range->kvs[0]->value.len),
                               nb_buf_bytes(&expected))) {
        node->wrong_count++;
        note_wrong(c, node, call->key, "holds another value than was written");
    }
    cli_free(range);
    nb_buf_deinit(&expected);
}

static void sweep_call_done(void *user, const struct client_reply *reply)
{
    struct sweep_call *call = user;
    struct sweep *s = call->sweep;
    /* Each key is written once with one value, so a write too may be sent again here. */
    if (reply->status != RPC_OK && ++call->tries < TRIES_MAX && !s->stop) {
        sweep_send(call);
        return;
    }
    if (is_write(s)) {
        write_done(call, reply);
    } else {
        read_done(call, reply);
    }
    s->done++;
    nb_free(call);
    progress_set(&s->progress, s->done, net_now_ns(), "");
    sweep_more(s);
}

static void sweep_send(struct sweep_call *call)
{
    struct sweep *s = call->sweep;
    struct check *c = s->check;
    char text[96];
    struct nb_buf bytes = {0}, value = {0};
    struct client_request request = {.endpoint = s->endpoint,
                                     .timeout_ns = timeout_ns(c),
                                     .on_done = sweep_call_done,
                                     .user = call};
    if (is_write(s)) {
        Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
        value_of(c, call->key, &value);
        put.key = ops_text(key_text(c, call->key, text));
        put.value = ops_bytes(nb_buf_bytes(&value));
        cli_pack(&bytes, &put.base);
        request.path = "/etcdserverpb.KV/Put";
    } else {
        Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;
        range.key = ops_text(key_text(c, call->key, text));
        cli_pack(&bytes, &range.base);
        request.path = "/etcdserverpb.KV/Range";
        request.flags = CLIENT_READ;
    }
    request.message = nb_buf_bytes(&bytes);
    (void)client_start(c->cli->client, &request);
    nb_buf_deinit(&bytes);
    nb_buf_deinit(&value);
}

static void sweep_more(struct sweep *s)
{
    while (!s->stop && s->next < s->check->key_count && s->next - s->done < IN_FLIGHT_MAX) {
        struct sweep_call *call = nb_alloc_zero(1, sizeof *call);
        *call = (struct sweep_call){.sweep = s, .key = s->next++};
        sweep_send(call);
    }
}

static void on_interrupt(void *user, int number)
{
    (void)number;
    struct sweep *s = user;
    s->stop = true;
}

/* False when it was interrupted or given up. */
static bool sweep(struct check *c, size_t endpoint, const char *label)
{
    struct sweep s = {.check = c, .endpoint = endpoint};
    struct net_signal *interrupt =
        net_signal_create(client_loop(c->cli->client), SIGINT, on_interrupt, &s);
    progress_begin(&s.progress, label, c->key_count);
    sweep_more(&s);
    client_run(c->cli->client, NULL); /* what is under way ends within its timeout */
    progress_end(&s.progress);
    net_signal_destroy(interrupt);
    return !s.stop;
}

/* ---- asking the nodes ---- */

struct question {
    const char *path;
    const ProtobufCMessage *request;
    const ProtobufCMessageDescriptor *answer;
};

struct question_call {
    const struct question *question;
    struct check_node *node;
    void *message;
    enum rpc_status status;
};

static void on_answered(void *user, const struct client_reply *reply)
{
    struct question_call *call = user;
    call->status = reply->status;
    if (reply->status == RPC_OK) {
        call->message = protobuf_c_message_unpack(call->question->answer, NULL, reply->message.len,
                                                  reply->message.data);
    } else if (reply->status != RPC_UNIMPLEMENTED && !reply->sent && call->node->down == NULL) {
        call->node->down = nb_strdup(reply->error);
    }
}

/* Asks all live nodes at once; an answer each, or NULL. The caller owns the messages. */
static void ask_nodes(struct check *c, const struct question *question, void **out)
{
    struct question_call *calls = nb_alloc_zero(c->node_count, sizeof *calls);
    struct nb_buf bytes = {0};
    cli_pack(&bytes, question->request);
    for (size_t i = 0; i < c->node_count; i++) {
        calls[i] = (struct question_call){.question = question, .node = &c->nodes[i]};
        if (c->nodes[i].down != NULL) {
            continue;
        }
        struct client_request request = {.path = question->path,
                                         .message = nb_buf_bytes(&bytes),
                                         .flags = CLIENT_FAIL_FAST,
                                         .endpoint = i,
                                         .timeout_ns = timeout_ns(c),
                                         .on_done = on_answered,
                                         .user = &calls[i]};
        (void)client_start(c->cli->client, &request);
    }
    client_run(c->cli->client, NULL);
    for (size_t i = 0; i < c->node_count; i++) {
        out[i] = calls[i].message;
    }
    nb_buf_deinit(&bytes);
    nb_free(calls);
}

static void count_live(struct check *c)
{
    c->live_count = 0;
    for (size_t i = 0; i < c->node_count; i++) {
        c->live_count += c->nodes[i].down == NULL;
    }
}

/* A node that does not answer even this is down. */
static void ask_status(struct check *c)
{
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    struct question question = {"/etcdserverpb.Maintenance/Status", &request.base,
                                &etcdserverpb__status_response__descriptor};
    void **answers = nb_alloc_zero(c->node_count, sizeof *answers);
    ask_nodes(c, &question, answers);
    for (size_t i = 0; i < c->node_count; i++) {
        cli_free(c->nodes[i].status);
        c->nodes[i].status = answers[i];
        if (answers[i] == NULL && c->nodes[i].down == NULL) {
            c->nodes[i].down = nb_strdup("does not answer");
        }
    }
    nb_free(answers);
    count_live(c);
}

static void ask_node(struct check *c, uint64_t hash_index)
{
    Nabatapb__NodeRequest request = NABATAPB__NODE_REQUEST__INIT;
    struct question question = {"/nabatapb.Inspect/Node", &request.base,
                                &nabatapb__node_response__descriptor};
    request.hash_index = hash_index;
    void **answers = nb_alloc_zero(c->node_count, sizeof *answers);
    ask_nodes(c, &question, answers);
    for (size_t i = 0; i < c->node_count; i++) {
        cli_free(c->nodes[i].node);
        c->nodes[i].node = answers[i];
    }
    nb_free(answers);
    count_live(c);
}

/* True when the hashes are known on every live node; `c->log` then tells. False: try again. */
static bool compare_logs(struct check *c)
{
    uint64_t common = UINT64_MAX;
    ask_node(c, 0);
    for (size_t i = 0; i < c->node_count; i++) {
        const struct check_node *n = &c->nodes[i];
        if (n->down == NULL && n->node == NULL) {
            return true; /* one of them does not show its log: unknown */
        }
        if (n->down == NULL && n->node->applied_index < common) {
            common = n->node->applied_index;
        }
    }
    if (common == UINT64_MAX) {
        return true;
    }
    ask_node(c, common);
    const struct check_node *first = NULL;
    enum check_same same = CHECK_SAME;
    for (size_t i = 0; i < c->node_count; i++) {
        const struct check_node *n = &c->nodes[i];
        if (n->down != NULL) {
            continue;
        }
        if (n->node == NULL || !n->node->hash_known || n->node->hash_index != common) {
            return false;
        }
        if (first != NULL && first->node->log_hash != n->node->log_hash) {
            same = CHECK_DIFFERENT;
        }
        first = first == NULL ? n : first;
    }
    c->common_index = common;
    c->log = same;
    return true;
}

static void compare_data(struct check *c)
{
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    struct question question = {"/etcdserverpb.Maintenance/HashKV", &request.base,
                                &etcdserverpb__hash_kvresponse__descriptor};
    request.revision = c->revision;
    void **answers = nb_alloc_zero(c->node_count, sizeof *answers);
    ask_nodes(c, &question, answers);
    const Etcdserverpb__HashKVResponse *first = NULL;
    bool all = true;
    c->data = CHECK_SAME;
    for (size_t i = 0; i < c->node_count; i++) {
        Etcdserverpb__HashKVResponse *hash = answers[i];
        cli_free(c->nodes[i].hash);
        c->nodes[i].hash = hash;
        if (c->nodes[i].down != NULL) {
            continue;
        }
        all = all && hash != NULL;
        if (hash == NULL) {
            continue;
        }
        if (first != NULL &&
            (first->hash != hash->hash || first->compact_revision != hash->compact_revision)) {
            c->data = CHECK_DIFFERENT;
        }
        first = first == NULL ? hash : first;
    }
    c->data = all && first != NULL ? c->data : CHECK_UNKNOWN;
    nb_free(answers);
}

static void ask_names(struct check *c)
{
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    struct question question = {"/etcdserverpb.Cluster/MemberList", &request.base,
                                &etcdserverpb__member_list_response__descriptor};
    void **answers = nb_alloc_zero(c->node_count, sizeof *answers);
    ask_nodes(c, &question, answers);
    for (size_t i = 0; i < c->node_count; i++) {
        const Etcdserverpb__MemberListResponse *list = answers[i];
        const Etcdserverpb__StatusResponse *status = c->nodes[i].status;
        for (size_t j = 0; list != NULL && j < list->n_members; j++) {
            if (status != NULL && status->header != NULL && c->nodes[i].name == NULL &&
                list->members[j]->id == status->header->member_id) {
                c->nodes[i].name = nb_strdup(list->members[j]->name);
            }
        }
        cli_free(answers[i]);
    }
    nb_free(answers);
}

static void delete_keys(struct check *c)
{
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    struct nb_buf bytes = {0};
    struct client_answer answer;
    request.key = ops_text(c->prefix);
    request.range_end = ops_bytes(ops_prefix_end(&c->cli->arena, nb_bytes_str(c->prefix)));
    cli_pack(&bytes, &request.base);
    struct client_request call = {.path = "/etcdserverpb.KV/DeleteRange",
                                  .message = nb_buf_bytes(&bytes),
                                  .endpoint = CLIENT_ANY,
                                  .timeout_ns = timeout_ns(c)};
    client_call_sync(c->cli->client, &call, &answer);
    if (answer.status != RPC_OK) {
        (void)fprintf(stderr, "The keys %s* could not be deleted: %s\n", c->prefix, answer.error);
    }
    client_answer_deinit(&answer);
    nb_buf_deinit(&bytes);
}

/* ---- all of it ---- */

/* Nodes that died while they were read from are down, and what they did not answer is no fault. */
static void forgive_the_dead(struct check *c)
{
    ask_status(c);
    bool wrong = false;
    for (size_t i = 0; i < c->node_count; i++) {
        struct check_node *n = &c->nodes[i];
        n->unread_count = n->down != NULL ? 0 : n->unread_count;
        wrong = wrong || n->wrong_count > 0 || n->unread_count > 0;
    }
    if (!wrong) {
        nb_free(c->first_wrong);
        c->first_wrong = NULL;
    }
}

/* The exit code, or CLI_INTERRUPTED. */
static int check(struct check *c)
{
    ask_status(c);
    ask_names(c);
    if (c->live_count == 0) {
        c->write_error = nb_strdup("no node answers");
        return CHECK_NO_QUORUM;
    }
    bool whole = sweep(c, CLIENT_ANY, "writing");
    for (size_t i = 0; i < c->node_count && whole; i++) {
        char label[300];
        (void)snprintf(label, sizeof label, "reading through %s", c->nodes[i].endpoint);
        whole = c->nodes[i].down != NULL || sweep(c, i, label);
    }
    if (whole) {
        forgive_the_dead(c);
        for (unsigned tries = 0; tries < COMPARE_TRIES_MAX && !compare_logs(c); tries++) {
            /* a node moved on meanwhile: ask anew */
        }
        compare_data(c);
    } else {
        ask_status(c);
        ask_node(c, 0);
    }
    if (!nb_options_bool(&c->cli->options, "keep") && c->written_count > 0) {
        delete_keys(c);
    }
    return whole || c->write_error != NULL ? check_verdict(c) : CLI_INTERRUPTED;
}

static int run(struct cli *cli)
{
    uint64_t started_ns = net_now_ns();
    struct check c = {.cli = cli,
                      .key_count = nb_options_uint64(&cli->options, "keys"),
                      .value_size = nb_options_uint64(&cli->options, "value-size")};
    if (c.key_count < 1 || c.key_count > KEYS_MAX || c.value_size > VALUE_SIZE_MAX) {
        return cli_fail(CLI_BAD_ARGUMENTS, "--keys must be from 1 to %d, --value-size at most %d",
                        KEYS_MAX, VALUE_SIZE_MAX);
    }
    int code = cli->options.argument_count == 0
                   ? cli_connect(cli, 1)
                   : cli_reconnect(cli, cli->options.arguments, cli->options.argument_count, 1);
    if (code != CLI_OK) {
        return code;
    }
    (void)snprintf(c.prefix, sizeof c.prefix, "nabata-check/%016" PRIx64 "/", nb_random_entropy());
    c.node_count = client_endpoint_count(cli->client);
    c.nodes = nb_alloc_zero(c.node_count, sizeof *c.nodes);
    for (size_t i = 0; i < c.node_count; i++) {
        c.nodes[i].endpoint = client_endpoint_name(cli->client, i);
    }
    code = check(&c);
    c.took_ns = net_now_ns() - started_ns;
    bool json = nb_options_bool(&cli->options, "json") || cli->format.kind == FORMAT_JSON;
    check_report(&c, json, !json && cli_color(1), &cli->out);
    for (size_t i = 0; i < c.node_count; i++) {
        cli_free(c.nodes[i].status);
        cli_free(c.nodes[i].node);
        cli_free(c.nodes[i].hash);
        nb_free(c.nodes[i].name);
        nb_free(c.nodes[i].down);
    }
    nb_free(c.nodes);
    nb_free(c.write_error);
    nb_free(c.first_wrong);
    return code;
}

/* clang-format off */
static const struct nb_option rows[] = {
    {.name = "keys", .type = NB_OPTION_UINT64, .default_text = "100", .help = "how many values to write"},
    {.name = "value-size", .type = NB_OPTION_UINT64, .default_text = "100", .metavar = "BYTES", .help = "bytes of each"},
    {.name = "timeout", .type = NB_OPTION_DURATION, .default_text = "5s", .help = "of one request; each is tried three times"},
    {.name = "keep", .type = NB_OPTION_BOOL, .help = "do not delete the keys at the end"},
    {.name = "json", .type = NB_OPTION_BOOL, .help = "one JSON object, for scripts"},
};
/* clang-format on */
static const struct ops_table options = {rows, NB_ARRAY_LEN(rows)};

static const struct nb_options_example examples[] = {
    {"nabata check 127.0.0.1:6000 127.0.0.1:6010 127.0.0.1:6020", "three nodes, 100 keys"},
    {"nabata check --keys 10000 --json m1:2379 m2:2379 m3:2379 | jq .same_log", "for a script"},
};

const struct cli_command cli_command_check = {
    .name = "check",
    .arguments = "[HOST:PORT ...]",
    .help = "Proves that a cluster works and that its nodes agree",
    .more = "Writes values, reads every one back through every live node, and compares the nodes' "
            "logs and data. A node that is down is shown and is no failure. Exit code: 0 all is "
            "right, 1 wrong values or differing logs, 2 no quorum. Without arguments: the nodes of "
            "--endpoints, or else those behind --service.",
    .group = "Cluster",
    .options = &options,
    .argument_max = 64,
    .examples = examples,
    .example_count = NB_ARRAY_LEN(examples),
    .formats = CLI_FORMAT(FORMAT_SIMPLE) | CLI_FORMAT(FORMAT_TABLE) | CLI_FORMAT(FORMAT_JSON),
    .run = run,
};
