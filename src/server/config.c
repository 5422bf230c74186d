#include "server/config.h"

#include "base/options.h"
#include "base/version.h"
#include "server/flags.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    ELECTION_TIMEOUT_MS_MAX = 50000,
    ELECTION_TO_HEARTBEAT_MIN = 5,
    BCRYPT_COST_MIN = 4,
    BCRYPT_COST_MAX = 31,
    CONFIG_FILE_SIZE_MAX = 1 << 20,
};

static const uint64_t quota_default_bytes = UINT64_C(2) << 30;
static const int64_t ns_of_ms = 1000000;

/* One run of server_config_parse. */
struct setup {
    struct server_config *config;
    struct nb_options options;
    struct nb_buf *message;
    char *const *envp;
    size_t warning_capacity;
    bool bad_flag; /* what is wrong was typed as a flag: exit 2 */
};

static const struct {
    const char *name;
    bool on;
} gates[SERVER_GATE_COUNT] = {
    [SERVER_GATE_STOP_GRPC_SERVICE_ON_DEFRAG] = {"StopGRPCServiceOnDefrag", false},
    [SERVER_GATE_INITIAL_CORRUPT_CHECK] = {"InitialCorruptCheck", false},
    [SERVER_GATE_COMPACT_HASH_CHECK] = {"CompactHashCheck", false},
    [SERVER_GATE_TXN_MODE_WRITE_WITH_SHARED_BUFFER] = {"TxnModeWriteWithSharedBuffer", true},
    [SERVER_GATE_LEASE_CHECKPOINT] = {"LeaseCheckpoint", false},
    [SERVER_GATE_LEASE_CHECKPOINT_PERSIST] = {"LeaseCheckpointPersist", false},
    [SERVER_GATE_SET_MEMBER_LOCAL_ADDR] = {"SetMemberLocalAddr", false},
    [SERVER_GATE_FAST_LEASE_KEEP_ALIVE] = {"FastLeaseKeepAlive", true},
    [SERVER_GATE_PRIORITY_REQUEST] = {"PriorityRequest", false},
};

const char *server_gate_name(enum server_gate gate)
{
    nb_assert(gate < SERVER_GATE_COUNT);
    return gates[gate].name;
}

const char *server_gate_stage(enum server_gate gate)
{
    nb_assert(gate < SERVER_GATE_COUNT);
    return gates[gate].on ? "BETA" : "ALPHA";
}

int server_config_exit_code(enum server_config_outcome outcome)
{
    switch (outcome) {
    case SERVER_CONFIG_RUN:
    case SERVER_CONFIG_PRINT:
        return 0;
    case SERVER_CONFIG_BAD_FLAG:
        return 2;
    case SERVER_CONFIG_BAD:
        return 1;
    }
    nb_unreachable("an outcome of no kind");
}

void server_config_deinit(struct server_config *config)
{
    nb_free(config->warnings);
    nb_arena_deinit(&config->arena);
    *config = (struct server_config){0};
}

static const char *keep(struct server_config *c, const char *text)
{
    return nb_arena_str(&c->arena, nb_bytes_str(text));
}

static void warn(struct setup *s, const char *format, const char *detail)
{
    struct nb_buf line = {0};
    nb_buf_append_str(&line, format);
    nb_json_escape(&line, nb_bytes_str(detail));
    struct server_config *c = s->config;
    c->warnings =
        nb_grow(c->warnings, &s->warning_capacity, c->warning_count + 1, sizeof *c->warnings);
    c->warnings[c->warning_count++] = nb_arena_str(&c->arena, nb_buf_bytes(&line));
    nb_buf_deinit(&line);
}

static bool refuse(struct setup *s, const char *why)
{
    nb_buf_append_str(s->message, why);
    return false;
}

/* -- single values -------------------------------------------------------------------------- */

