#include "server/flags.h"

/* clang-format off */

/* A flag that is honoured. */
#define FLAG(n, t, d, m, g, h)                                                                     \
    {.name = n, .type = NB_OPTION_##t, .default_text = d, .metavar = m, .group = g, .help = h}
#define CHOICE(n, c, d, g, h)                                                                      \
    {.name = n, .type = NB_OPTION_CHOICE, .choices = c, .default_text = d, .group = g, .help = h}
/* A flag whose value is checked and then has nothing to change in nabata. */
#define ACCEPT(n, t, d) {.name = n, .type = NB_OPTION_##t, .default_text = d, .flags = NB_OPTION_HIDDEN}
#define ACCEPT_ONLY(n, c) {.name = n, .type = NB_OPTION_CHOICE, .choices = c, .flags = NB_OPTION_HIDDEN}
/* A flag that is refused unless it has its default's value. */
#define LATER(n, t, d, r)                                                                          \
    {.name = n, .type = NB_OPTION_##t, .default_text = d,                                          \
     .flags = NB_OPTION_UNSUPPORTED | NB_OPTION_HIDDEN, .reason = r}
/* A flag of etcd 2 and 3.4: any value, no effect. */
#define IGNORED(n) {.name = n, .type = NB_OPTION_BOOL, .flags = NB_OPTION_IGNORED}

#define MEMBER "Member"
#define CLUSTER "Cluster"
#define LIMITS "Limits"
#define CLIENTS "Clients"
#define LOGGING "Logging and metrics"
#define OTHER "Other"
#define TLS "TLS is not built in yet; use http:// URLs inside a trusted network"
#define DISCOVERY "list the members in --initial-cluster"

/* [surface 5.2], in its order. */
const struct nb_option server_flags[] = {
    FLAG("name", STRING, "default", "NAME", MEMBER, "name of this member"),
    FLAG("data-dir", STRING, "", "PATH", MEMBER, "where the data is kept (default: the member's name with an ending)"),
    FLAG("wal-dir", STRING, "", "PATH", MEMBER, "where the log is kept, if not in the data directory"),
    FLAG("snapshot-count", UINT64, "10000", "N", MEMBER, "log entries between two snapshots of the log (no effect yet)"),
    FLAG("snapshot-catchup-entries", UINT64, "5000", "N", MEMBER, "log entries kept behind a snapshot for slow followers"),
    FLAG("heartbeat-interval", UINT64, "100", "MS", MEMBER, "milliseconds between two heartbeats"),
    FLAG("election-timeout", UINT64, "1000", "MS", MEMBER, "milliseconds without a leader before an election"),
    FLAG("initial-election-tick-advance", BOOL, "true", NULL, MEMBER, "quicker first election after a start"),
    FLAG("listen-peer-urls", LIST, "http://localhost:2380", "URL,...", MEMBER, "where to listen for other members"),
    FLAG("listen-client-urls", LIST, "http://localhost:2379", "URL,...", MEMBER, "where to listen for clients"),
    LATER("listen-client-http-urls", LIST, "", "gRPC and HTTP share --listen-client-urls"),
    FLAG("listen-metrics-urls", LIST, "", "URL,...", MEMBER, "where to serve /metrics and the probes, apart from clients"),
    ACCEPT("max-snapshots", UINT64, "5"),
    ACCEPT("max-wals", UINT64, "5"),
    LATER("memory-mlock", BOOL, "false", "turn swap off instead"),
    FLAG("quota-backend-bytes", INT64, "0", "BYTES", LIMITS, "space for the store; 0: 2 GiB; negative: no limit"),
    ACCEPT("backend-bbolt-freelist-type", STRING, "map"),
    ACCEPT("backend-batch-interval", DURATION, "0"),
    ACCEPT("backend-batch-limit", INT64, "0"),
    FLAG("max-txn-ops", UINT64, "128", "N", LIMITS, "operations in one transaction"),
    FLAG("max-request-bytes", UINT64, "1572864", "BYTES", LIMITS, "size of one request"),
    FLAG("max-concurrent-streams", UINT64, "4294967295", "N", LIMITS, "streams open at a time on one connection"),
    FLAG("grpc-keepalive-min-time", DURATION, "5s", NULL, CLIENTS, "a client that pings more often is cut off"),
    FLAG("grpc-keepalive-interval", DURATION, "2h", NULL, CLIENTS, "how often to ping a silent client; 0: never"),
    FLAG("grpc-keepalive-timeout", DURATION, "20s", NULL, CLIENTS, "how long to wait for the answer to a ping"),
    FLAG("socket-reuse-port", BOOL, "false", NULL, MEMBER, "set SO_REUSEPORT on listeners"),
    FLAG("socket-reuse-address", BOOL, "false", NULL, MEMBER, "set SO_REUSEADDR on listeners"),
    FLAG("enable-grpc-gateway", BOOL, "true", NULL, CLIENTS, "serve the JSON gateway (no effect yet)"),
    FLAG("raft-read-timeout", DURATION, "5s", NULL, CLUSTER, "when a silent connection from a member is closed (no effect yet)"),
    FLAG("raft-write-timeout", DURATION, "5s", NULL, CLUSTER, "when a stuck connection to a member is closed (no effect yet)"),
    FLAG("feature-gates", LIST, "", "GATE=BOOL,...", OTHER, "etcd's feature gates"),
    FLAG("initial-advertise-peer-urls", LIST, "http://localhost:2380", "URL,...", CLUSTER, "this member's peer URLs, as the others reach it"),
    FLAG("initial-cluster", STRING, "", "NAME=URL,...", CLUSTER, "all members at the first start (default: this one alone)"),
    CHOICE("initial-cluster-state", "new,existing", NULL, CLUSTER, "start a cluster or join one"),
    FLAG("initial-cluster-token", STRING, "etcd-cluster", "TEXT", CLUSTER, "keeps clusters of one address apart"),
    FLAG("advertise-client-urls", LIST, "http://localhost:2379", "URL,...", CLUSTER, "this member's client URLs, as clients reach it"),
    LATER("discovery-token", STRING, "", DISCOVERY),
    LATER("discovery-endpoints", LIST, "", DISCOVERY),
    ACCEPT("discovery-dial-timeout", DURATION, "2s"),
    ACCEPT("discovery-request-timeout", DURATION, "5s"),
    ACCEPT("discovery-keepalive-time", DURATION, "2s"),
    ACCEPT("discovery-keepalive-timeout", DURATION, "6s"),
    ACCEPT("discovery-insecure-transport", BOOL, "true"),
    ACCEPT("discovery-insecure-skip-tls-verify", BOOL, "false"),
    LATER("discovery-cert", STRING, "", DISCOVERY),
    LATER("discovery-key", STRING, "", DISCOVERY),
    LATER("discovery-cacert", STRING, "", DISCOVERY),
    LATER("discovery-user", STRING, "", DISCOVERY),
    LATER("discovery-password", STRING, "", DISCOVERY),
    ACCEPT_ONLY("discovery-fallback", "exit"),
    FLAG("discovery-srv", STRING, "", "DOMAIN", CLUSTER, "all members at the first start, from SRV records _etcd-server._tcp.DOMAIN"),
    FLAG("discovery-srv-name", STRING, "", "NAME", CLUSTER, "then of _etcd-server-NAME._tcp.DOMAIN"),
    FLAG("strict-reconfig-check", BOOL, "true", NULL, CLUSTER, "refuse changes of membership that would lose the quorum"),
    FLAG("pre-vote", BOOL, "true", NULL, CLUSTER, "ask before an election, so that a returning member disturbs nobody"),
    LATER("auto-compaction-retention", STRING, "0", "compact with `compaction`, or from a cron job"),
    FLAG("auto-compaction-mode", STRING, "periodic", "MODE", LIMITS, "what the retention counts: periodic, revision"),
    ACCEPT("v2-deprecation", STRING, ""),
    LATER("cert-file", STRING, "", TLS),
    LATER("key-file", STRING, "", TLS),
    LATER("client-cert-auth", BOOL, "false", TLS),
    LATER("client-cert-file", STRING, "", TLS),
    LATER("client-key-file", STRING, "", TLS),
    LATER("client-crl-file", STRING, "", TLS),
    LATER("client-cert-allowed-hostname", STRING, "", TLS),
    LATER("trusted-ca-file", STRING, "", TLS),
    LATER("auto-tls", BOOL, "false", TLS),
    LATER("peer-cert-file", STRING, "", TLS),
    LATER("peer-key-file", STRING, "", TLS),
    LATER("peer-trusted-ca-file", STRING, "", TLS),
    LATER("peer-client-cert-auth", BOOL, "false", TLS),
    LATER("peer-client-cert-file", STRING, "", TLS),
    LATER("peer-client-key-file", STRING, "", TLS),
    LATER("peer-cert-allowed-cn", STRING, "", TLS),
    LATER("peer-cert-allowed-hostname", STRING, "", TLS),
    LATER("peer-auto-tls", BOOL, "false", TLS),
    LATER("peer-crl-file", STRING, "", TLS),
    LATER("peer-skip-client-san-verification", BOOL, "false", TLS),
    ACCEPT("self-signed-cert-validity", UINT64, "1"),
    LATER("cipher-suites", LIST, "", TLS),
    ACCEPT_ONLY("tls-min-version", "TLS1.2,TLS1.3"),
    ACCEPT_ONLY("tls-max-version", ",TLS1.2,TLS1.3"),
    FLAG("cors", LIST, "*", "ORIGIN,...", CLIENTS, "origins that browsers may come from"),
    FLAG("host-whitelist", LIST, "*", "HOST,...", CLIENTS, "host names that HTTP requests may name"),
    LATER("auth-token", STRING, "simple", "only simple tokens"),
    FLAG("bcrypt-cost", UINT64, "10", "N", CLIENTS, "cost of a password's hash, 4 to 31 (no effect yet)"),
    FLAG("auth-token-ttl", UINT64, "300", "SECONDS", CLIENTS, "life of a simple token (no effect yet)"),
    LATER("enable-pprof", BOOL, "false", "there is no Go runtime to profile; use perf"),
    CHOICE("metrics", "basic,extensive", NULL, LOGGING, "how much /metrics shows; extensive: how long each call takes"),
    ACCEPT_ONLY("logger", "zap"),
    FLAG("log-outputs", LIST, "default", "PLACE", LOGGING, "stderr, stdout or a file"),
    CHOICE("log-level", "debug,info,warn,error,dpanic,panic,fatal", "info", LOGGING, "least level that is written"),
    CHOICE("log-format", "json,console", NULL, LOGGING, "one JSON object a line, or lines for people"),
    LATER("enable-log-rotation", BOOL, "false", "logrotate with copytruncate does it"),
    ACCEPT("log-rotation-config-json", STRING, ""),
    FLAG("warning-unary-request-duration", DURATION, "300ms", NULL, LOGGING, "a slower request is logged, one a second at most"),
    FLAG("warning-apply-duration", DURATION, "100ms", NULL, LOGGING, "a slower apply is logged; 0: none"),
    LATER("enable-distributed-tracing", BOOL, "false", "/metrics has durations of all steps"),
    ACCEPT("distributed-tracing-address", STRING, "localhost:4317"),
    ACCEPT("distributed-tracing-service-name", STRING, "etcd"),
    ACCEPT("distributed-tracing-instance-id", STRING, ""),
    ACCEPT("distributed-tracing-sampling-rate", INT64, "0"),
    LATER("corrupt-check-time", DURATION, "0s", "`nabata check` compares the members at any time"),
    ACCEPT("compact-hash-check-time", DURATION, "1m"),
    FLAG("compaction-batch-limit", UINT64, "1000", "N", LIMITS, "revisions that a compaction deletes at a time"),
    FLAG("compaction-sleep-interval", DURATION, "0", NULL, LIMITS, "pause between two such batches; 0: 10ms"),
    FLAG("watch-progress-notify-interval", DURATION, "10m", NULL, CLIENTS, "how often a silent watcher that asked for it hears of progress (no effect yet)"),
    ACCEPT("bootstrap-defrag-threshold-megabytes", UINT64, "0"),
    FLAG("max-learners", UINT64, "1", "N", CLUSTER, "learners at a time"),
    ACCEPT("downgrade-check-time", DURATION, "5s"),
    LATER("force-new-cluster", BOOL, "false", "stop the member and use `nabata recover`"),
    FLAG("unsafe-no-fsync", BOOL, "false", NULL, OTHER, "never wait for the disk: for tests; a crash may lose acknowledged writes"),
    {.name = "config-file", .type = NB_OPTION_STRING, .metavar = "PATH", .group = OTHER,
     .help = "JSON or flat YAML; all other flags and variables are then ignored"},
    {.name = "version", .type = NB_OPTION_BOOL, .flags = NB_OPTION_NO_VARIABLE, .group = OTHER,
     .help = "print the version and exit"},

    /* Gone in 3.7, but older manifests still pass them. */
    ACCEPT("experimental-initial-corrupt-check", BOOL, "false"),
    ACCEPT("experimental-watch-progress-notify-interval", DURATION, "10m"),

    IGNORED("cluster-active-size"), IGNORED("cluster-remove-delay"), IGNORED("cluster-sync-interval"),
    IGNORED("config"), IGNORED("force"), IGNORED("max-result-buffer"), IGNORED("max-retry-attempts"),
    IGNORED("peer-heartbeat-interval"), IGNORED("peer-election-timeout"), IGNORED("retry-interval"),
    IGNORED("snapshot"), IGNORED("v"), IGNORED("vv"),
};

/* clang-format on */

const size_t server_flag_count = NB_ARRAY_LEN(server_flags);
