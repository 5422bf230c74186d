#include "server/config.h"
#include "server/flags.h"
#include "tests/support/unit.h"

#include <fcntl.h>
#include <unistd.h>

struct parsed {
    struct server_config c;
    struct nb_buf message;
    enum server_config_outcome outcome;
};

/* Cuts `line` and `variables` at blanks, parses them, and ends the message as a C string. */
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

static void without_flags_all_is_as_in_etcd(void **state)
{
    (void)state;
    struct parsed p = parse("", "");
    assert_string_equal(text(&p), "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(p.c.name, "default");
    assert_string_equal(p.c.data_dir, "default.nabata");
    assert_null(p.c.wal_dir);
    assert_string_equal(p.c.listen_client.items[0].url, "http://localhost:2379");
    assert_string_equal(p.c.listen_peer.items[0].url, "http://localhost:2380");
    assert_int_equal(p.c.listen_metrics.count, 0);
    assert_int_equal(p.c.heartbeat_interval_ns, 100000000);
    assert_int_equal(p.c.election_timeout_ns, 1000000000);
    assert_int_equal(p.c.snapshot_count, 10000);
    assert_int_equal(p.c.snapshot_catchup_entries, 5000);
    assert_int_equal(p.c.max_request_bytes, 1572864);
    assert_int_equal(p.c.max_txn_ops, 128);
    assert_int_equal(p.c.max_concurrent_streams, UINT32_MAX);
    assert_true(p.c.quota_bytes == UINT64_C(2147483648));
    assert_int_equal(p.c.grpc_keepalive_min_time_ns, INT64_C(5000000000));
    assert_int_equal(p.c.grpc_keepalive_interval_ns, INT64_C(7200000000000));
    assert_int_equal(p.c.grpc_keepalive_timeout_ns, INT64_C(20000000000));
    assert_int_equal(p.c.compaction_sleep_interval_ns, 10000000);
    assert_int_equal(p.c.watch_progress_notify_interval_ns, INT64_C(600000000000));
    assert_true(p.c.pre_vote && p.c.strict_reconfig_check && p.c.initial_election_tick_advance);
    assert_false(p.c.initial_cluster_existing || p.c.unsafe_no_fsync || p.c.metrics_extensive);
    assert_int_equal(p.c.log_level, NB_LOG_INFO);
    assert_int_equal(p.c.log_format, NB_LOG_JSON);
    assert_string_equal(p.c.log_output, "stderr");
    assert_int_equal(p.c.warning_count, 0);
    assert_int_equal(server_config_bootstrap(&p.c, &p.message), SERVER_CONFIG_RUN);
    assert_true(p.c.member_id == UINT64_C(0x8e9e05c52164694d));
    assert_true(p.c.cluster_id == UINT64_C(0xcdf818194e3a8c32));
    done(&p);
}

static void flags_have_their_effect(void **state)
{
    (void)state;
    struct parsed p = parse(
        "--name n2 --data-dir /d -wal-dir=/w --listen-client-urls http://0.0.0.0:6000 "
        "--advertise-client-urls http://n2:6000 --listen-peer-urls http://[::]:6001 "
        "--initial-advertise-peer-urls http://n2:6001 --listen-metrics-urls http://127.0.0.1:2381 "
        "--initial-cluster n1=http://n1:6001,n2=http://n2:6001 --initial-cluster-state existing "
        "--initial-cluster-token tok --heartbeat-interval 10 --election-timeout 50 "
        "--snapshot-count=7 --snapshot-catchup-entries=8 --max-request-bytes=9 --max-txn-ops 10 "
        "--max-concurrent-streams=11 --quota-backend-bytes=-1 --grpc-keepalive-min-time=1s "
        "--log-level=debug --log-format=console --log-outputs=/l --pre-vote=false "
        "--max-learners=3 --unsafe-no-fsync --socket-reuse-port --metrics=extensive "
        "--host-whitelist=a,b --compaction-sleep-interval=1ms --raft-read-timeout=2s "
        "--feature-gates=InitialCorruptCheck=true,FastLeaseKeepAlive=false --max-wals=3 "
        "--config=x --auto-compaction-retention=0 --tls-min-version=TLS1.2 --logger=zap",
        "");
    assert_string_equal(text(&p), "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(p.c.name, "n2");
    assert_string_equal(p.c.data_dir, "/d");
    assert_string_equal(p.c.wal_dir, "/w");
    assert_int_equal(p.c.listen_client.items[0].port, 6000);
    assert_string_equal(p.c.listen_peer.items[0].host, "::");
    assert_string_equal(p.c.listen_metrics.items[0].host, "127.0.0.1");
    assert_string_equal(p.c.advertise_client.items[0].host, "n2");
    assert_true(p.c.initial_cluster_existing);
    assert_string_equal(p.c.initial_cluster_token, "tok");
    assert_int_equal(p.c.heartbeat_interval_ns, 10000000);
    assert_int_equal(p.c.election_timeout_ns, 50000000);
    assert_int_equal(p.c.snapshot_count, 7);
    assert_int_equal(p.c.snapshot_catchup_entries, 8);
    assert_int_equal(p.c.max_request_bytes, 9);
    assert_int_equal(p.c.max_txn_ops, 10);
    assert_int_equal(p.c.max_concurrent_streams, 11);
    assert_true(p.c.quota_bytes == UINT64_MAX);
    assert_int_equal(p.c.grpc_keepalive_min_time_ns, 1000000000);
    assert_int_equal(p.c.log_level, NB_LOG_DEBUG);
    assert_int_equal(p.c.log_format, NB_LOG_CONSOLE);
    assert_string_equal(p.c.log_output, "/l");
    assert_false(p.c.pre_vote);
    assert_int_equal(p.c.max_learners, 3);
    assert_true(p.c.unsafe_no_fsync && p.c.socket_reuse_port && p.c.metrics_extensive);
    assert_string_equal(p.c.host_whitelist[1], "b");
    assert_null(p.c.host_whitelist[2]);
    assert_int_equal(p.c.compaction_sleep_interval_ns, 1000000);
    assert_int_equal(p.c.raft_read_timeout_ns, 2000000000);
    assert_true(p.c.gates[SERVER_GATE_INITIAL_CORRUPT_CHECK]);
    assert_false(p.c.gates[SERVER_GATE_FAST_LEASE_KEEP_ALIVE]);
    assert_int_equal(server_config_bootstrap(&p.c, &p.message), SERVER_CONFIG_RUN);
    assert_int_equal(p.c.initial_cluster.count, 2);
    assert_true(p.c.member_id == p.c.initial_cluster.items[1].id && p.c.member_id != 0);
    done(&p);
}

static void a_wrong_configuration_ends_with_this_text_and_code(void **state)
{
    (void)state;
    static const struct {
        const char *line, *variables, *text;
        int exit_code;
    } cases[] = {
        {"--lisen-client-urls=http://localhost:1", "",
         "unknown flag: --lisen-client-urls (did you mean --listen-client-urls?)\n", 2},
        {"--discovery=x", "", "unknown flag: --discovery\n", 2},
        {"--experimental-enable-lease-checkpoint", "",
         "unknown flag: --experimental-enable-lease-checkpoint\n", 2},
        {"--snapshot-count=many", "",
         "invalid value \"many\" for flag --snapshot-count: parse error\n", 2},
        {"--initial-cluster-state=old", "",
         "invalid value \"old\" for flag --initial-cluster-state: must be one of new, existing\n",
         2},
        {"--listen-client-urls=localhost:1 --advertise-client-urls=http://localhost:1", "",
         "invalid value \"localhost:1\" for flag --listen-client-urls: URL scheme must be http, "
         "https, unix, or unixs: localhost:1\n",
         2},
        {"", "ETCD_LISTEN_PEER_URLS=x:1",
         "invalid value \"x:1\" for flag --listen-peer-urls: URL scheme must be http, https, unix, "
         "or unixs: x:1\n",
         1},
        {"", "ETCD_SNAPSHOT_COUNT=many",
         "invalid value \"many\" for ETCD_SNAPSHOT_COUNT: parse error\n", 1},
        {"server", "", "\"server\" is not a valid flag\n", 1},
        {"--name a", "ETCD_NAME=b",
         "conflicting environment variable \"ETCD_NAME\" is shadowed by corresponding "
         "command-line flag (either unset environment variable or disable flag)\n",
         1},
        {"--listen-client-urls=http://localhost:1", "",
         "--advertise-client-urls is required when --listen-client-urls is set explicitly\n", 1},
        {"--listen-peer-urls=http://example.com:1", "",
         "expected IP in URL for binding (http://example.com:1)\n", 1},
        {"--listen-peer-urls=https://127.0.0.1:1", "",
         "TLS is not built in yet; cannot listen on URL (https://127.0.0.1:1)\n", 1},
        {"--initial-advertise-peer-urls=http://:2380", "",
         "--initial-advertise-peer-urls: unexpected empty host (http://:2380)\n", 1},
        {"--election-timeout=499", "",
         "--election-timeout[499ms] should be at least as 5 times as "
         "--heartbeat-interval[100ms]\n",
         1},
        {"--election-timeout=50001", "",
         "--election-timeout[50001ms] is too long, and should be set less than 50000ms\n", 1},
        {"--heartbeat-interval=0", "", "--heartbeat-interval must be >0 (set to 0ms)\n", 1},
        {"--heartbeat-interval=18446744073709551615", "",
         "--election-timeout[1000ms] should be at least as 5 times as "
         "--heartbeat-interval[18446744073709551615ms]\n",
         1},
        {"--bcrypt-cost=3", "", "--bcrypt-cost must be between 4 and 31\n", 1},
        {"--feature-gates=Nothing=true", "", "unrecognized feature gate: Nothing\n", 1},
        {"--feature-gates=InitialCorruptCheck", "",
         "invalid value of --feature-gates: InitialCorruptCheck\n", 1},
        {"--cert-file=/c", "",
         "flag --cert-file is known, but not supported yet: TLS is not built in yet; use http:// "
         "URLs inside a trusted network\n",
         2},
        {"--force-new-cluster", "",
         "flag --force-new-cluster is known, but not supported yet: stop the member and use "
         "`nabata recover`\n",
         2},
        {"--auto-compaction-mode=sometimes", "", "unknown auto-compaction-mode \"sometimes\"\n", 1},
        {"", "ETCD_AUTO_COMPACTION_RETENTION=1h",
         "ETCD_AUTO_COMPACTION_RETENTION is known, but not supported yet: compact with "
         "`compaction`, or from a cron job\n",
         1},
        {"--log-outputs=a,b", "", "--log-outputs: only one output at a time is supported yet\n", 1},
        {"--max-request-bytes=0", "", "--max-request-bytes must be >0 and below 2147483648\n", 1},
        {"--config-file=/nonexistent/x", "", "cannot read the configuration file /nonexistent/x\n",
         1},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct parsed p = parse(cases[i].line, cases[i].variables);
        assert_string_equal(text(&p), cases[i].text);
        assert_int_equal(server_config_exit_code(p.outcome), cases[i].exit_code);
        done(&p);
    }
}

static void an_initial_cluster_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *line, *text; /* NULL: fits */
    } cases[] = {
        {"--name a --initial-cluster b=http://localhost:2380",
         "couldn't find local name \"a\" in the initial cluster configuration\n"},
        {"--initial-cluster default=http://localhost:2381",
         "--initial-cluster has default=http://localhost:2381 but missing from "
         "--initial-advertise-peer-urls=http://localhost:2380\n"},
        {"--initial-cluster default=http://localhost:2380 --initial-advertise-peer-urls "
         "http://localhost:2380,http://localhost:9",
         "--initial-advertise-peer-urls has http://localhost:9 but missing from "
         "--initial-cluster=default=http://localhost:2380\n"},
        {"--initial-cluster default=http://localhost:2380,b=http://localhost:2380",
         "initial cluster has duplicate URL http://localhost:2380, of b and of default\n"},
        {"--initial-cluster default",
         "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: \n"},
        {"--initial-cluster default=http://10.0.0.1:2380 --initial-advertise-peer-urls "
         "http://10.0.0.2:2380",
         "--initial-cluster has default=http://10.0.0.1:2380 but missing from "
         "--initial-advertise-peer-urls=http://10.0.0.2:2380\n"},
        {"--initial-cluster default=http://Node:2380 --initial-advertise-peer-urls "
         "http://node:2380",
         NULL},
        /* K02: names are not resolved at the start */
        {"--initial-cluster default=http://node:2380 --initial-advertise-peer-urls "
         "http://10.0.0.2:2380",
         NULL},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct parsed p = parse(cases[i].line, "");
        assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
        nb_buf_clear(&p.message);
        enum server_config_outcome outcome = server_config_bootstrap(&p.c, &p.message);
        nb_buf_append(&p.message, "", 1);
        assert_string_equal(text(&p), cases[i].text == NULL ? "" : cases[i].text);
        assert_int_equal(outcome, cases[i].text == NULL ? SERVER_CONFIG_RUN : SERVER_CONFIG_BAD);
        done(&p);
    }
}