static bool urls_of(struct setup *s, const char *flag, struct server_addresses *out)
{
    const struct nb_option_value *v = nb_options_get(&s->options, flag);
    struct nb_buf why = {0};
    bool fine = server_urls_parse((const char *const *)v->items, v->item_count, &s->config->arena,
                                  out, &why);
    if (!fine) {
        nb_buf_append_str(s->message, "invalid value \"");
        nb_json_escape(s->message, nb_bytes_str(v->text));
        nb_buf_printf(s->message, "\" for flag --%s: ", flag);
        nb_buf_append_bytes(s->message, nb_buf_bytes(&why));
        s->bad_flag = v->source == NB_OPTION_FROM_ARGUMENT;
    }
    nb_buf_deinit(&why);
    return fine;
}

/* URLs to listen on: hosts must be addresses, and there is no TLS yet. */
static bool listen_urls_of(struct setup *s, const char *flag, struct server_addresses *out)
{
    if (!urls_of(s, flag, out)) {
        return false;
    }
    for (size_t i = 0; i < out->count; i++) {
        const struct server_address *a = &out->items[i];
        const char *fact = !server_address_can_bind(a) ? "expected IP in URL for binding"
                           : a->tls ? "TLS is not built in yet; cannot listen on URL"
                                    : NULL;
        if (fact != NULL) {
            nb_buf_printf(s->message, "%s (%s)", fact, a->url);
            return false;
        }
    }
    return true;
}

/* URLs that others are told: they need a host. */
static bool advertise_urls_of(struct setup *s, const char *flag, struct server_addresses *out)
{
    if (!urls_of(s, flag, out)) {
        return false;
    }
    for (size_t i = 0; i < out->count; i++) {
        if (*out->items[i].host == '\0') {
            nb_buf_printf(s->message, "--%s: unexpected empty host (%s)", flag, out->items[i].url);
            return false;
        }
    }
    return true;
}

static const char **texts_of(struct setup *s, const char *flag)
{
    const struct nb_option_value *v = nb_options_get(&s->options, flag);
    const char **list = nb_arena_alloc_zero(&s->config->arena, v->item_count + 1, sizeof *list);
    for (size_t i = 0; i < v->item_count; i++) {
        list[i] = keep(s->config, v->items[i]);
    }
    return list;
}

static bool gate_set(struct setup *s, const char *item)
{
    size_t len = strcspn(item, "=");
    bool on;
    if (item[len] != '=' || !nb_bool_parse(item + len + 1, &on)) {
        nb_buf_append_str(s->message, "invalid value of --feature-gates: ");
        nb_json_escape(s->message, nb_bytes_str(item));
        return false;
    }
    bool all = (len == 8 && memcmp(item, "AllAlpha", 8) == 0) ||
               (len == 7 && memcmp(item, "AllBeta", 7) == 0);
    bool known = all;
    for (size_t i = 0; i < SERVER_GATE_COUNT; i++) {
        bool beta = gates[i].on;
        bool meant = all ? beta == (len == 7)
                         : strlen(gates[i].name) == len && memcmp(gates[i].name, item, len) == 0;
        if (meant) {
            s->config->gates[i] = on;
            known = true;
        }
    }
    if (!known) {
        nb_buf_append_str(s->message, "unrecognized feature gate: ");
        nb_json_escape(s->message, nb_bytes_of(item, len));
    }
    return known;
}

/* -- groups of flags ------------------------------------------------------------------------ */

static bool take_gates(struct setup *s)
{
    const struct nb_option_value *v = nb_options_get(&s->options, "feature-gates");
    for (size_t i = 0; i < SERVER_GATE_COUNT; i++) {
        s->config->gates[i] = gates[i].on;
    }
    for (size_t i = 0; i < v->item_count; i++) {
        if (!gate_set(s, v->items[i])) {
            return false;
        }
    }
    if (nb_options_bool(&s->options, "experimental-initial-corrupt-check")) {
        s->config->gates[SERVER_GATE_INITIAL_CORRUPT_CHECK] = true;
        warn(s, "--experimental-initial-corrupt-check is gone; use --feature-gates=",
             "InitialCorruptCheck=true");
    }
    for (size_t i = 0; i < SERVER_GATE_COUNT; i++) {
        if (s->config->gates[i] && !gates[i].on) {
            warn(s, "feature gate has no effect here: ", gates[i].name);
        }
    }
    return true;
}

