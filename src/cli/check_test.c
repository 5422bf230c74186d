/*
 * check, soak and log against three nodes of ours, which live in a process of their own: one loop,
 * three listeners, one store. What a node gets wrong is told before it begins.
 */
#include "cli/cli.h"
#include "nabata.pb-c.h"
#include "tests/support/unit.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NODES = 3, KEYS_MAX = 256, APPLIED = 40, PAIRS_MAX = 8 };

/* What is wrong with node 2. */
enum fault {
    FAULT_NONE,
    FAULT_VALUE,
    FAULT_LOG,
    FAULT_DATA,
    FAULT_DOWN,
    FAULT_NO_QUORUM,
    FAULT_OLD
};

struct node {
    struct net_listener *listener;
    unsigned place;
};

struct peer {
    struct node *node;
    struct net_conn *conn;
    struct rpc_conn *rpc;
};

static struct net_loop *loop;
static struct rpc_server *server;
static struct node nodes[NODES];
static enum fault fault;
static struct {
    char *key;
    struct nb_buf value;
} store[KEYS_MAX];
static size_t store_count;

static unsigned place_of(struct rpc_call *call)
{
    const struct peer *peer = rpc_conn_user(rpc_call_conn(call));
    return peer->node->place;
}

static bool has(struct rpc_call *call, enum fault which)
{
    return fault == which && place_of(call) == 2;
}

static void reply(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct nb_buf bytes = {0};
    cli_pack(&bytes, message);
    rpc_call_reply(call, nb_buf_bytes(&bytes), nb_bytes_of(NULL, 0));
    nb_buf_deinit(&bytes);
}

static Etcdserverpb__ResponseHeader header_of(struct rpc_call *call)
{
    Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    header.member_id = place_of(call) + 1;
    header.revision = 7;
    return header;
}

static void on_put(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__PutRequest *put =
        etcdserverpb__put_request__unpack(NULL, message.len, message.data);
    Etcdserverpb__PutResponse answer = ETCDSERVERPB__PUT_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader header = header_of(call);
    answer.header = &header;
    if (fault == FAULT_NO_QUORUM) {
        rpc_call_finish(call, RPC_UNAVAILABLE, "etcdserver: request timed out");
    } else if (store_count < KEYS_MAX) {
        store[store_count].key = nb_sprintf("%.*s", (int)put->key.len, (const char *)put->key.data);
        nb_buf_append(&store[store_count++].value, put->value.data, put->value.len);
        reply(call, &answer.base);
    }
    cli_free(put);
}

/* Stored keys come in the order of their names: they are written in it. */
static bool in_range(const Etcdserverpb__RangeRequest *range, const char *key)
{
    struct nb_bytes first = nb_bytes_of(range->key.data, range->key.len);
    struct nb_bytes end = nb_bytes_of(range->range_end.data, range->range_end.len);
    struct nb_bytes at = nb_bytes_str(key);
    return end.len == 0 ? nb_bytes_equal(first, at)
                        : nb_bytes_compare(first, at) <= 0 && nb_bytes_compare(at, end) < 0;
}

static void on_range(struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__RangeRequest *range =
        etcdserverpb__range_request__unpack(NULL, message.len, message.data);
    Etcdserverpb__RangeResponse answer = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Mvccpb__KeyValue pair[PAIRS_MAX], *pairs[PAIRS_MAX];
    for (size_t i = 0; i < store_count; i++) {
        if (!in_range(range, store[i].key)) {
            continue;
        }
        if (answer.n_kvs == PAIRS_MAX) { /* pages of ours are short */
            answer.more = true;
            break;
        }
        mvccpb__key_value__init(&pair[answer.n_kvs]);
        pair[answer.n_kvs].key = ops_text(store[i].key);
        pair[answer.n_kvs].mod_revision = 7;
        pair[answer.n_kvs].value =
            has(call, FAULT_VALUE) ? ops_text("another") : ops_bytes(nb_buf_bytes(&store[i].value));
        pairs[answer.n_kvs] = &pair[answer.n_kvs];
        answer.n_kvs++;
    }
    answer.kvs = pairs;
    reply(call, &answer.base);
    cli_free(range);
}

