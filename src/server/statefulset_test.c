#include "server/config.h"
#include "tests/support/unit.h"

struct parsed {
    struct server_config c;
    struct nb_buf message;
    enum server_config_outcome outcome;
};

static struct parsed parse_as(bool as_etcd, const char *line, const char *variables)
{
    static char copy[2][2048];
    static char program[] = "nabata";
    char *argv[64] = {program}, *envp[64] = {NULL};
    int argc = 1;
    size_t variable_count = 0;
    (void)snprintf(copy[0], sizeof copy[0], "%s", line);
    (void)snprintf(copy[1], sizeof copy[1], "%s", variables);
    for (char *word = strtok(copy[0], " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    for (char *word = strtok(copy[1], " "); word != NULL; word = strtok(NULL, " ")) {
        envp[variable_count++] = word;
    }
    struct parsed p = {0};
    p.outcome = server_config_parse(argc, argv, envp, as_etcd, &p.c, &p.message);
    nb_buf_append(&p.message, "", 1);
    return p;
}

static struct parsed parse(const char *line, const char *variables)
{
    return parse_as(false, line, variables);
}

static const char *text(const struct parsed *p)
{
    return (const char *)p->message.data;
}

static void done(struct parsed *p)
{
    server_config_deinit(&p->c);
    nb_buf_deinit(&p->message);
}

static void a_pod_finds_its_names_and_addresses_in_its_environment(void **state)
{
    (void)state;
    struct parsed p = parse("--statefulset=ss-service --data-dir=/data",
                            "POD_NAME=ss-2 POD_NAMESPACE=default KUBERNETES_SERVICE_HOST=10.0.0.1 "
                            "KUBERNETES_SERVICE_PORT_HTTPS=6443");
    assert_string_equal(text(&p), "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(p.c.name, "ss-2");
    assert_string_equal(p.c.statefulset.set, "ss");
    assert_int_equal(p.c.statefulset.ordinal, 2);
    assert_int_equal(p.c.statefulset.replicas, 3);
    assert_true(p.c.statefulset.grace_ns == 120 * INT64_C(1000000000));
    assert_string_equal(p.c.statefulset.api_host, "10.0.0.1");
    assert_string_equal(p.c.statefulset.api_port, "6443");
    assert_string_equal(p.c.listen_peer.items[0].url, "http://0.0.0.0:2380");
    assert_string_equal(p.c.listen_client.items[0].url, "http://0.0.0.0:2379");
    assert_string_equal(p.c.listen_metrics.items[0].url, "http://0.0.0.0:2381");
    assert_string_equal(p.c.initial_advertise_peer.items[0].url,
                        "http://ss-2.ss-service.default.svc:2380");
    assert_string_equal(p.c.advertise_client.items[0].url,
                        "http://ss-2.ss-service.default.svc:2379");
    struct nb_buf url = {0};
    server_statefulset_peer_url(&p.c.statefulset, 0, &url);
    assert_true(nb_bytes_equal(nb_buf_bytes(&url),
                               nb_bytes_str("http://ss-0.ss-service.default.svc:2380")));
    nb_buf_deinit(&url);
    done(&p);
}

static void flags_win_over_variables_and_defaults(void **state)
{
    (void)state;
    struct parsed p = parse("--name my-store-10 --termination-grace 30 "
                            "--listen-peer-urls http://0.0.0.0:6001 "
                            "--listen-client-urls http://0.0.0.0:6000",
                            "NABATA_STATEFULSET=svc NABATA_STATEFULSET_REPLICAS=5 POD_NAME=ss-1 "
                            "NABATA_TERMINATION_GRACE=99 NABATA_SERVICE_ACCOUNT_DIR=/nowhere");
    assert_string_equal(text(&p), "");
    assert_string_equal(p.c.statefulset.set, "my-store");
    assert_int_equal(p.c.statefulset.ordinal, 10);
    assert_int_equal(p.c.statefulset.replicas, 5);
    assert_true(p.c.statefulset.grace_ns == 30 * INT64_C(1000000000));
    assert_string_equal(p.c.statefulset.name_space, "");
    assert_null(p.c.statefulset.api_host);
    assert_string_equal(p.c.initial_advertise_peer.items[0].url, "http://my-store-10.svc:6001");
    assert_string_equal(p.c.advertise_client.items[0].url, "http://my-store-10.svc:6000");
    done(&p);
}

static void what_does_not_go_together_is_refused_with_a_word(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } rows[] = {
        {"--statefulset s --name ss-0 --initial-cluster ss-0=http://a:1", "--initial-cluster"},
        {"--statefulset s --name ss-0 --initial-cluster-state existing", "--initial-cluster-state"},
        {"--statefulset s --name ss-0 --wal-dir /w", "--wal-dir"},
        {"--statefulset s --name store", "does not end in a dash and an ordinal"},
        {"--statefulset s --name ss-0 --statefulset-replicas 0", "between 1 and"},
        {"--statefulset s --name ss-0 --termination-grace 100000", "at most"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct parsed p = parse(rows[i].line, "");
        assert_int_equal(p.outcome, SERVER_CONFIG_BAD);
        assert_non_null(strstr(text(&p), rows[i].says));
        done(&p);
    }
}

static void etcd_does_not_know_the_mode(void **state)
{
    (void)state;
    struct parsed p = parse_as(true, "--statefulset s", "");
    assert_int_equal(p.outcome, SERVER_CONFIG_BAD_FLAG);
    done(&p);
    p = parse_as(true, "", "NABATA_STATEFULSET=s POD_NAME=ss-0");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_null(p.c.statefulset.service);
    done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pod_finds_its_names_and_addresses_in_its_environment),
        cmocka_unit_test(flags_win_over_variables_and_defaults),
        cmocka_unit_test(what_does_not_go_together_is_refused_with_a_word),
        cmocka_unit_test(etcd_does_not_know_the_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