static bool take_urls(struct setup *s)
{
    struct server_config *c = s->config;
    if (nb_options_given(&s->options, "listen-client-urls") &&
        !nb_options_given(&s->options, "advertise-client-urls")) {
        return refuse(s, "--advertise-client-urls is required when --listen-client-urls is set "
                         "explicitly");
    }
    if (nb_options_get(&s->options, "listen-metrics-urls")->item_count != 0 &&
        !listen_urls_of(s, "listen-metrics-urls", &c->listen_metrics)) {
        return false;
    }
    return listen_urls_of(s, "listen-peer-urls", &c->listen_peer) &&
           listen_urls_of(s, "listen-client-urls", &c->listen_client) &&
           advertise_urls_of(s, "initial-advertise-peer-urls", &c->initial_advertise_peer) &&
           advertise_urls_of(s, "advertise-client-urls", &c->advertise_client);
}

static bool take_member(struct setup *s)
{
    struct server_config *c = s->config;
    struct nb_options *o = &s->options;
    c->name = keep(c, nb_options_string(o, "name"));
    c->data_dir = keep(c, nb_options_string(o, "data-dir"));
    if (*c->data_dir == '\0') {
        /* An ending of its own: an etcd beside us keeps its data in <name>.etcd. */
        char *dir = nb_sprintf("%s.%s", c->name, c->as_etcd ? "etcd" : "nabata");
        c->data_dir = keep(c, dir);
        nb_free(dir);
    }
    const char *wal_dir = nb_options_string(o, "wal-dir");
    c->wal_dir = *wal_dir == '\0' ? NULL : keep(c, wal_dir);
    const char *initial = nb_options_string(o, "initial-cluster");
    if (*initial == '\0') {
        char *alone = nb_sprintf("%s=http://localhost:2380", c->name);
        c->initial_cluster_text = keep(c, alone);
        nb_free(alone);
    } else {
        c->initial_cluster_text = keep(c, initial);
    }
    const char *domain = nb_options_string(o, "discovery-srv");
    c->discovery_srv = *domain == '\0' ? NULL : keep(c, domain);
    c->discovery_srv_name = keep(c, nb_options_string(o, "discovery-srv-name"));
    if (*domain != '\0' && *initial != '\0') {
        return refuse(s, "multiple discovery or bootstrap flags are set. Choose one of "
                         "\"initial-cluster\" or \"discovery-srv\"");
    }
    c->initial_cluster_existing = nb_options_choice(o, "initial-cluster-state") == 1;
    c->initial_cluster_token = keep(c, nb_options_string(o, "initial-cluster-token"));
    c->initial_election_tick_advance = nb_options_bool(o, "initial-election-tick-advance");
    c->pre_vote = nb_options_bool(o, "pre-vote");
    c->strict_reconfig_check = nb_options_bool(o, "strict-reconfig-check");
    c->max_learners = nb_options_uint64(o, "max-learners");
    c->snapshot_count = nb_options_uint64(o, "snapshot-count");
    c->snapshot_catchup_entries = nb_options_uint64(o, "snapshot-catchup-entries");
    c->raft_read_timeout_ns = nb_options_duration_ns(o, "raft-read-timeout");
    c->raft_write_timeout_ns = nb_options_duration_ns(o, "raft-write-timeout");
    c->socket_reuse_port = nb_options_bool(o, "socket-reuse-port");
    c->socket_reuse_address = nb_options_bool(o, "socket-reuse-address");
    c->unsafe_no_fsync = nb_options_bool(o, "unsafe-no-fsync");
    return c->snapshot_count != 0 || refuse(s, "--snapshot-count must be >0 (set to 0)");
}

