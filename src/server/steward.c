#include "server/steward.h"
#include "server/standing.h"

#include "server/internal.h"
#include "server/recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t round_ns = 100 * 1000000ull;

static const struct machine_members *members_of(const struct server *s)
{
    return machine_members(s->store.machine);
}

static bool leads(const struct server_steward *w)
{
    const struct server *s = w->server;
    return s->replica != NULL && replica_leader(s->replica) == s->store.member_id;
}

/* ---- cards ---- */

static_assert((int)STEWARD_CARD_SIZE_MAX <= (int)PEER_CARD_SIZE_MAX, "a hello takes any card");

void server_card(const struct server *s, struct steward_card *out)
{
    const struct server_config *f = &s->config;
    *out = (struct steward_card){
        .ordinal = f->statefulset.ordinal,
        .state = s->store.cluster_id == 0 ? STEWARD_EMPTY : STEWARD_MEMBER,
        .cluster_id = s->store.cluster_id,
        .member_id = s->store.member_id,
    };
    if (s->store.cluster_id != 0 && members_of(s)->count == 0) {
        out->state = STEWARD_JOINING;
    }
    (void)snprintf(out->slot, sizeof out->slot, "%s", f->name);
    (void)snprintf(out->peer_url, sizeof out->peer_url, "%s",
                   f->initial_advertise_peer.items[0].url);
    (void)snprintf(out->client_url, sizeof out->client_url, "%s", f->advertise_client.items[0].url);
}

static void set_card(struct server_steward *w, const struct steward_card *card,
                     const struct machine_members *members)
{
    struct nb_buf bytes = {0};
    steward_card_encode(card, members, &bytes);
    server_standing_append(w->server->replica, &bytes);
    peer_transport_set_card(w->server->peers, nb_buf_bytes(&bytes));
    nb_buf_deinit(&bytes);
}

static void name_leader(const struct server *s, struct steward_card *card)
{
    card->leader_id = replica_leader(s->replica);
    const struct machine_member *leader = machine_members_find(members_of(s), card->leader_id);
    if (leader == NULL || !steward_slot_of_member(leader, card->leader_slot)) {
        card->leader_slot[0] = '\0';
    }
}

void server_steward_on_probe(struct server_steward *w, const struct peer_hello *hello)
{
    struct server *s = w->server;
    struct steward_card mine;
    struct steward_card theirs;
    server_card(s, &mine);
    name_leader(s, &mine);
    if (steward_card_decode(hello->card, &theirs) == NB_OK && theirs.state == STEWARD_EMPTY &&
        mine.state == STEWARD_MEMBER && theirs.member_id == hello->from) {
        mine.you_are_member = machine_members_find(members_of(s), theirs.member_id) != NULL;
        mine.you_were_removed = machine_members_was_removed(members_of(s), theirs.member_id);
        if (leads(w)) {
            struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
            struct steward_facts facts;
            server_steward_facts(w, items, &facts);
            steward_keeper_wish(&w->keeper, &facts, &theirs, mine.words);
            if (facts.scale.known && theirs.ordinal >= facts.scale.replicas) {
                server_scale_hint(w->scale); /* more replicas than a moment ago, it seems */
            }
        }
    }
    set_card(w, &mine, members_of(s));
}

void server_steward_on_stranger(struct server_steward *w, const struct peer_hello *hello,
                                struct peer_refusal *out)
{
    struct server *s = w->server;
    struct steward_card card;
    const char *address = card.peer_url;
    struct net_error error;
    /* It names our cluster and our id, which only those know whom the leader has told. */
    if (steward_card_decode(hello->card, &card) != NB_OK || card.peer_url[0] == '\0' ||
        peer_transport_set(s->peers, hello->from, &address, 1, &error) != NB_OK) {
        out->code = PEER_REFUSAL_UNKNOWN;
    }
}

/* ---- facts ---- */

