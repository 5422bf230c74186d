#include "raft/internal.h"

#include <string.h>

/* ---- life -------------------------------------------------------------------------------------
 */

void raft_config_defaults(struct raft_config *config)
{
    *config = (struct raft_config){
        .election_timeout_ticks = 10,
        .heartbeat_ticks = 1,
        .pre_vote = true,
        .check_quorum = true,
        .forward_proposals = true,
        .append_bytes_max = 1 << 20,
        .append_entry_count_max = 8192,
        .inflight_count_max = 256,
        .inflight_bytes_max = 32 << 20,
        .uncommitted_bytes_max = 64 << 20,
        .read_count_max = 1 << 16,
    };
}

static bool config_valid(const struct raft_config *c)
{
    return c->id != 0 && c->heartbeat_ticks != 0 &&
           c->election_timeout_ticks > c->heartbeat_ticks &&
           c->election_timeout_ticks <= UINT32_MAX / 4 && c->append_entry_count_max != 0 &&
           c->inflight_count_max != 0 && c->read_count_max != 0;
}

/* One stored entry, as the log must have it after `before` [R26]. */
static bool entry_valid(const struct raft_entry *e, struct raft_entry_id before)
{
    struct raft_conf conf;
    struct nb_bytes attached;
    return e->id.index == before.index + 1 && e->id.term >= before.term &&
           (e->kind != RAFT_ENTRY_CONF ||
            raft_conf_decode(nb_payload_bytes(e->payload), &conf, &attached) == NB_OK);
}

static bool start_valid(const struct raft_start *s)
{
    struct raft_entry_id last = s->snapshot.last;
    if (!raft_conf_well_formed(&s->snapshot.conf)) {
        return false;
    }
    for (size_t i = 0; i < s->entry_count; i++) {
        if (!entry_valid(&s->entries[i], last)) {
            return false;
        }
        last = s->entries[i].id;
    }
    /* A crash between saving a snapshot and the term it came with leaves a lower term: nothing was
     * promised in the snapshot's [S03]. Entries and term are saved together [R05]. */
    return s->hard.commit_index <= last.index && s->applied_index <= last.index &&
           (s->applied_index == 0 || s->applied_index >= s->snapshot.last.index) &&
           (s->entry_count == 0 || last.term <= s->hard.term);
}

static void load(struct raft *r, const struct raft_start *s)
{
    r->handed_hard = s->hard;
    r->term = s->hard.term;
    r->voted_for = s->hard.voted_for;
    if (s->snapshot.last.term > r->term) {
        r->term = s->snapshot.last.term;
        r->voted_for = 0;
    }
    raft_log_reset(&r->log, s->snapshot.last);
    raft_members_reset(r, s->snapshot.last.index, &s->snapshot.conf);
    raft_log_reserve(&r->log, s->entry_count);
    for (size_t i = 0; i < s->entry_count; i++) {
        raft_log_append(&r->log, &s->entries[i]);
        if (s->entries[i].kind == RAFT_ENTRY_CONF) {
            raft_members_appended(r, &s->entries[i]);
        }
    }
    r->applied_index = raft_max_u64(s->applied_index, s->snapshot.last.index);
    r->commit_index = raft_max_u64(s->hard.commit_index, r->applied_index);
    r->handed_index = r->durable_index = raft_log_last_index(&r->log);
}

enum nb_status raft_create(const struct raft_config *config, const struct raft_start *start,
                           struct raft **out)
{
    if (!config_valid(config)) {
        return NB_INVALID;
    }
    if (!start_valid(start)) {
        return NB_CORRUPT;
    }
    struct raft *r = nb_alloc_zero(1, sizeof *r);
    r->config = *config;
    nb_random_init(&r->random, config->seed);
    r->read_round = nb_random_u64(&r->random) >> 3; /* stays below what the wire takes */
    load(r, start);
    raft_election_reset_timer(r);
    r->dirty = true;
    *out = r;
    return NB_OK;
}

static void out_clear(struct raft_out *o)
{
    for (size_t i = 0; i < o->forward_count; i++) {
        nb_payload_release(o->forward[i].payload);
    }
    o->send_count = o->ready_count = o->failed_count = 0;
    o->snapshot_peer_count = o->forward_count = o->forward_bytes = 0;
    o->has_install = o->removed = false;
}