static bool take_times(struct setup *s)
{
    uint64_t heartbeat_ms = nb_options_uint64(&s->options, "heartbeat-interval");
    uint64_t election_ms = nb_options_uint64(&s->options, "election-timeout");
    if (heartbeat_ms == 0) {
        return refuse(s, "--heartbeat-interval must be >0 (set to 0ms)");
    }
    if (election_ms == 0) {
        return refuse(s, "--election-timeout must be >0 (set to 0ms)");
    }
    if (election_ms / ELECTION_TO_HEARTBEAT_MIN < heartbeat_ms) {
        nb_buf_printf(s->message,
                      "--election-timeout[%" PRIu64
                      "ms] should be at least as 5 times as --heartbeat-interval[%" PRIu64 "ms]",
                      election_ms, heartbeat_ms);
        return false;
    }
    if (election_ms > ELECTION_TIMEOUT_MS_MAX) {
        nb_buf_printf(s->message,
                      "--election-timeout[%" PRIu64
                      "ms] is too long, and should be set less than %dms",
                      election_ms, ELECTION_TIMEOUT_MS_MAX);
        return false;
    }
    s->config->heartbeat_interval_ns = (int64_t)heartbeat_ms * ns_of_ms;
    s->config->election_timeout_ns = (int64_t)election_ms * ns_of_ms;
    return true;
}

static bool take_compaction(struct setup *s)
{
    struct server_config *c = s->config;
    struct nb_options *o = &s->options;
    const char *mode = nb_options_string(o, "auto-compaction-mode");
    if (strcmp(mode, "periodic") != 0 && strcmp(mode, "revision") != 0) {
        nb_buf_append_str(s->message, "unknown auto-compaction-mode \"");
        nb_json_escape(s->message, nb_bytes_str(mode));
        nb_buf_append_str(s->message, "\"");
        return false;
    }
    c->compaction_batch_limit = nb_options_uint64(o, "compaction-batch-limit");
    if (c->compaction_batch_limit == 0) {
        c->compaction_batch_limit = 1000;
    }
    c->compaction_sleep_interval_ns = nb_options_duration_ns(o, "compaction-sleep-interval");
    if (c->compaction_sleep_interval_ns == 0) {
        c->compaction_sleep_interval_ns = 10 * ns_of_ms;
    }
    return true;
}

static bool take_limits(struct setup *s)
{
    struct server_config *c = s->config;
    struct nb_options *o = &s->options;
    c->max_request_bytes = nb_options_uint64(o, "max-request-bytes");
    c->max_txn_ops = nb_options_uint64(o, "max-txn-ops");
    uint64_t streams = nb_options_uint64(o, "max-concurrent-streams");
    if (streams > UINT32_MAX) {
        return refuse(s, "--max-concurrent-streams must be at most 4294967295");
    }
    c->max_concurrent_streams = (uint32_t)streams;
    if (c->max_request_bytes == 0 || c->max_request_bytes > UINT32_MAX / 2) {
        return refuse(s, "--max-request-bytes must be >0 and below 2147483648");
    }
    int64_t quota = nb_options_int64(o, "quota-backend-bytes");
    c->quota_bytes = quota < 0 ? UINT64_MAX : quota == 0 ? quota_default_bytes : (uint64_t)quota;
    return true;
}

