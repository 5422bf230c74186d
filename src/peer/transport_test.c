#include "tests/support/dns_server.h"
#include "tests/support/peer_testing.h"

/* ---- up and running ---- */

static void members_shake_hands_and_know_each_other(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_prepare(&w, 1);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    a->config.logger = &logger;
    b->config.name = "ss-1";
    b->config.fresh = true;
    b->config.boot_count = 9;
    b->config.card = nb_bytes_str("card");
    node_start(a);
    node_start(b);
    node_dial(a, b);
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1) && a->round_trips != 0);
    assert_int_equal(a->up, 1);
    assert_int_equal(a->hello.from, 2);
    assert_int_equal(a->hello.to, 1);
    assert_int_equal(a->hello.boot_count, 9);
    assert_string_equal(a->hello.name, "ss-1");
    assert_true(a->hello.fresh);
    struct peer_status s = node_status(a, 2);
    assert_true(s.dialled && s.heard_up);
    assert_true(s.up_since_ns != 0 && s.round_trip_ns != 0 && s.heard_ns != 0);
    assert_true(s.sent_bytes != 0 && s.received_bytes != 0);
    assert_int_equal(s.boot_count, 9);
    assert_string_equal(s.last_error, "");
    char text[4096] = "";
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "established TCP streaming connection with remote peer"));
    (void)close(log_fd);
    world_deinit(&w);
}

static void messages_of_a_channel_arrive_in_order(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    uint64_t count = unit_scaled(20000);
    struct nb_payload *payload = nb_payload_create(100);
    memset(payload->data, 'x', 100);
    b->payload_byte = 'x';
    for (uint64_t i = 1; i <= count; i++) {
        struct raft_msg m = read_msg(1, 2, i);
        assert_true(peer_send(a->t, &m));
        struct raft_entry e = {.id = {.index = i, .term = 1}, .payload = payload};
        m = (struct raft_msg){.type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 1};
        m.append = (struct raft_append){
            .prev = {.index = i - 1, .term = i == 1 ? 0 : 1}, .entries = &e, .entry_count = 1};
        assert_true(peer_send(a->t, &m));
        if (i % 100 == 0) {
            world_turn(&w);
        }
    }
    RUN_UNTIL(&w, b->last_context == count && b->last_index == count);
    assert_true(b->in_order);
    assert_int_equal(b->messages, 2 * count);
    assert_int_equal(node_status(b, 1).received_messages, 2 * count);
    assert_int_equal(node_status(a, 2).sent_messages, 2 * count);
    nb_payload_release(payload);
    world_deinit(&w);
}

static void a_large_message_arrives_whole(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *b = &w.nodes[1];
    size_t size = 9000001;
    struct nb_payload *payload = nb_payload_create(size);
    memset(payload->data, 'y', size);
    b->payload_byte = 'y';
    struct raft_entry e = {.id = {.index = 1, .term = 1}, .payload = payload};
    struct raft_msg m = {.type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 1};
    m.append = (struct raft_append){.entries = &e, .entry_count = 1};
    assert_true(peer_send(w.nodes[0].t, &m));
    RUN_UNTIL(&w, b->messages == 1);
    assert_int_equal(b->payload_bytes, size);
    assert_true(b->in_order);
    nb_payload_release(payload);
    world_deinit(&w);
}

static void a_member_without_a_cluster_dials_nobody_until_it_has_one(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    a->config.cluster_id = 0;
    node_start(a);
    node_dial(a, b);
    node_dial(b, a);
    RUN_UNTIL(&w, b->refused == 1);
    assert_int_equal(b->refusal, PEER_REFUSAL_NO_CLUSTER);
    assert_int_equal(node_status(a, 2).connect_count, 0);
    peer_transport_set_cluster(a->t, CLUSTER);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    world_deinit(&w);
}

/* ---- names and learned addresses ---- */

/* Two members; `a` knows member 2 by a name only, `b` does not dial yet. */
static void world_with_names(struct world *w, struct dns_server *dns)
{
    world_init(w);
    dns_open(dns, w->loop);
    struct net_names_config names = {.resolv_conf = "/nonexistent",
                                     .servers = dns->servers,
                                     .query_ns = 60000 * test_ms,
                                     .timeout_ns = 60000 * test_ms};
    net_loop_set_names(w->loop, &names);
    (void)node_add(w, 0);
    struct node *b = node_add(w, 1);
    node_set_port(&w->nodes[0], 2, "ss-1.ss.test", b->port);
}

static void K02_a_member_is_dialled_when_its_name_comes_to_be(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0];
    RUN_UNTIL(&w, node_status(a, 2).connect_count >= 3);
    assert_non_null(strstr(node_status(a, 2).last_error, "no such host"));
    dns_add(&dns, "ss-1.ss.test", DNS_A, "127.0.0.1");
    RUN_UNTIL(&w, node_is_up(a, 2));
    dns_close(&dns);
    world_deinit(&w);
}

static void K01_who_dials_us_is_dialled_back_without_its_name(void **state)
{
    (void)state;
    for (int silent = 0; silent < 2; silent++) {
        struct world w;
        struct dns_server dns;
        world_with_names(&w, &dns);
        struct node *a = &w.nodes[0], *b = &w.nodes[1];
        dns.silent = silent == 1;
        RUN_UNTIL(&w, dns.udp_count >= 2); /* silent: the attempt hangs there */
        node_dial(b, a);
        RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
        assert_string_equal(a->heard.remote, "127.0.0.1");
        assert_int_equal(a->heard.listen_port, b->port);
        assert_string_equal(a->hello.remote, "127.0.0.1");
        char text[64];
        (void)snprintf(text, sizeof text, "127.0.0.1:%u", (unsigned)b->port);
        assert_string_equal(node_status(a, 2).learned, text);
        dns_close(&dns);
        world_deinit(&w);
    }
}

static void K01_a_member_that_moved_is_found_while_its_name_is_stale(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    dns_add(&dns, "ss-1.ss.test", DNS_A, "127.0.0.1"); /* and the port of old */
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    peer_transport_destroy(b->t);
    RUN_UNTIL(&w, !node_is_up(a, 2) && !node_status(a, 2).heard_up);
    uint16_t port_before = b->port;
    b = node_prepare(&w, 1);
    b->config.boot_count = 2;
    b->config.boot_id = 999;
    node_start(b);
    assert_int_not_equal(b->port, port_before);
    dns.silent = true;
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    dns_close(&dns);
    world_deinit(&w);
}

