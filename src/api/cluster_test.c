/*
 * The Cluster service as its clients see it: over a real connection, before replicas that run in
 * this process. Each refusal with etcd's text and code. [etcd-v3-surface 2.8, 3.1]
 */
#include "api/internal.h"
#include "rpc.pb-c.h"
#include "tests/support/replica_group.h"

#include <string.h>

enum { STRANGER = 99 };

static const uint64_t ms = 1000000;

struct answer {
    bool done;
    enum rpc_status code;
    char text[160];
    struct nb_buf message;
};

struct group {
    struct replica_group replicas;
    struct replica_node *nodes; /* of it */
    struct net_loop *loop;
    struct net_timer *limit;
    struct api *api;
    struct net_conn *conn;
    struct rpc_client *client;
    uint64_t connected_ns[REPLICA_GROUP_COUNT_MAX + 1]; /* by id; 0: there is no connection */
    uint64_t ids_given;
    struct nb_buf ask_answer; /* what the leader says to a follower that asks */
    enum nb_status ask_status;
    unsigned ask_count;
};

/* One turn of everything. */
static void pump(struct group *g)
{
    replica_group_turn(&g->replicas);
    if (g->api != NULL) {
        api_turn(g->api);
        (void)net_loop_run_once(g->loop, false);
    }
}

static void note_done(struct replica_request *request, enum nb_status status,
                      const struct machine_result *result)
{
    assert_int_equal(status, NB_OK);
    assert_int_equal(result->status, NB_OK);
    request->done = NULL;
}

static void log_and_wait(struct group *g, enum machine_kind kind, struct nb_bytes command)
{
    struct replica_request request = {.done = note_done};
    assert_int_equal(replica_propose(g->nodes[0].replica, kind, command, &request), NB_OK);
    while (request.done != NULL) {
        pump(g);
    }
}

static void publish(struct group *g, uint64_t id)
{
    struct nb_buf out = {0};
    char name[] = "started";
    machine_member_encode(&(struct machine_member){.id = id, .name = name}, &out);
    log_and_wait(g, MACHINE_MEMBER_ATTRIBUTES, nb_buf_bytes(&out));
    nb_buf_deinit(&out);
}

/* ---- what the server gives the service ---- */

static bool check_urls(void *user, char **urls, size_t *count)
{
    (void)user;
    bool good = true;
    for (size_t i = 0; i < *count; i++) {
        good = good && strncmp(urls[i], "http://", 7) == 0;
    }
    return good;
}

static uint64_t new_member_id(void *user, char *const *urls, size_t count)
{
    (void)urls;
    (void)count;
    return 1000 + ++((struct group *)user)->ids_given;
}

static uint64_t connected_since(void *user, uint64_t id)
{
    const struct group *g = user;
    return id <= REPLICA_GROUP_COUNT_MAX ? g->connected_ns[id] : 0;
}

static void ask(void *user, uint64_t leader, struct nb_bytes request, uint64_t timeout_ns,
                void (*done)(void *context, enum nb_status status, struct nb_bytes answer),
                void *context)
{
    struct group *g = user;
    assert_int_equal(leader, 1);
    assert_true(request.len != 0 && timeout_ns != 0);
    g->ask_count++;
    done(context, g->ask_status, nb_buf_bytes(&g->ask_answer));
}

/* ---- a client ---- */

static void client_output(struct rpc_client *client, void *user)
{
    (void)client;
    net_conn_want_flush(((struct group *)user)->conn);
}

static void client_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    (void)conn;
    assert_int_equal(rpc_client_feed(((struct group *)user)->client, bytes, net_now_ns()), NB_OK);
}

static void client_flush(struct net_conn *conn, void *user)
{
    struct group *g = user;
    if (rpc_client_output(g->client, net_conn_output(conn), 1 << 20)) {
        net_conn_want_flush(conn);
    }
}

static void client_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    (void)reason;
    struct group *g = user;
    rpc_client_destroy(g->client);
    g->client = NULL;
    g->conn = NULL;
}

static const struct net_conn_events client_conn_events = {
    .on_data = client_data, .on_flush = client_flush, .on_close = client_close};

static void on_connect(void *user, struct net_conn *conn, enum nb_status status, const char *error)
{
    struct group *g = user;
    (void)error;
    assert_int_equal(status, NB_OK);
    struct rpc_client_config config = {
        .authority = "localhost", .on_output = client_output, .user = g};
    g->conn = conn;
    net_conn_start(conn, &client_conn_events, g, NULL);
    g->client = rpc_client_create(&config, net_now_ns());
}