static bool take_clients(struct setup *s)
{
    struct server_config *c = s->config;
    struct nb_options *o = &s->options;
    c->grpc_keepalive_min_time_ns = nb_options_duration_ns(o, "grpc-keepalive-min-time");
    c->grpc_keepalive_interval_ns = nb_options_duration_ns(o, "grpc-keepalive-interval");
    c->grpc_keepalive_timeout_ns = nb_options_duration_ns(o, "grpc-keepalive-timeout");
    c->enable_grpc_gateway = nb_options_bool(o, "enable-grpc-gateway");
    c->cors = texts_of(s, "cors");
    c->host_whitelist = texts_of(s, "host-whitelist");
    c->watch_progress_notify_interval_ns =
        nb_options_duration_ns(o, "watch-progress-notify-interval");
    if (nb_options_given(o, "experimental-watch-progress-notify-interval")) {
        c->watch_progress_notify_interval_ns =
            nb_options_duration_ns(o, "experimental-watch-progress-notify-interval");
        warn(s, "--experimental-watch-progress-notify-interval is gone; use ",
             "--watch-progress-notify-interval");
    }
    c->auth_token_ttl_s = nb_options_uint64(o, "auth-token-ttl");
    c->bcrypt_cost = nb_options_uint64(o, "bcrypt-cost");
    if (c->bcrypt_cost < BCRYPT_COST_MIN || c->bcrypt_cost > BCRYPT_COST_MAX) {
        return refuse(s, "--bcrypt-cost must be between 4 and 31");
    }
    return true;
}

static bool take_logging(struct setup *s)
{
    struct server_config *c = s->config;
    struct nb_options *o = &s->options;
    bool known = nb_log_level_of(nb_options_string(o, "log-level"), &c->log_level);
    nb_assert(known); /* the table's choices are the logger's */
    c->log_format = nb_options_choice(o, "log-format") == 0 ? NB_LOG_JSON : NB_LOG_CONSOLE;
    c->log_format_given = nb_options_given(o, "log-format");
    c->metrics_extensive = nb_options_choice(o, "metrics") == 1;
    c->warning_apply_duration_ns = nb_options_duration_ns(o, "warning-apply-duration");
    c->warning_unary_request_duration_ns =
        nb_options_duration_ns(o, "warning-unary-request-duration");
    const struct nb_option_value *outputs = nb_options_get(o, "log-outputs");
    if (outputs->item_count != 1 || *outputs->items[0] == '\0') {
        return refuse(s, "--log-outputs: only one output at a time is supported yet");
    }
    const char *output = outputs->items[0];
    if (strcmp(output, "systemd/journal") == 0) {
        return refuse(s, "--log-outputs: systemd/journal is not supported yet; systemd collects "
                         "stderr by itself");
    }
    c->log_output = keep(c, strcmp(output, "default") == 0 ? "stderr" : output);
    return true;
}

/* -- where the flags come from -------------------------------------------------------------- */

static bool take_environment(struct setup *s, char *const *envp)
{
    struct nb_options *o = &s->options;
    if (nb_options_environment(o, "ETCD", envp, s->message) != NB_OPTIONS_OK) {
        return false;
    }
    if (o->variables_shadowed_count != 0) {
        nb_buf_printf(s->message,
                      "conflicting environment variable \"%s\" is shadowed by corresponding "
                      "command-line flag (either unset environment variable or disable flag)",
                      o->variables_shadowed[0]);
        return false;
    }
    for (size_t i = 0; i < o->variables_unknown_count; i++) {
        const char *name = o->variables_unknown[i];
        if (strcmp(name, "ETCD_UNSUPPORTED_ARCH") != 0 && strcmp(name, "ETCD_VERIFY") != 0) {
            warn(s, "unrecognized environment variable ", name);
        }
    }
    return true;
}

/* etcd's, and ours where we are not called etcd. */
static void add_flags(const struct setup *s, struct nb_options *o)
{
    nb_options_add(o, server_flags, server_flag_count);
    if (!s->config->as_etcd) {
        nb_options_add(o, server_statefulset_flags, server_statefulset_flag_count);
    }
}

/* Comes first: in that mode other flags have other defaults. */
static bool take_statefulset(struct setup *s)
{
    return s->config->as_etcd || server_statefulset_take(&s->options, s->envp, &s->config->arena,
                                                         &s->config->statefulset, s->message);
}