static void M09_a_stranger_at_a_learned_address_is_refused_and_the_address_forgotten(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    uint16_t port = b->port;
    peer_transport_destroy(b->t);
    b->t = NULL;
    RUN_UNTIL(&w, !node_is_up(a, 2) && !node_status(a, 2).heard_up);
    struct node *c = node_prepare(&w, 2);
    c->port = port;
    node_start(c);
    RUN_UNTIL(&w, a->refused != 0);
    assert_int_equal(a->refusal, PEER_REFUSAL_TO);
    assert_string_equal(node_status(a, 2).learned, "");
    uint64_t tried = node_status(a, 2).connect_count;
    size_t asked = dns.udp_count;
    RUN_UNTIL(&w, node_status(a, 2).connect_count > tried + 3);
    assert_true(dns.udp_count > asked); /* it goes on by name */
    assert_int_equal(a->refused, 1);
    assert_int_equal(a->up, 1);
    b = node_prepare(&w, 1);
    b->config.boot_count = 2;
    b->config.boot_id = 999;
    node_start(b);
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    dns_close(&dns);
    world_deinit(&w);
}

static void on_who(void *user, enum nb_status status, const struct peer_hello *answer,
                   const char *error)
{
    (void)error;
    struct peer_hello *to = user;
    assert_int_equal(status, NB_OK);
    *to = *answer;
}

static void a_probe_tells_where_a_member_lives(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    char text[64];
    (void)snprintf(text, sizeof text, "127.0.0.1:%u", (unsigned)a->port);
    struct peer_hello who = {0};
    peer_probe(b->t, text, 10000 * test_ms, on_who, &who);
    RUN_UNTIL(&w, who.from != 0 && node_is_up(a, 2));
    assert_string_equal(a->heard.remote, "127.0.0.1");
    assert_int_equal(a->heard.listen_port, b->port);
    assert_string_equal(who.remote, "127.0.0.1");
    assert_int_equal(who.listen_port, a->port);
    dns_close(&dns);
    world_deinit(&w);
}

static void what_was_learned_elsewhere_is_dialled(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    dns.silent = true;
    peer_transport_learn(a->t, 2, "not numeric", b->port);
    peer_transport_learn(a->t, 2, "127.0.0.1", 0);
    peer_transport_learn(a->t, 77, "127.0.0.1", b->port);
    assert_string_equal(node_status(a, 2).learned, "");
    peer_transport_learn(a->t, 2, "127.0.0.1", b->port);
    RUN_UNTIL(&w, node_is_up(a, 2));
    dns_close(&dns);
    world_deinit(&w);
}

/* A port that takes connections no more, and does not say so: as a host that is gone. */
static int hung_port(uint16_t *out_port, int fillers[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(listen(fd, 0), 0);
    for (size_t i = 0; i < 2; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&at, sizeof at);
    }
    *out_port = ntohs(at.sin_port);
    return fd;
}

/* A pod that came back elsewhere has dialled us: nobody waits for its old address to time out. */
static void K01_a_newer_learned_address_ends_the_attempt_at_the_older_one(void **state)
{
    (void)state;
    struct world w;
    struct dns_server dns;
    uint16_t port;
    int fillers[2];
    int hung = hung_port(&port, fillers);
    world_with_names(&w, &dns);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    dns.silent = true;
    peer_transport_learn(a->t, 2, "127.0.0.1", port);
    uint64_t begun_ns = net_now_ns();
    peer_transport_learn(a->t, 2, "127.0.0.1", b->port);
    RUN_UNTIL(&w, node_is_up(a, 2));
    assert_true(net_now_ns() - begun_ns < a->config.connect_timeout_ns);
    dns_close(&dns);
    world_deinit(&w);
    (void)close(hung);
    (void)close(fillers[0]);
    (void)close(fillers[1]);
}

/* ---- refusals ---- */

/* `b` must refuse `a`; the refusal is told once, however often it is repeated. */
static void expect_refusal(struct world *w, struct node *a, struct node *b,
                           enum peer_refusal_code code)
{
    RUN_UNTIL(w, a->refused != 0);
    uint64_t tried = node_status(a, b->config.member_id).connect_count;
    RUN_UNTIL(w, node_status(a, b->config.member_id).connect_count > tried + 1);
    assert_int_equal(a->refused, 1);
    assert_int_equal(a->refusal, code);
    assert_int_equal(a->up, 0);
    assert_int_equal(node_status(a, b->config.member_id).refusal, code);
}

static void K17_another_cluster_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    a->config.logger = &logger;
    a->config.cluster_id = 0xbad;
    node_start(a);
    node_dial(a, b);
    expect_refusal(&w, a, b, PEER_REFUSAL_CLUSTER);
    char text[4096] = "";
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "\"error\":\"cluster ID mismatch\"")); /* tools wait for it */
    (void)close(log_fd);
    world_deinit(&w);
}

static size_t count_of(int log_fd, const char *phrase)
{
    char text[16384] = "";
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    size_t count = 0;
    for (const char *at = strstr(text, phrase); at != NULL; at = strstr(at + 1, phrase)) {
        count++;
    }
    return count;
}

/* A pod that joins is dialled by all members in turn before it knows its cluster. */
static void several_that_are_refused_in_turn_are_logged_once_each(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *d = node_prepare(&w, 3);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    d->config.logger = &logger;
    d->config.cluster_id = 0;
    node_start(d);
    for (int i = 0; i < 3; i++) {
        node_dial(node_add(&w, i), d);
    }
    for (int i = 0; i < 3; i++) {
        RUN_UNTIL(&w, node_status(&w.nodes[i], 4).connect_count > 5);
        assert_int_equal(w.nodes[i].refusal, PEER_REFUSAL_NO_CLUSTER);
    }
    assert_int_equal(count_of(log_fd, "peer.hello_refused"), 3);
    (void)close(log_fd);
    world_deinit(&w);
}