void raft_destroy(struct raft *r)
{
    if (r == NULL) {
        return;
    }
    for (size_t i = 0; i < NB_ARRAY_LEN(r->outs); i++) {
        struct raft_out *o = &r->outs[i];
        out_clear(o);
        nb_free(o->sends);
        nb_free(o->ready);
        nb_free(o->failed);
        nb_free(o->snapshot_peers);
        nb_free(o->forward);
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        nb_free(r->peers[i].inflight);
    }
    nb_free(r->peers);
    raft_log_deinit(&r->log);
    nb_free(r->syncs);
    nb_free(r->confs);
    nb_free(r->reads);
    nb_free(r);
}

/* ---- invariants -------------------------------------------------------------------------------
 */

static struct raft_mark mark(const struct raft *r)
{
    return (struct raft_mark){.term = r->term,
                              .voted_for = r->voted_for,
                              .commit_index = r->commit_index,
                              .applied_index = r->applied_index,
                              .compacted_index = r->log.compacted.index,
                              .last_index = raft_log_last_index(&r->log),
                              .role = r->role};
}

/* R1 to R5 of raft.h, each fact a line. */
static void check_step(const struct raft_mark *before, const struct raft *after)
{
    uint64_t last = raft_log_last_index(&after->log);
    nb_assert(after->term >= before->term);
    nb_assert(after->commit_index >= before->commit_index);
    nb_assert(after->applied_index >= before->applied_index);
    nb_assert(after->log.compacted.index >= before->compacted_index);
    if (after->term == before->term && before->voted_for != 0) {
        nb_assert(after->voted_for == before->voted_for);
    }
    if (before->role == RAFT_LEADER && after->role == RAFT_LEADER) {
        nb_assert(after->term == before->term);
        nb_assert(last >= before->last_index);
    }
    nb_assert(after->log.compacted.index <= after->applied_index);
    nb_assert(after->applied_index <= after->commit_index);
    nb_assert(after->commit_index <= last);
    nb_assert(after->applied_index <= after->durable_index);
    nb_assert(after->durable_index <= after->handed_index);
    nb_assert(after->handed_index <= last);
    nb_assert(after->role == RAFT_LEADER || after->transfer_target == 0);
    nb_assert(after->role != RAFT_LEADER || after->leader_id == after->config.id);
    for (size_t i = 0; i < after->peer_count && after->role == RAFT_LEADER; i++) {
        const struct raft_peer *p = &after->peers[i];
        nb_assert(p->id == after->config.id || p->match < p->next);
        nb_assert(p->id == after->config.id || p->next <= last + 1);
    }
}

