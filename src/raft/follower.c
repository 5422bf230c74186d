/* What a leader sends: appends, heartbeats, snapshots, as received [Raft fig. 2, 7]. */
#include "raft/internal.h"

void raft_follower_commit_to(struct raft *r, uint64_t index)
{
    if (index > r->commit_index) { /* never lowered [R07] */
        nb_assert(index <= raft_log_last_index(&r->log));
        r->commit_index = index;
        r->dirty = true;
    }
}

static void heard_leader(struct raft *r, const struct raft_msg *m)
{
    nb_assert(r->role == RAFT_FOLLOWER && m->term == r->term);
    if (r->leader_id != m->from) {
        nb_assert(r->leader_id == 0); /* one leader a term [Raft 5.2] */
        raft_become_follower(r, r->term, m->from);
    }
    r->election_elapsed = 0;
}

static void answer_heartbeat(struct raft *r, const struct raft_msg *m, uint64_t read_round)
{
    /* Says "you lead", which needs no disk: heartbeats and reads never wait for one [E11]. */
    raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_HEARTBEAT_RESULT,
                                       .to = m->from,
                                       .heartbeat_result = {.read_round = read_round,
                                                            .received_index = r->received_index}});
}

/* A promise: we hold everything up to `matched_index`, on disk. */
static void answer_taken(struct raft *r, uint64_t to, uint64_t matched_index)
{
    struct raft_msg m = {.type = RAFT_MSG_APPEND_RESULT,
                         .to = to,
                         .append_result = {.accepted = true, .matched_index = matched_index}};
    if (RAFT_FAULT(ACK_WHOLE_LOG)) {
        m.append_result.matched_index = raft_log_last_index(&r->log);
    }
    if (RAFT_FAULT(ACK_BEFORE_SYNC)) {
        raft_send_now(r, m);
    } else {
        raft_send_after_sync(r, m);
    }
}

static void answer_refused(struct raft *r, const struct raft_msg *m)
{
    struct raft_entry_id prev = m->append.prev;
    uint64_t meet = raft_log_meet(&r->log, prev.index - 1, prev.term);
    meet = raft_max_u64(meet, r->commit_index); /* what is committed matches any leader */
    uint64_t term = 0;
    enum raft_term_at known = raft_log_term(&r->log, meet, &term);
    nb_assert(known == RAFT_TERM_KNOWN);
    raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                                       .to = m->from,
                                       .append_result = {.refused_index = prev.index,
                                                         .hint = {.index = meet, .term = term}}});
}

/* A member that joined later and knows no configuration: the first one is in no entry, so entries
 * would make a log of it that does not say who votes. */
static bool knows_no_members(const struct raft *r)
{
    const struct raft_conf *c = raft_conf(r);
    return c->voter_count == 0 && !RAFT_FAULT(EMPTY_TAKES_ENTRIES);
}

static void answer_wants_snapshot(struct raft *r, const struct raft_msg *m)
{
    raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_APPEND_RESULT,
                                       .to = m->from,
                                       .append_result = {.wants_snapshot = true,
                                                         .refused_index = m->append.prev.index}});
}

/* Cuts the log at a true conflict. Writes that are still under way can from now on only vouch for
 * what lies before the cut [R17]. */
static void cut(struct raft *r, uint64_t first)
{
    nb_assert(r->role == RAFT_FOLLOWER);
    nb_assert(first > r->commit_index); /* committed never changes [R09] */
    raft_log_cut(&r->log, first);
    raft_members_cut(r, first);
    if (!RAFT_FAULT(CUT_NOT_HANDED)) {
        r->handed_index = raft_min_u64(r->handed_index, first - 1);
    }
    r->durable_index = raft_min_u64(r->durable_index, first - 1);
    for (size_t i = 0; i < r->sync_count && !RAFT_FAULT(SYNC_MARKS_NEW); i++) {
        struct raft_sync *s = &r->syncs[r->sync_head + i];
        s->last_index = raft_min_u64(s->last_index, first - 1);
    }
}

/* The first of `entries` that our log does not hold. Those before it are skipped, not rewritten: a
 * late duplicate of an old append must not cut off what a newer one brought [R09]. */
static size_t first_missing(const struct raft *r, const struct raft_entry *entries, size_t count)
{
    size_t i = 0;
    while (i < count) {
        uint64_t term;
        if (raft_log_term(&r->log, entries[i].id.index, &term) != RAFT_TERM_KNOWN ||
            (term != entries[i].id.term && !RAFT_FAULT(CONFLICT_KEPT))) {
            break;
        }
        i++;
    }
    return i;
}

static void take_entries(struct raft *r, const struct raft_entry *entries, size_t count)
{
    size_t held = first_missing(r, entries, count);
    if (RAFT_FAULT(CUT_ALWAYS) && count != 0 &&
        entries[count - 1].id.index < raft_log_last_index(&r->log) &&
        entries[count - 1].id.index >= r->commit_index) {
        cut(r, entries[count - 1].id.index + 1);
    }
    if (held == count) {
        return;
    }
    if (entries[held].id.index <= raft_log_last_index(&r->log)) {
        cut(r, entries[held].id.index);
    }
    raft_log_reserve(&r->log, count - held);
    for (size_t i = held; i < count; i++) {
        nb_assert(entries[i].id.term <= r->term);
        raft_log_append(&r->log, &entries[i]);
        if (entries[i].kind == RAFT_ENTRY_CONF) {
            raft_members_appended(r, &entries[i]);
        }
    }
    r->dirty = true;
}

