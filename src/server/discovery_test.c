/* SRV discovery, with a name server on a loopback port. */
#include "server/discovery.h"

#include "tests/support/dns_server.h"

struct world {
    struct net_loop *loop;
    struct dns_server dns;
    struct server_config config;
    struct nb_buf message;
};

/* Parses `line` (words at blanks) into the configuration. */
static void open_world(struct world *w, const char *line)
{
    *w = (struct world){.loop = net_loop_create()};
    dns_open(&w->dns, w->loop);
    struct net_names_config names = {.resolv_conf = "/nonexistent",
                                     .servers = w->dns.servers,
                                     .query_ns = 20000000,
                                     .timeout_ns = 100000000};
    net_loop_set_names(w->loop, &names);
    char copy[1024], program[] = "nabata", *argv[32] = {program}, *envp[] = {NULL};
    int argc = 1;
    (void)snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    assert_int_equal(server_config_parse(argc, argv, envp, false, &w->config, &w->message),
                     SERVER_CONFIG_RUN);
}

static void close_world(struct world *w)
{
    dns_close(&w->dns);
    net_loop_destroy(w->loop);
    server_config_deinit(&w->config);
    nb_buf_deinit(&w->message);
}

static bool discover(struct world *w, uint64_t patience_ms)
{
    bool fine = server_discover(w->loop, &w->config, patience_ms * 1000000, &w->message) ==
                SERVER_CONFIG_RUN;
    nb_buf_append(&w->message, "", 1);
    return fine;
}

#define OWN "--name m2 --discovery-srv cluster.test --initial-advertise-peer-urls "

static void the_records_are_the_members_and_ours_is_known_by_its_url(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, OWN "http://B.cluster.test:2380");
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "a.cluster.test", 2380, 0, 3);
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "b.cluster.test", 2380, 0, 2);
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "c.cluster.test", 2380, 0, 1);
    assert_true(discover(&w, 0));
    assert_string_equal(w.config.initial_cluster_text,
                        "0=http://a.cluster.test:2380,m2=http://b.cluster.test:2380,"
                        "1=http://c.cluster.test:2380");
    nb_buf_clear(&w.message);
    assert_int_equal(server_config_bootstrap(&w.config, &w.message), SERVER_CONFIG_RUN);
    assert_int_equal(w.config.initial_cluster.count, 3);
    close_world(&w);
}

static void an_address_on_our_side_is_compared_with_what_the_names_resolve_to(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, OWN "http://10.0.0.2:2380 --discovery-srv-name blue");
    dns_add_srv(&w.dns, "_etcd-server-blue._tcp.cluster.test", "a.cluster.test", 2380, 0, 2);
    dns_add_srv(&w.dns, "_etcd-server-blue._tcp.cluster.test", "b.cluster.test", 2380, 0, 1);
    dns_add(&w.dns, "a.cluster.test", DNS_A, "10.0.0.1");
    dns_add(&w.dns, "b.cluster.test", DNS_A, "10.0.0.2");
    assert_true(discover(&w, 0));
    assert_string_equal(w.config.initial_cluster_text,
                        "0=http://a.cluster.test:2380,m2=http://b.cluster.test:2380");
    nb_buf_clear(&w.message);
    assert_int_equal(server_config_bootstrap(&w.config, &w.message), SERVER_CONFIG_RUN);
    close_world(&w);
}

static void nothing_found_and_not_being_among_them_are_told(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, OWN "http://b.cluster.test:2380");
    assert_false(discover(&w, 60000)); /* they are not there: at once */
    assert_non_null(strstr((const char *)w.message.data, "no SRV records found"));
    nb_buf_clear(&w.message);
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "a.cluster.test", 2380, 0, 2);
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "b.cluster.test", 2381, 0, 2);
    assert_false(discover(&w, 0));
    assert_non_null(strstr((const char *)w.message.data,
                           "cannot find local etcd member \"m2\" in SRV records"));
    nb_buf_clear(&w.message);
    w.dns.silent = true;
    assert_false(discover(&w, 0));
    assert_non_null(strstr((const char *)w.message.data, "no name server answered in time"));
    close_world(&w);
}

static void speak_again(void *user)
{
    struct dns_server *dns = user;
    dns->silent = false;
}

static void K02_a_server_that_is_silent_at_first_is_asked_again(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, OWN "http://b.cluster.test:2380");
    dns_add_srv(&w.dns, "_etcd-server._tcp.cluster.test", "b.cluster.test", 2380, 0, 2);
    w.dns.silent = true;
    struct net_timer *timer = net_timer_create(w.loop, speak_again, &w.dns);
    net_timer_start(timer, 300000000, 0);
    assert_true(discover(&w, 20000));
    assert_string_equal(w.config.initial_cluster_text, "m2=http://b.cluster.test:2380");
    net_timer_destroy(timer);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_records_are_the_members_and_ours_is_known_by_its_url),
        cmocka_unit_test(an_address_on_our_side_is_compared_with_what_the_names_resolve_to),
        cmocka_unit_test(nothing_found_and_not_being_among_them_are_told),
        cmocka_unit_test(K02_a_server_that_is_silent_at_first_is_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
