#include "replica/internal.h"

enum {
    DRAINS_A_TURN = 16,
    CHOKED_BATCHES = 4, /* of commit_bytes_max, beside the one under way */
};

uint64_t replica_now(const struct replica *r)
{
    return r->world.now_ns(r->world.user);
}

void replica_fail(struct replica *r, enum nb_status status, const char *text)
{
    if (!r->failed) {
        r->failed = true;
        r->world.fatal(r->world.user, status, text);
    }
}

/* ---- the turn ---- */

static void send_messages(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->message_count; i++) {
        const struct raft_send *send = &fx->messages[i];
        if (!send->after_sync || (r->held_count == 0 && wal_durable(r->wal) >= r->batch_last)) {
            r->world.send(r->world.user, &send->msg);
        } else {
            replica_hold(r, &send->msg, r->batch_last);
        }
    }
}

static void take_effects(struct replica *r, const struct raft_effects *fx)
{
    replica_append_to_log(r, fx); /* into memory: what waits for it must know its batch */
    send_messages(r, fx);
    replica_flush_log(r);
    replica_check_log(r); /* it may fail at once, with no completion to come */
    if (fx->commit_index > r->commit_index) {
        r->commit_index = fx->commit_index;
    }
    replica_take_reads(r, fx);
    for (size_t i = 0; i < fx->dropped_count; i++) {
        replica_park(r, fx->dropped[i].payload);
    }
    replica_want_snapshots(r, fx);
    if (fx->removed) {
        r->told_removed = true;
        r->world.wake(r->world.user);
    }
    if (fx->has_install && !r->failed) {
        struct raft_snapshot label = fx->install; /* fx ends with the next call on raft */
        replica_install(r, &label);
    }
    replica_drop_unwanted_install(r);
}

static void watch_leader(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.leader_id != r->leader_seen) {
        r->leader_seen = s.leader_id;
        if (s.leader_id != 0) {
            r->leader_change_count++;
            const struct machine_member *leader =
                machine_members_find(machine_members(r->machine), s.leader_id);
            bool self = s.leader_id == r->config.member_id;
            nb_log(r->config.log, NB_LOG_INFO, "raft.leader_elected",
                   self ? "this member leads now" : "follows a new leader",
                   NB_KV_ID("member", r->config.member_id), NB_KV_U64("term", s.term),
                   NB_KV_ID("leader", s.leader_id),
                   NB_KV_STR("leader_name", leader == NULL ? "" : leader->name),
                   NB_KV_BOOL("self", self), NB_KV_END);
        } else {
            nb_log(r->config.log, NB_LOG_WARN, "raft.leader_lost",
                   "there is no leader now: writes wait for an election",
                   NB_KV_ID("member", r->config.member_id), NB_KV_U64("term", s.term), NB_KV_END);
        }
    }
}

void replica_turn(struct replica *r)
{
    if (r->failed) {
        return;
    }
    replica_take_durable(r);
    replica_offer_waiting(r);
    replica_begin_read_round(r);
    for (unsigned i = 0; i < DRAINS_A_TURN && raft_has_effects(r->raft) && !r->failed; i++) {
        struct raft_effects fx;
        raft_drain(r->raft, &fx);
        take_effects(r, &fx);
        if (!r->failed) {
            replica_take_durable(r);
            replica_apply(r);
            replica_answer_reads(r);
            replica_begin_read_round(r);
        }
    }
    if (r->failed) {
        return;
    }
    replica_apply(r);
    replica_answer_reads(r);
    replica_finish_change(r);
    if (raft_has_effects(r->raft)) {
        r->world.wake(r->world.user);
    }
    watch_leader(r);
    replica_commit_backend(r);
}

void replica_disk_ready(struct replica *r)
{
    replica_check_log(r);
}

/* ---- time ---- */

static enum nb_status timeout_status(const struct replica *r)
{
    return replica_leader(r) == 0 ? NB_TIMEOUT_LEADER_FAIL : NB_TIMEOUT;
}

static void expire_reads(struct replica *r, struct replica_read_list *l, uint64_t now_ns)
{
    while (l->first != NULL && now_ns - l->first->begun_ns > r->config.request_timeout_ns) {
        struct replica_request *request = l->first;
        l->first = request->next;
        l->count--;
        if (l->first == NULL) {
            l->last = &l->first;
        }
        r->read_failed_count++;
        request->done(request, replica_leader(r) == 0 ? NB_NO_LEADER : NB_TIMEOUT, NULL);
    }
}

/* Proposals may be among the messages to the leader that were thrown away. They are not offered
 * again at once: its queue may be full. [R22, N17] */
static void offer_again_when_due(struct replica *r, uint64_t now_ns)
{
    if (r->offer_again_ns == 0 || now_ns < r->offer_again_ns) {
        return;
    }
    r->offer_again_ns = 0;
    if (r->offered_leader != r->config.member_id) {
        r->offered_leader = 0;
    }
}