static void a_lost_member_is_one_line_and_named(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_prepare(&w, 1);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    a->config.logger = &logger;
    b->config.name = "ss-1";
    node_start(a);
    node_start(b);
    node_dial(a, b);
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1) && node_status(a, 2).heard_up);
    peer_transport_destroy(b->t);
    b->t = NULL;
    RUN_UNTIL(&w, !node_status(a, 2).control_up && !node_status(a, 2).heard_up);
    assert_int_equal(node_status(a, 2).down_count, 2);
    assert_int_equal(count_of(log_fd, "\"caller\":\"peer.down\""), 1);
    assert_int_not_equal(count_of(log_fd, "\"remote-peer-name\":\"ss-1\",\"error\""), 0);
    (void)close(log_fd);
    world_deinit(&w);
}

static void M09_an_address_that_another_member_has_now_is_refused(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0), *c = node_prepare(&w, 2);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    c->config.logger = &logger;
    node_start(c);
    node_set_port(a, 2, "127.0.0.1", c->port); /* member 2 lived there */
    RUN_UNTIL(&w, a->refused != 0);
    char text[4096] = "";
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    assert_non_null(strstr(text, "ignored streaming request; ID mismatch")); /* tools wait for it */
    (void)close(log_fd);
    assert_int_equal(a->refusal, PEER_REFUSAL_TO);
    assert_int_equal(a->up, 0);
    world_deinit(&w);
}

static void M09_an_answer_in_another_name_is_refused(void **state)
{
    (void)state;
    for (int what = 0; what < 2; what++) {
        struct world w;
        world_init(&w);
        struct node *a = node_add(&w, 0);
        struct stranger s = {0};
        struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
        h.from = what == 0 ? 3 : 2;
        h.cluster_id = what == 0 ? CLUSTER : 0xbad;
        put_hello(&s.answer, PEER_FRAME_WELCOME, &h);
        node_set_port(a, 2, "127.0.0.1", stranger_listen(&w, &s));
        RUN_UNTIL(&w, a->refused == 1 || a->up == 1);
        assert_int_equal(a->up, 0);
        assert_int_equal(a->refusal, what == 0 ? PEER_REFUSAL_TO : PEER_REFUSAL_CLUSTER);
        stranger_deinit(&s);
        world_deinit(&w);
    }
}

static void K17_a_hello_of_another_cluster_is_answered_with_a_refusal(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct stranger s = {0};
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    h.cluster_id = 0xbad;
    struct nb_buf bytes = {0};
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    stranger_dial(&w, &s, a->port);
    stranger_say(&s, &bytes);
    RUN_UNTIL(&w, stranger_heard(&s) != 0);
    assert_int_equal(stranger_heard(&s), PEER_FRAME_REFUSE);
    RUN_UNTIL(&w, s.closed);
    nb_buf_deinit(&bytes);
    stranger_deinit(&s);
    world_deinit(&w);
}

static void the_server_decides_who_is_a_member(void **state)
{
    (void)state;
    static const enum peer_refusal_code codes[] = {PEER_REFUSAL_UNKNOWN, PEER_REFUSAL_REMOVED,
                                                   PEER_REFUSAL_BUSY};
    for (size_t i = 0; i < NB_ARRAY_LEN(codes); i++) {
        struct world w;
        world_init(&w);
        struct node *a = node_add(&w, 0), *b = node_add(&w, 1);
        b->refuse_hello = codes[i];
        node_dial(a, b);
        expect_refusal(&w, a, b, codes[i]);
        b->refuse_hello = PEER_REFUSAL_NONE;
        RUN_UNTIL(&w, node_is_up(a, 2));
        assert_int_equal(node_status(a, 2).refusal, PEER_REFUSAL_NONE);
        world_deinit(&w);
    }
}

static void without_a_word_of_the_server_only_members_that_were_set_are_accepted(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0), *b = node_prepare(&w, 1);
    struct peer_events events = node_events;
    events.on_hello = NULL;
    b->config.events = &events;
    node_start(b);
    node_dial(a, b);
    RUN_UNTIL(&w, a->refused == 1);
    assert_int_equal(a->refusal, PEER_REFUSAL_UNKNOWN);
    assert_int_equal(peer_transport_ids(b->t, (uint64_t[PEER_COUNT_MAX]){0}), 0);
    assert_int_equal(peer_transport_set(b->t, 1, NULL, 0, NULL), NB_OK);
    RUN_UNTIL(&w, node_is_up(a, 2));
    world_deinit(&w);
}

static void K05_a_second_process_with_one_identity_is_refused_while_the_first_lives(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *b = &w.nodes[1];
    struct node *copy = node_prepare(&w, 2);
    copy->config.member_id = 1;
    copy->config.boot_id = 999; /* the same boot count: a copied data folder */
    node_start(copy);
    node_dial(copy, b);
    expect_refusal(&w, copy, b, PEER_REFUSAL_DUPLICATE);
    peer_transport_destroy(copy->t);

    copy = node_prepare(&w, 2);
    copy->config.member_id = 1;
    copy->config.boot_id = 998;
    copy->config.boot_count = 2; /* a later start, but the first still talks */
    node_start(copy);
    node_dial(copy, b);
    expect_refusal(&w, copy, b, PEER_REFUSAL_DUPLICATE);
    assert_true(node_status(b, 1).heard_up);
    assert_int_equal(b->down[PEER_DOWN_RESET], 0);

    /* Its end makes room for the later start. */
    peer_transport_destroy(w.nodes[0].t);
    w.nodes[0].t = NULL;
    RUN_UNTIL(&w, node_is_up(copy, 2));
    assert_int_equal(copy->hello.seen_boot_count, 1);
    assert_int_equal(node_status(b, 1).boot_count, 2);
    world_deinit(&w);
}

static void K05_an_old_copy_of_a_member_is_refused_for_good(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    a->config.boot_count = 5;
    node_start(a);
    assert_int_equal(peer_transport_set(b->t, 1, NULL, 0, NULL), NB_OK);
    node_dial(a, b);
    RUN_UNTIL(&w, node_is_up(a, 2));
    peer_transport_destroy(a->t);
    a->t = NULL;
    RUN_UNTIL(&w, !node_status(b, 1).heard_up);
    a = node_prepare(&w, 0);
    a->config.boot_id = 555;
    a->config.boot_count = 4;
    node_start(a);
    node_dial(a, b);
    expect_refusal(&w, a, b, PEER_REFUSAL_STALE_BOOT);
    world_deinit(&w);
}