void raft_check_log(const struct raft *r)
{
    struct raft_entry_id before = r->log.compacted;
    uint64_t bytes = r->log.bytes_base;
    uint64_t conf_index = r->confs[0].index;
    nb_assert(conf_index <= before.index);
    for (uint64_t i = before.index + 1; i <= raft_log_last_index(&r->log); i++) {
        const struct raft_entry *e = raft_log_at(&r->log, i);
        nb_assert(entry_valid(e, before));
        bytes += RAFT_ENTRY_OVERHEAD_BYTES + nb_payload_bytes(e->payload).len;
        nb_assert(bytes == r->log.bytes_base + raft_log_bytes(&r->log, r->log.compacted.index + 1,
                                                              i + 1)); /* [R20] */
        conf_index = e->kind == RAFT_ENTRY_CONF ? i : conf_index;
        before = e->id;
    }
    nb_assert(raft_members_in_force(r)->index == conf_index); /* R6 [M03, M04] */
    /* A follower may not know yet that the one before is committed; a leader does, once it has
     * committed something [M01, M02]. */
    nb_assert(!r->term_committed || r->conf_count < 2 ||
              r->confs[r->conf_count - 2].index <= r->commit_index);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

static void queue(struct raft *r, struct raft_msg m, bool after_sync)
{
    struct raft_out *out = raft_out(r);
    m.from = r->config.id;
    if (m.term == 0) {
        m.term = r->term;
    }
    out->sends = nb_grow(out->sends, &out->send_capacity, out->send_count + 1, sizeof *out->sends);
    out->sends[out->send_count++] = (struct raft_send){.msg = m, .after_sync = after_sync};
    r->dirty = true;
}

void raft_send_now(struct raft *r, struct raft_msg m)
{
    queue(r, m, false);
}

void raft_send_after_sync(struct raft *r, struct raft_msg m)
{
    queue(r, m, true);
}

typedef void raft_on_msg(struct raft *r, const struct raft_msg *m);

static void ignore(struct raft *r, const struct raft_msg *m)
{
    (void)r;
    (void)m;
}

static NB_NORETURN void impossible(struct raft *r, const struct raft_msg *m)
{
    (void)r;
    (void)m;
    nb_unreachable("two leaders in one term");
}

/* Somebody else has won this term: follow. */
static void candidate_on_append(struct raft *r, const struct raft_msg *m)
{
    raft_become_follower(r, r->term, m->from);
    raft_follower_on_append(r, m);
}

static void candidate_on_heartbeat(struct raft *r, const struct raft_msg *m)
{
    raft_become_follower(r, r->term, m->from);
    raft_follower_on_heartbeat(r, m);
}

static void candidate_on_snapshot(struct raft *r, const struct raft_msg *m)
{
    raft_become_follower(r, r->term, m->from);
    raft_follower_on_snapshot(r, m);
}

/* Who does what with which message of its own term: a row a role, a column a message, no blanks. */
/* clang-format off */
static raft_on_msg *const on_msg[RAFT_ROLE_COUNT][RAFT_MSG_TYPE_COUNT] = {
#define ROW(append, append_result, heartbeat, heartbeat_result, vote_result, pre_vote_result,      \
            snapshot, timeout_now, read, read_result, propose)                                     \
    {[RAFT_MSG_APPEND] = append, [RAFT_MSG_APPEND_RESULT] = append_result,                         \
     [RAFT_MSG_HEARTBEAT] = heartbeat, [RAFT_MSG_HEARTBEAT_RESULT] = heartbeat_result,             \
     [RAFT_MSG_PRE_VOTE] = raft_election_on_vote, [RAFT_MSG_VOTE] = raft_election_on_vote,         \
     [RAFT_MSG_VOTE_RESULT] = vote_result, [RAFT_MSG_PRE_VOTE_RESULT] = pre_vote_result,           \
     [RAFT_MSG_SNAPSHOT] = snapshot, [RAFT_MSG_TIMEOUT_NOW] = timeout_now,                         \
     [RAFT_MSG_READ] = read, [RAFT_MSG_READ_RESULT] = read_result,                                 \
     [RAFT_MSG_PROPOSE] = propose, [RAFT_MSG_REMOVED] = raft_election_on_removed}
    [RAFT_FOLLOWER] = ROW(raft_follower_on_append, ignore, raft_follower_on_heartbeat, ignore,
                          ignore, ignore, raft_follower_on_snapshot, raft_election_on_timeout_now,
                          ignore, raft_read_on_result, ignore),
    [RAFT_PRE_CANDIDATE] = ROW(candidate_on_append, ignore, candidate_on_heartbeat, ignore,
                               ignore, raft_election_on_vote_result, candidate_on_snapshot, ignore,
                               ignore, ignore, ignore),
    [RAFT_CANDIDATE] = ROW(candidate_on_append, ignore, candidate_on_heartbeat, ignore,
                           raft_election_on_vote_result, ignore, candidate_on_snapshot, ignore,
                           ignore, ignore, ignore),
    [RAFT_LEADER] = ROW(impossible, raft_leader_on_append_result, impossible,
                        raft_leader_on_heartbeat_result, ignore, ignore, impossible, ignore,
                        raft_read_on_request, ignore, raft_leader_on_propose),
#undef ROW
};
/* clang-format on */

/* A message of an older term. Leaders and candidates that are behind must learn of it [E02]; what
 * answers an older question is dropped. */
static void on_low_term(struct raft *r, const struct raft_msg *m)
{
    if (RAFT_FAULT(LOW_TERM_IGNORED)) {
        return;
    }
    switch (m->type) {
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_SNAPSHOT:
        raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT, .to = m->from});
        break;
    case RAFT_MSG_PRE_VOTE:
        raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_PRE_VOTE_RESULT, .to = m->from});
        break;
    case RAFT_MSG_VOTE:
        raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_VOTE_RESULT, .to = m->from});
        break;
    case RAFT_MSG_REMOVED:
        raft_election_on_removed(r, m);
        break;
    case RAFT_MSG_VOTE_RESULT:
        if (RAFT_FAULT(VOTES_OF_ANY_TERM)) {
            raft_election_on_vote_result(r, m);
        }
        break;
    case RAFT_MSG_APPEND_RESULT:
        if (RAFT_FAULT(ACKS_OF_ANY_TERM) && r->role == RAFT_LEADER) {
            raft_leader_on_append_result(r, m);
        }
        break;
    case RAFT_MSG_HEARTBEAT_RESULT:
    case RAFT_MSG_PRE_VOTE_RESULT:
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ:
    case RAFT_MSG_READ_RESULT:
    case RAFT_MSG_PROPOSE:
    case RAFT_MSG_TYPE_COUNT:
        break;
    }
}

