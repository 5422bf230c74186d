#include "server/url.h"
#include "tests/support/unit.h"

static void a_url_has_these_parts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool tls, unix_socket, can_bind;
    } cases[] = {
        {"http://localhost:2379", "localhost", 2379, false, false, true},
        {"  http://10.0.0.1:1 ", "10.0.0.1", 1, false, false, true},
        {"https://0.0.0.0:65535", "0.0.0.0", 65535, true, false, true},
        {"http://[::]:2380", "::", 2380, false, false, true},
        {"http://[fe80::1%eth0]:2380", "fe80::1%eth0", 2380, false, false, true},
        {"http://:2379", "", 2379, false, false, false},
        {"http://ss-0.ss.default.svc:6001", "ss-0.ss.default.svc", 6001, false, false, false},
        {"http://1.2.3.4.5:1", "1.2.3.4.5", 1, false, false, false},
        {"unix://localhost:17", "localhost:17", 0, false, true, true},
        {"unixs:///run/etcd", "/run/etcd", 0, true, true, true},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct nb_arena arena = {0};
        struct nb_buf why = {0};
        struct server_address a;
        assert_true(server_url_parse(cases[i].text, &arena, &a, &why));
        assert_string_equal(a.host, cases[i].host);
        assert_int_equal(a.port, cases[i].port);
        assert_int_equal(a.tls, cases[i].tls);
        assert_int_equal(a.unix_socket, cases[i].unix_socket);
        assert_int_equal(server_address_can_bind(&a), cases[i].can_bind);
        nb_arena_deinit(&arena);
        nb_buf_deinit(&why);
    }
}

static void a_wrong_url_is_refused_with_this_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"", "URL scheme must be http, https, unix, or unixs: "},
        {"localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"},
        {"ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"},
        {"http://a", "URL address does not have the form \"host:port\": http://a"},
        {"http://a:", "URL address does not have the form \"host:port\": http://a:"},
        {"http://a:65536", "URL address does not have the form \"host:port\": http://a:65536"},
        {"http://a:-1", "URL address does not have the form \"host:port\": http://a:-1"},
        {"http://::1:80", "URL address does not have the form \"host:port\": http://::1:80"},
        {"http://[::1]80", "URL address does not have the form \"host:port\": http://[::1]80"},
        {"http://u@h:80", "URL address does not have the form \"host:port\": http://u@h:80"},
        {"http://a:1/x", "URL must not contain a path: http://a:1/x"},
        {"unix://", "URL names no socket: unix://"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct nb_arena arena = {0};
        struct nb_buf why = {0};
        struct server_address a;
        assert_false(server_url_parse(cases[i].text, &arena, &a, &why));
        nb_buf_append(&why, "", 1);
        assert_string_equal((const char *)why.data, cases[i].why);
        nb_arena_deinit(&arena);
        nb_buf_deinit(&why);
    }
}

static void members_are_sorted_and_their_urls_gathered(void **state)
{
    (void)state;
    struct nb_arena arena = {0};
    struct nb_buf why = {0};
    struct server_members m;
    assert_true(server_members_parse("b=http://b:2,a=http://a:1,b=http://b:1,b=http://b:2", &arena,
                                     &m, &why));
    assert_int_equal(m.count, 2);
    assert_string_equal(m.items[0].name, "a");
    assert_string_equal(m.items[1].name, "b");
    assert_int_equal(m.items[1].peer_urls.count, 2);
    assert_string_equal(m.items[1].peer_urls.items[0].url, "http://b:1");
    static const char *const wrong[] = {"", "a", "a=", "a=http://x:1,", "=http://", "a=b=c"};
    for (size_t i = 0; i < NB_ARRAY_LEN(wrong); i++) {
        assert_false(server_members_parse(wrong[i], &arena, &m, &why));
    }
    nb_arena_deinit(&arena);
    nb_buf_deinit(&why);
}

/* The ids that every etcd user has seen: a fresh etcd, and the three of its Procfile. */
static void ids_are_those_that_etcd_computes(void **state)
{
    (void)state;
    static const struct {
        const char *cluster, *token;
        uint64_t member_ids[3], cluster_id;
    } cases[] = {
        {"default=http://localhost:2380",
         "etcd-cluster",
         {UINT64_C(0x8e9e05c52164694d)},
         UINT64_C(0xcdf818194e3a8c32)},
        {"infra3=http://127.0.0.1:32380,infra1=http://127.0.0.1:12380,"
         "infra2=http://127.0.0.1:22380",
         "etcd-cluster-1",
         {UINT64_C(0x8211f1d0f64f3269), UINT64_C(0x91bc3c398fb3c146), UINT64_C(0xfd422379fda50e48)},
         UINT64_C(0xef37ad9dc622a7c4)},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct nb_arena arena = {0};
        struct nb_buf why = {0};
        struct server_members m;
        assert_true(server_members_parse(cases[i].cluster, &arena, &m, &why));
        for (size_t k = 0; k < m.count; k++) {
            m.items[k].id = server_member_id(&m.items[k].peer_urls, cases[i].token);
            assert_true(m.items[k].id == cases[i].member_ids[k]);
        }
        assert_true(server_cluster_id(&m) == cases[i].cluster_id);
        nb_arena_deinit(&arena);
        nb_buf_deinit(&why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_has_these_parts),
        cmocka_unit_test(a_wrong_url_is_refused_with_this_text),
        cmocka_unit_test(members_are_sorted_and_their_urls_gathered),
        cmocka_unit_test(ids_are_those_that_etcd_computes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
