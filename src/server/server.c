#include "base/wire.h"
#include "server/internal.h"
#include "server/recover.h"
#include "server/seeking.h"
#include "server/service.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLUSTER_VERSION "3.7.0"

/* A heartbeat is this many ticks: fine enough for the randomness of election timeouts. */
enum { TICKS_A_HEARTBEAT = 10 };

static const uint64_t drain_ns_max = 3000 * 1000000ull;
static const uint64_t name_query_ns = 500 * 1000000ull, name_timeout_ns = 2500 * 1000000ull;

void server_stop(struct server *s, int exit_code)
{
    s->exit_code = exit_code;
    net_loop_stop(s->loop);
}

static void enter(struct server *s, enum server_phase phase)
{
    s->phase = phase;
    s->phase_since_ns = net_now_ns();
}

/* ---- becoming known to the cluster ---- */

static void on_published(struct replica_request *request, enum nb_status status,
                         const struct machine_result *result)
{
    (void)status; /* looked at in the state that came of it, and tried again */
    (void)result;
    struct server *s =
        (struct server *)(void *)((char *)request - offsetof(struct server, publish));
    s->publishing = false;
}

static void on_versioned(struct replica_request *request, enum nb_status status,
                         const struct machine_result *result)
{
    (void)status;
    (void)result;
    struct server *s =
        (struct server *)(void *)((char *)request - offsetof(struct server, versioning));
    s->proposing_version = false;
}

static bool is_published(const struct server *s)
{
    const struct server_addresses *urls = &s->config.advertise_client;
    const struct machine_member *m =
        machine_members_find(machine_members(s->store.machine), s->store.member_id);
    if (m == NULL || strcmp(m->name, s->config.name) != 0 || m->client_url_count != urls->count) {
        return false;
    }
    for (size_t i = 0; i < urls->count; i++) {
        if (strcmp(m->client_urls[i], urls->items[i].url) != 0) {
            return false;
        }
    }
    return true;
}

/* Name and client URLs go through the log, so that MemberList is the same everywhere. Not before an
 * entry is stored here: who is known by name must not come back with nothing. [K04] */
static void publish(struct server *s)
{
    if (s->publishing || replica_leader(s->replica) == 0 ||
        machine_applied_index(s->store.machine) == 0) {
        return;
    }
    struct nb_buf member = {0};
    nb_wire_varint_field(&member, 1, s->store.member_id);
    nb_wire_bytes_field(&member, 2, nb_bytes_str(s->config.name));
    for (size_t i = 0; i < s->config.advertise_client.count; i++) {
        nb_wire_bytes(&member, 4, nb_bytes_str(s->config.advertise_client.items[i].url));
    }
    s->publish.done = on_published;
    s->publishing = true;
    if (replica_propose(s->replica, MACHINE_MEMBER_ATTRIBUTES, nb_buf_bytes(&member),
                        &s->publish) != NB_OK) {
        s->publishing = false;
    }
    nb_buf_deinit(&member);
}

/* The leader decides what the cluster speaks; there is one version so far. [D06] */
static void decide_version(struct server *s)
{
    if (s->proposing_version || machine_cluster_version(s->store.machine)[0] != '\0' ||
        replica_leader(s->replica) != s->store.member_id) {
        return;
    }
    s->versioning.done = on_versioned;
    s->proposing_version = true;
    if (replica_propose(s->replica, MACHINE_CLUSTER_VERSION, nb_bytes_str(CLUSTER_VERSION),
                        &s->versioning) != NB_OK) {
        s->proposing_version = false;
    }
}

/* Tells systemd, or whoever started us so, that we are ready. [sd_notify(3)] */
static void notify_ready(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL || strlen(path) >= sizeof to.sun_path || path[0] == '\0') {
        return;
    }
    memcpy(to.sun_path, path, strlen(path));
    if (to.sun_path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        (void)sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (const struct sockaddr *)&to, len);
        (void)close(fd);
    }
}