static void on_message(struct rpc_client_call *call, void *user, struct nb_bytes message)
{
    (void)call;
    nb_buf_append_bytes(&((struct answer *)user)->message, message);
}

static void on_done(struct rpc_client_call *call, void *user, enum rpc_status status,
                    struct nb_bytes message)
{
    (void)call;
    struct answer *a = user;
    a->done = true;
    a->code = status;
    (void)snprintf(a->text, sizeof a->text, "%.*s", (int)message.len, (const char *)message.data);
}

static const struct rpc_client_events call_events = {on_message, on_done};

static void too_long(void *user)
{
    (void)user;
    fail_msg("nothing happened for 60 s");
}

/* ---- groups ---- */

static void open_api(struct group *g, unsigned place, uint64_t timeout_ns, bool strict)
{
    g->loop = net_loop_create();
    g->limit = net_timer_create(g->loop, too_long, NULL);
    net_timer_start(g->limit, 60000 * ms, 0);
    struct api_config config = {.loop = g->loop,
                                .replica = g->nodes[place].replica,
                                .cluster_id = REPLICA_GROUP_CLUSTER_ID,
                                .member_id = g->nodes[place].id,
                                .name = "started",
                                .request_bytes_max = 1 << 20,
                                .txn_ops_max = 128,
                                .quota_bytes = UINT64_MAX,
                                .request_timeout_ns = timeout_ns,
                                .cluster = {.user = g,
                                            .check_urls = check_urls,
                                            .new_member_id = new_member_id,
                                            .connected_since_ns = connected_since,
                                            .ask = ask,
                                            .strict = strict,
                                            .learner_count_max = 1}};
    g->api = api_create(&config);
    struct net_address at;
    assert_true(net_address_parse("127.0.0.1:0", 0, &at, NULL));
    assert_int_equal(api_listen(g->api, API_PORT_CLIENT, &at, NULL), NB_OK);
    api_set_serving(g->api, true);
    at.port = net_listener_port(g->api->listeners[0]);
    (void)!net_connect_start(g->loop, &at, 0, on_connect, g);
    while (g->client == NULL) {
        pump(g);
    }
}

struct setup {
    unsigned count;
    unsigned api_at;     /* which node answers */
    unsigned unstarted;  /* how many of the last ones have not said their name */
    bool no_version;     /* of the cluster */
    bool lax;            /* without --strict-reconfig-check */
    uint64_t timeout_ns; /* 0: long */
};

/* `count` voters with the URLs http://n1, http://n2, ...; the first one leads; all are connected
 * for long. */
static struct group *group_of(const struct setup *setup)
{
    struct group *g = nb_alloc_zero(1, sizeof *g);
    struct machine_members members = {0};
    g->nodes = g->replicas.nodes;
    g->replicas.count = setup->count;
    g->replicas.now_ns = 1000 * ms;
    for (unsigned id = 1; id <= g->replicas.count; id++) {
        char url[16], name[] = "";
        (void)snprintf(url, sizeof url, "http://n%u", id);
        char *urls[] = {url};
        machine_members_set(&members,
                            &(struct machine_member){
                                .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1});
        g->connected_ns[id] = 1;
    }
    for (unsigned i = 0; i < g->replicas.count; i++) {
        replica_node_start(&g->replicas, i, &members);
    }
    machine_members_deinit(&members);
    while (replica_leader(g->nodes[0].replica) != 1 ||
           !replica_can_change_members(g->nodes[0].replica)) {
        pump(g);
    }
    for (unsigned id = 1; id <= g->replicas.count - setup->unstarted; id++) {
        publish(g, id);
    }
    if (!setup->no_version) {
        log_and_wait(g, MACHINE_CLUSTER_VERSION, nb_bytes_str("3.7.0"));
    }
    for (unsigned i = 0; i < 50; i++) {
        pump(g); /* the others have it too */
    }
    open_api(g, setup->api_at, setup->timeout_ns == 0 ? 30000 * ms : setup->timeout_ns,
             !setup->lax);
    return g;
}

static void end(struct group *g)
{
    net_conn_abort(g->conn);
    while (g->conn != NULL) {
        (void)net_loop_run_once(g->loop, false);
    }
    for (unsigned i = 0; i < g->replicas.count; i++) {
        replica_node_stop(&g->nodes[i]); /* before the api: nobody answers it any more */
    }
    api_destroy(g->api);
    net_timer_destroy(g->limit);
    net_loop_destroy(g->loop);
    nb_buf_deinit(&g->ask_answer);
    nb_free(g);
}

