/*
 * server/stopping: what a pod does when it is told to stop.
 *
 * Kubernetes does not say whether a pod is restarted or scaled down; the StatefulSet does:
 *
 *   ordinal >= replicas > 0, no deletionTimestamp  ->  it leaves for good: the leader takes it out,
 *                                                      it serves until then
 *   anything else                                  ->  a restart: the leader says when it may
 *
 * Nothing here waits longer than nine tenths of the grace period: being killed is no worse than a
 * crash, and a crash is safe. [K10, K11]
 */
#include "server/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const uint64_t ms = 1000000;
static const uint64_t second = 1000000000;
static const uint64_t look_ns_max = 2 * 1000000000ull;       /* for the API's answer */
static const uint64_t leaderless_ns_max = 2 * 1000000000ull; /* then nobody is asked */
static const uint64_t ask_again_ns = 250 * 1000000ull;
static const uint64_t call_timeout_ns = 1000 * 1000000ull;
static const uint64_t log_again_ns = 10 * 1000000000ull;
static const uint64_t quick_round_ns = 10 * 1000000ull;

static void step_to(struct server_steward *w, enum server_stop_step step)
{
    w->stopping.step = step;
    w->stopping.step_ns = net_now_ns();
}

static const struct machine_member *self_of(const struct server *s)
{
    return machine_members_find(machine_members(s->store.machine), s->store.member_id);
}

static bool leads(const struct server *s)
{
    return replica_leader(s->replica) == s->store.member_id;
}

static void ignore_answer(void *user, enum nb_status status, struct nb_bytes bytes)
{
    (void)user;
    (void)status;
    (void)bytes;
}

static void encode_call(const struct server *s, enum steward_call_kind kind, struct nb_buf *to)
{
    struct steward_call call = {.kind = kind, .boot_id = s->store.boot_id};
    (void)snprintf(call.slot, sizeof call.slot, "%s", s->config.name);
    steward_call_encode(&call, to);
}

/* All hear of it, so that whoever leads next knows who is about to be away. */
static void tell_all(struct server *s)
{
    uint64_t ids[PEER_COUNT_MAX];
    struct nb_buf bytes = {0};
    encode_call(s, STEWARD_STOPPING, &bytes);
    size_t count = peer_transport_ids(s->peers, ids);
    for (size_t i = 0; i < count; i++) {
        peer_call(s->peers, ids[i], nb_buf_bytes(&bytes), call_timeout_ns, ignore_answer, s);
    }
    nb_buf_deinit(&bytes);
}

static void go(struct server_steward *w, const char *why)
{
    struct server *s = w->server;
    nb_log(&s->log, NB_LOG_INFO, "steward.stops", why, NB_KV_STR("name", s->config.name),
           NB_KV_END);
    tell_all(s);
    step_to(w, SERVER_STOP_GONE);
    server_drain(s);
}

static void say_why_not(struct server_steward *w, const char *words)
{
    struct server_stopping *p = &w->stopping;
    uint64_t now_ns = net_now_ns();
    if (strcmp(p->words, words) != 0 || now_ns - p->logged_ns > log_again_ns) {
        (void)snprintf(p->words, sizeof p->words, "%s", words);
        p->logged_ns = now_ns;
        nb_log(&w->server->log, NB_LOG_INFO, "steward.may_not_stop", "may not stop yet",
               NB_KV_STR("why", words), NB_KV_U64("waited_s", (now_ns - p->began_ns) / second),
               NB_KV_END);
    }
}

/* ---- asking ---- */

static void on_answer(void *user, enum nb_status status, struct nb_bytes bytes)
{
    struct server *s = user;
    struct server_steward *w = s->steward;
    if (w == NULL || !w->stopping.calling) {
        return;
    }
    w->stopping.calling = false;
    struct steward_answer a;
    if (status != NB_OK || steward_answer_decode(bytes, &a) != NB_OK ||
        w->stopping.step != SERVER_STOP_ASKING) {
        return; /* asked again soon */
    }
    if (a.granted) {
        go(w, "stops: the leader let it go");
    } else {
        say_why_not(w, a.words);
    }
}

static void ask_leader(struct server_steward *w, enum steward_call_kind kind)
{
    struct server *s = w->server;
    struct server_stopping *p = &w->stopping;
    uint64_t now_ns = net_now_ns();
    uint64_t leader = replica_leader(s->replica);
    if (p->calling || leader == 0 || now_ns - p->called_ns < ask_again_ns) {
        return;
    }
    struct nb_buf bytes = {0};
    encode_call(s, kind, &bytes);
    p->calling = true;
    p->called_ns = now_ns;
    peer_call(s->peers, leader, nb_buf_bytes(&bytes), call_timeout_ns, on_answer, s);
    nb_buf_deinit(&bytes);
}

/* ---- steps ---- */