static void start_serving(struct server *s)
{
    enter(s, SERVER_SERVING);
    api_set_serving(s->api, true);
    const struct machine_member *self =
        machine_members_find(machine_members(s->store.machine), s->store.member_id);
    const char *text = "ready to serve client requests";
    if (replica_leader(s->replica) == 0) {
        text = "serves what it holds; no leader is known yet";
    } else if (self != NULL && self->is_learner) {
        text = "serves as a learner: it does not vote yet";
    }
    nb_log(&s->log, NB_LOG_INFO, "server.ready", text, NB_KV_STR("name", s->config.name),
           NB_KV_ID("member", s->store.member_id),
           NB_KV_U64("applied", machine_applied_index(s->store.machine)), NB_KV_END);
    notify_ready();
}

/* ---- stopping ---- */

void server_drain(struct server *s)
{
    enter(s, SERVER_DRAINING);
    api_shutdown(s->api);
}

static void on_signal(void *user, int signal_number)
{
    struct server *s = user;
    nb_log(&s->log, NB_LOG_INFO, "server.stopping", "told to stop",
           NB_KV_STR("signal", strsignal(signal_number)), NB_KV_END);
    if (s->signal_number != 0) {
        server_stop(s, SERVER_EXIT_OK); /* asked twice: at once */
        return;
    }
    s->signal_number = signal_number;
    if (s->steward != NULL) {
        server_stopping_begin(s->steward);
    } else if (replica_hand_over(s->replica)) {
        enter(s, SERVER_HANDING_OVER);
    } else {
        server_drain(s);
    }
}

/* ---- the loop ---- */

static void advance(struct server *s)
{
    uint64_t waited_ns = net_now_ns() - s->phase_since_ns;
    switch (s->phase) {
    case SERVER_STARTING:
        decide_version(s);
        if (!is_published(s)) {
            publish(s);
        } else if (replica_caught_up(s->replica) &&
                   machine_cluster_version(s->store.machine)[0] != '\0' &&
                   (s->steward == NULL || server_steward_may_serve(s->steward))) {
            start_serving(s);
        }
        break;
    case SERVER_SERVING:
        decide_version(s);
        break;
    case SERVER_HANDING_OVER:
        if (replica_leader(s->replica) != s->store.member_id || !replica_hands_over(s->replica)) {
            server_drain(s);
        }
        break;
    case SERVER_DRAINING:
        if (api_is_idle(s->api) || waited_ns > drain_ns_max) {
            server_stop(s, s->removed ? SERVER_EXIT_REMOVED : SERVER_EXIT_OK);
        }
        break;
    }
}

void server_log_useless(const struct server *s, const char *event, const char *text,
                        const char *error)
{
    bool ends = s->config.statefulset.service == NULL;
    struct nb_kv pairs[] = {NB_KV_ID("member", s->store.member_id),
                            NB_KV_STR("data_dir", s->config.data_dir), NB_KV_END, NB_KV_END,
                            NB_KV_END};
    size_t at = 2;
    if (error != NULL) {
        pairs[at++] = NB_KV_STR("error", error);
    }
    if (ends) {
        pairs[at] = NB_KV_I64("exit_code", SERVER_EXIT_REMOVED);
    }
    nb_log_line(&s->log, ends ? NB_LOG_FATAL : NB_LOG_WARN, event, text, pairs);
}

/* The members are without us: what clients still wait for is answered, then this is the end, now
 * and at every start from this folder [M08]. */
static void watch_removal(struct server *s)
{
    if (!s->removed && replica_is_removed(s->replica)) {
        s->removed = true;
        if (s->steward != NULL && server_steward_on_removed(s->steward)) {
            return; /* it asked for that */
        }
        server_log_useless(s, "server.removed",
                           "the member has been permanently removed from the cluster; its data "
                           "folder is of no use any more",
                           NULL);
        server_drain(s);
    }
}