static void variables_configure_and_unknown_ones_only_warn(void **state)
{
    (void)state;
    struct parsed p = parse("", "ETCD_NAME=m ETCD_DATA_DIR=/d ETCD_ROOT_PASSWORD=x ETCD_ON_K8S=yes "
                                "ETCD_UNSUPPORTED_ARCH=arm64 ETCD_VERIFY=all ETCD_PRE_VOTE=false");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(p.c.name, "m");
    assert_string_equal(p.c.data_dir, "/d");
    assert_false(p.c.pre_vote);
    assert_int_equal(p.c.warning_count, 2);
    assert_string_equal(p.c.warnings[0], "unrecognized environment variable ETCD_ROOT_PASSWORD");
    assert_string_equal(p.c.warnings[1], "unrecognized environment variable ETCD_ON_K8S");
    done(&p);
}

static void flags_without_effect_say_so(void **state)
{
    (void)state;
    struct parsed p = parse("--bcrypt-cost=9 --snapshot-count=10000 --max-txn-ops=64", "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_int_equal(p.c.warning_count, 2);
    assert_string_equal(p.c.warnings[0], "flag has no effect yet: --snapshot-count");
    assert_string_equal(p.c.warnings[1], "flag has no effect yet: --bcrypt-cost");
    done(&p);
}

/* The help and the warning say the same of each flag. */
static void a_flag_warns_exactly_when_its_help_says_that_it_has_no_effect(void **state)
{
    (void)state;
    for (size_t i = 0; i < server_flag_count; i++) {
        const struct nb_option *flag = &server_flags[i];
        bool told = flag->help != NULL && strstr(flag->help, "no effect yet") != NULL;
        if (flag->type != NB_OPTION_UINT64 && flag->type != NB_OPTION_DURATION &&
            strcmp(flag->name, "metrics") != 0 && !told) {
            continue; /* values that mean something else */
        }
        if ((flag->flags & (NB_OPTION_UNSUPPORTED | NB_OPTION_IGNORED)) != 0 ||
            strncmp(flag->name, "experimental-", 13) == 0) {
            continue;
        }
        char line[160], warning[160];
        const char *value = flag->type == NB_OPTION_CHOICE     ? "extensive"
                            : flag->type == NB_OPTION_BOOL     ? "true"
                            : flag->type == NB_OPTION_DURATION ? "7s"
                            : flag->default_text != NULL       ? flag->default_text
                                                               : "7";
        (void)snprintf(line, sizeof line, "--%s=%s", flag->name, value);
        (void)snprintf(warning, sizeof warning, "flag has no effect yet: --%s", flag->name);
        struct parsed p = parse(line, "");
        if (p.outcome != SERVER_CONFIG_RUN || p.c.warning_count != (told ? 1 : 0) ||
            (told && strcmp(p.c.warnings[0], warning) != 0)) {
            fail_msg("%s: outcome %d, %zu warnings", line, (int)p.outcome, p.c.warning_count);
        }
        done(&p);
    }
}

static void the_two_old_experimental_flags_are_aliases(void **state)
{
    (void)state;
    struct parsed p = parse("--experimental-initial-corrupt-check=true "
                            "--experimental-watch-progress-notify-interval=5s",
                            "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_true(p.c.gates[SERVER_GATE_INITIAL_CORRUPT_CHECK]);
    assert_int_equal(p.c.watch_progress_notify_interval_ns, INT64_C(5000000000));
    done(&p);
}

static void kubeadms_flags_without_tls_are_taken(void **state)
{
    (void)state;
    struct parsed p = parse_as(
        true,
        "--name=cp --data-dir=/var/lib/etcd "
        "--listen-client-urls=http://127.0.0.1:2379,http://10.0.0.1:2379 "
        "--advertise-client-urls=http://10.0.0.1:2379 --listen-peer-urls=http://10.0.0.1:2380 "
        "--initial-advertise-peer-urls=http://10.0.0.1:2380 "
        "--initial-cluster=cp=http://10.0.0.1:2380 --snapshot-count=10000 "
        "--listen-metrics-urls=http://127.0.0.1:2381 --feature-gates=InitialCorruptCheck=true "
        "--watch-progress-notify-interval=5s",
        "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_int_equal(p.c.listen_client.count, 2);
    assert_int_equal(server_config_bootstrap(&p.c, &p.message), SERVER_CONFIG_RUN);
    done(&p);
}

static void the_version_is_told_in_both_guises(void **state)
{
    (void)state;
    struct parsed p = parse("--version", "");
    assert_int_equal(p.outcome, SERVER_CONFIG_PRINT);
    assert_string_equal(text(&p), "nabata 0.1.0 (etcd API 3.7.1)\n");
    done(&p);
    p = parse_as(true, "--version", "");
    assert_int_equal(strncmp(text(&p), "etcd Version: 3.7.1\nGit SHA: ", 29), 0);
    size_t lines = 0;
    for (const char *c = text(&p); *c != '\0'; c++) {
        lines += *c == '\n' ? 1 : 0;
    }
    assert_int_equal(lines, 4);
    assert_non_null(strstr(text(&p), "\nGo OS/Arch: linux/"));
    done(&p);
}

static void help_names_every_honoured_flag_and_exits_0(void **state)
{
    (void)state;
    struct parsed p = parse("--help", "");
    assert_int_equal(server_config_exit_code(p.outcome), 0);
    assert_non_null(strstr(text(&p), "--listen-client-urls URL,..."));
    assert_non_null(strstr(text(&p), "--config-file PATH"));
    assert_null(strstr(text(&p), "--cert-file"));
    done(&p);
}

static void every_flag_of_the_table_takes_its_own_default(void **state)
{
    (void)state;
    for (size_t i = 0; i < server_flag_count; i++) {
        const struct nb_option *row = &server_flags[i];
        if (row->default_text == NULL || strcmp(row->name, "listen-client-urls") == 0) {
            continue;
        }
        char line[256];
        (void)snprintf(line, sizeof line, "--%s=%s", row->name, row->default_text);
        struct parsed p = parse(line, "");
        assert_string_equal(text(&p), "");
        assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
        done(&p);
    }
}

static void a_file_configures_or_says_which_line_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *file, *name, *why; /* why == NULL: taken */
    } cases[] = {
        {"", "default", NULL},
        {"name: n1\n", "n1", NULL},
        {"# c\n---\nname: 'n 1' # comment\r\nunknown: 1\n", "n 1", NULL},
        {"name: \"n#1\"", "n#1", NULL},
        {"name: n#1", "n#1", NULL},
        {"name:\n", "default", NULL},
        {"name: null\n", "default", NULL},
        {"proxy:\n  - a\n  b: [1, 2]\nname: n1\n", "n1", NULL},
        {"client-transport-security:\n  cert-file:\n  client-cert-auth: false\nname: n1", "n1",
         NULL},
        {"peer-transport-security:\n  cert-file: /x\n", NULL,
         "line 2: peer-cert-file is known, but not supported yet: TLS is not built in yet; use "
         "http:// "
         "URLs inside a trusted network"},
        {"name: n1\nlisten-peer-urls:\n  - http://localhost:1\n", NULL,
         "line 3: only lines of \"key: value\" are understood"},
        {"name: |\n  n1\n", NULL, "line 1: only lines of \"key: value\" are understood"},
        {"name: [a]", NULL, "line 1: only lines of \"key: value\" are understood"},
        {"name: &x a", NULL, "line 1: only lines of \"key: value\" are understood"},
        {"name: \"a", NULL, "line 1: only lines of \"key: value\" are understood"},
        {"just words", NULL, "line 1: only lines of \"key: value\" are understood"},
        {"snapshot-count: x", NULL, "line 1: invalid value \"x\" for snapshot-count: parse error"},
        {"{\"name\": \"n1\", \"grpc-keepalive-timeout\": 5000000000, \"pre-vote\": false}", "n1",
         NULL},
        {"{\"name\": [1]}", NULL, "name: must be a text, an integer or a boolean"},
        {"{\"other\": [1], \"name\": \"j\"}", "j", NULL},
        {"{\"client-transport-security\": {\"auto-tls\": true}}", NULL,
         "auto-tls is known, but not supported yet: TLS is not built in yet; use http:// URLs "
         "inside a trusted network"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        struct nb_options o;
        nb_options_init(&o);
        nb_options_add(&o, server_flags, server_flag_count);
        struct nb_buf why = {0};
        bool fine = server_flags_from_file(cases[i].file, strlen(cases[i].file), &o, &why);
        nb_buf_append(&why, "", 1);
        assert_string_equal((const char *)why.data, cases[i].why == NULL ? "" : cases[i].why);
        assert_int_equal(fine, cases[i].why == NULL);
        if (fine) {
            assert_string_equal(nb_options_string(&o, "name"), cases[i].name);
        }
        nb_buf_deinit(&why);
        nb_options_deinit(&o);
    }
}

static void a_file_replaces_flags_and_variables_and_counts_in_ns(void **state)
{
    (void)state;
    char path[] = "/tmp/nabata-config-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char content[] = "name: from-file\ngrpc-keepalive-timeout: 3000000000\n";
    assert_int_equal(write(fd, content, sizeof content - 1), sizeof content - 1);
    (void)close(fd);
    char line[128], variable[128];
    (void)snprintf(line, sizeof line, "--name from-flag --config-file %s", path);
    (void)snprintf(variable, sizeof variable, "ETCD_DATA_DIR=/env ETCD_CONFIG_FILE=%s", path);
    struct parsed p = parse(line, "ETCD_DATA_DIR=/env");
    struct parsed q = parse("", variable);
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(p.c.name, "from-file");
    assert_string_equal(p.c.data_dir, "from-file.nabata");
    assert_int_equal(p.c.grpc_keepalive_timeout_ns, INT64_C(3000000000));
    assert_int_equal(q.outcome, SERVER_CONFIG_RUN);
    assert_string_equal(q.c.name, "from-file");
    (void)unlink(path);
    done(&p);
    done(&q);
}

static const struct nb_option *flag_named(const char *name)
{
    const struct nb_option *found = NULL;
    for (size_t i = 0; i < server_flag_count; i++) {
        found = strcmp(server_flags[i].name, name) == 0 ? &server_flags[i] : found;
    }
    return found;
}

/* [etcd-v3-surface 5.2], all of it. */
static void every_flag_of_etcd_is_known(void **state)
{
    (void)state;
    static const char names[] =
        "name data-dir wal-dir snapshot-count snapshot-catchup-entries heartbeat-interval "
        "election-timeout initial-election-tick-advance listen-peer-urls "
        "listen-client-urls listen-client-http-urls listen-metrics-urls max-snapshots "
        "max-wals memory-mlock quota-backend-bytes backend-bbolt-freelist-type "
        "backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes "
        "max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval "
        "grpc-keepalive-timeout socket-reuse-port socket-reuse-address "
        "enable-grpc-gateway raft-read-timeout raft-write-timeout feature-gates "
        "initial-advertise-peer-urls initial-cluster initial-cluster-state "
        "initial-cluster-token advertise-client-urls discovery-token discovery-endpoints "
        "discovery-dial-timeout discovery-request-timeout discovery-keepalive-time "
        "discovery-keepalive-timeout discovery-insecure-transport "
        "discovery-insecure-skip-tls-verify discovery-cert discovery-key discovery-cacert "
        "discovery-user discovery-password discovery-fallback discovery-srv "
        "discovery-srv-name strict-reconfig-check pre-vote auto-compaction-retention "
        "auto-compaction-mode v2-deprecation cert-file key-file client-cert-auth "
        "client-cert-file client-key-file client-crl-file client-cert-allowed-hostname "
        "trusted-ca-file auto-tls peer-cert-file peer-key-file peer-trusted-ca-file "
        "peer-client-cert-auth peer-client-cert-file peer-client-key-file "
        "peer-cert-allowed-cn peer-cert-allowed-hostname peer-auto-tls peer-crl-file "
        "peer-skip-client-san-verification self-signed-cert-validity cipher-suites "
        "tls-min-version tls-max-version cors host-whitelist auth-token bcrypt-cost "
        "auth-token-ttl enable-pprof metrics logger log-outputs log-level log-format "
        "enable-log-rotation log-rotation-config-json warning-unary-request-duration "
        "warning-apply-duration enable-distributed-tracing distributed-tracing-address "
        "distributed-tracing-service-name distributed-tracing-instance-id "
        "distributed-tracing-sampling-rate corrupt-check-time compact-hash-check-time "
        "compaction-batch-limit compaction-sleep-interval watch-progress-notify-interval "
        "bootstrap-defrag-threshold-megabytes max-learners downgrade-check-time "
        "force-new-cluster unsafe-no-fsync config-file version cluster-active-size "
        "cluster-remove-delay cluster-sync-interval config force max-result-buffer "
        "max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval "
        "snapshot v vv";
    char name[64];
    size_t count = 0;
    for (const char *at = names; *at != '\0'; at += strcspn(at, " ")) {
        at += *at == ' ' ? 1 : 0;
        (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at, " "), at);
        if (flag_named(name) == NULL) {
            fail_msg("--%s is not known", name);
        }
        count++;
    }
    assert_int_equal(count, 126);
}

static const char *value_that_is_no_default(const struct nb_option *flag)
{
    return flag->type == NB_OPTION_BOOL ? "true" : flag->type == NB_OPTION_DURATION ? "77s" : "77";
}

static void assert_one_line_refuses(struct parsed *p, const char *name,
                                    enum server_config_outcome outcome)
{
    const char *said = text(p);
    if (p->outcome != outcome || strstr(said, "is known, but not supported yet") == NULL ||
        strstr(said, name) == NULL || strchr(said, '\n') != said + strlen(said) - 1) {
        fail_msg("%s: %s", name, said);
    }
    done(p);
}

static void every_flag_without_support_is_refused_with_one_line_wherever_it_stands(void **state)
{
    (void)state;
    size_t count = 0;
    for (size_t i = 0; i < server_flag_count; i++) {
        const struct nb_option *flag = &server_flags[i];
        if ((flag->flags & NB_OPTION_UNSUPPORTED) == 0) {
            continue;
        }
        char flag_text[128], variable[128] = "ETCD_", file[160];
        const char *value = value_that_is_no_default(flag);
        (void)snprintf(flag_text, sizeof flag_text, "--%s=%s", flag->name, value);
        struct parsed p = parse(flag_text, "");
        assert_one_line_refuses(&p, flag->name, SERVER_CONFIG_BAD_FLAG);
        size_t len = strlen(variable);
        for (const char *c = flag->name; *c != '\0'; c++) {
            variable[len++] = (char)(*c == '-' ? '_' : *c - ('a' - 'A'));
        }
        variable[len] = '\0';
        char name[128];
        (void)snprintf(name, sizeof name, "%s", variable);
        (void)snprintf(variable + len, sizeof variable - len, "=%s", value);
        struct parsed q = parse("", variable);
        assert_one_line_refuses(&q, name, SERVER_CONFIG_BAD);
        char path[] = "/tmp/nabata-config-test-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        int size = snprintf(file, sizeof file, "%s: %s\n", flag->name,
                            flag->type == NB_OPTION_DURATION ? "77000000000" : value);
        assert_int_equal(write(fd, file, (size_t)size), size);
        (void)close(fd);
        (void)snprintf(flag_text, sizeof flag_text, "--config-file=%s", path);
        struct parsed r = parse(flag_text, "");
        assert_one_line_refuses(&r, flag->name, SERVER_CONFIG_BAD);
        (void)unlink(path);
        count++;
    }
    assert_in_range(count, 1, server_flag_count);
}

