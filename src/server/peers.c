/* server/peers: what the transport tells, turned into events of the replica. */
#include "server/internal.h"
#include "server/join.h"
#include "server/recover.h"
#include "server/standing.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

/* How long a member that left is still spoken to, so that it hears of it. */
static const uint64_t leaving_ns = 10000 * UINT64_C(1000000);

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

/* With the names that members have told since. */
static void refresh_known(struct server *s)
{
    machine_members_deinit(&s->known);
    replica_known_members(s->replica, &s->known);
    bool none = s->known.count == 0;
    for (size_t i = 0; none && i < s->store.joined.count; i++) {
        machine_members_set(&s->known, &s->store.joined.items[i]);
    }
}

/* What a member that joins is told, as of now. */
static void set_card(struct server *s)
{
    struct nb_buf card = {0};
    refresh_known(s);
    server_card_encode(s->store.member_id, machine_applied_index(s->store.machine), &s->known,
                       &card);
    server_standing_append(s->replica, &card);
    if (card.len <= PEER_CARD_SIZE_MAX) {
        peer_transport_set_card(s->peers, nb_buf_bytes(&card));
    } else {
        nb_log(&s->log, NB_LOG_WARN, "peer.card_too_large",
               "the members' addresses are too long to be told to one that joins",
               NB_KV_U64("bytes", card.len), NB_KV_END);
    }
    nb_buf_deinit(&card);
}

static void on_fresh_checked(struct replica_request *request, enum nb_status status,
                             const struct machine_result *result)
{
    (void)result;
    struct server *s =
        (struct server *)(void *)((char *)request - offsetof(struct server, fresh_check.read));
    s->fresh_check.running = false;
    s->fresh_check.passed = status == NB_OK;
}

/*
 * A member with an empty disk may be one that starts for the first time, or one that lost what it
 * had promised: then its vote could undo a commit [K04]. The log tells which, by whether it has
 * been published; but what is applied here may be behind. So the first hello of such a boot is put
 * off until a linearizable read has shown that nothing is missing.
 *
 * Not needed where no majority can do without us: then we hold all that this member ever promised.
 */
static bool fresh_one_is_known(struct server *s, const struct peer_hello *hello)
{
    struct raft_status raft;
    raft_status(replica_raft(s->replica), &raft);
    const struct raft_conf *conf = raft_conf(replica_raft(s->replica));
    struct server_fresh_check *c = &s->fresh_check;
    if (raft.last.index == 0 || (conf->voter_count <= 2 && conf->outgoing_count <= 2)) {
        return true;
    }
    if (c->id == hello->from && c->boot_id == hello->boot_id && c->passed) {
        return true;
    }
    if (!c->running) {
        c->id = hello->from;
        c->boot_id = hello->boot_id;
        c->passed = false;
        c->read.done = on_fresh_checked;
        c->running = replica_leader(s->replica) != 0 && replica_read(s->replica, &c->read) == NB_OK;
    }
    return false;
}

static void on_hello(void *user, const struct peer_hello *hello, struct peer_refusal *out)
{
    struct server *s = user;
    if (hello->channel == PEER_CHANNEL_PROBE) {
        if (s->steward != NULL) {
            server_steward_on_probe(s->steward, hello);
        } else {
            set_card(s);
        }
        return;
    }
    /* One that a change under way adds is let in already: its answer may decide it. */
    refresh_known(s);
    const struct machine_members *members = machine_members(s->store.machine);
    const struct machine_member *m = machine_members_find(&s->known, hello->from);
    if (s->steward != NULL && s->known.count == 0) {
        server_steward_on_stranger(s->steward, hello, out);
    } else if (m == NULL) {
        out->code = machine_members_was_removed(members, hello->from) ? PEER_REFUSAL_REMOVED
                                                                      : PEER_REFUSAL_UNKNOWN;
    } else if (hello->fresh && m->name[0] != '\0') {
        out->code = PEER_REFUSAL_STALE_BOOT;
        (void)snprintf(out->text, sizeof out->text,
                       "member %" PRIx64
                       " (%.32s) has already been bootstrapped; its disk was lost",
                       hello->from, m->name);
    } else if (hello->fresh && !fresh_one_is_known(s, hello)) {
        out->code = PEER_REFUSAL_BUSY;
        (void)snprintf(out->text, sizeof out->text,
                       "its disk is empty; asking the cluster whether it has been here before");
    }
}