static bool prev_matches(const struct raft *r, struct raft_entry_id prev)
{
    uint64_t term;
    return raft_log_term(&r->log, prev.index, &term) == RAFT_TERM_KNOWN &&
           (term == prev.term || RAFT_FAULT(PREV_TERM_UNCHECKED));
}

/* AppendEntries [Raft fig. 2, steps 2-5; step 1 is in raft_step]. */
void raft_follower_on_append(struct raft *r, const struct raft_msg *m)
{
    heard_leader(r, m);
    if (m->append.read_round != 0) {
        answer_heartbeat(r, m, m->append.read_round);
    }
    if (r->installing) {
        return; /* log and state are about to be replaced; the leader hears when it is done */
    }
    if (knows_no_members(r)) {
        answer_wants_snapshot(r, m);
        return;
    }
    struct raft_entry_id prev = m->append.prev;
    const struct raft_entry *entries = m->append.entries;
    size_t count = m->append.entry_count;
    uint64_t vouched = prev.index + count;
    if (prev.index < r->commit_index) {
        /* It starts in the committed prefix, part of which we may have compacted: that far the logs
         * are equal [Raft 5.4.3], so it is as if it started at commit. */
        size_t skip = (size_t)raft_min_u64(r->commit_index - prev.index, count);
        entries += skip;
        count -= skip;
        vouched = raft_max_u64(vouched, r->commit_index);
    } else if (!prev_matches(r, prev)) {
        answer_refused(r, m);
        return;
    }
    if (count != 0) {
        take_entries(r, entries, count);
    }
    r->received_index = raft_max_u64(r->received_index, vouched);
    /* Commit only what this request vouches for. Entries of ours beyond it may be leftovers of a
     * deposed leader [R07]. */
    uint64_t bound = RAFT_FAULT(COMMIT_BEYOND_VOUCHED) ? raft_log_last_index(&r->log) : vouched;
    raft_follower_commit_to(r, raft_min_u64(m->append.leader_commit, bound));
    answer_taken(r, m->from, vouched);
}

void raft_follower_on_heartbeat(struct raft *r, const struct raft_msg *m)
{
    heard_leader(r, m);
    r->leader_full = m->heartbeat.full;
    if (!r->installing) {
        /* The leader bounds it by what we acknowledged in its term. */
        raft_follower_commit_to(
            r, raft_min_u64(m->heartbeat.commit_index, raft_log_last_index(&r->log)));
    }
    answer_heartbeat(r, m, m->heartbeat.read_round);
}

/* The content of a snapshot has arrived whole. */
void raft_follower_on_snapshot(struct raft *r, const struct raft_msg *m)
{
    heard_leader(r, m);
    const struct raft_snapshot *s = m->snapshot;
    if (r->installing) {
        return;
    }
    if (s->last.index <= r->commit_index && !RAFT_FAULT(OLD_SNAPSHOT_TAKEN)) {
        answer_taken(r, m->from, r->commit_index); /* late, but the leader must go on [S06] */
        return;
    }
    uint64_t term;
    if (raft_log_term(&r->log, s->last.index, &term) == RAFT_TERM_KNOWN &&
        (term == s->last.term || RAFT_FAULT(SNAPSHOT_TERM_UNCHECKED))) {
        /* We hold all of it as entries, and it is committed. */
        r->received_index = raft_max_u64(r->received_index, s->last.index);
        raft_follower_commit_to(r, s->last.index);
        answer_taken(r, m->from, s->last.index);
        return;
    }
    r->installing = true;
    r->install = *s;
    raft_out(r)->has_install = true;
    r->dirty = true;
}

void raft_snapshot_installed(struct raft *r, const struct raft_snapshot *label)
{
    nb_assert(r->installing);
    nb_assert(label->last.index == r->install.last.index);
    nb_assert(label->last.term == r->install.last.term && label->last.term <= r->term);
    nb_assert(label->last.index > r->commit_index || RAFT_FAULT(OLD_SNAPSHOT_TAKEN));
    uint64_t index = label->last.index;
    r->installing = false;
    raft_log_reset(&r->log, label->last);
    raft_members_reset(r, index, &label->conf);
    r->commit_index = r->applied_index = r->durable_index = r->handed_index = index;
    for (size_t i = 0; i < r->sync_count; i++) {
        struct raft_sync *s = &r->syncs[r->sync_head + i];
        s->last_index = raft_min_u64(s->last_index, index);
    }
    /* Committed, so it matches whoever leads now. */
    r->received_index = raft_max_u64(r->received_index, index);
    if (RAFT_FAULT(TERM_LOWERED)) {
        r->term = label->last.term;
    }
    if (r->role == RAFT_FOLLOWER && r->leader_id != 0) {
        answer_taken(r, r->leader_id, index);
    }
    r->dirty = true;
}