static void on_tick(void *user)
{
    struct server *s = user;
    replica_tick(s->replica);
    server_addresses_tick(s);
}

static void on_turn(void *user)
{
    struct server *s = user;
    if (s->closing) {
        return; /* the loop only ends connections now */
    }
    replica_turn(s->replica);
    api_turn(s->api);
    server_peers_follow(s);
    watch_removal(s);
    if (s->phase != SERVER_SERVING || machine_cluster_version(s->store.machine)[0] == '\0') {
        advance(s);
    }
}

static void on_wal_disk(void *user)
{
    struct server *s = user;
    (void)disk_reap(s->store.wal_disk);
    replica_disk_ready(s->replica);
}

static void on_disk(void *user)
{
    struct server *s = user;
    (void)disk_reap(s->store.disk);
}

static void on_backend(void *user)
{
    struct server *s = user;
    replica_backend_ready(s->replica);
}

static void on_wake(void *user)
{
    (void)user; /* the turn hook does the work */
}

static void extra_metrics(void *user, struct nb_buf *out)
{
    struct server *s = user;
    server_metrics_write(&s->metrics, s->peers, s->store.member_id, out);
}

/* ---- starting ---- */

static void make_replica_config(const struct server *s, struct replica_config *c)
{
    const struct server_config *f = &s->config;
    uint64_t tick_ns = (uint64_t)f->heartbeat_interval_ns / TICKS_A_HEARTBEAT;
    *c = (struct replica_config){
        .cluster_id = s->store.cluster_id,
        .member_id = s->store.member_id,
        .boot_id = s->store.boot_id,
        .tick_ms = (uint32_t)(tick_ns / 1000000),
        .heartbeat_ticks = TICKS_A_HEARTBEAT,
        .election_ticks = (uint32_t)((uint64_t)f->election_timeout_ns / tick_ns),
        .pre_vote = f->pre_vote,
        .initial_election_tick_advance = f->initial_election_tick_advance,
        .request_timeout_ns = 5000000000ull + 2 * (uint64_t)f->election_timeout_ns,
        .read_retry_ns = 500000000ull,
        .slow_apply_ns = (uint64_t)f->warning_apply_duration_ns,
        .snapshot_catchup_entry_count = f->snapshot_catchup_entries,
        .snapshot_catchup_bytes_max = 64 << 20,
        .commit_interval_ns = 100000000ull,
        .commit_bytes_max = 16 << 20,
        .request_count_max = 1 << 17,
        .request_bytes_max = f->max_request_bytes,
        .proposal_bytes_max = 256 << 20,
        .compaction_batch_limit = (unsigned)f->compaction_batch_limit,
        .compaction_sleep_ns = (uint64_t)f->compaction_sleep_interval_ns,
        .snapshot_dir = s->store.datadir.snap,
        .log = &s->log,
    };
}

static int open_replica(struct server *s, struct nb_buf *message)
{
    struct replica_config config;
    make_replica_config(s, &config);
    struct replica_world world = server_world_calls;
    world.user = s;
    struct replica_parts parts = {
        .wal = s->store.wal,
        .recovered = &s->store.recovered,
        .backend = s->store.backend,
        .machine = s->store.machine,
        .install_noted = s->store.install_noted,
    };
    enum nb_status status = replica_create(&config, &world, &parts, &s->replica, message);
    if (status != NB_OK) {
        return status == NB_CORRUPT ? SERVER_EXIT_DAMAGE : SERVER_EXIT_START;
    }
    wal_recovered_deinit(&s->store.recovered); /* raft holds what it needs */
    if (s->store.install_noted != 0 && server_store_note_install(&s->store, 0) != NB_OK) {
        nb_buf_append_str(message, "the note of a finished snapshot install cannot be removed\n");
        return SERVER_EXIT_DISK;
    }
    if (s->store.fresh) {
        replica_flush(s->replica); /* the first members are durable before anybody hears of us */
    }
    return s->failed ? s->exit_code : SERVER_EXIT_OK;
}