static void on_up(void *user, uint64_t id, const struct peer_hello *hello)
{
    (void)hello; /* the transport has logged it */
    struct server *s = user;
    s->addresses_due_ns = 0; /* it may know where others are, and may soon be gone */
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
    bool ends = code == PEER_REFUSAL_REMOVED || code == PEER_REFUSAL_STALE_BOOT;
    if (ends && s->steward != NULL && server_steward_on_removed(s->steward)) {
        return;
    }
    if (code == PEER_REFUSAL_REMOVED) {
        server_log_useless(s, "server.removed",
                           "the member has been permanently removed from the cluster", text);
        server_stop(s, SERVER_EXIT_REMOVED);
    } else if (code == PEER_REFUSAL_STALE_BOOT || (code == PEER_REFUSAL_DUPLICATE && s->fresh)) {
        /* With data, DUPLICATE may pass: our last life seems to be alive for a moment still.
         * Without, it means that the disk was lost. [K04] */
        server_log_useless(s, "server.identity_refused",
                           s->steward == NULL
                               ? "this data folder is older than what the cluster knows of this "
                                 "member, or empty: remove the member and add it anew"
                               : "this data folder is older than what the cluster knows of this "
                                 "member",
                           text);
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

/* ---- calls of members ---- */

struct asked {
    struct server *server;
    uint64_t call;
};

static void reply(void *context, struct nb_bytes bytes)
{
    struct asked *asked = context;
    peer_reply(asked->server->peers, asked->call, NB_OK, bytes);
    nb_free(asked);
}

static void on_call(void *user, uint64_t from, uint64_t call, struct nb_bytes request)
{
    struct server *s = user;
    if (server_addresses_asked(s, call, request)) {
        return;
    }
    if (s->steward != NULL && steward_call_is(request)) {
        server_steward_on_call(s->steward, from, call, request);
        return;
    }
    struct asked *asked = nb_alloc(sizeof *asked);
    *asked = (struct asked){.server = s, .call = call};
    api_cluster_asked(s->api, request, reply, asked);
}

static void ask(void *user, uint64_t leader, struct nb_bytes request, uint64_t timeout_ns,
                void (*done)(void *context, enum nb_status status, struct nb_bytes answer),
                void *context)
{
    struct server *s = user;
    peer_call(s->peers, leader, request, timeout_ns, done, context);
}

/* ---- the Cluster service ---- */

static bool check_urls(void *user, char **urls, size_t *count)
{
    (void)user;
    struct nb_arena arena = {0};
    struct nb_buf why = {0};
    struct server_addresses all;
    bool fine = server_urls_parse((const char *const *)urls, *count, &arena, &all, &why);
    for (size_t i = 0; fine && i < all.count; i++) {
        fine = !all.items[i].unix_socket && !all.items[i].tls && all.items[i].host[0] != '\0';
    }
    if (fine) {
        for (size_t i = 0; i < *count; i++) {
            nb_free(urls[i]);
            urls[i] = i < all.count ? nb_strdup(all.items[i].url) : NULL;
        }
        *count = all.count;
    }
    nb_buf_deinit(&why);
    nb_arena_deinit(&arena);
    return fine;
}

/* As etcd draws it, from URLs and time: an address that is used again is another member. */
static uint64_t new_member_id(void *user, char *const *urls, size_t count)
{
    struct server *s = user;
    struct nb_arena arena = {0};
    struct nb_buf why = {0};
    struct server_addresses all = {0};
    bool fine = server_urls_parse((const char *const *)urls, count, &arena, &all, &why);
    nb_assert(fine); /* checked when it was asked */
    const struct machine_members *members = machine_members(s->store.machine);
    uint64_t id = 0;
    for (uint64_t at = (uint64_t)time(NULL); id == 0 || machine_members_find(members, id) != NULL ||
                                             machine_members_was_removed(members, id);
         at++) {
        char token[24];
        (void)snprintf(token, sizeof token, "%" PRIu64, at);
        id = server_member_id(&all, token);
    }
    nb_buf_deinit(&why);
    nb_arena_deinit(&arena);
    return id;
}

static uint64_t connected_since(void *user, uint64_t id)
{
    struct server *s = user;
    struct peer_status p;
    return peer_status_of(s->peers, id, &p) && p.control_up ? p.up_since_ns : 0;
}

const struct api_cluster_world server_cluster_calls = {
    .check_urls = check_urls,
    .new_member_id = new_member_id,
    .connected_since_ns = connected_since,
    .ask = ask,
};

/* ---- following the members ---- */

static void dial_all(struct server *s)
{
    for (size_t i = 0; i < s->known.count; i++) {
        const struct machine_member *m = &s->known.items[i];
        struct net_error error;
        if (m->id != s->store.member_id &&
            peer_transport_set(s->peers, m->id, (const char *const *)m->peer_urls,
                               m->peer_url_count, &error) != NB_OK) {
            nb_log(&s->log, NB_LOG_ERROR, "peer.bad_address",
                   "a member has addresses that cannot be used; give it others with \"member "
                   "update\"",
                   NB_KV_ID("peer", m->id), NB_KV_STR("error", error.text), NB_KV_END);
        }
    }
}

static size_t place_of_leaving(const struct server *s, uint64_t id)
{
    size_t at = 0;
    while (at < s->leaving_count && s->leaving[at].id != id) {
        at++;
    }
    return at;
}

/* Notes who is no member any more; lets go of those whose time is over. */
static void forget_old(struct server *s)
{
    uint64_t ids[PEER_COUNT_MAX], now_ns = net_now_ns();
    size_t count = peer_transport_ids(s->peers, ids);
    for (size_t i = 0; i < count; i++) {
        size_t at = place_of_leaving(s, ids[i]);
        bool member = machine_members_find(&s->known, ids[i]) != NULL;
        if (member && at < s->leaving_count) { /* the change was cut from the log again */
            s->leaving[at] = s->leaving[--s->leaving_count];
        } else if (!member && at == s->leaving_count) {
            s->leaving[s->leaving_count].id = ids[i];
            s->leaving[s->leaving_count++].due_ns = now_ns + leaving_ns;
        } else if (!member && now_ns >= s->leaving[at].due_ns) {
            peer_transport_remove(s->peers, ids[i]);
            s->leaving[at] = s->leaving[--s->leaving_count];
        }
    }
}

void server_peers_follow(struct server *s)
{
    if (s->fresh && machine_applied_index(s->store.machine) != 0) {
        s->fresh = false; /* the only member stores without having heard a peer */
        peer_transport_set_fresh(s->peers, false);
    }
    uint64_t version = replica_members_version(s->replica);
    bool changed = s->known.count == 0 || version != s->known_version;
    if (changed) {
        s->known_version = version;
        refresh_known(s);
        dial_all(s);
    }
    if (s->known.count != 0 && (changed || s->leaving_count != 0)) {
        forget_old(s);
    }
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
    .on_call = on_call,
    .on_snapshot_begin = on_snapshot_begin,
    .on_snapshot_chunk = on_snapshot_chunk,
    .on_snapshot_end = on_snapshot_end,
    .on_snapshot_abort = on_snapshot_abort,
};