/* All flags and variables give way to the file. [surface 5.1] */
static bool take_file(struct setup *s, const char *path)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        nb_buf_append_str(s->message, "cannot read the configuration file ");
        nb_json_escape(s->message, nb_bytes_str(path));
        return false;
    }
    struct nb_buf text = {0};
    uint8_t *room = nb_buf_extend(&text, CONFIG_FILE_SIZE_MAX);
    size_t len = fread(room, 1, CONFIG_FILE_SIZE_MAX, file);
    bool whole = ferror(file) == 0 && len < CONFIG_FILE_SIZE_MAX;
    (void)fclose(file);

    struct nb_options fresh;
    nb_options_init(&fresh);
    add_flags(s, &fresh);
    struct nb_buf why = {0};
    bool fine = whole && server_flags_from_file((const char *)text.data, len, &fresh, &why);
    if (!fine) {
        nb_buf_append_str(s->message, "configuration file ");
        nb_json_escape(s->message, nb_bytes_str(path));
        nb_buf_append_str(s->message, ": ");
        nb_buf_append_str(s->message, whole ? "" : "cannot be read, or is larger than 1 MiB");
        nb_buf_append_bytes(s->message, nb_buf_bytes(&why));
    }
    nb_options_deinit(&s->options);
    s->options = fresh;
    nb_buf_deinit(&why);
    nb_buf_deinit(&text);
    return fine;
}

/* The words of a Go build for this machine. */
static const char *go_arch(void)
{
#if defined(__aarch64__)
    return "arm64";
#else
    return "amd64";
#endif
}

static void print_version(bool as_etcd, struct nb_buf *out)
{
    if (as_etcd) {
        nb_buf_printf(out,
                      "etcd Version: %s\n"
                      "Git SHA: %s\n"
                      "Go Version: %s\n"
                      "Go OS/Arch: linux/%s\n",
                      NB_ETCD_VERSION, NB_ETCD_GIT_SHA, NB_ETCD_GO_VERSION, go_arch());
    } else {
        nb_buf_printf(out, "nabata %s (etcd API %s)\n", NB_VERSION, NB_ETCD_VERSION);
    }
}

static void print_help(const struct setup *s, struct nb_buf *out)
{
    static const struct nb_options_example examples[] = {
        {"nabata server --data-dir /tmp/n1", "one member, for a try"},
        {"nabata server --name n1 --data-dir /var/lib/nabata "
         "--listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://n1:2379 "
         "--listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls http://n1:2380 "
         "--initial-cluster n1=http://n1:2380,n2=http://n2:2380,n3=http://n3:2380",
         "one of three"},
        {"nabata server --statefulset ss-service --data-dir /data",
         "one pod of a StatefulSet, which finds the others by itself"},
    };
    nb_options_help_print(
        &s->options,
        &(struct nb_options_help){
            .usage = s->config->as_etcd ? "etcd [flags]" : "nabata server [flags]",
            .summary = "Runs one member of a replicated key-value store. Flags and their ETCD_* "
                       "variables are etcd's; to set both is an error. Flags of etcd that are not "
                       "listed are either accepted, because they change nothing here, or refused "
                       "with a word.",
            .examples = examples,
            .example_count = s->config->as_etcd ? 0 : NB_ARRAY_LEN(examples),
            .width = nb_terminal_width(STDOUT_FILENO),
            .color = isatty(STDOUT_FILENO) == 1,
        },
        out);
}

/* Taken, because manifests in use give them, but what they steer is not there yet (or not done so
 * here). Whoever gives one is told, so that nobody believes in a setting without effect. */
static const char *const without_effect[] = {
    "snapshot-count",
    "raft-read-timeout",
    "raft-write-timeout",
    "enable-grpc-gateway",
    "watch-progress-notify-interval",
    "bcrypt-cost",
    "auth-token-ttl",
};

static void warn_of_flags_without_effect(struct setup *s)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(without_effect); i++) {
        if (nb_options_given(&s->options, without_effect[i])) {
            warn(s, "flag has no effect yet: --", without_effect[i]);
        }
    }
}

