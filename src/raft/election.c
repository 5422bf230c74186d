/* Roles, campaigns and votes [Raft 5.2, 5.4.1; thesis 3.10 transfer, 4.2.3 stickiness, 9.6
 * pre-vote].
 */
#include "raft/internal.h"

#define TO(role) (1u << (role))

/* Which role may follow which; RAFT_FOLLOWER to itself is a new term or leader. */
static const struct {
    const char *name;
    unsigned next;
} roles[RAFT_ROLE_COUNT] = {
    [RAFT_FOLLOWER] = {"follower", TO(RAFT_FOLLOWER) | TO(RAFT_PRE_CANDIDATE) | TO(RAFT_CANDIDATE)},
    [RAFT_PRE_CANDIDATE] = {"pre-candidate",
                            TO(RAFT_FOLLOWER) | TO(RAFT_PRE_CANDIDATE) | TO(RAFT_CANDIDATE)},
    [RAFT_CANDIDATE] = {"candidate", TO(RAFT_FOLLOWER) | TO(RAFT_PRE_CANDIDATE) |
                                         TO(RAFT_CANDIDATE) | TO(RAFT_LEADER)},
    [RAFT_LEADER] = {"leader", TO(RAFT_FOLLOWER)},
};

const char *raft_role_name(enum raft_role role)
{
    nb_assert(role < RAFT_ROLE_COUNT);
    return roles[role].name;
}

void raft_election_reset_timer(struct raft *r)
{
    r->election_elapsed = 0;
    r->election_timeout =
        r->config.election_timeout_ticks +
        (uint32_t)nb_random_below(&r->random, r->config.election_timeout_ticks); /* [E10] */
}

/* Leaves the present role: whatever belongs to it is gone. */
static void become(struct raft *r, enum raft_role role, uint64_t leader_id)
{
    nb_assert((roles[r->role].next & TO(role)) != 0);
    if (r->role == RAFT_LEADER || r->leader_id != leader_id) {
        raft_read_fail_all(r); /* [Q04] */
    }
    r->role = role;
    r->leader_id = leader_id;
    r->granted = r->rejected = 0;
    r->vote_sync = 0;
    r->self_voted = r->transfer_campaign = r->leader_full = false;
    r->term_committed = r->leaving = r->transfer_sent = false;
    r->transfer_target = 0;
    r->dirty = true;
}

static void set_term(struct raft *r, uint64_t term)
{
    nb_assert(term > r->term);
    r->term = term;
    r->voted_for = 0;
    r->received_index = 0;
}

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader_id)
{
    if (RAFT_FAULT(VOTE_FORGOTTEN) && term == r->term && leader_id == 0) {
        r->voted_for = 0;
    }
    if (term > r->term) {
        raft_read_fail_all(r);
        set_term(r, term);
    }
    /* A follower's timer is reset by its leader and by a vote it grants, not by every candidate:
     * one that cannot win would keep the only one that can from trying. */
    bool reset = r->role != RAFT_FOLLOWER || leader_id != 0;
    become(r, RAFT_FOLLOWER, leader_id);
    if (reset) {
        raft_election_reset_timer(r);
    }
}

/* The disk hangs: whoever leads in this state makes everybody wait [E12]. */
bool raft_election_disk_hangs(const struct raft *r)
{
    return r->config.sync_timeout_ticks != 0 && r->sync_count != 0 &&
           r->now - r->syncs[r->sync_head].tick >= r->config.sync_timeout_ticks;
}

/* A voter of the configuration in force. Also one that is on its way out, until it knows that its
 * removal is committed: it may hold the very entries without which nobody else can win
 * [thesis 4.2.2]. It does not count itself then, as it has no slot. */
static bool is_voter(const struct raft *r)
{
    if (raft_conf_has_voter(raft_conf(r), r->config.id)) {
        return true;
    }
    return raft_members_in_force(r)->index > r->commit_index && r->conf_count > 1 &&
           raft_conf_has_voter(&r->confs[r->conf_count - 2].conf, r->config.id);
}