static bool address_of(const struct server_address *a, struct net_address *out,
                       struct net_error *error)
{
    return net_address_parse(a->url, 0, out, error);
}

int server_peers_create(const struct server *s, struct net_loop *loop,
                        const struct peer_events *events, void *user, struct peer_transport **out,
                        struct nb_buf *message)
{
    struct peer_config config;
    peer_config_defaults(&config);
    config.loop = loop;
    config.logger = &s->log;
    config.events = events;
    config.user = user;
    config.cluster_id = s->store.cluster_id;
    config.member_id = s->store.member_id;
    config.boot_id = s->store.boot_id;
    config.boot_count = s->store.boot_count;
    config.fresh = s->store.cluster_id == 0 || s->fresh;
    config.name = s->config.name;
    config.version = NB_VERSION;
    if (peer_transport_create(&config, out) != NB_OK) {
        nb_buf_append_str(message, "the peer transport does not take its configuration\n");
        return SERVER_EXIT_START;
    }
    struct net_error error;
    for (size_t i = 0; i < s->config.listen_peer.count; i++) {
        struct net_address at;
        const struct server_address *a = &s->config.listen_peer.items[i];
        if (!address_of(a, &at, &error) ||
            peer_transport_listen(*out, &at, NULL, &error) != NB_OK) {
            nb_buf_printf(message, "cannot listen for peers on %s: %s\n", a->url, error.text);
            return SERVER_EXIT_START;
        }
    }
    return SERVER_EXIT_OK;
}

void server_set_names(const struct server *s, struct net_loop *loop)
{
    /* A member whose name servers are silent goes on to the addresses that it has learned: that
     * should not take five seconds. */
    struct net_names_config names = {.servers = s->config.statefulset.name_servers,
                                     .query_ns = name_query_ns,
                                     .timeout_ns = name_timeout_ns};
    net_loop_set_names(loop, &names);
}

static int open_peers(struct server *s, struct nb_buf *message)
{
    int code = server_peers_create(s, s->loop, &server_peer_calls, s, &s->peers, message);
    if (code == SERVER_EXIT_OK) {
        server_peers_follow(s);
        s->service = server_service_create(s->loop, s->peers, server_addresses_found, s);
    }
    return code;
}

int server_listen_for(struct api *api, const struct server_addresses *addresses, enum api_port port,
                      const char *whom, struct nb_buf *message)
{
    for (size_t i = 0; i < addresses->count; i++) {
        struct net_address at;
        struct net_error error;
        const struct server_address *a = &addresses->items[i];
        if (!address_of(a, &at, &error) || api_listen(api, port, &at, &error) != NB_OK) {
            nb_buf_printf(message, "cannot listen for %s on %s: %s\n", whom, a->url, error.text);
            return SERVER_EXIT_START;
        }
    }
    return SERVER_EXIT_OK;
}

static int open_api(struct server *s, struct nb_buf *message)
{
    const struct server_config *f = &s->config;
    server_metrics_init(&s->metrics, f->gates);
    struct api_config config = {
        .loop = s->loop,
        .replica = s->replica,
        .cluster_id = s->store.cluster_id,
        .member_id = s->store.member_id,
        .name = f->name,
        .request_bytes_max = f->max_request_bytes,
        .txn_ops_max = (uint32_t)f->max_txn_ops,
        .quota_bytes = f->quota_bytes,
        .streams_max = f->max_concurrent_streams,
        .keepalive_min_ns = (uint64_t)f->grpc_keepalive_min_time_ns,
        .keepalive_interval_ns = (uint64_t)f->grpc_keepalive_interval_ns,
        .keepalive_timeout_ns = (uint64_t)f->grpc_keepalive_timeout_ns,
        .request_timeout_ns = 5000000000ull + 2 * (uint64_t)f->election_timeout_ns,
        .slow_request_ns = (uint64_t)f->warning_unary_request_duration_ns,
        .metrics_extensive = f->metrics_extensive,
        .reuse_port = f->socket_reuse_port,
        .cors = (const char *const *)f->cors,
        .host_whitelist = (const char *const *)f->host_whitelist,
        .cluster = server_cluster_calls,
        .log = &s->log,
    };
    config.cluster.user = s;
    config.cluster.strict = f->strict_reconfig_check;
    config.cluster.learner_count_max = f->max_learners;
    s->api = api_create(&config);
    api_set_extra_metrics(s->api, extra_metrics, s);
    int code = server_listen_for(s->api, &f->listen_client, API_PORT_CLIENT, "clients", message);
    if (code == SERVER_EXIT_OK) {
        code = server_listen_for(s->api, &f->listen_metrics, API_PORT_METRICS, "metrics", message);
    }
    return code;
}