static struct answer call(struct group *g, const char *method, struct nb_bytes message,
                          const struct rpc_metadata *metadata, size_t metadata_count)
{
    struct answer a = {0};
    char path[64];
    (void)snprintf(path, sizeof path, "/etcdserverpb.Cluster/%s", method);
    struct rpc_client_request r = {.path = path,
                                   .events = &call_events,
                                   .user = &a,
                                   .metadata = metadata,
                                   .metadata_count = metadata_count};
    assert_non_null(rpc_client_unary(g->client, &r, message));
    while (!a.done) {
        pump(g);
    }
    return a;
}

static struct answer call_packed(struct group *g, const char *method, const ProtobufCMessage *in)
{
    struct nb_buf bytes = {0};
    size_t len = protobuf_c_message_get_packed_size(in);
    (void)protobuf_c_message_pack(in, nb_buf_extend(&bytes, len == 0 ? 1 : len));
    bytes.len = len;
    struct answer a = call(g, method, nb_buf_bytes(&bytes), NULL, 0);
    nb_buf_deinit(&bytes);
    return a;
}

static struct answer add(struct group *g, const char *url, bool learner)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s", url);
    char *urls[] = {text};
    Etcdserverpb__MemberAddRequest in = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    in.peerurls = urls;
    in.n_peerurls = 1;
    in.islearner = learner;
    return call_packed(g, "MemberAdd", &in.base);
}

static struct answer update(struct group *g, uint64_t id, const char *url)
{
    char text[64];
    (void)snprintf(text, sizeof text, "%s", url);
    char *urls[] = {text};
    Etcdserverpb__MemberUpdateRequest in = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    in.id = id;
    in.peerurls = urls;
    in.n_peerurls = 1;
    return call_packed(g, "MemberUpdate", &in.base);
}

static struct answer removal(struct group *g, uint64_t id)
{
    Etcdserverpb__MemberRemoveRequest in = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    in.id = id;
    return call_packed(g, "MemberRemove", &in.base);
}

static struct answer promote(struct group *g, uint64_t id)
{
    Etcdserverpb__MemberPromoteRequest in = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    in.id = id;
    return call_packed(g, "MemberPromote", &in.base);
}

static void assert_refused(struct answer a, int code, const char *text)
{
    assert_string_equal(a.text, text);
    assert_int_equal(a.code, code);
    assert_int_equal(a.message.len, 0);
    nb_buf_deinit(&a.message);
}

static void assert_fine(struct answer a)
{
    assert_string_equal(a.text, "");
    assert_int_equal(a.code, RPC_OK);
    nb_buf_deinit(&a.message);
}

static size_t member_count(const struct group *g)
{
    return machine_members(g->nodes[0].machine)->count;
}

/* ---- the rules ---- */

static void urls_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char said[] = "etcdserver: given member URLs are invalid";
    struct group *g = group_of(&(struct setup){.count = 1});
    assert_refused(add(g, "ftp://x", false), 3, said);
    assert_refused(add(g, "", true), 3, said);
    assert_refused(update(g, 1, "nonsense"), 3, said);
    Etcdserverpb__MemberAddRequest none = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    assert_refused(call_packed(g, "MemberAdd", &none.base), 3, said);
    char url[] = "http://x";
    char *many[MACHINE_MEMBER_URL_COUNT_MAX + 1];
    for (size_t i = 0; i < NB_ARRAY_LEN(many); i++) {
        many[i] = url;
    }
    none.peerurls = many;
    none.n_peerurls = NB_ARRAY_LEN(many);
    assert_refused(call_packed(g, "MemberAdd", &none.base), 3, said);
    assert_int_equal(member_count(g), 1);
    end(g);
}

static void a_peer_url_of_another_member_is_refused(void **state)
{
    (void)state;
    static const char said[] = "etcdserver: Peer URLs already exists";
    struct group *g = group_of(&(struct setup){.count = 3});
    assert_refused(add(g, "http://n2", false), 9, said);
    assert_refused(add(g, "http://n2", true), 9, said);
    assert_refused(update(g, 1, "http://n3"), 9, said);
    assert_fine(update(g, 1, "http://n1")); /* its own: nothing changes */
    assert_fine(update(g, 1, "http://n1b"));
    assert_fine(add(g, "http://n1", true)); /* nobody's any more */
    assert_int_equal(member_count(g), 4);
    end(g);
}

static void members_that_there_are_not_are_not_found(void **state)
{
    (void)state;
    static const char said[] = "etcdserver: member not found";
    struct group *g = group_of(&(struct setup){.count = 3});
    assert_refused(removal(g, STRANGER), 5, said);
    assert_refused(update(g, STRANGER, "http://x"), 5, said);
    assert_refused(promote(g, STRANGER), 5, said);
    assert_refused(removal(g, 0), 5, said);
    end(g);
}

