/* Names, with a real name server on a loopback port. */
#include "net/net.h"

#include "tests/support/dns_server.h"

#include <fcntl.h>

#define NS_PER_MS UINT64_C(1000000)

struct world {
    struct net_loop *loop;
    struct dns_server dns;
    struct net_names_config config;
    struct net_timer *limit; /* no test hangs */
    char path[64];           /* of a resolv.conf */
};

struct outcome {
    bool done;
    enum nb_status status;
    struct net_address addresses[NET_RESOLVED_MAX];
    struct net_srv records[NET_SRV_MAX];
    size_t count;
    char error[256];
    struct net_conn *conn;
};

static void too_long(void *user)
{
    (void)user;
    fail_msg("nothing happened for 20 s");
}

static void open_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    w->loop = net_loop_create();
    dns_open(&w->dns, w->loop);
    w->config = (struct net_names_config){.resolv_conf = "/nonexistent",
                                          .servers = w->dns.servers,
                                          .query_ns = 50 * NS_PER_MS,
                                          .timeout_ns = 5000 * NS_PER_MS};
    net_loop_set_names(w->loop, &w->config);
    w->limit = net_timer_create(w->loop, too_long, NULL);
    net_timer_start(w->limit, 20000 * NS_PER_MS, 0);
}

static void close_world(struct world *w)
{
    dns_close(&w->dns);
    net_timer_destroy(w->limit);
    net_loop_destroy(w->loop);
}