static void K05_the_dialler_refuses_an_old_copy_too(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0), *b = node_prepare(&w, 1);
    b->config.boot_count = 3;
    node_start(b);
    node_dial(a, b);
    RUN_UNTIL(&w, node_is_up(a, 2));
    peer_transport_destroy(b->t);
    b = node_prepare(&w, 1);
    b->config.boot_id = 444;
    b->config.boot_count = 2;
    node_start(b);
    node_dial(a, b);
    RUN_UNTIL(&w, a->refused == 1);
    assert_int_equal(a->refusal, PEER_REFUSAL_STALE_BOOT);
    assert_int_equal(a->up, 1);
    world_deinit(&w);
}

/* ---- ends and new beginnings ---- */

static void the_end_of_a_process_is_told_at_once(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0];
    peer_transport_destroy(w.nodes[1].t);
    w.nodes[1].t = NULL;
    uint64_t turns = w.turns;
    RUN_UNTIL(&w, a->down[PEER_DOWN_EOF] == 2); /* its connection to us, and ours to it */
    assert_true(w.turns - turns < 20);
    RUN_UNTIL(&w, a->down[PEER_DOWN_REFUSED] == 1);
    uint64_t tried = node_status(a, 2).connect_count;
    RUN_UNTIL(&w, node_status(a, 2).connect_count > tried + 3);
    assert_int_equal(a->down[PEER_DOWN_REFUSED], 1); /* once */
    assert_int_equal(node_status(a, 2).down_count, 2);
    assert_true(node_status(a, 2).last_error[0] != 0);
    world_deinit(&w);
}

static void K01_a_member_comes_back_at_another_address(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0];
    peer_transport_destroy(w.nodes[1].t);
    struct node *b = node_prepare(&w, 1);
    b->config.boot_id = 201;
    b->config.boot_count = 2;
    node_start(b);
    node_set_port(a, 2, "localhost", b->port); /* by name */
    node_set_port(b, 1, "localhost", a->port);
    RUN_UNTIL(&w, node_is_up(a, 2) && node_is_up(b, 1));
    assert_int_equal(a->up, 2);
    assert_int_equal(a->hello.boot_id, 201);
    assert_int_equal(b->hello.seen_boot_count, 1);
    struct raft_msg m = read_msg(1, 2, 1);
    assert_true(peer_send(a->t, &m));
    RUN_UNTIL(&w, b->messages == 1);
    world_deinit(&w);
}

static void several_addresses_are_tried_in_turn(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0), *b = node_add(&w, 1);
    char good[64];
    (void)snprintf(good, sizeof good, "127.0.0.1:%u", (unsigned)b->port);
    const char *addresses[] = {"127.0.0.1:1", "http://127.0.0.1:2", good};
    assert_int_equal(peer_transport_set(a->t, 2, addresses, 3, NULL), NB_OK);
    RUN_UNTIL(&w, node_is_up(a, 2));
    world_deinit(&w);
}

static void K02_a_name_that_is_not_known_yet_is_tried_again(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0), *b = node_add(&w, 1);
    node_set_port(a, 2, "no-such-name.invalid", b->port);
    RUN_UNTIL(&w, node_status(a, 2).connect_count >= 2);
    assert_true(node_status(a, 2).last_error[0] != 0);
    node_dial(a, b);
    RUN_UNTIL(&w, node_is_up(a, 2));
    world_deinit(&w);
}

static void bad_addresses_change_nothing(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    static const char *const bad[] = {"", "host", ":1", "http://h:1/path", "https://h:1", "h:0"};
    for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
        struct net_error error = {""};
        assert_int_equal(peer_transport_set(a->t, 2, &bad[i], 1, &error), NB_INVALID);
        assert_true(error.text[0] != 0);
    }
    assert_int_equal(peer_transport_set(a->t, 0, NULL, 0, NULL), NB_INVALID);
    assert_int_equal(peer_transport_set(a->t, 1, NULL, 0, NULL), NB_INVALID); /* itself */
    assert_int_equal(peer_transport_ids(a->t, (uint64_t[PEER_COUNT_MAX]){0}), 0);
    for (uint64_t id = 2; id < 2 + PEER_COUNT_MAX; id++) {
        assert_int_equal(peer_transport_set(a->t, id, NULL, 0, NULL), NB_OK);
    }
    assert_int_equal(peer_transport_set(a->t, 1000, NULL, 0, NULL), NB_TOO_LARGE); /* [Z03] */
    world_deinit(&w);
}

static void a_removed_member_is_neither_dialled_nor_heard(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    a->refuse_hello = PEER_REFUSAL_REMOVED;
    peer_transport_remove(a->t, 2);
    assert_int_equal(peer_transport_ids(a->t, (uint64_t[PEER_COUNT_MAX]){0}), 0);
    struct raft_msg m = read_msg(1, 2, 1);
    assert_false(peer_send(a->t, &m));
    RUN_UNTIL(&w, b->refused == 1);
    assert_int_equal(b->refusal, PEER_REFUSAL_REMOVED);
    assert_int_equal(a->down[PEER_DOWN_EOF], 0);
    assert_int_equal(b->messages, 0);
    world_deinit(&w);
}