static void expire(struct replica *r)
{
    uint64_t now_ns = replica_now(r);
    struct replica_request *request;
    while ((request = replica_requests_oldest(&r->proposals)) != NULL &&
           now_ns - request->begun_ns > r->config.request_timeout_ns) {
        replica_count_timeout(r, request, now_ns);
        (void)replica_take_proposal(r, request->id);
        r->proposal_failed_count++;
        request->done(request, timeout_status(r), NULL); /* "unknown": it may still commit [R23] */
    }
    replica_forget_timed_out(r);
    offer_again_when_due(r, now_ns);
    replica_expire_change(r, now_ns, timeout_status(r));
    expire_reads(r, &r->reads_queued, now_ns);
    expire_reads(r, &r->reads_asked, now_ns);
    expire_reads(r, &r->reads_indexed, now_ns);
    /* A round lost on its way to the leader would block the next ones. [Q09] */
    if (r->read_context != 0 && now_ns - r->read_asked_ns > r->config.read_retry_ns) {
        r->timings.slow_read_count++;
        replica_requeue_asked(r);
    }
}

static void go_on_handing_over(struct replica *r);

/* Says once that the disk is full, and once that it is no more. [W13] */
static void watch_space(struct replica *r)
{
    bool log_full = wal_is_full(r->wal);
    bool full = log_full || r->backend_full || r->install_waiting;
    if (full == r->disk_full) {
        return;
    }
    r->disk_full = full;
    raft_set_full(r->raft, full);
    if (full) {
        nb_log(
            r->config.log, NB_LOG_ERROR, "replica.disk_full",
            "the disk is full: writes are refused until there is room again; reads go on, nothing "
            "acknowledged is lost",
            NB_KV_STR("of", log_full ? "log" : "backend"), NB_KV_ID("member", r->config.member_id),
            NB_KV_END);
    } else {
        nb_log(r->config.log, NB_LOG_INFO, "replica.disk_has_room",
               "the disk has room again: writes are taken", NB_KV_ID("member", r->config.member_id),
               NB_KV_END);
    }
}

bool replica_disk_is_full(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return r->disk_full || s.leader_full;
}

/* The backend takes nothing, and what waits for it in memory has grown to its bound [Z03]: nothing
 * more is proposed here, and appends are dropped as by a network; the leader asks again. */
bool replica_is_choked(const struct replica *r)
{
    return r->backend_full &&
           backend_batch_bytes(r->backend) >= CHOKED_BATCHES * r->config.commit_bytes_max;
}

/* A leader that got no turn for two heartbeats has sent none to anybody. */
static void watch_heartbeats(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    uint64_t now_ns = replica_now(r);
    uint64_t heartbeat_ns =
        (uint64_t)r->config.tick_ms * 1000000 * (uint64_t)r->config.heartbeat_ticks;
    if (s.role == RAFT_LEADER && r->ticked_ns != 0 && now_ns - r->ticked_ns > 2 * heartbeat_ns) {
        const struct raft_conf *conf = raft_conf(r->raft);
        r->timings.late_heartbeat_count += conf->voter_count + conf->learner_count - 1;
    }
    r->ticked_ns = s.role == RAFT_LEADER ? now_ns : 0;
}

void replica_tick(struct replica *r)
{
    if (r->failed) {
        return;
    }
    watch_heartbeats(r);
    watch_space(r);
    raft_tick(r->raft);
    go_on_handing_over(r);
    expire(r);
    replica_compact_history(r);
    if (r->syncs.count == 0 || r->disk_full) {
        wal_mark_durable(r->wal);
    }
    replica_check_log(r);
    if (backend_status(r->backend, NULL) == NB_NO_SPACE_DISK) {
        backend_retry(r->backend);
    }
    replica_retry_install(r);
}

void replica_step(struct replica *r, const struct raft_msg *msg)
{
    bool more = msg->type == RAFT_MSG_APPEND && msg->append.entry_count != 0;
    if (!r->failed && !(more && replica_is_choked(r))) {
        raft_step(r->raft, msg);
    }
}

void replica_peer_up(struct replica *r, uint64_t id)
{
    if (r->config.initial_election_tick_advance && !r->peer_seen && id != r->config.member_id) {
        raft_hurry_election(r->raft);
    }
    r->peer_seen = true;
}

void replica_peer_lost(struct replica *r, uint64_t id)
{
    if (id == r->offered_leader) {
        r->offered_leader = 0; /* what was on its way is gone: all is offered again [R22] */
    }
    raft_peer_lost(r->raft, id);
}

