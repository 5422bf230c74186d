#include "net/net.h"

#include "tests/support/unit.h"

static void addresses_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum net_scheme scheme;
        const char *host;
        uint16_t port;
        const char *back;
    } cases[] = {
        {"http://m1:2379", NET_SCHEME_HTTP, "m1", 2379, "m1:2379"},
        {"http://m1:2379/", NET_SCHEME_HTTP, "m1", 2379, "m1:2379"},
        {"https://[::1]:80", NET_SCHEME_HTTPS, "::1", 80, "[::1]:80"},
        {"127.0.0.1:0", NET_SCHEME_NONE, "127.0.0.1", 0, "127.0.0.1:0"},
        {":65535", NET_SCHEME_NONE, "", 65535, ":65535"},
        {"host", NET_SCHEME_NONE, "host", 7, "host:7"},
        {"http://a.b-c.svc", NET_SCHEME_HTTP, "a.b-c.svc", 7, "a.b-c.svc:7"},
        {"unix:///tmp/x:1", NET_SCHEME_UNIX, "/tmp/x:1", 0, "/tmp/x:1"},
        {"unixs://localhost:abc", NET_SCHEME_UNIXS, "localhost:abc", 0, "localhost:abc"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct net_address a;
        char back[280];
        assert_true(net_address_parse(cases[i].text, 7, &a, NULL));
        assert_int_equal(a.scheme, cases[i].scheme);
        assert_string_equal(a.host, cases[i].host);
        assert_int_equal(a.port, cases[i].port);
        net_address_format(&a, back, sizeof back);
        assert_string_equal(back, cases[i].back);
    }
}

static void what_is_no_address_is_refused_with_words(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } cases[] = {
        {"", "\"\": address is empty"},
        {"http://", "\"http://\": address is empty"},
        {"m1", "\"m1\": a port is missing"},
        {"m1:", "\"m1:\": port must be from 0 to 65535"},
        {"m1:65536", "\"m1:65536\": port must be from 0 to 65535"},
        {"m1:99999999", "\"m1:99999999\": port must be from 0 to 65535"},
        {"m1:-1", "\"m1:-1\": port must be from 0 to 65535"},
        {"::1:80", "\"::1:80\": an IPv6 address must be in brackets"},
        {"[::1", "\"[::1\": a bracket is not closed"},
        {"[::1]80", "\"[::1]80\": a bracket is not closed"},
        {"[x]:80", "\"[x]:80\": not an IPv6 address in the brackets"},
        {"ftp://a:1", "\"ftp://a:1\": scheme must be http, https, unix or unixs"},
        {"http://a:1/b", "\"http://a:1/b\": a path is not allowed"},
        {"a:1/", "\"a:1/\": a path is not allowed"},
        {"a b:1", "\"a b:1\": host has characters that no host has"},
        {"u@h:1", "\"u@h:1\": host has characters that no host has"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct net_address a;
        struct net_error error = {""};
        assert_false(net_address_parse(cases[i].text, 0, &a, &error));
        assert_string_equal(error.text, cases[i].words);
    }
    char longest[1000];
    memset(longest, 'a', sizeof longest);
    longest[999] = 0;
    struct net_address a;
    struct net_error error;
    assert_false(net_address_parse(longest, 1, &a, &error));
}

static void numeric_hosts_need_no_resolver(void **state)
{
    (void)state;
    struct net_address a = {.host = "10.0.0.1"}, b = {.host = "fe80::1"}, c = {.host = "m1"};
    assert_true(net_address_is_numeric(&a));
    assert_true(net_address_is_numeric(&b));
    assert_false(net_address_is_numeric(&c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_taken_apart),
        cmocka_unit_test(what_is_no_address_is_refused_with_words),
        cmocka_unit_test(numeric_hosts_need_no_resolver),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