static void Z01_everything_may_be_ended_from_within_any_callback(void **state)
{
    (void)state;
    for (int what = 0; what < 10; what++) {
        struct world w;
        world_init(&w);
        world_pair(&w);
        struct node *a = &w.nodes[0], *b = &w.nodes[1];
        bool destroy = what % 2 == 0;
        struct node *victim = what / 2 == 3 ? a : b;
        victim->destroy_in_callback = destroy;
        victim->remove_in_callback = !destroy;
        struct raft_msg m = read_msg(1, 2, 1);
        if (what / 2 == 0) { /* on_message */
            assert_true(peer_send(a->t, &m));
            assert_true(peer_send(a->t, &m));
        } else if (what / 2 == 1) { /* on_down */
            peer_transport_destroy(a->t);
            a->t = NULL;
        } else if (what / 2 == 2) { /* on_call */
            b->hold_reply = true;
            peer_conn_frame(peer_find(a->t, 2)->control.conn, PEER_FRAME_CALL,
                            nb_bytes_str("12345678"), nb_bytes_str(""));
        } else if (what / 2 == 3) { /* on_unreachable */
            peer_transport_remove(a->t, 2);
            assert_int_equal(peer_transport_set(a->t, 2, NULL, 0, NULL), NB_OK);
            assert_false(peer_send(a->t, &m));
        } else { /* on_refused, or on_up */
            b->destroy_in_callback = b->remove_in_callback = false;
            a->refuse_hello = destroy ? PEER_REFUSAL_BUSY : PEER_REFUSAL_NONE;
            peer_transport_remove(b->t, 1);
            node_dial(b, a);
            b->destroy_in_callback = destroy;
            b->remove_in_callback = !destroy;
        }
        RUN_UNTIL(&w, !victim->destroy_in_callback && !victim->remove_in_callback);
        for (int i = 0; i < 20; i++) {
            world_turn(&w);
            if (a->t == NULL && b->t == NULL) {
                break;
            }
        }
        world_deinit(&w);
    }
}

static void E09_after_a_pause_of_our_own_nobody_is_given_up(void **state)
{
    (void)state;
    for (int paused = 1; paused >= 0; paused--) {
        struct world w;
        world_init(&w);
        world_pair(&w);
        struct node *a = &w.nodes[0];
        /* As if the process had been stopped: nothing was heard, and no tick came either. */
        uint64_t pause_ns = 2 * a->config.receive_timeout_ns;
        for (struct peer_conn *c = a->t->conns; c != NULL; c = c->next) {
            c->heard_ns -= pause_ns;
        }
        a->t->tick_ns -= paused == 1 ? pause_ns : 0;
        unsigned round_trips = a->round_trips;
        RUN_UNTIL(&w, a->round_trips > round_trips + 3 || a->down[PEER_DOWN_TIMEOUT] != 0);
        assert_int_equal(a->down[PEER_DOWN_TIMEOUT] != 0, paused == 0);
        world_deinit(&w);
    }
}

static void attempts_grow_rarer_and_are_logged_once(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0);
    int log_fd = memfd_create("log", MFD_CLOEXEC);
    struct nb_logger logger = {.fd = log_fd, .level_min = NB_LOG_DEBUG};
    a->config.logger = &logger;
    node_start(a);
    node_set_port(a, 2, "127.0.0.1", 1);
    const struct peer_link *l = &peer_find(a->t, 2)->control;
    uint64_t before = 0, attempts = 0;
    while (l->backoff_ns < a->config.backoff_max_ns) {
        RUN_UNTIL(&w, node_status(a, 2).connect_count > attempts);
        attempts = node_status(a, 2).connect_count;
        assert_true(l->backoff_ns >= before && l->backoff_ns <= a->config.backoff_max_ns);
        before = l->backoff_ns;
    }
    assert_int_equal(attempts, 6); /* after waits of up to 2, 4, 8, 16 and 20 ms */
    RUN_UNTIL(&w, node_status(a, 2).connect_count > attempts + 2);
    char text[4096] = "";
    assert_true(pread(log_fd, text, sizeof text - 1, 0) > 0);
    const char *line = strstr(text, "failed to dial remote peer");
    assert_non_null(line);
    assert_null(strstr(line + 1, "failed to dial remote peer"));
    /* A word from the server, and it is tried at once. */
    attempts = node_status(a, 2).connect_count;
    RUN_UNTIL(&w, net_timer_running(l->timer));
    peer_transport_reconnect_now(a->t, 2);
    assert_int_equal(node_status(a, 2).connect_count, attempts + 1);
    (void)close(log_fd);
    world_deinit(&w);
}

/* ---- bounds ---- */

static void Z03_a_full_queue_drops_messages_and_says_so(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0);
    a->config.log_queue_bytes_max = 1 << 20;
    a->config.receive_timeout_ns = 10000 * test_ms;
    node_start(a);
    struct stranger control = {0};
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    h.from = 2;
    put_hello(&control.answer, PEER_FRAME_WELCOME, &h);
    uint16_t port = stranger_listen(&w, &control);
    node_set_port(a, 2, "127.0.0.1", port);
    RUN_UNTIL(&w, a->up == 1);
    /* The second connection is the log's: it says welcome and reads no more. */
    struct stranger log = {.deaf = true};
    struct net_listener *first = control.listener;
    control.listener = NULL;
    net_listener_close(first);
    h.channel = PEER_CHANNEL_LOG;
    put_hello(&log.answer, PEER_FRAME_WELCOME, &h);
    uint16_t log_port = stranger_listen(&w, &log);
    node_set_port(a, 2, "127.0.0.1", log_port);
    RUN_UNTIL(&w, node_status(a, 2).log_up);

    struct nb_payload *payload = nb_payload_create(100000);
    memset(payload->data, 0, 100000);
    struct raft_entry e = {.id = {.index = 1, .term = 1}, .payload = payload};
    struct raft_msg m = {.type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 1};
    m.append = (struct raft_append){.entries = &e, .entry_count = 1};
    unsigned sent = 0;
    for (; peer_send(a->t, &m); sent++) {
        world_turn(&w);
        assert_true(node_status(a, 2).queued_bytes <= (1 << 20) + 4096);
        assert_true(sent < 100000);
    }
    assert_int_equal(a->unreachable, 0); /* not from within the call [P3] */
    assert_false(peer_send(a->t, &m));
    assert_false(peer_send(a->t, &m));
    RUN_UNTIL(&w, a->unreachable != 0);
    assert_int_equal(a->unreachable, 1); /* three losses, told once */
    assert_int_equal(node_status(a, 2).sent_failures, 3);
    struct raft_msg heartbeat = read_msg(1, 2, 1);
    assert_true(peer_send(a->t, &heartbeat)); /* the other channel is free [E11] */
    RUN_UNTIL(&w, stranger_count(&control, PEER_FRAME_MESSAGE) == 1);
    nb_payload_release(payload);
    stranger_deinit(&control);
    stranger_deinit(&log);
    world_deinit(&w);
}