static void M08_a_member_that_was_removed_is_not_found_and_stays_away(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3});
    g->connected_ns[3] = 0;
    assert_fine(removal(g, 3));
    assert_int_equal(member_count(g), 2);
    assert_refused(removal(g, 3), 5, "etcdserver: member not found");
    end(g);
}

static void only_learners_in_sync_are_promoted(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3});
    assert_refused(promote(g, 2), 9, "etcdserver: can only promote a learner member");
    assert_fine(add(g, "http://new", true));
    assert_refused(promote(g, 1001), 9,
                   "etcdserver: can only promote a learner member which is in sync with leader");
    assert_int_equal(g->api->metrics.promote_failures[NB_LEARNER_NOT_READY], 1);
    assert_int_equal(g->api->metrics.promote_failures[NB_NOT_LEARNER], 1);
    assert_int_equal(g->api->metrics.promote_success, 0);
    end(g);
}

static void more_learners_than_allowed_are_refused(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3});
    assert_fine(add(g, "http://new", true));
    assert_refused(add(g, "http://newer", true), 9,
                   "etcdserver: too many learner members in cluster");
    assert_int_equal(member_count(g), 4);
    end(g);
}

static void M06_a_change_that_would_lose_the_started_quorum_is_refused(void **state)
{
    (void)state;
    static const char said[] =
        "etcdserver: re-configuration failed due to not enough started members";
    struct group *g = group_of(&(struct setup){.count = 3, .unstarted = 1});
    assert_refused(add(g, "http://new", false), 2, said); /* 2 of 4 */
    assert_refused(removal(g, 2), 2, said);               /* 1 of 2 */
    assert_int_equal(member_count(g), 3);
    end(g);
    g = group_of(&(struct setup){.count = 1});
    assert_refused(removal(g, 1), 2, said);
    end(g);
    g = group_of(&(struct setup){.count = 1, .lax = true});
    assert_refused(removal(g, 1), 2, said); /* the last voter stays, whatever the flag says */
    end(g);
}

static void M06_a_change_without_a_steady_quorum_is_refused(void **state)
{
    (void)state;
    static const char said[] = "etcdserver: unhealthy cluster";
    struct group *g = group_of(&(struct setup){.count = 3});
    g->connected_ns[3] = net_now_ns(); /* for less than 5 s */
    assert_refused(add(g, "http://new", false), 14, said);
    assert_refused(removal(g, 2), 14, said);
    g->connected_ns[2] = g->connected_ns[3] = 0;
    assert_refused(add(g, "http://new", true), 14, said);
    assert_int_equal(member_count(g), 3);
    end(g);
    g = group_of(&(struct setup){.count = 3, .lax = true});
    g->connected_ns[2] = g->connected_ns[3] = 0;
    assert_fine(add(g, "http://new", true)); /* without the check */
    end(g);
}

static void nothing_is_done_before_the_cluster_has_a_version(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 1, .no_version = true});
    assert_refused(add(g, "http://new", true), 9, "etcdserver: not capable");
    assert_refused(removal(g, 1), 9, "etcdserver: not capable");
    struct nb_bytes nothing = {0};
    assert_refused(call(g, "MemberList", nothing, NULL, 0), 9, "etcdserver: not capable");
    end(g);
}

static void bytes_that_are_no_message_are_refused(void **state)
{
    (void)state;
    static const char *const methods[] = {"MemberAdd", "MemberRemove", "MemberUpdate",
                                          "MemberPromote", "MemberList"};
    struct group *g = group_of(&(struct setup){.count = 1});
    for (size_t i = 0; i < NB_ARRAY_LEN(methods); i++) {
        assert_refused(call(g, methods[i], nb_bytes_str("\x0a\xff"), NULL, 0), 13,
                       "grpc: error unmarshalling request: malformed message");
    }
    struct rpc_metadata version = {"client-api-version", nb_bytes_str("3.\xff")};
    assert_refused(call(g, "MemberList", (struct nb_bytes){0}, &version, 1), 3,
                   "etcdserver: invalid client api version");
    end(g);
}

static void without_a_leader_a_change_ends_when_its_time_is_over(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3, .api_at = 1, .timeout_ns = 300 * ms});
    g->nodes[0].silent = true;
    while (replica_leader(g->nodes[1].replica) != 0) {
        pump(g);
        replica_tick(g->nodes[1].replica);
    }
    struct rpc_metadata has_leader = {"hasleader", nb_bytes_str("true")};
    assert_refused(call(g, "MemberList", (struct nb_bytes){0}, &has_leader, 1), 14,
                   "etcdserver: no leader");
    assert_refused(add(g, "http://new", true), 14, "etcdserver: no leader");
    end(g);
}