static void open_loop_handles(struct server *s)
{
    uint64_t tick_ns = (uint64_t)s->config.heartbeat_interval_ns / TICKS_A_HEARTBEAT;
    s->tick = net_timer_create(s->loop, on_tick, s);
    net_timer_start(s->tick, tick_ns, tick_ns);
    s->wal_watch = net_watch_create(s->loop, disk_completion_fd(s->store.wal_disk), on_wal_disk, s);
    s->disk_watch = net_watch_create(s->loop, disk_completion_fd(s->store.disk), on_disk, s);
    s->backend_watch =
        net_watch_create(s->loop, backend_completion_fd(s->store.backend), on_backend, s);
    s->signals[0] = net_signal_create(s->loop, SIGTERM, on_signal, s);
    s->signals[1] = net_signal_create(s->loop, SIGINT, on_signal, s);
    server_hold_signals(s, false);
    net_loop_add_turn_hook(s->loop, on_turn, s);
}

static void log_start(const struct server *s)
{
    for (size_t i = 0; i < s->config.warning_count; i++) {
        nb_log(&s->log, NB_LOG_WARN, "server.config", s->config.warnings[i], NB_KV_END);
    }
    const struct wal_recovered *log = &s->store.recovered;
    nb_log(&s->log, NB_LOG_INFO, "server.starting", NULL, NB_KV_STR("version", NB_VERSION),
           NB_KV_STR("name", s->config.name), NB_KV_ID("member", s->store.member_id),
           NB_KV_ID("cluster", s->store.cluster_id), NB_KV_STR("data_dir", s->config.data_dir),
           NB_KV_U64("boot_count", s->store.boot_count),
           NB_KV_STR("log_writes", disk_mode(s->store.wal_disk)),
           NB_KV_U64("applied", machine_applied_index(s->store.machine)),
           NB_KV_U64("log_entries", log->entry_count), NB_KV_END);
    if (log->bytes_cut != 0) {
        nb_log(&s->log, NB_LOG_WARN, "wal.torn_tail_cut",
               "the last write before the stop was torn; nobody was promised what it held",
               NB_KV_STR("file", log->cut_file), NB_KV_U64("offset", log->cut_offset),
               NB_KV_U64("bytes", log->bytes_cut), NB_KV_END);
    }
}

static int recover_when_ordered(struct server *s, struct nb_buf *message)
{
    bool done;
    int code = server_recover_ordered(s->config.data_dir, &done, message);
    if (done && code == SERVER_EXIT_OK) {
        nb_log(&s->log, NB_LOG_WARN, "server.recovered",
               "goes on alone: quorum was lost for good, and `nabata recover` was said",
               NB_KV_BYTES("what", nb_buf_bytes(message)), NB_KV_END);
        nb_buf_clear(message);
    }
    return code;
}