void replica_peer_unreachable(struct replica *r, uint64_t id)
{
    if (id == r->offered_leader && r->offer_again_ns == 0) {
        r->offer_again_ns = replica_now(r) + r->config.read_retry_ns;
    }
    raft_peer_unreachable(r->raft, id);
}

enum nb_status replica_transfer(struct replica *r, uint64_t target)
{
    switch (raft_transfer(r->raft, target)) {
    case RAFT_TRANSFER_STARTED:
        return NB_OK;
    case RAFT_TRANSFER_NOT_LEADER:
        return NB_NOT_LEADER;
    case RAFT_TRANSFER_BAD_TARGET:
        return NB_BAD_TRANSFEREE;
    }
    nb_unreachable("no such outcome");
}

/* ---- handing over ---- */

static bool was_asked(const struct replica *r, uint64_t id)
{
    for (size_t i = 0; i < r->handed_count; i++) {
        if (r->handed[i] == id) {
            return true;
        }
    }
    return false;
}

/* Better to try: one that was heard from within a few heartbeats, then one that holds more. Who has
 * been silent for longer may be cut off. */
static bool is_better(const struct replica *r, const struct raft_progress *a,
                      const struct raft_progress *b)
{
    uint32_t lately = 3 * r->config.heartbeat_ticks;
    bool a_lately = a->silent_ticks <= lately, b_lately = b->silent_ticks <= lately;
    return a_lately != b_lately ? a_lately : a->match_index > b->match_index;
}

static bool ask_next(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.role != RAFT_LEADER) {
        return false;
    }
    const struct raft_conf *conf = raft_conf(r->raft);
    struct raft_progress best = {0};
    for (uint32_t i = 0; i < conf->voter_count; i++) {
        struct raft_progress p;
        if (conf->voters[i] != s.id && !was_asked(r, conf->voters[i]) &&
            raft_progress_of(r->raft, conf->voters[i], &p) && p.recently_active &&
            (best.id == 0 || is_better(r, &p, &best))) {
            best = p;
        }
    }
    if (best.id == 0 || raft_transfer(r->raft, best.id) != RAFT_TRANSFER_STARTED) {
        return false;
    }
    nb_assert(r->handed_count < NB_ARRAY_LEN(r->handed));
    r->handed[r->handed_count++] = best.id;
    r->handed_ticks = 0;
    return true;
}

bool replica_hand_over(struct replica *r)
{
    r->handed_count = 0;
    return ask_next(r);
}

bool replica_hands_over(const struct replica *r)
{
    return r->handed_count != 0;
}

/* The one before may still take over, late: then two campaign, of whom one wins. */
static void go_on_handing_over(struct replica *r)
{
    uint32_t patience = r->config.election_ticks / 4;
    if (r->handed_count == 0 || ++r->handed_ticks < (patience == 0 ? 1 : patience)) {
        return;
    }
    uint64_t late = r->handed[r->handed_count - 1];
    if (ask_next(r)) {
        nb_log(r->config.log, NB_LOG_WARN, "replica.hands_over_to_another",
               "a member did not take over leadership in time", NB_KV_ID("late", late),
               NB_KV_ID("next", r->handed[r->handed_count - 1]), NB_KV_END);
    } else {
        r->handed_count = 0;
    }
}

/* ---- observers ---- */

void replica_status(const struct replica *r, struct replica_status *out)
{
    *out = (struct replica_status){0};
    raft_status(r->raft, &out->raft);
    out->is_learner = replica_is_learner(r);
    out->backend_index = backend_label(r->backend)->applied_index;
    out->pending_count = r->proposals.count;
    struct backend_sizes sizes;
    backend_sizes(r->backend, &sizes);
    out->db_allocated_bytes = sizes.allocated;
    out->db_used_bytes = sizes.in_use;
    out->leader_change_count = r->leader_change_count;
    out->proposal_failed_count = r->proposal_failed_count;
    out->read_failed_count = r->read_failed_count;
    out->installing = r->install_waiting;
    if (r->syncs.count != 0) {
        out->stalled_ns = replica_now(r) - r->syncs.items[r->syncs.first].begun_ns;
    }
}

const struct replica_timings *replica_timings(const struct replica *r)
{
    return &r->timings;
}

struct machine *replica_machine(struct replica *r)
{
    return r->machine;
}

struct raft *replica_raft(struct replica *r)
{
    return r->raft;
}

struct backend *replica_backend(struct replica *r)
{
    return r->backend;
}

bool replica_is_learner(const struct replica *r)
{
    const struct raft_conf *conf = raft_conf(r->raft);
    return raft_conf_has_member(conf, r->config.member_id) &&
           !raft_conf_has_voter(conf, r->config.member_id);
}

uint64_t replica_leader(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return s.leader_id;
}

uint64_t replica_term(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return s.term;
}

bool replica_caught_up(const struct replica *r)
{
    return machine_applied_index(r->machine) >= r->caught_up_index;
}