static void write_resolv_conf(struct world *w, const char *text)
{
    if (w->path[0] == 0) {
        (void)snprintf(w->path, sizeof w->path, "/tmp/nabata-names-XXXXXX");
        int fd = mkstemp(w->path);
        assert_true(fd >= 0);
        (void)close(fd);
        w->config.resolv_conf = w->path;
    }
    FILE *f = fopen(w->path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void on_addresses(void *user, enum nb_status status, const struct net_address *addresses,
                         size_t count, const char *error)
{
    struct outcome *o = user;
    assert_false(o->done);
    assert_true((status == NB_OK) == (count != 0) && (status == NB_OK) == (error == NULL));
    assert_true(count <= NET_RESOLVED_MAX);
    o->done = true;
    o->status = status;
    o->count = count;
    for (size_t i = 0; i < count; i++) {
        o->addresses[i] = addresses[i];
    }
    (void)snprintf(o->error, sizeof o->error, "%s", error == NULL ? "" : error);
}

static void on_records(void *user, enum nb_status status, const struct net_srv *records,
                       size_t count, const char *error)
{
    struct outcome *o = user;
    assert_false(o->done);
    assert_true((status == NB_OK) == (count != 0) && (status == NB_OK) == (error == NULL));
    assert_true(count <= NET_SRV_MAX);
    o->done = true;
    o->status = status;
    o->count = count;
    for (size_t i = 0; i < count; i++) {
        o->records[i] = records[i];
    }
}

static void run_until(struct world *w, const bool *done)
{
    while (!*done) {
        (void)net_loop_run_once(w->loop, true);
    }
}

static struct outcome resolve(struct world *w, const char *name)
{
    struct outcome o = {0};
    (void)!net_resolve_start(w->loop, name, on_addresses, &o);
    assert_false(o.done); /* never from within the call */
    run_until(w, &o.done);
    return o;
}

static struct outcome resolve_srv(struct world *w, const char *name)
{
    struct outcome o = {0};
    (void)!net_resolve_srv_start(w->loop, name, on_records, &o);
    assert_false(o.done);
    run_until(w, &o.done);
    return o;
}

static void expect_one(const struct outcome *o, const char *host)
{
    assert_int_equal(o->status, NB_OK);
    assert_int_equal(o->count, 1);
    assert_string_equal(o->addresses[0].host, host);
    assert_int_equal(o->addresses[0].port, 0);
}

static void families_alternate_and_no_address_comes_twice(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.1");
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.2");
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.2");
    dns_add(&w.dns, "m1.test", DNS_AAAA, "::1");
    dns_add(&w.dns, "m1.test", DNS_AAAA, "2001:db8::7");
    struct outcome o = resolve(&w, "m1.test");
    assert_int_equal(o.status, NB_OK);
    assert_int_equal(o.count, 4);
    for (size_t i = 1; i < o.count; i++) {
        assert_true((strchr(o.addresses[i].host, ':') == NULL) !=
                    (strchr(o.addresses[i - 1].host, ':') == NULL));
    }
    assert_int_equal(w.dns.udp_count, 2); /* A and AAAA, once */
    close_world(&w);
}

static void a_name_of_one_family_alone_is_found(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add(&w.dns, "six.test", DNS_AAAA, "2001:db8::1");
    dns_add(&w.dns, "four.test", DNS_A, "10.1.2.3");
    struct outcome o = resolve(&w, "six.test");
    expect_one(&o, "2001:db8::1");
    o = resolve(&w, "FOUR.test.");
    expect_one(&o, "10.1.2.3");
    close_world(&w);
}

static void K02_a_name_that_is_not_there_yet_is_found_when_it_is(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct outcome o = resolve(&w, "late.test");
    assert_int_equal(o.status, NB_NOT_FOUND);
    assert_non_null(strstr(o.error, "late.test"));
    dns_add(&w.dns, "late.test", DNS_SRV, "x"); /* the name, and no address */
    o = resolve(&w, "late.test");
    assert_int_equal(o.status, NB_NOT_FOUND);
    dns_add(&w.dns, "late.test", DNS_A, "10.0.0.1");
    o = resolve(&w, "late.test");
    expect_one(&o, "10.0.0.1");
    w.dns.rows[1].data = "10.0.0.2"; /* K01: it moved; nothing here remembers */
    o = resolve(&w, "late.test");
    expect_one(&o, "10.0.0.2");
    close_world(&w);
}

static void K02_a_silent_server_delays_only_who_asks_it(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.config.timeout_ns = 300 * NS_PER_MS;
    w.config.query_ns = 200 * NS_PER_MS;
    net_loop_set_names(w.loop, &w.config);
    dns_add(&w.dns, "mute.test", 0, "");
    dns_add(&w.dns, "m1.test", DNS_A, "10.0.0.1");
    struct outcome mute[20] = {0};
    for (size_t i = 0; i < NB_ARRAY_LEN(mute); i++) {
        (void)!net_resolve_start(w.loop, "mute.test", on_addresses, &mute[i]);
    }
    struct outcome o = resolve(&w, "m1.test");
    expect_one(&o, "10.0.0.1");
    for (size_t i = 0; i < NB_ARRAY_LEN(mute); i++) {
        assert_false(mute[i].done);
    }
    for (size_t i = 0; i < NB_ARRAY_LEN(mute); i++) {
        run_until(&w, &mute[i].done);
        assert_int_equal(mute[i].status, NB_BUSY);
    }
    net_timer_stop(w.limit);
    dns_close(&w.dns);
    net_loop_run(w.loop); /* nothing of what was given up keeps it alive */
    net_timer_destroy(w.limit);
    net_loop_destroy(w.loop);
}

static void a_lost_answer_is_asked_for_again(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.dns.silent = true;
    dns_add(&w.dns, "m1.test", DNS_A, "10.0.0.1");
    struct outcome o = {0};
    (void)!net_resolve_start(w.loop, "m1.test", on_addresses, &o);
    while (w.dns.udp_count < 2) {
        (void)net_loop_run_once(w.loop, true);
    }
    w.dns.silent = false;
    run_until(&w, &o.done);
    expect_one(&o, "10.0.0.1");
    close_world(&w);
}

static void silence_about_aaaa_does_not_hide_an_address(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.config.query_ns = 200 * NS_PER_MS; /* AAAA is given up after 200 + 400 + 800 ms */
    w.config.timeout_ns = 1200 * NS_PER_MS;
    net_loop_set_names(w.loop, &w.config);
    w.dns.silent_type = DNS_AAAA;
    dns_add(&w.dns, "m1.test", DNS_A, "10.0.0.1");
    struct outcome o = resolve(&w, "m1.test");
    expect_one(&o, "10.0.0.1");
    assert_true(w.dns.udp_count >= 3); /* A, AAAA, and A alone when that took too long */
    o = resolve(&w, "none.test");
    assert_true(o.status == NB_NOT_FOUND || o.status == NB_BUSY);
    close_world(&w);
}

static void a_second_server_is_asked_when_the_first_is_not_there(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    char both[64];
    (void)snprintf(both, sizeof both, "127.0.0.77:9,%s", w.dns.servers);
    w.config.servers = both;
    net_loop_set_names(w.loop, &w.config);
    dns_add(&w.dns, "m1.test", DNS_A, "10.0.0.1");
    struct outcome o = resolve(&w, "m1.test");
    expect_one(&o, "10.0.0.1");
    close_world(&w);
}

static void without_any_server_there_the_answer_is_a_status(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.config.servers = "127.0.0.77:9";
    net_loop_set_names(w.loop, &w.config);
    struct outcome o = resolve(&w, "m1.test");
    assert_true(o.status == NB_IO || o.status == NB_BUSY);
    w.config.servers = "not a server";
    net_loop_set_names(w.loop, &w.config);
    o = resolve(&w, "m1.test");
    assert_true(o.status != NB_OK);
    close_world(&w);
}

static void a_truncated_answer_is_fetched_over_tcp(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.dns.truncate = true;
    dns_add(&w.dns, "m1.test", DNS_A, "10.0.0.1");
    dns_add_srv(&w.dns, "_c._tcp.test", "m1.test", 6000, 0, 0);
    struct outcome o = resolve(&w, "m1.test");
    expect_one(&o, "10.0.0.1");
    assert_true(w.dns.tcp_count != 0);
    o = resolve_srv(&w, "_c._tcp.test");
    assert_int_equal(o.status, NB_OK);
    close_world(&w);
}

static void search_list_and_ndots_of_resolv_conf_count(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    write_resolv_conf(&w, "search ns.svc.test svc.test test\noptions ndots:5\n");
    net_loop_set_names(w.loop, &w.config);
    dns_add(&w.dns, "ss-0.ss.ns.svc.test", DNS_A, "10.0.0.1");
    dns_add(&w.dns, "plain.test", DNS_A, "10.0.0.2");
    dns_add(&w.dns, "outside.example.com", DNS_A, "10.0.0.3");
    dns_add_srv(&w.dns, "_client._tcp.ss.ns.svc.test", "m1.test", 6000, 0, 0);
    struct outcome o = resolve(&w, "ss-0.ss");
    expect_one(&o, "10.0.0.1");
    assert_string_equal(w.dns.asked[0], "ss-0.ss.ns.svc.test");
    o = resolve(&w, "ss-0.ss.ns.svc");
    expect_one(&o, "10.0.0.1");
    o = resolve(&w, "plain");
    expect_one(&o, "10.0.0.2");
    o = resolve(&w, "outside.example.com");
    expect_one(&o, "10.0.0.3");
    o = resolve_srv(&w, "_client._tcp.ss");
    assert_int_equal(o.status, NB_OK);
    o = resolve(&w, "nowhere");
    assert_int_equal(o.status, NB_NOT_FOUND);
    (void)unlink(w.path);
    close_world(&w);
}

static void a_changed_resolv_conf_is_noticed(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    write_resolv_conf(&w, "search one.test\n");
    net_loop_set_names(w.loop, &w.config);
    dns_add(&w.dns, "m1.another.test", DNS_A, "10.0.0.1");
    dns_add(&w.dns, "mute.one.test", 0, "");
    struct outcome o = resolve(&w, "m1");
    assert_int_equal(o.status, NB_NOT_FOUND);
    struct outcome waiting = {0}; /* what was asked before goes on */
    (void)!net_resolve_start(w.loop, "mute", on_addresses, &waiting);
    write_resolv_conf(&w, "search another.test\n");
    o = resolve(&w, "m1");
    expect_one(&o, "10.0.0.1");
    run_until(&w, &waiting.done);
    assert_int_equal(waiting.status, NB_BUSY);
    (void)unlink(w.path);
    o = resolve(&w, "m1.another.test"); /* and so is one that went away */
    expect_one(&o, "10.0.0.1");
    close_world(&w);
}

static void localhost_is_answered_without_asking(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    static const char *const names[] = {"localhost", "LocalHost.", "m1.localhost"};
    for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
        struct outcome o = resolve(&w, names[i]);
        assert_int_equal(o.count, 2);
        assert_string_equal(o.addresses[0].host, "127.0.0.1");
        assert_string_equal(o.addresses[1].host, "::1");
    }
    struct outcome o = resolve(&w, "10.9.8.7");
    expect_one(&o, "10.9.8.7");
    o = resolve(&w, "fe80::1");
    expect_one(&o, "fe80::1");
    assert_int_equal(w.dns.udp_count, 0);
    o = resolve(&w, "notlocalhost");
    assert_int_equal(o.status, NB_NOT_FOUND);
    assert_true(w.dns.udp_count != 0);
    close_world(&w);
}

static void what_is_no_name_is_refused(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    char longer[400], label[80];
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    memset(label, 'b', sizeof label);
    label[sizeof label - 1] = 0;
    const char *const names[] = {"", longer, label, "a..b", ".."};
    for (size_t i = 0; i < NB_ARRAY_LEN(names); i++) {
        struct outcome o = resolve(&w, names[i]);
        assert_true(o.status == NB_INVALID || o.status == NB_NOT_FOUND);
        o = resolve_srv(&w, names[i]);
        assert_true(o.status == NB_INVALID || o.status == NB_NOT_FOUND);
    }
    close_world(&w);
}

static void the_hosts_file_is_honoured(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    char path[] = "/tmp/nabata-hosts-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char text[] = "# comment\n10.7.7.7 m7.test m7\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    (void)close(fd);
    assert_int_equal(setenv("CARES_HOSTS", path, 1), 0);
    struct outcome o = resolve(&w, "m7");
    expect_one(&o, "10.7.7.7");
    assert_int_equal(w.dns.udp_count, 0);
    (void)unlink(path); /* and need not be there */
    dns_add(&w.dns, "m8.test", DNS_A, "10.0.0.8");
    o = resolve(&w, "m8.test");
    expect_one(&o, "10.0.0.8");
    (void)unsetenv("CARES_HOSTS");
    close_world(&w);
}

static void srv_records_come_in_one_order(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add_srv(&w.dns, "_c._tcp.test", "third.test", 1, 2, 99);
    dns_add_srv(&w.dns, "_c._tcp.test", "second.test", 2, 1, 5);
    dns_add_srv(&w.dns, "_c._tcp.test", "first.test", 3, 1, 10);
    dns_add_srv(&w.dns, "_c._tcp.test", "fourth.test", 4, 2, 0);
    dns_add_srv(&w.dns, "_none._tcp.test", ".", 0, 0, 0);
    struct outcome o = resolve_srv(&w, "_c._tcp.test");
    assert_int_equal(o.status, NB_OK);
    assert_int_equal(o.count, 4);
    static const char *const order[] = {"first.test", "second.test", "third.test", "fourth.test"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(o.records[i].target, order[i]);
    }
    assert_int_equal(o.records[0].port, 3);
    assert_int_equal(resolve_srv(&w, "_none._tcp.test").status, NB_NOT_FOUND);
    assert_int_equal(resolve_srv(&w, "_never._tcp.test").status, NB_NOT_FOUND);
    close_world(&w);
}

/* ---- connections ---- */

static void on_closed(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)reason;
    struct outcome *o = user;
    if (o != NULL && o->conn == conn) {
        o->conn = NULL;
    }
}