static uint64_t own_bit(struct raft *r)
{
    const struct raft_peer *self = raft_members_peer(r, r->config.id);
    return self == NULL ? 0 : raft_slot_bit(r, self);
}

bool raft_election_may_campaign(const struct raft *r)
{
    return r->role != RAFT_LEADER && is_voter(r) && !r->installing &&
           !raft_election_disk_hangs(r); /* [E07] */
}

static void become_leader(struct raft *r)
{
    become(r, RAFT_LEADER, r->config.id);
    raft_leader_begin(r);
}

static void count_votes(struct raft *r)
{
    if (raft_members_quorum(r, r->granted)) {
        if (r->role == RAFT_PRE_CANDIDATE) {
            raft_election_campaign(r, false, false);
        } else {
            become_leader(r);
        }
    } else if (raft_members_blocked(r, r->rejected)) {
        /* No reason to wait for the timer with a lost election, but none to hurry either. */
        raft_become_follower(r, r->term, 0);
    }
}

static void ask_for_votes(struct raft *r, enum raft_msg_type type, uint64_t term)
{
    uint64_t voters = r->voters | r->outgoing;
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (p->id == r->config.id || (voters & raft_slot_bit(r, p)) == 0) {
            continue;
        }
        struct raft_msg m = {
            .type = type,
            .to = p->id,
            .term = term,
            .vote = {.last = raft_log_last(&r->log), .transfer = r->transfer_campaign}};
        /* A vote request speaks of a log and a vote that must survive a crash: granted for a longer
         * log than the one we restart with, it would elect a leader without committed entries. */
        if (type == RAFT_MSG_VOTE && !RAFT_FAULT(VOTE_REQUEST_BEFORE_SYNC)) {
            raft_send_after_sync(r, m);
        } else {
            raft_send_now(r, m);
        }
    }
}

void raft_election_campaign(struct raft *r, bool pre_vote, bool transfer)
{
    nb_assert(r->role != RAFT_LEADER);
    become(r, pre_vote ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE, 0); /* forgets the leader [E03] */
    raft_election_reset_timer(r);
    r->transfer_campaign = transfer;
    uint64_t self = own_bit(r);
    if (pre_vote) {
        r->granted = self;
        ask_for_votes(r, RAFT_MSG_PRE_VOTE, r->term + 1);
        if (raft_members_quorum(r, self)) {
            count_votes(r);
        }
        return;
    }
    set_term(r, r->term + 1);
    r->voted_for = r->config.id;
    ask_for_votes(r, RAFT_MSG_VOTE, r->term);
    if (RAFT_FAULT(SELF_VOTE_EARLY)) {
        r->self_voted = true;
        r->granted |= self;
        count_votes(r);
    }
}

/* The own vote counts once it is on disk, as everybody else's [R03]. */
void raft_election_persisted(struct raft *r)
{
    if (r->role != RAFT_CANDIDATE || r->self_voted || r->vote_sync == 0) {
        return;
    }
    if (r->sync_count != 0 && r->syncs[r->sync_head].sync <= r->vote_sync) {
        return;
    }
    r->self_voted = true;
    r->granted |= own_bit(r);
    count_votes(r);
}

bool raft_election_hears_leader(const struct raft *r)
{
    return (r->config.check_quorum || r->config.pre_vote) && r->leader_id != 0 &&
           r->election_elapsed < r->config.election_timeout_ticks && !RAFT_FAULT(NO_STICKINESS);
}

static bool log_is_up_to_date(const struct raft *r, struct raft_entry_id last)
{
    struct raft_entry_id own = raft_log_last(&r->log);
    if (RAFT_FAULT(VOTE_SHORT_LOG)) {
        return true;
    }
    return last.term > own.term || (last.term == own.term && last.index >= own.index);
}