static int open_all(struct server *s, struct nb_buf *message)
{
    int code = recover_when_ordered(s, message);
    if (code == SERVER_EXIT_OK) {
        code = server_store_open(&s->store, &s->config, &s->log, message);
    }
    if (code == SERVER_EXIT_OK) {
        code = server_seek(s, message);
    }
    if (code == SERVER_EXIT_OK && s->store.cluster_id == 0) {
        return SERVER_EXIT_OK; /* told to stop before there was a cluster */
    }
    if (code == SERVER_EXIT_OK) {
        code = server_store_open_data(&s->store, &s->config, message);
    }
    if (code != SERVER_EXIT_OK) {
        return code;
    }
    s->fresh = s->store.fresh;
    log_start(s);
    s->loop = net_loop_create();
    server_set_names(s, s->loop);
    s->wake = net_wake_create(s->loop, on_wake, s);
    code = open_replica(s, message);
    if (code == SERVER_EXIT_OK) {
        code = open_peers(s, message);
    }
    if (code == SERVER_EXIT_OK) {
        code = open_api(s, message);
    }
    if (code == SERVER_EXIT_OK) {
        struct server_incoming_config incoming = {
            .disk = s->store.disk,
            .dir = s->store.datadir.snap,
            .replica = s->replica,
            .peers = s->peers,
            .metrics = &s->metrics,
            .log = &s->log,
        };
        s->incoming = server_incoming_create(&incoming);
        if (s->config.statefulset.service != NULL) {
            s->steward = server_steward_create(s);
        }
        open_loop_handles(s);
    }
    return code;
}

/* Orderly or not: what is acknowledged is in the log; the flush only spares the next start some
 * replay. */
static void close_all(struct server *s)
{
    /* First what calls the replica from the loop: ending the connections gives the loop turns. */
    s->closing = true;
    for (size_t i = 0; i < NB_ARRAY_LEN(s->signals); i++) {
        net_signal_destroy(s->signals[i]);
    }
    net_watch_destroy(s->wal_watch);
    net_watch_destroy(s->disk_watch);
    net_watch_destroy(s->backend_watch);
    net_timer_destroy(s->tick);
    server_incoming_destroy(s->incoming);
    if (s->replica != NULL && !s->failed && (s->exit_code == SERVER_EXIT_OK || s->removed)) {
        replica_flush(s->replica);
    }
    server_service_destroy(s->service);
    peer_transport_destroy(s->peers);
    replica_destroy(s->replica); /* answers what is still open, so before the api */
    server_steward_destroy(s->steward);
    s->steward = NULL;
    api_destroy(s->api);
    net_wake_destroy(s->wake);
    if (s->loop != NULL) {
        net_loop_destroy(s->loop);
    }
    machine_members_deinit(&s->known);
    server_store_close(&s->store);
}

/* A pod's process is often number 1, for which a signal without a handler is lost, and the pod
 * then waits for its grace period to end. So they wait while nobody listens. [K10] */
void server_hold_signals(const struct server *s, bool hold)
{
    if (s->config.statefulset.service != NULL) {
        sigset_t set;
        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        (void)pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
    }
}

/* To what is allowed, as every Go program does: 1024 is a usual start, and few for a server. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)!setrlimit(RLIMIT_NOFILE, &limit); /* else what there is has to do */
    }
}

/* A full disk stops a start before anything is changed for good: all that is written goes to files
 * of its own first. [W13] */
static void add_advice(struct nb_buf *message)
{
    const char *full = nb_status_text(NB_NO_SPACE_DISK);
    if (message->len >= strlen(full) &&
        memmem(message->data, message->len, full, strlen(full)) != NULL) {
        nb_buf_append_str(message, "; make room on that disk and start again: nothing is lost");
    }
}