static void fact_of(const struct server_steward *w, uint64_t id, uint64_t now_ns,
                    struct steward_fact *out)
{
    struct server *s = w->server;
    struct replica_progress progress;
    struct peer_status peer;
    *out = (struct steward_fact){.id = id};
    if (replica_progress(s->replica, id, &progress)) {
        out->match_index = progress.match_index;
    }
    if (id == s->store.member_id) {
        out->connected = true;
        out->boot_id = s->store.boot_id;
        return;
    }
    uint64_t heard_ns = w->led_ns;
    if (peer_status_of(s->peers, id, &peer)) {
        out->connected = peer.control_up || peer.heard_up;
        out->boot_id = peer.boot_id;
        out->lost = !out->connected && !peer.refused_by_us &&
                    (peer.refusal == PEER_REFUSAL_TO || peer.refusal == PEER_REFUSAL_NO_CLUSTER);
        heard_ns = peer.heard_ns > heard_ns ? peer.heard_ns : heard_ns;
    }
    out->silent_ns = out->connected || now_ns < heard_ns ? 0 : now_ns - heard_ns;
}

void server_steward_facts(struct server_steward *w,
                          struct steward_fact items[MACHINE_MEMBER_COUNT_MAX],
                          struct steward_facts *out)
{
    struct server *s = w->server;
    const struct machine_members *members = members_of(s);
    struct raft_status raft;
    raft_status(replica_raft(s->replica), &raft);
    *out = (struct steward_facts){
        .now_ns = net_now_ns(),
        .self_id = s->store.member_id,
        .in_flight = w->changing || !replica_can_change_members(s->replica),
        .commit_index = raft.commit_index,
        .members = members,
        .items = items,
        .scale_reads = server_scale_reads(w->scale),
    };
    server_scale_get(w->scale, &out->scale);
    for (size_t i = 0; i < members->count && i < MACHINE_MEMBER_COUNT_MAX; i++) {
        fact_of(w, members->items[i].id, out->now_ns, &items[out->count++]);
    }
}

/* ---- the leader's rounds ---- */

static void log_done(struct server_steward *w)
{
    static const struct {
        const char *event, *text;
    } rows[] = {
        [STEWARD_REST] = {"steward.rest", ""},
        [STEWARD_ADD_LEARNER] = {"steward.added", "added a learner"},
        [STEWARD_PROMOTE] = {"steward.promoted", "promoted to voter"},
        [STEWARD_REPLACE] = {"steward.replaced", "replaced member"},
        [STEWARD_REMOVE] = {"steward.removed", "removed members"},
        [STEWARD_HAND_OVER] = {"steward.hands_over", "hands over leadership"},
    };
    struct nb_kv pairs[] = {NB_KV_ID("member", w->action.id), NB_KV_STR("why", w->action.words),
                            NB_KV_END, NB_KV_END};
    if (w->action.other_id != 0) {
        pairs[2] = NB_KV_ID("instead_of", w->action.other_id);
    }
    nb_log_line(&w->server->log, NB_LOG_INFO, rows[w->action.kind].event, rows[w->action.kind].text,
                pairs);
}

static void on_changed(struct replica_request *request, enum nb_status status,
                       const struct machine_result *result)
{
    (void)result;
    struct server_steward *w =
        (struct server_steward *)(void *)((char *)request -
                                          offsetof(struct server_steward, request));
    w->changing = false;
    if (status == NB_OK) {
        log_done(w);
    } else {
        nb_log(&w->server->log, NB_LOG_INFO, "steward.change_ended",
               "a change of members ended without a word; what came of it will show",
               NB_KV_STR("status", nb_status_text(status)), NB_KV_END);
    }
}