static void answer_vote(struct raft *r, const struct raft_msg *m, bool granted)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    struct raft_msg answer = {.type = pre ? RAFT_MSG_PRE_VOTE_RESULT : RAFT_MSG_VOTE_RESULT,
                              .to = m->from,
                              /* A granted pre-vote names the term asked for [E03]; a refusal ours,
                               * from which a sender that is behind learns. */
                              .term = pre && granted ? m->term : r->term,
                              .vote_result = {.granted = granted}};
    if (pre || !granted || RAFT_FAULT(VOTE_BEFORE_SYNC)) {
        raft_send_now(r, answer);
    } else {
        raft_send_after_sync(r, answer);
    }
}

/* VOTE of our term, or PRE_VOTE of any term from ours on. Any member may grant, a learner or one
 * that does not know the candidate too: it may be its configuration that is old [E06]. */
void raft_election_on_vote(struct raft *r, const struct raft_msg *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE;
    bool free_to_vote = r->voted_for == m->from || (r->voted_for == 0 && r->leader_id == 0) ||
                        (pre && m->term > r->term);
    if (RAFT_FAULT(VOTE_TWICE) && r->role == RAFT_FOLLOWER) {
        free_to_vote = true;
    }
    bool sticky = !m->vote.transfer && (r->role == RAFT_LEADER || raft_election_hears_leader(r));
    if (pre && sticky && !RAFT_FAULT(NO_STICKINESS)) {
        free_to_vote = false; /* [E01] */
    }
    bool granted = free_to_vote && log_is_up_to_date(r, m->vote.last);
    if (granted && !pre) {
        if (r->role == RAFT_PRE_CANDIDATE) {
            raft_become_follower(r, r->term, 0); /* somebody is ahead of us */
        }
        nb_assert(r->role == RAFT_FOLLOWER || r->voted_for == m->from); /* [R13] */
        r->voted_for = m->from;
        raft_election_reset_timer(r);
    }
    answer_vote(r, m, granted);
}

void raft_election_on_vote_result(struct raft *r, const struct raft_msg *m)
{
    bool pre = m->type == RAFT_MSG_PRE_VOTE_RESULT;
    if (r->role != (pre ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE)) {
        return;
    }
    if (pre && m->vote_result.granted && m->term != r->term + 1) {
        return; /* of an earlier attempt [R12] */
    }
    const struct raft_peer *p = raft_members_peer(r, m->from);
    if (p == NULL) {
        return;
    }
    uint64_t bit = raft_slot_bit(r, p); /* a mask: nobody counts twice [R12] */
    if (m->vote_result.granted) {
        r->granted |= bit;
    } else {
        r->rejected |= bit;
    }
    count_votes(r);
}

void raft_election_on_timeout_now(struct raft *r, const struct raft_msg *m)
{
    if (r->role == RAFT_FOLLOWER && m->from == r->leader_id && raft_election_may_campaign(r)) {
        raft_election_campaign(r, false, true); /* no pre-vote: the leader wants it */
    }
}

/* Believed when our committed configuration had us in and the sender has committed at least as
 * much: ids are never used again, so an id that left stays out. */
void raft_election_on_removed(struct raft *r, const struct raft_msg *m)
{
    struct raft_conf committed;
    if (m->removed.commit_index < r->commit_index ||
        !raft_conf_at(r, r->commit_index, &committed) ||
        !raft_conf_has_member(&committed, r->config.id)) {
        return;
    }
    raft_out(r)->removed = true;
    r->dirty = true;
}

bool raft_campaign(struct raft *r)
{
    if (!raft_election_may_campaign(r)) {
        return false;
    }
    raft_election_campaign(r, r->config.pre_vote, false);
    return true;
}

void raft_set_full(struct raft *r, bool full)
{
    r->full = full;
}

void raft_resign(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        raft_become_follower(r, r->term, 0);
    }
}