static int run(struct server *s)
{
    struct nb_buf message = {0};
    raise_descriptor_limit();
    server_hold_signals(s, true);
    int code = open_all(s, &message);
    if (code == SERVER_EXIT_OK && s->loop != NULL) {
        enter(s, SERVER_STARTING);
        net_loop_run(s->loop);
        code = s->exit_code;
    } else if (code != SERVER_EXIT_OK) {
        s->exit_code = code;
        while (message.len != 0 && message.data[message.len - 1] == '\n') {
            message.len--;
        }
        add_advice(&message);
        nb_log(&s->log, NB_LOG_FATAL, "server.start_failed", NULL,
               NB_KV_BYTES("error", nb_buf_bytes(&message)), NB_KV_I64("exit_code", code),
               NB_KV_END);
    }
    nb_buf_deinit(&message);
    close_all(s);
    if (code == SERVER_EXIT_OK || (s->removed && s->signal_number != 0)) {
        nb_log(&s->log, NB_LOG_INFO, "server.stopped", "stopped in good order",
               NB_KV_STR("name", s->config.name), NB_KV_END);
    }
    return code;
}

/* A pod that was removed while it was away, or whose volume is an old copy, is of no use to its
 * cluster as it is: its data is kept aside, and it joins as a new member. [M08, K08] */
static bool begin_anew(struct server *s)
{
    struct nb_buf place = {0};
    bool fine = server_store_set_aside(s->config.data_dir, &place);
    if (fine) {
        nb_log(&s->log, NB_LOG_WARN, "steward.set_aside",
               "moved the data of a removed member aside",
               NB_KV_STR("place", (const char *)place.data), NB_KV_END);
        *s = (struct server){.config = s->config, .log = s->log};
    } else {
        nb_log(&s->log, NB_LOG_FATAL, "steward.set_aside_failed",
               "the data of a removed member cannot be moved out of the way",
               NB_KV_STR("data_dir", s->config.data_dir), NB_KV_STR("error", strerror(errno)),
               NB_KV_END);
    }
    nb_buf_deinit(&place);
    return fine;
}

static int run_until_stopped(struct server *s)
{
    int code = run(s);
    while (code == SERVER_EXIT_REMOVED && s->config.statefulset.service != NULL &&
           s->signal_number == 0 && begin_anew(s)) {
        code = run(s);
    }
    return code == SERVER_EXIT_REMOVED && s->config.statefulset.service != NULL &&
                   s->signal_number != 0
               ? SERVER_EXIT_OK
               : code;
}

/* Answers of some hundred KiB come and go all the time: their memory is kept for the next one,
 * where malloc would give it back to the kernel and take it again page by page. */
static void keep_memory(void)
{
    enum { MMAP_SIZE_BYTES = 1 << 20, KEPT_SIZE_BYTES = 2 << 20 };
    (void)mallopt(M_MMAP_THRESHOLD, MMAP_SIZE_BYTES); /* 0 says no: then it is as it was */
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_SIZE_BYTES);
}

int server_main(int argc, char *const *argv, char *const *envp, bool as_etcd)
{
    keep_memory();
    struct server *s = nb_alloc_zero(1, sizeof *s);
    struct nb_buf message = {0};
    enum server_config_outcome outcome =
        server_config_parse(argc, argv, envp, as_etcd, &s->config, &message);
    int code = server_config_exit_code(outcome);
    bool log_open = false;
    if (outcome == SERVER_CONFIG_RUN) {
        log_open = server_log_open(&s->config, &s->log, &message);
        code = log_open ? SERVER_EXIT_OK : SERVER_EXIT_START;
    }
    FILE *to = outcome == SERVER_CONFIG_PRINT ? stdout : stderr;
    if (message.len != 0) {
        (void)fwrite(message.data, 1, message.len, to);
    }
    (void)fflush(to);
    if (log_open) {
        code = run_until_stopped(s);
        server_log_close(&s->log);
    }
    int signal_number = s->signal_number;
    server_config_deinit(&s->config);
    nb_buf_deinit(&message);
    nb_free(s);
    if (as_etcd && code == SERVER_EXIT_OK && signal_number != 0 && getpid() != 1) {
        (void)signal(signal_number, SIG_DFL); /* so that the parent sees what etcd shows it */
        (void)raise(signal_number);
    }
    return code;
}