/* A message of a newer term: false when it must have no effect. */
static bool on_high_term(struct raft *r, const struct raft_msg *m)
{
    switch (m->type) {
    case RAFT_MSG_PRE_VOTE:
    case RAFT_MSG_REMOVED:
        return true; /* nobody is in that term yet, or it does not matter */
    case RAFT_MSG_PRE_VOTE_RESULT:
        if (m->vote_result.granted) {
            return true; /* carries the term we asked for */
        }
        break;
    case RAFT_MSG_VOTE:
        if (!m->vote.transfer && raft_election_hears_leader(r)) {
            return false; /* not even the term: it would depose a healthy leader [E01] */
        }
        break;
    case RAFT_MSG_APPEND:
    case RAFT_MSG_HEARTBEAT:
    case RAFT_MSG_SNAPSHOT:
        raft_become_follower(r, m->term, m->from);
        return true;
    case RAFT_MSG_APPEND_RESULT:
    case RAFT_MSG_HEARTBEAT_RESULT:
    case RAFT_MSG_VOTE_RESULT:
        if (RAFT_FAULT(HIGH_TERM_ANSWER_IGNORED)) {
            return false;
        }
        break;
    case RAFT_MSG_TIMEOUT_NOW:
    case RAFT_MSG_READ:
    case RAFT_MSG_READ_RESULT:
    case RAFT_MSG_PROPOSE:
    case RAFT_MSG_TYPE_COUNT:
        break;
    }
    raft_become_follower(r, m->term, 0);
    return true;
}

/* A leader whose committed configuration does not know the sender says so [E05]. */
static bool tell_removed(struct raft *r, const struct raft_msg *m)
{
    if (r->role != RAFT_LEADER || (m->type != RAFT_MSG_VOTE && m->type != RAFT_MSG_PRE_VOTE) ||
        raft_members_in_force(r)->index > r->commit_index ||
        raft_conf_has_member(raft_conf(r), m->from)) {
        return false;
    }
    raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_REMOVED,
                                       .to = m->from,
                                       .removed = {.commit_index = r->commit_index}});
    return true;
}

void raft_step(struct raft *r, const struct raft_msg *m)
{
    if (m->to != r->config.id || m->from == r->config.id || m->from == 0 ||
        m->type >= RAFT_MSG_TYPE_COUNT) {
        return;
    }
    struct raft_mark before = mark(r);
    bool pre_vote = m->type == RAFT_MSG_PRE_VOTE || m->type == RAFT_MSG_PRE_VOTE_RESULT;
    if (tell_removed(r, m)) {
        return;
    }
    if (m->term < r->term) { /* the first check of all [R15] */
        on_low_term(r, m);
    } else if (m->term == r->term || on_high_term(r, m)) {
        nb_assert(m->term == r->term || pre_vote || m->type == RAFT_MSG_REMOVED);
        on_msg[r->role][m->type](r, m);
    }
    check_step(&before, r);
}

struct raft_msg raft_snapshot_msg(const struct raft *r, uint64_t to,
                                  const struct raft_snapshot *label)
{
    return (struct raft_msg){.type = RAFT_MSG_SNAPSHOT,
                             .from = r->config.id,
                             .to = to,
                             .term = r->term,
                             .snapshot = label};
}

/* ---- time -------------------------------------------------------------------------------------
 */

static bool only_voter(const struct raft *r)
{
    const struct raft_conf *c = raft_conf(r);
    return c->voter_count == 1 && c->voters[0] == r->config.id && c->outgoing_count == 0;
}

static void election_timed_out(struct raft *r)
{
    if (!raft_election_may_campaign(r)) {
        raft_become_follower(r, r->term, 0); /* waits on, and knows no leader any more */
        raft_election_reset_timer(r);
    } else if (r->role == RAFT_CANDIDATE && !r->self_voted) {
        raft_election_reset_timer(r); /* a slow disk: another term would only be slower */
    } else {
        raft_election_campaign(r, r->config.pre_vote, false);
    }
}

void raft_tick(struct raft *r)
{
    struct raft_mark before = mark(r);
    r->now++;
    if (r->role == RAFT_LEADER) {
        raft_leader_tick(r);
    } else {
        r->election_elapsed++;
        raft_read_tick(r);
        if (r->role == RAFT_FOLLOWER && only_voter(r) && raft_election_may_campaign(r)) {
            raft_election_campaign(r, false, false); /* nobody to wait for */
        } else if (r->election_elapsed >= r->election_timeout) {
            election_timed_out(r);
        }
    }
    check_step(&before, r);
}