static void carry_out(struct server_steward *w, struct steward_action *action)
{
    struct server *s = w->server;
    if (action->kind == STEWARD_HAND_OVER) {
        w->action = *action;
        log_done(w);
        (void)replica_transfer(s->replica, action->id);
        return;
    }
    w->request = (struct replica_request){.done = on_changed};
    enum nb_status status = replica_change_members(s->replica, &action->target, &w->request);
    w->changing = status == NB_OK;
    if (w->changing) {
        w->action = *action;
        w->action.target = (struct machine_members){0};
    } else if (status != NB_BUSY && status != NB_NOT_LEADER) {
        nb_log(&s->log, NB_LOG_WARN, "steward.change_refused", action->words,
               NB_KV_ID("member", action->id), NB_KV_STR("status", nb_status_text(status)),
               NB_KV_END);
    }
}

/* Why nothing happens that should, once for each change of the words. */
static void log_rest(struct server_steward *w, const char *words)
{
    if (strcmp(w->words, words) != 0) {
        memcpy(w->words, words, sizeof w->words);
        if (words[0] != '\0') {
            nb_log(&w->server->log, NB_LOG_WARN, "steward.waits", words, NB_KV_END);
        }
    }
}

static bool is_former(const struct server *s, uint64_t cluster_id)
{
    uint64_t former[SERVER_FORMER_COUNT_MAX];
    size_t count = server_former_clusters(s->store.backend, former);
    for (size_t i = 0; i < count; i++) {
        if (former[i] == cluster_id) {
            return true;
        }
    }
    return false;
}

/* The cluster's id beside the StatefulSet, so that no second one is founded. [K07] */
static void annotate(struct server_steward *w, const struct steward_scale *scale)
{
    struct server *s = w->server;
    if (!scale->known || scale->deleting || s->store.founding ||
        scale->cluster_id == s->store.cluster_id) {
        return;
    }
    if (scale->cluster_id == 0 || is_former(s, scale->cluster_id)) {
        server_scale_annotate(w->scale, s->store.cluster_id);
    } else if (!w->warned_of_annotation) {
        w->warned_of_annotation = true;
        nb_log(&s->log, NB_LOG_WARN, "steward.other_cluster",
               "the StatefulSet's annotation names another cluster than this one",
               NB_KV_ID("annotated", scale->cluster_id), NB_KV_ID("cluster", s->store.cluster_id),
               NB_KV_END);
    }
}

static void lead(struct server_steward *w)
{
    struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
    struct steward_facts facts;
    struct steward_action action;
    server_steward_facts(w, items, &facts);
    steward_stops_turn(&w->stops, &facts);
    steward_keeper_turn(&w->keeper, &facts, &action);
    if (action.kind == STEWARD_REST) {
        log_rest(w, action.words);
    } else {
        carry_out(w, &action);
    }
    steward_action_deinit(&action);
    annotate(w, &facts.scale);
}

/* ---- ready or not ---- */

bool server_steward_may_serve(const struct server_steward *w)
{
    return !w->server->store.founding;
}

/* The founder's cluster has its first size when what is acknowledged lies on as many disks as
 * it will once all are there. */
static void look_at_founding(struct server_steward *w)
{
    struct server *s = w->server;
    struct steward_scale scale;
    server_scale_get(w->scale, &scale);
    uint32_t expected = steward_pods_expected(&scale, s->config.statefulset.replicas);
    size_t voters = 0;
    for (size_t i = 0; i < members_of(s)->count; i++) {
        voters += members_of(s)->items[i].is_learner ? 0 : 1;
    }
    if (voters >= expected / 2 + 1) {
        int code = server_store_founded(&s->store);
        if (code != SERVER_EXIT_OK) {
            server_stop(s, code);
        }
    }
}