static void on_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    (void)conn;
    (void)user;
    (void)bytes;
}

static const struct net_conn_events quiet = {.on_data = on_data, .on_close = on_closed};

static void on_accept(void *user, struct net_conn *conn)
{
    (void)user;
    net_conn_start(conn, &quiet, NULL, NULL);
}

static void on_connected(void *user, struct net_conn *conn, enum nb_status status,
                         const char *error)
{
    struct outcome *o = user;
    assert_false(o->done);
    o->done = true;
    o->status = status;
    o->conn = conn;
    (void)snprintf(o->error, sizeof o->error, "%s", error == NULL ? "" : error);
    if (conn != NULL) {
        net_conn_start(conn, &quiet, o, NULL);
    }
}

static struct net_address listen_somewhere(struct world *w, struct net_listener **out)
{
    struct net_address at;
    assert_true(net_address_parse("127.0.0.1:0", 0, &at, NULL));
    assert_int_equal(net_listener_open(w->loop, &at, NULL, on_accept, NULL, out, NULL), NB_OK);
    at.port = net_listener_port(*out);
    return at;
}

static void a_dead_address_does_not_hide_the_next(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add(&w.dns, "m1.test", DNS_AAAA, "2001:db8::dead");
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.8");
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.1");
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.9");
    dns_add(&w.dns, "dead.test", DNS_A, "127.0.0.8");
    struct net_listener *listener;
    struct net_address to = listen_somewhere(&w, &listener);
    (void)snprintf(to.host, sizeof to.host, "m1.test");
    struct outcome o = {0};
    (void)!net_connect_start(w.loop, &to, 300 * NS_PER_MS, on_connected, &o);
    run_until(&w, &o.done);
    assert_non_null(o.conn);
    assert_int_equal(strncmp(net_conn_peer(o.conn), "127.0.0.1:", 10), 0);
    net_conn_abort(o.conn);

    struct outcome dead = {0};
    (void)snprintf(to.host, sizeof to.host, "dead.test");
    (void)!net_connect_start(w.loop, &to, 0, on_connected, &dead);
    run_until(&w, &dead.done);
    assert_int_equal(dead.status, NB_CLOSED);
    struct outcome none = {0};
    (void)snprintf(to.host, sizeof to.host, "none.test");
    (void)!net_connect_start(w.loop, &to, 0, on_connected, &none);
    run_until(&w, &none.done);
    assert_int_equal(none.status, NB_NOT_FOUND);
    assert_non_null(strstr(none.error, "none.test"));
    net_listener_close(listener);
    close_world(&w);
}