void raft_hurry_election(struct raft *r)
{
    /* Two heartbeats are left, in which a leader would be heard; the random part stays [E10]. */
    uint32_t left = 2 * r->config.heartbeat_ticks, all = r->config.election_timeout_ticks;
    uint32_t most = left < all ? all - left : 0;
    if (r->role == RAFT_FOLLOWER && r->leader_id == 0 && r->election_elapsed < most) {
        r->election_elapsed = most;
    }
}

void raft_peer_lost(struct raft *r, uint64_t id)
{
    if (r->role == RAFT_LEADER) {
        struct raft_peer *p = raft_members_peer(r, id);
        if (p != NULL && p->id != r->config.id) {
            raft_leader_probe(r, p);
            p->probe_sent = true; /* until its heartbeat is answered: there is no connection now */
        }
    } else if (r->role == RAFT_FOLLOWER && id != 0 && id == r->leader_id) {
        /* Whoever lost it too may have our pre-vote now; votes are as strict as ever. */
        raft_become_follower(r, r->term, 0);
        r->election_elapsed = 0;
        uint32_t half = r->config.election_timeout_ticks / 2;
        r->election_timeout = 1 + (uint32_t)nb_random_below(&r->random, half < 2 ? 2 : half);
    }
}

/* ---- persistence and apply --------------------------------------------------------------------
 */

void raft_persisted(struct raft *r, uint64_t sync)
{
    struct raft_mark before = mark(r);
    nb_assert(sync <= r->sync);
    while (r->sync_count != 0 && r->syncs[r->sync_head].sync <= sync) {
        r->durable_index = raft_max_u64(r->durable_index, r->syncs[r->sync_head].last_index);
        r->sync_head++;
        r->sync_count--;
        r->dirty = true;
    }
    if (r->sync_count == 0) {
        r->sync_head = 0;
    }
    if (r->role == RAFT_LEADER) {
        struct raft_peer *self = raft_members_peer(r, r->config.id);
        if (self != NULL && self->match < r->durable_index) {
            self->match = r->durable_index; /* only now does it count itself [R04] */
            raft_leader_maybe_commit(r);
        }
    }
    raft_election_persisted(r);
    check_step(&before, r);
}

void raft_applied(struct raft *r, uint64_t index)
{
    nb_assert(index >= r->applied_index);
    nb_assert(index <= r->commit_index && index <= r->durable_index);
    r->applied_index = index;
}

void raft_compact(struct raft *r, uint64_t index)
{
    nb_assert(index <= r->applied_index);
    if (index > r->log.compacted.index) {
        raft_log_compact(&r->log, index);
        raft_members_compact(r, index);
    }
}

/* ---- drain ------------------------------------------------------------------------------------
 */

/* Sends what was forwarded since the last drain to the leader of now; false when there is none. */
static bool send_forwarded(struct raft *r)
{
    struct raft_out *out = raft_out(r);
    if (r->role == RAFT_LEADER || r->leader_id == 0) {
        return false;
    }
    size_t first = 0;
    while (first < out->forward_count) {
        size_t count = 0, bytes = 0;
        while (first + count < out->forward_count && count < r->config.append_entry_count_max &&
               (count == 0 || bytes < r->config.append_bytes_max)) {
            bytes += nb_payload_bytes(out->forward[first + count].payload).len;
            count++;
        }
        raft_send_now(r, (struct raft_msg){
                             .type = RAFT_MSG_PROPOSE,
                             .to = r->leader_id,
                             .propose = {.entries = out->forward + first, .entry_count = count}});
        first += count;
    }
    return true;
}