static void tell_ready(struct server_steward *w)
{
    struct server *s = w->server;
    const struct machine_member *self = machine_members_find(members_of(s), s->store.member_id);
    const char *words = "";
    if (w->stopping.step == SERVER_STOP_LEAVING) {
        words = "scaled down: leaves the cluster for good";
    } else if (w->stopping.step != SERVER_STOP_NOT) {
        words = "told to stop";
    } else if (members_of(s)->count == 0) {
        words = "joins: waits for the cluster's data";
    } else if (s->store.founding) {
        words = "founded the cluster; waits until a majority of the pods has joined";
    } else if (self != NULL && self->is_learner) {
        words = "a learner: catches up before it votes";
    } else if (s->phase == SERVER_STARTING) {
        words = "catches up with what it knew to be committed";
    }
    if (strcmp(words, w->unready) != 0) {
        (void)snprintf(w->unready, sizeof w->unready, "%s", words);
        api_set_unready(s->api, words[0] == '\0' ? NULL : words);
    }
}

static void on_round(void *user)
{
    struct server_steward *w = user;
    struct server *s = w->server;
    if (s->closing || s->failed) {
        return;
    }
    bool leading = leads(w);
    if (leading != (w->led_ns != 0)) {
        w->led_ns = leading ? net_now_ns() : 0;
        steward_keeper_reset(&w->keeper);
        server_scale_set_polling(w->scale, leading);
    }
    if (s->store.founding) {
        look_at_founding(w);
    }
    if (leading) {
        lead(w);
    }
    if (w->stopping.step != SERVER_STOP_NOT) {
        server_stopping_turn(w);
    }
    tell_ready(w);
}

/* ---- calls ---- */

static void answer(struct server_steward *w, uint64_t call, const struct steward_answer *a)
{
    struct nb_buf bytes = {0};
    steward_answer_encode(a, &bytes);
    peer_reply(w->server->peers, call, NB_OK, nb_buf_bytes(&bytes));
    nb_buf_deinit(&bytes);
}

void server_steward_on_call(struct server_steward *w, uint64_t from, uint64_t call,
                            struct nb_bytes request)
{
    struct steward_call c;
    struct steward_answer a = {0};
    struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
    struct steward_facts facts;
    if (steward_call_decode(request, &c) != NB_OK) {
        peer_reply(w->server->peers, call, NB_MALFORMED, (struct nb_bytes){0});
        return;
    }
    switch (c.kind) {
    case STEWARD_STOPPING:
        steward_stops_note(&w->stops, from, c.boot_id, net_now_ns());
        a.granted = true;
        break;
    case STEWARD_MAY_STOP:
    case STEWARD_LEAVE:
        if (!leads(w)) {
            (void)snprintf(a.words, sizeof a.words, "not the leader");
        } else if (c.kind == STEWARD_LEAVE) {
            steward_keeper_leave(&w->keeper, from, net_now_ns());
            a.granted = true;
        } else {
            server_steward_facts(w, items, &facts);
            a.granted = steward_stops_ask(&w->stops, &facts, from, c.boot_id, a.words);
        }
        break;
    case STEWARD_CALL_END:
        break;
    }
    answer(w, call, &a);
}

/* ---- life ---- */

struct server_steward *server_steward_create(struct server *s)
{
    struct server_steward *w = nb_alloc_zero(1, sizeof *w);
    w->server = s;
    steward_keeper_init(&w->keeper, s->config.statefulset.set, NULL);
    steward_stops_init(&w->stops);
    w->scale = server_scale_create(s->loop, &s->config.statefulset, &s->log);
    if (!server_scale_has_api(w->scale)) {
        nb_log(&s->log, NB_LOG_WARN, "kubernetes.none",
               "no Kubernetes API is known (KUBERNETES_SERVICE_HOST and the namespace): pods that "
               "are scaled down stay members until removed by hand",
               NB_KV_END);
    }
    server_scale_set_polling(w->scale, false); /* the leader's business, but for the first time */
    w->timer = net_timer_create(s->loop, on_round, w);
    net_timer_start(w->timer, round_ns, round_ns);
    struct steward_card card;
    server_card(s, &card);
    set_card(w, &card, NULL);
    tell_ready(w);
    return w;
}

void server_steward_destroy(struct server_steward *w)
{
    if (w != NULL) {
        server_scale_destroy(w->scale);
        net_timer_destroy(w->timer);
        nb_free(w);
    }
}