static void leader_says(struct group *g, const char *status_name)
{
    nb_buf_clear(&g->ask_answer);
    nb_wire_bytes(&g->ask_answer, 1, nb_bytes_str(status_name));
    g->ask_status = NB_OK;
}

static void a_follower_passes_on_what_the_leader_says(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3, .api_at = 1});
    leader_says(g, nb_status_name(NB_TOO_MANY_LEARNERS));
    assert_refused(add(g, "http://new", true), 9,
                   "etcdserver: too many learner members in cluster");
    leader_says(g, nb_status_name(NB_UNHEALTHY));
    assert_refused(removal(g, 3), 14, "etcdserver: unhealthy cluster");
    leader_says(g, nb_status_name(NB_OK));
    assert_fine(removal(g, 3));
    assert_int_equal(g->ask_count, 3);
    end(g);
}

static void R23_what_the_leader_may_have_done_is_answered_with_a_timeout(void **state)
{
    (void)state;
    struct group *g = group_of(&(struct setup){.count = 3, .api_at = 1});
    g->ask_status = NB_CLOSED;
    assert_refused(add(g, "http://new", true), 14, "etcdserver: request timed out");
    leader_says(g, "NB_OF_A_LATER_VERSION");
    assert_refused(add(g, "http://new", true), 14, "etcdserver: request timed out");
    nb_buf_clear(&g->ask_answer); /* without a status */
    assert_refused(add(g, "http://new", true), 14, "etcdserver: request timed out");
    nb_buf_append_str(&g->ask_answer, "\xff\xff");
    assert_refused(add(g, "http://new", true), 14, "etcdserver: request timed out");
    end(g);
}

static void keep_answer(void *context, struct nb_bytes bytes)
{
    struct answer *a = context;
    a->done = true;
    nb_buf_append_bytes(&a->message, bytes);
}

static void assert_asked(struct group *g, struct nb_bytes request, enum nb_status status)
{
    struct answer a = {0};
    struct nb_buf want = {0};
    api_cluster_asked(g->api, request, keep_answer, &a);
    while (!a.done) {
        pump(g);
    }
    nb_wire_bytes(&want, 1, nb_bytes_str(nb_status_name(status)));
    assert_true(a.message.len >= want.len);
    assert_memory_equal(a.message.data, want.data, want.len);
    nb_buf_deinit(&want);
    nb_buf_deinit(&a.message);
}

static void what_another_member_asks_is_answered_by_a_leader_only(void **state)
{
    (void)state;
    static const struct nb_bytes remove_stranger = {(const uint8_t *)"\x4d\x08\x02\x10\x63", 5};
    static const struct nb_bytes of_no_kind = {(const uint8_t *)"\x4d\x08\x09\x10\x63", 5};
    struct group *g = group_of(&(struct setup){.count = 3, .api_at = 0});
    assert_asked(g, remove_stranger, NB_MEMBER_NOT_FOUND);
    assert_asked(g, of_no_kind, NB_MALFORMED);
    assert_asked(g, (struct nb_bytes){0}, NB_UNSUPPORTED);
    assert_asked(g, nb_bytes_str("other"), NB_UNSUPPORTED);
    assert_asked(g, nb_bytes_str("\x4d\xff"), NB_MALFORMED);
    end(g);
    g = group_of(&(struct setup){.count = 3, .api_at = 1});
    assert_asked(g, remove_stranger, NB_NOT_LEADER);
    end(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_that_are_none_are_refused),
        cmocka_unit_test(a_peer_url_of_another_member_is_refused),
        cmocka_unit_test(members_that_there_are_not_are_not_found),
        cmocka_unit_test(M08_a_member_that_was_removed_is_not_found_and_stays_away),
        cmocka_unit_test(only_learners_in_sync_are_promoted),
        cmocka_unit_test(more_learners_than_allowed_are_refused),
        cmocka_unit_test(M06_a_change_that_would_lose_the_started_quorum_is_refused),
        cmocka_unit_test(M06_a_change_without_a_steady_quorum_is_refused),
        cmocka_unit_test(nothing_is_done_before_the_cluster_has_a_version),
        cmocka_unit_test(bytes_that_are_no_message_are_refused),
        cmocka_unit_test(without_a_leader_a_change_ends_when_its_time_is_over),
        cmocka_unit_test(a_follower_passes_on_what_the_leader_says),
        cmocka_unit_test(R23_what_the_leader_may_have_done_is_answered_with_a_timeout),
        cmocka_unit_test(what_another_member_asks_is_answered_by_a_leader_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
