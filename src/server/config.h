/*
 * server/config: what a server is told: etcd's flags, ETCD_* variables, or a configuration file.
 *
 * Every flag of etcd 3.7 is known. Those that nabata does not honour yet are refused in one line
 * when they are given a value that would change something, or, where manifests in use give them
 * anyway, taken with a warning: so nobody believes in a setting that has no effect. Parsing
 * resolves no names and reads nothing but the file of --config-file.
 *
 * Exit codes are etcd's: a bad flag 2, a bad configuration 1, help and version 0.
 */
#ifndef NABATA_SERVER_CONFIG_H
#define NABATA_SERVER_CONFIG_H

#include "base/log.h"
#include "server/statefulset.h"
#include "server/url.h"

enum server_config_outcome {
    SERVER_CONFIG_RUN,      /* `out` is filled */
    SERVER_CONFIG_PRINT,    /* help or version: message to stdout, exit 0 */
    SERVER_CONFIG_BAD_FLAG, /* message to stderr, exit 2 */
    SERVER_CONFIG_BAD,      /* message to stderr, exit 1 */
};

/* etcd's feature gates, a bit each. [surface 5.3] */
enum server_gate {
    SERVER_GATE_STOP_GRPC_SERVICE_ON_DEFRAG,
    SERVER_GATE_INITIAL_CORRUPT_CHECK,
    SERVER_GATE_COMPACT_HASH_CHECK,
    SERVER_GATE_TXN_MODE_WRITE_WITH_SHARED_BUFFER,
    SERVER_GATE_LEASE_CHECKPOINT,
    SERVER_GATE_LEASE_CHECKPOINT_PERSIST,
    SERVER_GATE_SET_MEMBER_LOCAL_ADDR,
    SERVER_GATE_FAST_LEASE_KEEP_ALIVE,
    SERVER_GATE_PRIORITY_REQUEST,
    SERVER_GATE_COUNT,
};

/* All strings and lists live in `arena`. Durations in ns; 0 means off where a flag can be off. */
struct server_config {
    bool as_etcd; /* started through a link named etcd */
    const char *name;
    const char *data_dir;
    const char *wal_dir; /* NULL: in the data directory */

    struct server_addresses listen_client, listen_peer;
    struct server_addresses listen_metrics; /* may be empty */
    struct server_addresses advertise_client, initial_advertise_peer;

    const char *initial_cluster_text; /* checked by server_config_bootstrap, when it counts */
    const char *discovery_srv;        /* a domain, or NULL; then server_discover fills the text */
    const char *discovery_srv_name;   /* "" is none */
    bool initial_cluster_existing;
    const char *initial_cluster_token;
    struct server_members initial_cluster; /* filled by server_config_bootstrap */
    uint64_t member_id, cluster_id;        /* filled by server_config_bootstrap */

    struct server_statefulset statefulset; /* all zero: the members are those of the flags */

    int64_t heartbeat_interval_ns, election_timeout_ns;
    bool initial_election_tick_advance, pre_vote, strict_reconfig_check;
    uint64_t snapshot_count, snapshot_catchup_entries;
    uint64_t max_learners;
    int64_t raft_read_timeout_ns, raft_write_timeout_ns;

    uint64_t max_request_bytes, max_txn_ops;
    uint32_t max_concurrent_streams;
    uint64_t quota_bytes; /* UINT64_MAX: none */
    int64_t grpc_keepalive_min_time_ns, grpc_keepalive_interval_ns, grpc_keepalive_timeout_ns;
    bool socket_reuse_port, socket_reuse_address;
    bool enable_grpc_gateway;
    const char **cors, **host_whitelist; /* each ends with NULL; {"*", NULL} lets all in */

    uint64_t compaction_batch_limit;
    int64_t compaction_sleep_interval_ns;
    int64_t watch_progress_notify_interval_ns;
    int64_t warning_apply_duration_ns, warning_unary_request_duration_ns;
    bool metrics_extensive;
    bool unsafe_no_fsync;
    uint64_t bcrypt_cost, auth_token_ttl_s;
    bool gates[SERVER_GATE_COUNT];

    enum nb_log_level log_level;
    enum nb_log_format log_format;
    bool log_format_given;
    const char *log_output; /* "stderr", "stdout" or a file */

    const char **warnings; /* lines to log once the log is open; they go on */
    size_t warning_count;

    struct nb_arena arena; /* owned */
};

/*
 * Reads the command line (argv[0] is the program, flags follow) and the environment. `as_etcd`:
 * help and version speak as etcd does. `message` gets whole lines. `out` needs server_config_deinit
 * whatever the outcome.
 */
NB_MUST_USE enum server_config_outcome server_config_parse(int argc, char *const *argv,
                                                           char *const *envp, bool as_etcd,
                                                           struct server_config *out,
                                                           struct nb_buf *message);
void server_config_deinit(struct server_config *config);

int server_config_exit_code(enum server_config_outcome outcome);

/*
 * Checks what only an empty data directory needs: --initial-cluster must hold our name with our
 * peer URLs (after server_discover, if there is a discovery_srv). Fills initial_cluster, member_id
 * and cluster_id as etcd computes them. With an existing data directory do not call it: there the
 * initial-* flags are ignored.
 *
 * Names are not resolved here (K02): a name on one side and an IP on the other are taken to agree
 * when scheme and port do.
 */
NB_MUST_USE enum server_config_outcome server_config_bootstrap(struct server_config *config,
                                                               struct nb_buf *message);

/* Opens the log that the configuration asks for; false with a line when the file cannot be opened.
 * Without --log-format, a terminal gets console lines in color (not when run as etcd). */
NB_MUST_USE bool server_log_open(const struct server_config *config, struct nb_logger *out,
                                 struct nb_buf *message);
void server_log_close(struct nb_logger *logger);

/* Name of a gate, as --feature-gates spells it. */
const char *server_gate_name(enum server_gate gate);
/* "ALPHA" or "BETA". */
const char *server_gate_stage(enum server_gate gate);

#endif
