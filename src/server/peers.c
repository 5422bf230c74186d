/* server/peers: what the transport tells, turned into events of the replica. */
#include "server/internal.h"
#include "server/recover.h"

#include <inttypes.h>
#include <stdio.h>

static void on_message(void *user, uint64_t from, const struct raft_msg *msg)
{
    struct server *s = user;
    /* An empty disk with a known id might be a lost disk. Until the member that speaks has let us
     * in (it refuses an identity that was in use before), it gets no answer from us. [K04] */
    struct peer_status p;
    if (s->fresh && !(peer_status_of(s->peers, from, &p) && p.control_up)) {
        return;
    }
    if (s->fresh) {
        s->fresh = false;
        peer_transport_set_fresh(s->peers, false);
    }
    replica_step(s->replica, msg);
}

static void on_hello(void *user, const struct peer_hello *hello, struct peer_refusal *out)
{
    struct server *s = user;
    if (hello->channel == PEER_CHANNEL_PROBE) {
        return;
    }
    const struct machine_members *members = machine_members(s->store.machine);
    const struct machine_member *m = machine_members_find(members, hello->from);
    if (m == NULL) {
        out->code = machine_members_was_removed(members, hello->from) ? PEER_REFUSAL_REMOVED
                                                                      : PEER_REFUSAL_UNKNOWN;
    } else if (hello->fresh && m->name[0] != '\0') {
        out->code = PEER_REFUSAL_STALE_BOOT;
        (void)snprintf(out->text, sizeof out->text,
                       "member %" PRIx64
                       " (%.32s) has already been bootstrapped; its disk was lost",
                       hello->from, m->name);
    }
}

static void on_up(void *user, uint64_t id, const struct peer_hello *hello)
{
    (void)hello; /* the transport has logged it */
    struct server *s = user;
    replica_peer_up(s->replica, id);
}

static void on_down(void *user, uint64_t id, enum peer_down_reason reason)
{
    (void)reason;
    struct server *s = user;
    replica_peer_lost(s->replica, id);
}

static void on_refused(void *user, uint64_t id, enum peer_refusal_code code, const char *text)
{
    struct server *s = user;
    struct peer_status p;
    if (peer_status_of(s->peers, id, &p) && p.refused_by_us) {
        return; /* that the other one is an old copy is no reason for this one to stop */
    }
    if (code == PEER_REFUSAL_REMOVED) {
        nb_log(&s->log, NB_LOG_FATAL, "server.removed",
               "the member has been permanently removed from the cluster",
               NB_KV_ID("member", s->store.member_id), NB_KV_STR("error", text), NB_KV_END);
        server_stop(s, SERVER_EXIT_REMOVED);
    } else if (code == PEER_REFUSAL_STALE_BOOT || (code == PEER_REFUSAL_DUPLICATE && s->fresh)) {
        /* With data, DUPLICATE may pass: our last life seems to be alive for a moment still.
         * Without, it means that the disk was lost. [K04] */
        nb_log(&s->log, NB_LOG_FATAL, "server.identity_refused",
               "this data folder is older than what the cluster knows of this member, or empty: "
               "remove the member and add it anew",
               NB_KV_ID("member", s->store.member_id), NB_KV_STR("error", text),
               NB_KV_STR("data_dir", s->config.data_dir), NB_KV_END);
        server_stop(s, SERVER_EXIT_REMOVED);
    }
}

static void on_unreachable(void *user, uint64_t id)
{
    struct server *s = user;
    replica_peer_unreachable(s->replica, id);
}

static bool on_snapshot_begin(void *user, uint64_t from, uint64_t transfer, uint64_t total)
{
    struct server *s = user;
    return server_incoming_begin(s->incoming, from, transfer, total);
}

static enum peer_take on_snapshot_chunk(void *user, uint64_t from, uint64_t transfer,
                                        uint64_t offset, uint64_t total, struct nb_bytes bytes)
{
    struct server *s = user;
    (void)from;
    (void)total;
    return server_incoming_chunk(s->incoming, transfer, offset, bytes);
}

static void on_snapshot_end(void *user, uint64_t from, uint64_t transfer,
                            const uint8_t hash[PEER_HASH_SIZE], const struct raft_msg *announce)
{
    struct server *s = user;
    (void)from;
    (void)hash; /* checked by the transport */
    server_incoming_end(s->incoming, transfer, announce);
}

static void on_snapshot_abort(void *user, uint64_t from, uint64_t transfer, const char *why)
{
    struct server *s = user;
    (void)from;
    server_incoming_abort(s->incoming, transfer, why);
}

static void on_round_trip(void *user, uint64_t id, uint64_t round_trip_ns)
{
    struct server *s = user;
    server_metrics_round_trip(&s->metrics, id, round_trip_ns);
}

static bool is_former_cluster(void *user, uint64_t cluster_id)
{
    struct server *s = user;
    uint64_t former[SERVER_FORMER_COUNT_MAX];
    size_t count = server_former_clusters(s->store.backend, former);
    for (size_t i = 0; i < count; i++) {
        if (former[i] == cluster_id) {
            return true;
        }
    }
    return false;
}

const struct peer_events server_peer_calls = {
    .on_message = on_message,
    .on_hello = on_hello,
    .is_former_cluster = is_former_cluster,
    .on_up = on_up,
    .on_down = on_down,
    .on_refused = on_refused,
    .on_unreachable = on_unreachable,
    .on_round_trip = on_round_trip,
    .on_snapshot_begin = on_snapshot_begin,
    .on_snapshot_chunk = on_snapshot_chunk,
    .on_snapshot_end = on_snapshot_end,
    .on_snapshot_abort = on_snapshot_abort,
};