static void R22_the_end_of_the_logs_connection_is_told_as_loss(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct stranger control = {0};
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    h.from = 2;
    put_hello(&control.answer, PEER_FRAME_WELCOME, &h);
    node_set_port(a, 2, "127.0.0.1", stranger_listen(&w, &control));
    RUN_UNTIL(&w, a->up == 1);
    struct stranger log = {0};
    struct net_listener *first = control.listener;
    control.listener = NULL;
    net_listener_close(first);
    h.channel = PEER_CHANNEL_LOG;
    put_hello(&log.answer, PEER_FRAME_WELCOME, &h);
    node_set_port(a, 2, "127.0.0.1", stranger_listen(&w, &log));
    RUN_UNTIL(&w, node_status(a, 2).log_up);
    unsigned before = a->unreachable;
    net_conn_close(log.conn);
    RUN_UNTIL(&w, a->unreachable != before); /* though nothing is sent, and control is up */
    assert_int_equal(node_status(a, 2).down_count, 0);
    stranger_deinit(&control);
    stranger_deinit(&log);
    world_deinit(&w);
}

static void messages_to_who_is_not_there_are_dropped_and_told_now_and_then(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    node_set_port(a, 2, "127.0.0.1", 1);
    struct raft_msg m = read_msg(1, 2, 1);
    for (int i = 0; i < 50; i++) {
        assert_false(peer_send(a->t, &m));
        world_turn(&w);
    }
    RUN_UNTIL(&w, a->unreachable > 1);
    assert_true(a->unreachable < 50);
    assert_int_equal(node_status(a, 2).sent_failures, 50);
    world_deinit(&w);
}

/* ---- garbage ---- */

static void expect_closed(struct world *w, struct node *n, struct stranger *s,
                          const struct nb_buf *bytes)
{
    stranger_dial(w, s, n->port);
    stranger_say(s, bytes);
    RUN_UNTIL(w, s->closed);
}