static void hand_out_durables(struct raft *r, struct raft_effects *fx)
{
    uint64_t last = raft_log_last_index(&r->log);
    if (r->handed_index < last) {
        fx->append = raft_log_at(&r->log, r->handed_index + 1);
        fx->append_count = (size_t)(last - r->handed_index);
        r->handed_index = last;
    }
    /* Never names an entry that is not on disk already, so that no crash makes it lie [R26]. */
    uint64_t commit = raft_min_u64(r->commit_index, r->durable_index);
    struct raft_hard_state hard = {.term = r->term,
                                   .voted_for = r->voted_for,
                                   .commit_index =
                                       raft_max_u64(commit, r->handed_hard.commit_index)};
    fx->has_hard_state =
        hard.term != r->handed_hard.term || hard.voted_for != r->handed_hard.voted_for ||
        (fx->append_count != 0 && hard.commit_index != r->handed_hard.commit_index);
    if (fx->has_hard_state) {
        fx->hard_state = r->handed_hard = hard;
    }
    if (!fx->has_hard_state && fx->append_count == 0) {
        return;
    }
    r->sync++;
    if (r->sync_head != 0 && r->sync_head >= r->sync_count) {
        memmove(r->syncs, r->syncs + r->sync_head, r->sync_count * sizeof *r->syncs);
        r->sync_head = 0;
    }
    r->syncs =
        nb_grow(r->syncs, &r->sync_capacity, r->sync_head + r->sync_count + 1, sizeof *r->syncs);
    r->syncs[r->sync_head + r->sync_count++] =
        (struct raft_sync){.sync = r->sync, .last_index = last, .tick = r->now};
}

void raft_drain(struct raft *r, struct raft_effects *fx)
{
    struct raft_mark before = mark(r);
    *fx = (struct raft_effects){0};
    struct raft_out *out = raft_out(r);
    if (!send_forwarded(r)) {
        fx->dropped = out->forward;
        fx->dropped_count = out->forward_count;
    }
    if (r->role == RAFT_LEADER) {
        raft_leader_flush(r);
    } else {
        raft_read_flush(r);
    }
    hand_out_durables(r, fx);
    if (r->role == RAFT_CANDIDATE && r->vote_sync == 0) {
        r->vote_sync = r->sync;
    }
    fx->sync = r->sync;
    fx->messages = out->sends;
    fx->message_count = out->send_count;
    fx->commit_index = raft_min_u64(r->commit_index, r->durable_index);
    fx->reads_ready = out->ready;
    fx->read_ready_count = out->ready_count;
    fx->reads_failed = out->failed;
    fx->read_failed_count = out->failed_count;
    fx->snapshot_peers = out->snapshot_peers;
    fx->snapshot_peer_count = out->snapshot_peer_count;
    fx->has_install = out->has_install;
    if (fx->has_install) {
        fx->install = r->install;
    }
    fx->removed = out->removed;
    /* What was on loan from the drain before comes back, and fills from now on. */
    r->filling ^= 1u;
    out_clear(raft_out(r));
    r->dirty = false;
    check_step(&before, r);
}

bool raft_has_effects(const struct raft *r)
{
    return r->dirty;
}

/* ---- observers --------------------------------------------------------------------------------
 */

void raft_status(const struct raft *r, struct raft_status *out)
{
    *out = (struct raft_status){.id = r->config.id,
                                .role = r->role,
                                .term = r->term,
                                .voted_for = r->voted_for,
                                .leader_id = r->leader_id,
                                .commit_index = r->commit_index,
                                .applied_index = r->applied_index,
                                .first_index = r->log.compacted.index + 1,
                                .last = raft_log_last(&r->log),
                                .durable_index = r->durable_index,
                                .conf_index = raft_members_in_force(r)->index,
                                .transfer_target = r->transfer_target,
                                .installing = r->installing,
                                .term_committed = r->term_committed,
                                .leader_full = r->leader_full};
}

bool raft_progress_of(const struct raft *r, uint64_t id, struct raft_progress *out)
{
    for (size_t i = 0; i < r->peer_count && r->role == RAFT_LEADER; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (p->id == id && p->removed_index == 0) {
            bool learner = (r->learners & raft_slot_bit(r, p)) != 0;
            *out = (struct raft_progress){.id = id,
                                          .match_index = p->match,
                                          .next_index = p->next,
                                          .state = p->state,
                                          .recently_active = raft_leader_active(r, p),
                                          .silent_ticks =
                                              id == r->config.id ? 0 : r->now - p->active_tick,
                                          .learner = learner};
            return true;
        }
    }
    return false;
}

const struct raft_entry *raft_entries(const struct raft *r, uint64_t first, uint64_t end,
                                      size_t *out_count)
{
    *out_count = 0;
    if (first <= r->log.compacted.index || first >= end || end > raft_log_last_index(&r->log) + 1) {
        return NULL;
    }
    *out_count = (size_t)(end - first);
    return raft_log_at(&r->log, first);
}

enum raft_term_at raft_term_at(const struct raft *r, uint64_t index, uint64_t *out_term)
{
    return raft_log_term(&r->log, index, out_term);
}