static bool take_all(struct setup *s)
{
    warn_of_flags_without_effect(s);
    return take_statefulset(s) && take_member(s) && take_times(s) && take_limits(s) &&
           take_compaction(s) && take_clients(s) && take_logging(s) && take_gates(s) &&
           take_urls(s);
}

static enum server_config_outcome run(struct setup *s, int argc, char *const *argv,
                                      char *const *envp)
{
    switch (nb_options_parse(&s->options, NB_OPTIONS_GO_FLAG, argc > 0 ? argc - 1 : 0, argv + 1,
                             s->message)) {
    case NB_OPTIONS_OK:
        break;
    case NB_OPTIONS_HELP:
        print_help(s, s->message);
        return SERVER_CONFIG_PRINT;
    case NB_OPTIONS_BAD:
        return SERVER_CONFIG_BAD_FLAG;
    }
    if (nb_options_bool(&s->options, "version")) {
        print_version(s->config->as_etcd, s->message);
        return SERVER_CONFIG_PRINT;
    }
    if (s->options.argument_count != 0) {
        nb_buf_append_str(s->message, "\"");
        nb_json_escape(s->message, nb_bytes_str(s->options.arguments[0]));
        nb_buf_append_str(s->message, "\" is not a valid flag");
        return SERVER_CONFIG_BAD;
    }
    const char *file = nb_options_string(&s->options, "config-file");
    for (char *const *e = envp; *file == '\0' && e != NULL && *e != NULL; e++) {
        static const char variable[] = "ETCD_CONFIG_FILE=";
        file = strncmp(*e, variable, sizeof variable - 1) == 0 ? *e + sizeof variable - 1 : file;
    }
    bool fine = *file != '\0' ? take_file(s, keep(s->config, file)) : take_environment(s, envp);
    if (fine && take_all(s)) {
        return SERVER_CONFIG_RUN;
    }
    return s->bad_flag ? SERVER_CONFIG_BAD_FLAG : SERVER_CONFIG_BAD;
}

enum server_config_outcome server_config_parse(int argc, char *const *argv, char *const *envp,
                                               bool as_etcd, struct server_config *out,
                                               struct nb_buf *message)
{
    *out = (struct server_config){.as_etcd = as_etcd};
    struct setup s = {.config = out, .message = message, .envp = envp};
    nb_options_init(&s.options);
    add_flags(&s, &s.options);
    enum server_config_outcome outcome = run(&s, argc, argv, envp);
    nb_options_deinit(&s.options);
    if (message->len != 0 && message->data[message->len - 1] != '\n') {
        nb_buf_append_str(message, "\n");
    }
    return outcome;
}

/* -- the first start ------------------------------------------------------------------------ */

/* Whether two URLs can be one place: the same text, or a name against an IP with the rest equal. */
static bool same_place(const struct server_address *a, const struct server_address *b)
{
    if (strcmp(a->url, b->url) == 0) {
        return true;
    }
    return a->tls == b->tls && a->unix_socket == b->unix_socket && a->port == b->port &&
           (strcasecmp(a->host, b->host) == 0 ||
            (!a->unix_socket && server_host_is_ip(a->host) != server_host_is_ip(b->host)));
}

/* The first URL of `these` that none of `those` can be, or NULL. */
static const struct server_address *missing(const struct server_addresses *these,
                                            const struct server_addresses *those)
{
    for (size_t i = 0; i < these->count; i++) {
        bool found = false;
        for (size_t k = 0; k < those->count && !found; k++) {
            found = same_place(&these->items[i], &those->items[k]);
        }
        if (!found) {
            return &these->items[i];
        }
    }
    return NULL;
}

static void print_urls(struct nb_buf *out, const struct server_addresses *urls)
{
    for (size_t i = 0; i < urls->count; i++) {
        nb_buf_printf(out, "%s%s", i == 0 ? "" : ",", urls->items[i].url);
    }
}