static void nothing(void *user)
{
    (void)user;
}

static void cancel_is_fine_in_every_state(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    struct net_timer *beat = net_timer_create(w.loop, nothing, NULL); /* so that every turn ends */
    net_timer_start(beat, NS_PER_MS, NS_PER_MS);
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.1");
    dns_add(&w.dns, "mute.test", 0, "");
    dns_add_srv(&w.dns, "_c._tcp.test", "m1.test", 6000, 0, 0);
    struct net_listener *listener;
    struct net_address to = listen_somewhere(&w, &listener);
    static const char *const names[] = {"m1.test", "mute.test", "none.test", "localhost",
                                        "127.0.0.1"};
    for (size_t name = 0; name < NB_ARRAY_LEN(names); name++) {
        for (int truncate = 0; truncate < 2; truncate++) {
            w.dns.truncate = truncate == 1;
            for (size_t turns = 0; turns < 12; turns++) {
                struct outcome a = {0}, b = {0}, c = {0};
                (void)snprintf(to.host, sizeof to.host, "%s", names[name]);
                struct net_resolve *resolve =
                    net_resolve_start(w.loop, names[name], on_addresses, &a);
                struct net_resolve *srv = net_resolve_srv_start(
                    w.loop, name % 2 == 0 ? "_c._tcp.test" : names[name], on_records, &b);
                struct net_connect *connect = net_connect_start(w.loop, &to, 0, on_connected, &c);
                for (size_t i = 0; i < turns; i++) {
                    (void)net_loop_run_once(w.loop, true);
                }
                bool canceled[3] = {!a.done, !b.done, !c.done};
                if (canceled[0]) {
                    net_resolve_cancel(resolve);
                }
                if (canceled[1]) {
                    net_resolve_cancel(srv);
                }
                if (canceled[2]) {
                    net_connect_cancel(connect);
                }
                if (c.conn != NULL) {
                    net_conn_abort(c.conn);
                    while (c.conn != NULL) {
                        (void)net_loop_run_once(w.loop, true);
                    }
                }
                for (size_t i = 0; i < 3; i++) {
                    (void)net_loop_run_once(w.loop, false);
                }
                assert_true(a.done != canceled[0] && b.done != canceled[1] &&
                            c.done != canceled[2]);
            }
        }
    }
    net_timer_destroy(beat);
    net_listener_close(listener);
    close_world(&w);
}