static void N15_what_is_not_nabata_is_told_so_and_closed(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct stranger s = {0};
    struct nb_buf bytes = {0};
    nb_buf_append_str(&bytes, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_closed(&w, a, &s, &bytes);
    nb_buf_append(&s.got, "", 1);
    assert_non_null(strstr((char *)s.got.data, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr((char *)s.got.data, "this is nabata's peer port"));
    assert_int_equal(strlen(strstr((char *)s.got.data, "this is")), 77); /* Content-Length */

    nb_buf_clear(&bytes);
    nb_buf_append(&bytes, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03yyyyyyyy", 19);
    expect_closed(&w, a, &s, &bytes);
    assert_int_equal(s.got.len, 0);

    nb_buf_clear(&bytes);
    memset(nb_buf_extend(&bytes, 100), 0xff, 100);
    expect_closed(&w, a, &s, &bytes);

    nb_buf_clear(&bytes); /* a frame that is no hello */
    put_frame(&bytes, PEER_FRAME_PING, nb_bytes_str("12345678"));
    expect_closed(&w, a, &s, &bytes);

    nb_buf_clear(&bytes); /* a hello with a turned bit */
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    bytes.data[30] ^= 1;
    expect_closed(&w, a, &s, &bytes);

    struct peer_transport_counters counters;
    peer_transport_counters(a->t, &counters);
    assert_int_equal(counters.garbage, 5);
    assert_int_equal(counters.unauthenticated_count, 0);
    assert_int_equal(a->messages, 0);
    nb_buf_deinit(&bytes);
    stranger_deinit(&s);
    world_deinit(&w);
}

static void N15_a_hello_in_any_two_pieces_is_understood(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    struct nb_buf bytes = {0};
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    struct raft_msg m = read_msg(77, 1, 1);
    put_message(&bytes, &m);
    struct stranger s = {0};
    for (size_t cut = 1; cut < bytes.len; cut++) {
        unsigned before = a->messages;
        stranger_dial(&w, &s, a->port);
        net_conn_write(s.conn, nb_bytes_of(bytes.data, cut));
        world_turn(&w);
        net_conn_write(s.conn, nb_bytes_from(nb_buf_bytes(&bytes), cut));
        RUN_UNTIL(&w, a->messages == before + 1);
        RUN_UNTIL(&w, stranger_heard(&s) == PEER_FRAME_WELCOME);
        struct net_conn *conn = s.conn;
        s.conn = NULL;
        net_conn_abort(conn);
    }
    nb_buf_deinit(&bytes);
    stranger_deinit(&s);
    world_deinit(&w);
}

static void M09_a_message_in_another_name_ends_the_connection(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    for (int what = 0; what < 4; what++) {
        struct stranger s = {0};
        struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
        struct nb_buf bytes = {0};
        put_hello(&bytes, PEER_FRAME_HELLO, &h);
        struct raft_msg m = read_msg(what == 0 ? 78 : 77, what == 1 ? 2 : 1, 1);
        put_message(&bytes, &m);
        if (what == 2) { /* a damaged one */
            bytes.data[bytes.len - 1] ^= 0x10;
        } else if (what == 3) { /* one too long */
            size_t begin = peer_frame_begin(&bytes);
            peer_frame_end(&bytes, begin, PEER_FRAME_MESSAGE);
            nb_put_u32(bytes.data + begin, 0x7fffffff);
            bytes.data[bytes.len - 1] = 0;
        }
        expect_closed(&w, a, &s, &bytes);
        assert_int_equal(a->messages, what == 3 ? 1 : 0);
        assert_int_equal(a->down[PEER_DOWN_PROTOCOL], what + 1);
        nb_buf_deinit(&bytes);
        stranger_deinit(&s);
    }
    world_deinit(&w);
}

static void a_new_connection_of_a_member_takes_the_place_of_the_old(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_add(&w, 0);
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    struct nb_buf bytes = {0};
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    struct stranger old = {0}, new = {0}, log = {0};
    stranger_dial(&w, &old, a->port);
    stranger_say(&old, &bytes);
    RUN_UNTIL(&w, stranger_heard(&old) == PEER_FRAME_WELCOME);
    stranger_dial(&w, &new, a->port);
    stranger_say(&new, &bytes);
    RUN_UNTIL(&w, old.closed && stranger_heard(&new) == PEER_FRAME_WELCOME);
    h.channel = PEER_CHANNEL_LOG; /* another channel is no rival */
    nb_buf_clear(&bytes);
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    stranger_dial(&w, &log, a->port);
    stranger_say(&log, &bytes);
    RUN_UNTIL(&w, stranger_heard(&log) == PEER_FRAME_WELCOME);
    world_turn(&w);
    assert_false(new.closed);
    for (int i = 0; i < PEER_DOWN_REASON_COUNT; i++) {
        assert_int_equal(a->down[i], 0); /* it did not go down */
    }
    nb_buf_deinit(&bytes);
    stranger_deinit(&old);
    stranger_deinit(&new);
    stranger_deinit(&log);
    world_deinit(&w);
}

static void N15_silent_connections_are_bounded_in_number_and_time(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0);
    a->config.unauthenticated_count_max = 4;
    node_start(a);
    struct stranger s[6] = {0};
    struct peer_transport_counters counters;
    for (int i = 0; i < 6; i++) {
        stranger_dial(&w, &s[i], a->port);
        peer_transport_counters(a->t, &counters);
        assert_true(counters.unauthenticated_count <= 4);
    }
    RUN_UNTIL(&w, s[0].closed && s[1].closed); /* the oldest make room */
    struct node *b = node_add(&w, 1);
    node_dial(b, a);
    RUN_UNTIL(&w, node_is_up(b, 1)); /* a member still gets in */
    RUN_UNTIL(&w, s[2].closed && s[3].closed && s[4].closed && s[5].closed); /* in time */
    peer_transport_counters(a->t, &counters);
    assert_int_equal(counters.unauthenticated_count, 0);
    for (int i = 0; i < 6; i++) {
        stranger_deinit(&s[i]);
    }
    world_deinit(&w);
}

static void N15_a_member_that_went_silent_is_given_up(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0);
    a->config.receive_timeout_ns = 200 * test_ms;
    node_start(a);
    struct stranger in = {0}, out = {0}; /* says hello, says welcome, and then nothing */
    struct peer_hello h = stranger_hello(a, PEER_CHANNEL_CONTROL);
    struct nb_buf bytes = {0};
    put_hello(&bytes, PEER_FRAME_HELLO, &h);
    stranger_dial(&w, &in, a->port);
    stranger_say(&in, &bytes);
    RUN_UNTIL(&w, in.closed);
    assert_int_equal(a->down[PEER_DOWN_TIMEOUT], 1);
    assert_int_equal(peer_transport_ids(a->t, (uint64_t[PEER_COUNT_MAX]){0}), 0);
    put_hello(&out.answer, PEER_FRAME_WELCOME, &h);
    node_set_port(a, 77, "127.0.0.1", stranger_listen(&w, &out));
    RUN_UNTIL(&w, a->up == 1);
    RUN_UNTIL(&w, a->down[PEER_DOWN_TIMEOUT] == 2);
    nb_buf_deinit(&bytes);
    stranger_deinit(&in);
    stranger_deinit(&out);
    world_deinit(&w);
}

/* ---- calls and probes ---- */

struct outcome {
    unsigned count;
    enum nb_status status;
    char answer[64];
    struct peer_hello hello;
};

static void on_answer(void *user, enum nb_status status, struct nb_bytes answer)
{
    struct outcome *o = user;
    o->count++;
    o->status = status;
    (void)snprintf(o->answer, sizeof o->answer, "%.*s", (int)answer.len,
                   answer.len == 0 ? "" : (const char *)answer.data);
}

static void a_call_is_answered_once(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0], *b = &w.nodes[1];
    struct outcome o = {0};
    peer_call(a->t, 2, nb_bytes_str("question"), 10000 * test_ms, on_answer, &o);
    assert_int_equal(o.count, 0);
    RUN_UNTIL(&w, o.count != 0);
    assert_int_equal(o.status, NB_OK);
    assert_string_equal(o.answer, "question");

    b->hold_reply = true;
    b->call = 0;
    peer_call(a->t, 2, nb_bytes_str("later"), 10000 * test_ms, on_answer, &o);
    RUN_UNTIL(&w, b->call != 0);
    peer_reply(b->t, b->call, NB_LEASE_NOT_FOUND, nb_bytes_str("x"));
    peer_reply(b->t, b->call, NB_OK, nb_bytes_str("twice"));
    RUN_UNTIL(&w, o.count == 2);
    assert_int_equal(o.status, NB_LEASE_NOT_FOUND);

    peer_call(a->t, 2, nb_bytes_str("never"), 20 * test_ms, on_answer, &o);
    RUN_UNTIL(&w, o.count == 3);
    assert_int_equal(o.status, NB_BUSY);
    peer_call(a->t, 2, nb_bytes_str("dies"), 10000 * test_ms, on_answer, &o);
    world_turn(&w);
    peer_transport_destroy(b->t);
    b->t = NULL;
    RUN_UNTIL(&w, o.count == 4);
    assert_int_equal(o.status, NB_CLOSED);
    peer_call(a->t, 3, nb_bytes_str("nobody"), 10000 * test_ms, on_answer, &o);
    assert_int_equal(o.count, 4);
    RUN_UNTIL(&w, o.count == 5);
    assert_int_equal(o.status, NB_CLOSED);
    world_deinit(&w);
}

static void on_probed(void *user, enum nb_status status, const struct peer_hello *answer,
                      const char *error)
{
    struct outcome *o = user;
    o->count++;
    o->status = status;
    if (answer != NULL) {
        o->hello = *answer;
        (void)snprintf(o->answer, sizeof o->answer, "%.*s", (int)answer->card.len,
                       (const char *)answer->card.data);
    } else {
        assert_true(error[0] != 0);
    }
}

static struct outcome probe(struct world *w, struct node *n, const char *host, uint16_t port)
{
    struct outcome o = {0};
    char text[64];
    (void)snprintf(text, sizeof text, "%s:%u", host, (unsigned)port);
    peer_probe(n->t, text, 300 * test_ms, on_probed, &o);
    assert_int_equal(o.count, 0);
    RUN_UNTIL(w, o.count == 1);
    return o;
}