static void on_delete(struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    Etcdserverpb__DeleteRangeResponse answer = ETCDSERVERPB__DELETE_RANGE_RESPONSE__INIT;
    reply(call, &answer.base);
}

static void on_status(struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    Etcdserverpb__StatusResponse answer;
    Etcdserverpb__ResponseHeader header = header_of(call);
    etcdserverpb__status_response__init(&answer);
    answer.header = &header;
    answer.leader = 1;
    answer.raftindex = answer.raftappliedindex = APPLIED;
    reply(call, &answer.base);
}

static void on_hash(struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    Etcdserverpb__HashKVResponse answer = ETCDSERVERPB__HASH_KVRESPONSE__INIT;
    answer.hash = has(call, FAULT_DATA) ? 2 : 1;
    reply(call, &answer.base);
}

/* Node k has applied k entries more than node 0, so the common index is node 0's. */
static void on_node(struct rpc_call *call, struct nb_bytes message)
{
    if (fault == FAULT_OLD) {
        rpc_call_finish(call, RPC_UNIMPLEMENTED, "unknown service nabatapb.Inspect");
        return;
    }
    char role[16];
    Nabatapb__NodeRequest *request =
        nabatapb__node_request__unpack(NULL, message.len, message.data);
    Nabatapb__NodeResponse answer;
    nabatapb__node_response__init(&answer);
    (void)snprintf(role, sizeof role, "%s", place_of(call) == 0 ? "leader" : "follower");
    answer.role = role;
    answer.last_index = answer.applied_index = APPLIED + place_of(call);
    answer.hash_index = request->hash_index != 0 ? request->hash_index : answer.applied_index;
    answer.hash_known = answer.hash_index <= answer.applied_index;
    answer.log_hash = has(call, FAULT_LOG) ? 666 : 1000 + answer.hash_index;
    reply(call, &answer.base);
    cli_free(request);
}

static void on_log(struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    char kind[] = "put";
    ProtobufCBinaryData key = ops_text("k");
    for (uint64_t index = 1 + place_of(call); index <= 4; index++) {
        Nabatapb__LogEntry entry, *entries[] = {&entry};
        Nabatapb__LogResponse piece = NABATAPB__LOG_RESPONSE__INIT;
        struct nb_buf bytes = {0};
        nabatapb__log_entry__init(&entry);
        entry.index = index;
        entry.term = 2;
        entry.kind = kind;
        entry.keys = &key;
        entry.n_keys = 1;
        entry.committed = true;
        entry.hash = has(call, FAULT_LOG) && index == 4 ? 666 : index;
        piece.entries = entries;
        piece.n_entries = 1;
        cli_pack(&bytes, &piece.base);
        rpc_call_send(call, nb_buf_bytes(&bytes), nb_bytes_of(NULL, 0));
        nb_buf_deinit(&bytes);
    }
    rpc_call_finish(call, RPC_OK, NULL);
}

/* clang-format off */
static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.KV/Put", .kind = RPC_UNARY, .on_message = on_put},
    {.path = "/etcdserverpb.KV/Range", .kind = RPC_UNARY, .on_message = on_range},
    {.path = "/etcdserverpb.KV/DeleteRange", .kind = RPC_UNARY, .on_message = on_delete},
    {.path = "/etcdserverpb.Maintenance/Status", .kind = RPC_UNARY, .on_message = on_status},
    {.path = "/etcdserverpb.Maintenance/HashKV", .kind = RPC_UNARY, .on_message = on_hash},
    {.path = "/nabatapb.Inspect/Node", .kind = RPC_UNARY, .on_message = on_node},
    {.path = "/nabatapb.Inspect/Log", .kind = RPC_SERVER_STREAM, .on_message = on_log},
};
/* clang-format on */

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
    (void)rpc_conn_output(peer->rpc, net_conn_output(conn), SIZE_MAX);
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
    peer->rpc = rpc_conn_create(server, net_now_ns(), peer);
    net_conn_start(conn, &events, peer, NULL);
}