struct chain {
    struct world *w;
    struct net_resolve *other;
    size_t rounds;
    bool done;
};

static void never(void *user, enum nb_status status, const struct net_address *addresses,
                  size_t count, const char *error)
{
    (void)user;
    (void)status;
    (void)addresses;
    (void)count;
    (void)error;
    fail_msg("a canceled one was told");
}

static void on_chain(void *user, enum nb_status status, const struct net_address *addresses,
                     size_t count, const char *error)
{
    (void)addresses;
    (void)count;
    (void)error;
    struct chain *c = user;
    assert_int_equal(status, NB_OK);
    net_resolve_cancel(c->other);
    net_loop_set_names(c->w->loop, &c->w->config);
    if (++c->rounds == 5) {
        c->done = true;
        return;
    }
    c->other = net_resolve_start(c->w->loop, "mute.test", never, NULL);
    (void)!net_resolve_start(c->w->loop, "m1.test", on_chain, c);
}

static void a_callback_may_ask_again_and_cancel_others(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.1");
    dns_add(&w.dns, "mute.test", 0, "");
    struct chain c = {.w = &w};
    c.other = net_resolve_start(w.loop, "mute.test", never, NULL);
    (void)!net_resolve_start(w.loop, "m1.test", on_chain, &c);
    run_until(&w, &c.done);
    close_world(&w);
}