static void a_probe_learns_who_lives_at_an_address(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct node *a = node_prepare(&w, 0), *b = node_add(&w, 1);
    a->config.cluster_id = 0; /* it may ask before it is in a cluster */
    node_start(a);
    peer_transport_set_card(b->t, nb_bytes_str("b's card"));
    struct outcome o = probe(&w, a, "localhost", b->port);
    assert_int_equal(o.status, NB_OK);
    assert_int_equal(o.hello.from, 2);
    assert_int_equal(o.hello.cluster_id, CLUSTER);
    assert_string_equal(o.answer, "b's card");
    assert_int_equal(peer_transport_ids(b->t, (uint64_t[PEER_COUNT_MAX]){0}), 0);
    b->refuse_hello = PEER_REFUSAL_OTHER;
    assert_int_equal(probe(&w, a, "127.0.0.1", b->port).status, NB_ACCESS);
    assert_int_equal(probe(&w, a, "127.0.0.1", 1).status, NB_CLOSED);
    assert_int_equal(probe(&w, a, "no-such-name.invalid", 1).status, NB_NOT_FOUND);
    assert_int_equal(probe(&w, a, "", 1).status, NB_INVALID);
    struct stranger s = {0}; /* accepts and says nothing, or nonsense */
    uint16_t port = stranger_listen(&w, &s);
    assert_int_equal(probe(&w, a, "127.0.0.1", port).status, NB_BUSY);
    RUN_UNTIL(&w, s.conn == NULL);
    nb_buf_append_str(&s.answer, "HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_int_equal(probe(&w, a, "127.0.0.1", port).status, NB_MALFORMED);
    stranger_deinit(&s);
    world_deinit(&w);
}

static void P5_nothing_comes_after_destroy(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_pair(&w);
    struct node *a = &w.nodes[0];
    struct outcome o = {0};
    w.nodes[1].hold_reply = true;
    struct raft_msg m = read_msg(1, 2, 1);
    assert_true(peer_send(a->t, &m)); /* is still written */
    peer_call(a->t, 2, nb_bytes_str("x"), 10 * test_ms, on_answer, &o);
    peer_call(a->t, 9, nb_bytes_str("x"), 10 * test_ms, on_answer, &o);
    peer_probe(a->t, "localhost:1", 10 * test_ms, on_probed, &o);
    peer_transport_destroy(a->t);
    a->t = NULL;
    struct node before = *a;
    RUN_UNTIL(&w, w.nodes[1].messages == 1 && w.nodes[1].down[PEER_DOWN_REFUSED] == 1);
    assert_memory_equal(&before, a, sizeof before);
    assert_int_equal(o.count, 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_shake_hands_and_know_each_other),
        cmocka_unit_test(messages_of_a_channel_arrive_in_order),
        cmocka_unit_test(a_large_message_arrives_whole),
        cmocka_unit_test(a_member_without_a_cluster_dials_nobody_until_it_has_one),
        cmocka_unit_test(K02_a_member_is_dialled_when_its_name_comes_to_be),
        cmocka_unit_test(K01_who_dials_us_is_dialled_back_without_its_name),
        cmocka_unit_test(K01_a_member_that_moved_is_found_while_its_name_is_stale),
        cmocka_unit_test(M09_a_stranger_at_a_learned_address_is_refused_and_the_address_forgotten),
        cmocka_unit_test(a_probe_tells_where_a_member_lives),
        cmocka_unit_test(what_was_learned_elsewhere_is_dialled),
        cmocka_unit_test(K01_a_newer_learned_address_ends_the_attempt_at_the_older_one),
        cmocka_unit_test(K17_another_cluster_is_refused),
        cmocka_unit_test(several_that_are_refused_in_turn_are_logged_once_each),
        cmocka_unit_test(a_lost_member_is_one_line_and_named),
        cmocka_unit_test(M09_an_address_that_another_member_has_now_is_refused),
        cmocka_unit_test(M09_an_answer_in_another_name_is_refused),
        cmocka_unit_test(K17_a_hello_of_another_cluster_is_answered_with_a_refusal),
        cmocka_unit_test(the_server_decides_who_is_a_member),
        cmocka_unit_test(without_a_word_of_the_server_only_members_that_were_set_are_accepted),
        cmocka_unit_test(K05_a_second_process_with_one_identity_is_refused_while_the_first_lives),
        cmocka_unit_test(K05_an_old_copy_of_a_member_is_refused_for_good),
        cmocka_unit_test(K05_the_dialler_refuses_an_old_copy_too),
        cmocka_unit_test(the_end_of_a_process_is_told_at_once),
        cmocka_unit_test(K01_a_member_comes_back_at_another_address),
        cmocka_unit_test(several_addresses_are_tried_in_turn),
        cmocka_unit_test(K02_a_name_that_is_not_known_yet_is_tried_again),
        cmocka_unit_test(bad_addresses_change_nothing),
        cmocka_unit_test(a_removed_member_is_neither_dialled_nor_heard),
        cmocka_unit_test(Z01_everything_may_be_ended_from_within_any_callback),
        cmocka_unit_test(E09_after_a_pause_of_our_own_nobody_is_given_up),
        cmocka_unit_test(attempts_grow_rarer_and_are_logged_once),
        cmocka_unit_test(Z03_a_full_queue_drops_messages_and_says_so),
        cmocka_unit_test(R22_the_end_of_the_logs_connection_is_told_as_loss),
        cmocka_unit_test(messages_to_who_is_not_there_are_dropped_and_told_now_and_then),
        cmocka_unit_test(N15_what_is_not_nabata_is_told_so_and_closed),
        cmocka_unit_test(N15_a_hello_in_any_two_pieces_is_understood),
        cmocka_unit_test(M09_a_message_in_another_name_ends_the_connection),
        cmocka_unit_test(a_new_connection_of_a_member_takes_the_place_of_the_old),
        cmocka_unit_test(N15_silent_connections_are_bounded_in_number_and_time),
        cmocka_unit_test(N15_a_member_that_went_silent_is_given_up),
        cmocka_unit_test(a_call_is_answered_once),
        cmocka_unit_test(a_probe_learns_who_lives_at_an_address),
        cmocka_unit_test(P5_nothing_comes_after_destroy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