/* The child: says its ports through the pipe, then serves until it is killed. */
NB_NORETURN static void serve(int to)
{
    struct net_address any;
    struct net_error error;
    uint16_t ports[NODES];
    struct rpc_server_config config = {
        .methods = methods, .method_count = NB_ARRAY_LEN(methods), .on_output = on_output};
    loop = net_loop_create();
    server = rpc_server_create(&config);
    bool right = net_address_parse("127.0.0.1:0", 0, &any, &error);
    for (unsigned i = 0; i < NODES && right; i++) {
        nodes[i].place = i;
        right = net_listener_open(loop, &any, NULL, on_accept, &nodes[i], &nodes[i].listener,
                                  &error) == NB_OK;
        ports[i] = right ? net_listener_port(nodes[i].listener) : 0;
    }
    if (fault == FAULT_DOWN) {
        net_listener_close(nodes[2].listener);
        (void)net_loop_run_once(loop, false);
    }
    if (right && write(to, ports, sizeof ports) == sizeof ports) {
        net_loop_run(loop);
    }
    _exit(1);
}

/* Runs `words` with the three endpoints after them (or as one list); fills `out` with stdout. */
static int run(enum fault which, const char *const *words, size_t count, bool list,
               struct nb_buf *out)
{
    int ends[2], code;
    uint16_t ports[NODES];
    char texts[NODES][32], all[128];
    char *argv[16] = {NULL};
    char *envp[] = {NULL};
    fault = which;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        serve(ends[1]);
    }
    assert_int_equal(read(ends[0], ports, sizeof ports), sizeof ports);
    for (size_t i = 0; i < NODES; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "127.0.0.1:%u", (unsigned)ports[i]);
    }
    (void)snprintf(all, sizeof all, "--endpoints=%s,%s,%s", texts[0], texts[1], texts[2]);
    char program[] = "nabata";
    argv[0] = program;
    for (size_t i = 0; i < count; i++) {
        argv[i + 1] = nb_strdup(words[i]);
    }
    for (size_t i = 0; i < (list ? 1 : NODES); i++) {
        argv[count + 1 + i] = list ? all : texts[i];
    }
    int file = memfd_create("stdout", 0), before = dup(STDOUT_FILENO);
    (void)fflush(stdout);
    (void)dup2(file, STDOUT_FILENO);
    code = cli_main((int)count + 1 + (list ? 1 : NODES), argv, envp);
    (void)dup2(before, STDOUT_FILENO);
    off_t size = lseek(file, 0, SEEK_END);
    assert_int_equal(pread(file, nb_buf_extend(out, (size_t)size), (size_t)size, 0), size);
    nb_buf_append(out, "", 1);
    for (size_t i = 0; i < count; i++) {
        nb_free(argv[i + 1]);
    }
    (void)close(file);
    (void)close(before);
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    return code;
}

static void check(enum fault which, int code, const char *expected)
{
    const char *words[] = {"check", "--keys=20", "--timeout=1s"};
    struct nb_buf out = {0};
    int got = run(which, words, NB_ARRAY_LEN(words), false, &out);
    if (got != code || strstr((const char *)out.data, expected) == NULL) {
        print_message("%s\n", (const char *)out.data);
    }
    assert_int_equal(got, code);
    assert_non_null(strstr((const char *)out.data, expected));
    nb_buf_deinit(&out);
}

static void nodes_that_agree_are_right(void **state)
{
    (void)state;
    check(FAULT_NONE, 0, "OPERATIONS: yes (3 of 3 nodes, compared up to index 40)");
    check(FAULT_NONE, 0, "Read:    60 values, each through every live node: all right");
}

static void a_wrong_value_is_found(void **state)
{
    (void)state;
    check(FAULT_VALUE, 1, "20 WRONG, 0 unreadable");
}

static void a_differing_log_is_found(void **state)
{
    (void)state;
    check(FAULT_LOG, 1, "OPERATIONS: NO");
}