static bool no_shared_url(const struct server_members *all, struct nb_buf *message)
{
    for (size_t i = 0; i < all->count; i++) {
        for (size_t k = 0; k < i; k++) {
            for (size_t u = 0; u < all->items[i].peer_urls.count; u++) {
                const char *url = all->items[i].peer_urls.items[u].url;
                for (size_t v = 0; v < all->items[k].peer_urls.count; v++) {
                    if (strcmp(url, all->items[k].peer_urls.items[v].url) == 0) {
                        nb_buf_printf(message,
                                      "initial cluster has duplicate URL %s, of %s and of %s\n",
                                      url, all->items[k].name, all->items[i].name);
                        return false;
                    }
                }
            }
        }
    }
    return true;
}

/* Where members are dialled; nobody dials TLS yet, so such a member would wait for ever. */
static bool all_can_be_dialled(const struct server_members *all, struct nb_buf *message)
{
    for (size_t i = 0; i < all->count; i++) {
        for (size_t u = 0; u < all->items[i].peer_urls.count; u++) {
            const struct server_address *a = &all->items[i].peer_urls.items[u];
            if (a->tls) {
                nb_buf_printf(message,
                              "--initial-cluster has %s=%s: TLS is not built in yet; use http:// "
                              "URLs inside a trusted network\n",
                              all->items[i].name, a->url);
                return false;
            }
        }
    }
    return true;
}

static bool advertised_as_listed(const struct server_addresses *own,
                                 const struct server_addresses *listed, const char *name,
                                 struct nb_buf *message)
{
    const struct server_address *unlisted = missing(own, listed);
    const struct server_address *unadvertised = missing(listed, own);
    if (unadvertised != NULL) {
        nb_buf_printf(message,
                      "--initial-cluster has %s=%s but missing from "
                      "--initial-advertise-peer-urls=",
                      name, unadvertised->url);
        print_urls(message, own);
    } else if (unlisted != NULL) {
        nb_buf_printf(message,
                      "--initial-advertise-peer-urls has %s but missing from --initial-cluster=",
                      unlisted->url);
        for (size_t i = 0; i < listed->count; i++) {
            nb_buf_printf(message, "%s%s=%s", i == 0 ? "" : ",", name, listed->items[i].url);
        }
    }
    nb_buf_append_str(message, unlisted != NULL || unadvertised != NULL ? "\n" : "");
    return unlisted == NULL && unadvertised == NULL;
}

enum server_config_outcome server_config_bootstrap(struct server_config *c, struct nb_buf *message)
{
    struct server_members all;
    struct nb_buf why = {0};
    if (!server_members_parse(c->initial_cluster_text, &c->arena, &all, &why)) {
        nb_buf_append_str(message, "error setting up initial cluster: ");
        nb_buf_append_bytes(message, nb_buf_bytes(&why));
        nb_buf_append_str(message, "\n");
        nb_buf_deinit(&why);
        return SERVER_CONFIG_BAD;
    }
    nb_buf_deinit(&why);
    struct server_member *self = NULL;
    for (size_t i = 0; i < all.count; i++) {
        struct server_member *member = &all.items[i];
        member->id = server_member_id(&member->peer_urls, c->initial_cluster_token);
        self = strcmp(member->name, c->name) == 0 ? member : self;
    }
    if (self == NULL) {
        nb_buf_append_str(message, "couldn't find local name \"");
        nb_json_escape(message, nb_bytes_str(c->name));
        nb_buf_append_str(message, "\" in the initial cluster configuration\n");
        return SERVER_CONFIG_BAD;
    }
    if (!all_can_be_dialled(&all, message) || !no_shared_url(&all, message) ||
        !advertised_as_listed(&c->initial_advertise_peer, &self->peer_urls, self->name, message)) {
        return SERVER_CONFIG_BAD;
    }
    c->initial_cluster = all;
    c->member_id = self->id;
    c->cluster_id = server_cluster_id(&all);
    return SERVER_CONFIG_RUN;
}
