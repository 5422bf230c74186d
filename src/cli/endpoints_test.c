/* Endpoints out of names, with a name server on a loopback port. */
#include "cli/endpoints.h"

#include "tests/support/dns_server.h"

struct world {
    struct net_loop *loop;
    struct dns_server dns;
    struct nb_arena arena;
    struct endpoints_found found;
    struct net_error error;
};

static void open_world(struct world *w)
{
    *w = (struct world){.loop = net_loop_create()};
    dns_open(&w->dns, w->loop);
    struct net_names_config names = {.resolv_conf = "/nonexistent",
                                     .servers = w->dns.servers,
                                     .query_ns = 20000000,
                                     .timeout_ns = 100000000};
    net_loop_set_names(w->loop, &names);
}

static void close_world(struct world *w)
{
    dns_close(&w->dns);
    net_loop_destroy(w->loop);
    nb_arena_deinit(&w->arena);
}

static enum nb_status find(struct world *w, const char *domain, const char *service)
{
    struct endpoints_source from = {
        .discovery_srv = domain, .discovery_srv_name = "", .service = service, .client_port = 6000};
    return endpoints_find(w->loop, &from, &w->arena, &w->found, &w->error);
}

static void a_service_is_its_srv_records_by_name(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add_srv(&w.dns, "_client._tcp.ss.test", "ss-0.ss.test", 6000, 0, 2);
    dns_add_srv(&w.dns, "_client._tcp.ss.test", "ss-1.ss.test", 6001, 0, 1);
    dns_add(&w.dns, "ss.test", DNS_A, "10.0.0.1");
    assert_int_equal(find(&w, "", "ss.test"), NB_OK);
    assert_int_equal(w.found.count, 2);
    assert_string_equal(w.found.items[0], "ss-0.ss.test:6000");
    assert_string_equal(w.found.items[1], "ss-1.ss.test:6001");
    close_world(&w);
}

static void without_srv_records_a_service_is_its_addresses(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add(&w.dns, "ss.test", DNS_A, "10.0.0.1");
    dns_add(&w.dns, "ss.test", DNS_AAAA, "2001:db8::1");
    assert_int_equal(find(&w, "", "ss.test"), NB_OK);
    assert_int_equal(w.found.count, 2);
    bool four_first = w.found.items[0][0] != '[';
    assert_string_equal(w.found.items[four_first ? 0 : 1], "10.0.0.1:6000");
    assert_string_equal(w.found.items[four_first ? 1 : 0], "[2001:db8::1]:6000");
    close_world(&w);
}

static void a_domain_is_asked_as_etcdctl_does(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    dns_add_srv(&w.dns, "_etcd-client._tcp.test", "m1.test", 2379, 0, 2);
    dns_add_srv(&w.dns, "_etcd-client-ssl._tcp.test", "m2.test", 2379, 0, 2);
    assert_int_equal(find(&w, "test", ""), NB_OK);
    assert_int_equal(w.found.count, 2);
    assert_string_equal(w.found.items[0], "https://m2.test:2379");
    assert_string_equal(w.found.items[1], "http://m1.test:2379");
    close_world(&w);
}

static void nothing_found_and_nobody_answering_are_told_apart(void **state)
{
    (void)state;
    struct world w;
    open_world(&w);
    assert_int_equal(find(&w, "", "none.test"), NB_NOT_FOUND);
    assert_non_null(strstr(w.error.text, "none.test"));
    w.dns.silent = true;
    assert_int_equal(find(&w, "", "none.test"), NB_BUSY);
    assert_int_equal(find(&w, "none.test", ""), NB_BUSY);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_is_its_srv_records_by_name),
        cmocka_unit_test(without_srv_records_a_service_is_its_addresses),
        cmocka_unit_test(a_domain_is_asked_as_etcdctl_does),
        cmocka_unit_test(nothing_found_and_nobody_answering_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