static void differing_data_are_found(void **state)
{
    (void)state;
    check(FAULT_DATA, 1, "OPERATIONS: NO");
}

static void one_of_three_down_is_no_failure(void **state)
{
    (void)state;
    check(FAULT_DOWN, 0, "OPERATIONS: yes (2 of 3 nodes, compared up to index 40)");
    check(FAULT_DOWN, 0, "Down:    127.0.0.1:");
}

static void no_quorum_is_said(void **state)
{
    (void)state;
    check(FAULT_NO_QUORUM, 2, "NO QUORUM");
}

static void servers_without_inspect_are_compared_by_their_data(void **state)
{
    (void)state;
    check(FAULT_OLD, 0, "they do not show their logs");
}

static void json_has_the_verdict(void **state)
{
    (void)state;
    const char *words[] = {"check", "--keys=5", "--json"};
    struct nb_buf out = {0};
    assert_int_equal(run(FAULT_NONE, words, NB_ARRAY_LEN(words), false, &out), 0);
    assert_non_null(strstr((const char *)out.data, "\"same_log\":true,\"log_compared\":true"));
    assert_non_null(strstr((const char *)out.data, "\"ok\":true}"));
    nb_buf_deinit(&out);
}

static void soak(enum fault which, int code, const char *expected)
{
    const char *words[] = {
        "soak", "--rate=200", "--writers=1", "--duration=200ms", "--timeout=100ms", "--json"};
    struct nb_buf out = {0};
    int got = run(which, words, NB_ARRAY_LEN(words), false, &out);
    if (got != code || strstr((const char *)out.data, expected) == NULL) {
        print_message("%s\n", (const char *)out.data);
    }
    assert_int_equal(got, code);
    assert_non_null(strstr((const char *)out.data, expected));
    nb_buf_deinit(&out);
}

static void soak_finds_all_that_was_acknowledged(void **state)
{
    (void)state;
    soak(FAULT_NONE, 0, "\"failed\":0,\"retried\":0,");
    soak(FAULT_NONE, 0, "\"lost\":0,");
}

static void soak_finds_what_one_node_lost(void **state)
{
    (void)state;
    soak(FAULT_VALUE, 1, "\"ok\":false");
}

static void soak_goes_to_another_node_when_one_is_down(void **state)
{
    (void)state;
    soak(FAULT_DOWN, 0, "\"failed\":0,");
}

static void soak_counts_writes_that_failed_and_loses_none_of_them(void **state)
{
    (void)state;
    soak(FAULT_NO_QUORUM, 0, "\"acknowledged\":0,");
}

static void log_marks_where_nodes_differ(void **state)
{
    (void)state;
    const char *words[] = {"log"};
    struct nb_buf out = {0};
    assert_int_equal(run(FAULT_NONE, words, 1, true, &out), 0);
    assert_non_null(strstr((const char *)out.data, "the same entry at every common index"));
    nb_buf_clear(&out);
    assert_int_equal(run(FAULT_LOG, words, 1, true, &out), 1);
    assert_non_null(strstr((const char *)out.data, "DIFFERENT"));
    assert_non_null(strstr((const char *)out.data, "1 indices hold different entries"));
    nb_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_that_agree_are_right),
        cmocka_unit_test(a_wrong_value_is_found),
        cmocka_unit_test(a_differing_log_is_found),
        cmocka_unit_test(differing_data_are_found),
        cmocka_unit_test(one_of_three_down_is_no_failure),
        cmocka_unit_test(no_quorum_is_said),
        cmocka_unit_test(servers_without_inspect_are_compared_by_their_data),
        cmocka_unit_test(json_has_the_verdict),
        cmocka_unit_test(soak_finds_all_that_was_acknowledged),
        cmocka_unit_test(soak_finds_what_one_node_lost),
        cmocka_unit_test(soak_goes_to_another_node_when_one_is_down),
        cmocka_unit_test(soak_counts_writes_that_failed_and_loses_none_of_them),
        cmocka_unit_test(log_marks_where_nodes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