static void N10_damaged_answers_end_in_a_status(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    w.config.query_ns = 2 * NS_PER_MS;
    w.config.timeout_ns = 50 * NS_PER_MS;
    net_loop_set_names(w.loop, &w.config);
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    w.dns.garbage = &random;
    dns_add(&w.dns, "m1.test", DNS_A, "127.0.0.1");
    dns_add(&w.dns, "m1.test", DNS_AAAA, "::1");
    for (uint16_t i = 0; i < 5; i++) {
        dns_add_srv(&w.dns, "_c._tcp.test", "m1.test", i, i, i);
    }
    enum { BATCH = 50 };
    struct outcome *all = nb_alloc_zero(2 * BATCH, sizeof *all);
    for (uint64_t round = unit_scaled(20); round > 0; round--) {
        memset(all, 0, 2 * BATCH * sizeof *all);
        for (size_t i = 0; i < BATCH; i++) {
            (void)!net_resolve_start(w.loop, "m1.test", on_addresses, &all[2 * i]);
            (void)!net_resolve_srv_start(w.loop, "_c._tcp.test", on_records, &all[2 * i + 1]);
        }
        for (size_t i = 0; i < 2 * BATCH; i++) {
            run_until(&w, &all[i].done);
        }
    }
    nb_free(all);
    w.dns.garbage = NULL;
    w.config.timeout_ns = 5000 * NS_PER_MS;
    net_loop_set_names(w.loop, &w.config);
    assert_int_equal(resolve(&w, "m1.test").status, NB_OK);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(families_alternate_and_no_address_comes_twice),
        cmocka_unit_test(a_name_of_one_family_alone_is_found),
        cmocka_unit_test(K02_a_name_that_is_not_there_yet_is_found_when_it_is),
        cmocka_unit_test(K02_a_silent_server_delays_only_who_asks_it),
        cmocka_unit_test(a_lost_answer_is_asked_for_again),
        cmocka_unit_test(silence_about_aaaa_does_not_hide_an_address),
        cmocka_unit_test(a_second_server_is_asked_when_the_first_is_not_there),
        cmocka_unit_test(without_any_server_there_the_answer_is_a_status),
        cmocka_unit_test(a_truncated_answer_is_fetched_over_tcp),
        cmocka_unit_test(search_list_and_ndots_of_resolv_conf_count),
        cmocka_unit_test(a_changed_resolv_conf_is_noticed),
        cmocka_unit_test(localhost_is_answered_without_asking),
        cmocka_unit_test(what_is_no_name_is_refused),
        cmocka_unit_test(the_hosts_file_is_honoured),
        cmocka_unit_test(srv_records_come_in_one_order),
        cmocka_unit_test(a_dead_address_does_not_hide_the_next),
        cmocka_unit_test(cancel_is_fine_in_every_state),
        cmocka_unit_test(a_callback_may_ask_again_and_cancel_others),
        cmocka_unit_test(N10_damaged_answers_end_in_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