static void members_behind_tls_are_refused_where_the_cluster_is_set_up(void **state)
{
    (void)state;
    struct parsed p = parse("--name=a --initial-advertise-peer-urls=http://h:1 "
                            "--initial-cluster=a=http://h:1,b=https://h:2",
                            "");
    assert_int_equal(p.outcome, SERVER_CONFIG_RUN);
    nb_buf_clear(&p.message);
    assert_int_equal(server_config_bootstrap(&p.c, &p.message), SERVER_CONFIG_BAD);
    nb_buf_append(&p.message, "", 1);
    assert_string_equal(text(&p), "--initial-cluster has b=https://h:2: TLS is not built in yet; "
                                  "use http:// URLs inside a trusted network\n");
    done(&p);
}

static void a_log_file_is_appended_to_and_a_bad_one_is_told(void **state)
{
    (void)state;
    char path[] = "/tmp/nabata-log-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "before\n", 7), 7);
    char line[128];
    (void)snprintf(line, sizeof line, "--log-outputs %s --log-level warn", path);
    struct parsed p = parse(line, "");
    struct nb_logger log;
    assert_true(server_log_open(&p.c, &log, &p.message));
    nb_log(&log, NB_LOG_INFO, "test.quiet", NULL, NB_KV_END);
    nb_log(&log, NB_LOG_WARN, "test.loud", NULL, NB_KV_END);
    server_log_close(&log);
    char content[256] = {0};
    assert_true(pread(fd, content, sizeof content - 1, 0) > 7);
    assert_int_equal(strncmp(content, "before\n{\"level\":\"warn\"", 22), 0);
    assert_null(strstr(content, "test.quiet"));
    (void)close(fd);
    (void)unlink(path);
    done(&p);

    p = parse("--log-outputs /nonexistent/dir/log", "");
    nb_buf_clear(&p.message);
    assert_false(server_log_open(&p.c, &log, &p.message));
    nb_buf_append(&p.message, "", 1);
    assert_string_equal(text(&p), "cannot open the log file /nonexistent/dir/log: No such file or "
                                  "directory\n");
    done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_flags_all_is_as_in_etcd),
        cmocka_unit_test(flags_have_their_effect),
        cmocka_unit_test(a_wrong_configuration_ends_with_this_text_and_code),
        cmocka_unit_test(an_initial_cluster_that_does_not_fit_is_refused),
        cmocka_unit_test(variables_configure_and_unknown_ones_only_warn),
        cmocka_unit_test(flags_without_effect_say_so),
        cmocka_unit_test(a_flag_warns_exactly_when_its_help_says_that_it_has_no_effect),
        cmocka_unit_test(the_two_old_experimental_flags_are_aliases),
        cmocka_unit_test(kubeadms_flags_without_tls_are_taken),
        cmocka_unit_test(the_version_is_told_in_both_guises),
        cmocka_unit_test(help_names_every_honoured_flag_and_exits_0),
        cmocka_unit_test(every_flag_of_the_table_takes_its_own_default),
        cmocka_unit_test(a_file_configures_or_says_which_line_is_wrong),
        cmocka_unit_test(a_file_replaces_flags_and_variables_and_counts_in_ns),
        cmocka_unit_test(every_flag_of_etcd_is_known),
        cmocka_unit_test(every_flag_without_support_is_refused_with_one_line_wherever_it_stands),
        cmocka_unit_test(members_behind_tls_are_refused_where_the_cluster_is_set_up),
        cmocka_unit_test(a_log_file_is_appended_to_and_a_bad_one_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