static void look(struct server_steward *w)
{
    struct server *s = w->server;
    const struct server_stopping *p = &w->stopping;
    bool answered = server_scale_answers(w->scale) >= p->answers_needed;
    if (server_scale_has_api(w->scale) && !answered && net_now_ns() - p->step_ns < look_ns_max) {
        return;
    }
    struct steward_scale scale;
    server_scale_get(w->scale, &scale);
    if (!server_scale_is_gone(w->scale) && scale.known && !scale.deleting && scale.replicas > 0 &&
        s->config.statefulset.ordinal >= scale.replicas) {
        nb_log(&s->log, NB_LOG_INFO, "steward.leaves", "leaving for good",
               NB_KV_STR("name", s->config.name), NB_KV_U64("replicas", scale.replicas), NB_KV_END);
        step_to(w, SERVER_STOP_LEAVING);
    } else if (server_scale_is_gone(w->scale) ||
               (scale.known && (scale.deleting || scale.replicas == 0))) {
        go(w, "stops: the StatefulSet is being deleted or scaled to 0");
    } else {
        step_to(w, SERVER_STOP_ASKING);
    }
}

/* Serves until it is taken out. */
static void leave(struct server_steward *w)
{
    struct server *s = w->server;
    if (replica_is_removed(s->replica)) {
        go(w, "stops: it is no member any more");
    } else if (self_of(s) == NULL && net_now_ns() - w->stopping.step_ns > leaderless_ns_max) {
        go(w, "stops: it was not let in yet");
    } else if (leads(s)) {
        steward_keeper_leave(&w->keeper, s->store.member_id, net_now_ns());
    } else {
        ask_leader(w, STEWARD_LEAVE);
    }
}

static void hand_over(struct server_steward *w)
{
    struct server *s = w->server;
    if (replica_hand_over(s->replica)) {
        step_to(w, SERVER_STOP_HANDING);
    } else {
        go(w, "stops: there is nobody to hand over to");
    }
}

static size_t voter_count(const struct server *s)
{
    const struct machine_members *members = machine_members(s->store.machine);
    size_t count = 0;
    for (size_t i = 0; i < members->count; i++) {
        count += members->items[i].is_learner ? 0 : 1;
    }
    return count;
}

static void ask(struct server_steward *w)
{
    struct server *s = w->server;
    const struct machine_member *self = self_of(s);
    if (self == NULL || self->is_learner || voter_count(s) == 1) {
        go(w, "stops: no quorum hangs on it");
    } else if (leads(s)) {
        struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
        struct steward_facts facts;
        char words[STEWARD_WORDS_SIZE_MAX + 1];
        server_steward_facts(w, items, &facts);
        if (steward_stops_ask(&w->stops, &facts, s->store.member_id, s->store.boot_id, words)) {
            hand_over(w);
        } else {
            say_why_not(w, words);
        }
    } else {
        ask_leader(w, STEWARD_MAY_STOP);
    }
}

/* The new leader is asked as well: it might have let another one go meanwhile. */
static void hand(struct server_steward *w)
{
    struct server *s = w->server;
    uint64_t leader = replica_leader(s->replica);
    if (leader != 0 && leader != s->store.member_id) {
        w->stopping.called_ns = 0;
        step_to(w, SERVER_STOP_ASKING);
        ask(w);
    } else if (!replica_hands_over(s->replica)) {
        go(w, "stops: nobody took over in time");
    }
}

/* True when it is over: the grace period ends, or there is nobody to ask. */
static bool out_of_patience(struct server_steward *w)
{
    struct server *s = w->server;
    struct server_stopping *p = &w->stopping;
    uint64_t now_ns = net_now_ns();
    uint64_t patience_ns = (uint64_t)s->config.statefulset.grace_ns / 10 * 9;
    if (now_ns - p->began_ns > patience_ns) {
        go(w, "stops: the grace period is nearly over");
        return true;
    }
    if (replica_leader(s->replica) != 0) {
        p->leaderless_ns = 0;
    } else if (p->leaderless_ns == 0) {
        p->leaderless_ns = now_ns;
    } else if (p->step == SERVER_STOP_ASKING && now_ns - p->leaderless_ns > leaderless_ns_max) {
        go(w, "stops: there is no leader to ask");
        return true;
    }
    return false;
}

void server_stopping_turn(struct server_steward *w)
{
    if (w->stopping.step == SERVER_STOP_GONE || out_of_patience(w)) {
        return;
    }
    switch (w->stopping.step) {
    case SERVER_STOP_LOOKING:
        look(w);
        break;
    case SERVER_STOP_LEAVING:
        leave(w);
        break;
    case SERVER_STOP_ASKING:
        ask(w);
        break;
    case SERVER_STOP_HANDING:
        hand(w);
        break;
    case SERVER_STOP_NOT:
    case SERVER_STOP_GONE:
        break;
    }
}

void server_stopping_begin(struct server_steward *w)
{
    w->stopping.began_ns = net_now_ns();
    step_to(w, SERVER_STOP_LOOKING);
    w->stopping.answers_needed = server_scale_ask(w->scale);
    net_timer_start(w->timer, ms, quick_round_ns); /* each step costs clients time */
}

bool server_steward_on_removed(struct server_steward *w)
{
    if (w->stopping.step == SERVER_STOP_NOT) {
        return false;
    }
    if (w->stopping.step != SERVER_STOP_GONE) {
        go(w, "stops: it is no member any more");
    }
    return true;
}
