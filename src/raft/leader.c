/* The leader: appends to followers, their answers, commit [Raft 5.3, 5.4.2; thesis 10.2]. */
#include "raft/internal.h"

/* -- flow control -- */

static void inflight_clear(struct raft_peer *p)
{
    p->inflight_head = p->inflight_count = 0;
}

static void inflight_push(const struct raft *r, struct raft_peer *p, uint64_t last_index)
{
    size_t max = r->config.inflight_count_max;
    if (p->inflight == NULL) {
        p->inflight = nb_alloc(max * sizeof *p->inflight);
    }
    nb_assert(p->inflight_count < max);
    p->inflight[(p->inflight_head + p->inflight_count) % max] = last_index;
    p->inflight_count++;
}

static void inflight_free(const struct raft *r, struct raft_peer *p, uint64_t match)
{
    while (p->inflight_count != 0 && p->inflight[p->inflight_head] <= match) {
        p->inflight_head = (p->inflight_head + 1) % r->config.inflight_count_max;
        p->inflight_count--;
    }
}

static bool window_full(const struct raft *r, const struct raft_peer *p)
{
    if (p->inflight_count >= r->config.inflight_count_max) {
        return true;
    }
    uint64_t first = raft_max_u64(p->match, r->log.compacted.index) + 1;
    return p->inflight_count != 0 &&
           raft_log_bytes(&r->log, first, p->next) >= r->config.inflight_bytes_max;
}

void raft_leader_probe(struct raft *r, struct raft_peer *p)
{
    (void)r;
    p->state = RAFT_PROGRESS_PROBE;
    p->next = p->match + 1;
    p->probe_sent = false;
    p->snapshot_expires = 0;
    inflight_clear(p);
}

static void replicate(struct raft *r, struct raft_peer *p)
{
    p->state = RAFT_PROGRESS_REPLICATE;
    p->next = p->match + 1;
    p->progress_tick = r->now;
    p->snapshot_expires = 0;
    inflight_clear(p);
}

bool raft_leader_active(const struct raft *r, const struct raft_peer *p)
{
    return p->id == r->config.id || r->now - p->active_tick < r->config.election_timeout_ticks;
}

/* -- its own log -- */

void raft_leader_append(struct raft *r, enum raft_entry_kind kind, struct nb_payload *payload)
{
    nb_assert(r->role == RAFT_LEADER);
    struct raft_entry e = {
        .id = {.index = raft_log_last_index(&r->log) + 1, .term = r->term},
        .kind = kind,
        .payload = payload,
    };
    raft_log_append(&r->log, &e);
    if (kind == RAFT_ENTRY_CONF) {
        raft_members_appended(r, &e);
    }
    if (RAFT_FAULT(SELF_ACK_EARLY)) {
        struct raft_peer *self = raft_members_peer(r, r->config.id);
        if (self != NULL) {
            self->match = e.id.index;
        }
    }
    r->dirty = true;
}

void raft_leader_begin(struct raft *r)
{
    uint64_t last = raft_log_last_index(&r->log);
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peers[i];
        p->match = 0;
        p->wants_snapshot = false;
        raft_leader_probe(r, p);
        p->next = last + 1; /* optimistic: the probe brings the truth */
        p->commit_sent = p->round_sent = p->round_acked = 0;
        p->active_tick = p->progress_tick = r->now;
        if (p->id == r->config.id) {
            p->match = r->durable_index;
        }
        if (p->removed_index != 0) {
            p->removed_expires = 1; /* of an earlier leadership */
        }
    }
    r->heartbeat_elapsed = r->election_elapsed = 0;
    r->term_committed = false;
    raft_leader_append(r, RAFT_ENTRY_NOOP, NULL); /* what is before it commits with it [R01, Q02] */
}

/* Room for `extra` more bytes ahead of commit? One proposal always goes. */
static bool backlog_has_room(const struct raft *r, uint64_t extra)
{
    uint64_t waiting =
        raft_log_bytes(&r->log, r->commit_index + 1, raft_log_last_index(&r->log) + 1);
    return waiting == 0 || waiting + extra <= r->config.uncommitted_bytes_max;
}

static uint64_t cost(const struct nb_payload *p)
{
    return RAFT_ENTRY_OVERHEAD_BYTES + (p == NULL ? 0 : p->len);
}

static uint64_t cost_of_all(struct nb_payload *const *payloads, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += cost(payloads[i]);
    }
    return sum;
}

static enum raft_outcome forward(struct raft *r, struct nb_payload *const *payloads, size_t count)
{
    if (r->leader_id == 0) {
        return RAFT_NO_LEADER;
    }
    struct raft_out *out = raft_out(r);
    if (!r->config.forward_proposals ||
        (out->forward_count != 0 &&
         out->forward_bytes + cost_of_all(payloads, count) > r->config.uncommitted_bytes_max)) {
        return RAFT_DROPPED;
    }
    out->forward_bytes += cost_of_all(payloads, count);
    out->forward = nb_grow(out->forward, &out->forward_capacity, out->forward_count + count,
                           sizeof *out->forward);
    for (size_t i = 0; i < count; i++) {
        out->forward[out->forward_count++] = (struct raft_entry){
            .kind = RAFT_ENTRY_COMMAND, .payload = nb_payload_acquire(payloads[i])};
    }
    r->dirty = true;
    return RAFT_FORWARDED;
}

enum raft_outcome raft_propose(struct raft *r, struct nb_payload *const *payloads, size_t count,
                               struct raft_entry_id *out_first)
{
    if (r->role != RAFT_LEADER) {
        return forward(r, payloads, count);
    }
    if (r->transfer_target != 0 || r->leaving ||
        !backlog_has_room(r, cost_of_all(payloads, count))) {
        return RAFT_DROPPED;
    }
    if (out_first != NULL) {
        *out_first =
            (struct raft_entry_id){.index = raft_log_last_index(&r->log) + 1, .term = r->term};
    }
    raft_log_reserve(&r->log, count);
    for (size_t i = 0; i < count; i++) {
        raft_leader_append(r, RAFT_ENTRY_COMMAND, payloads[i]);
    }
    return RAFT_ACCEPTED;
}

void raft_leader_on_propose(struct raft *r, const struct raft_msg *m)
{
    uint64_t extra = 0;
    for (size_t i = 0; i < m->propose.entry_count; i++) {
        extra += cost(m->propose.entries[i].payload);
    }
    if (r->transfer_target != 0 || r->leaving || r->full || !backlog_has_room(r, extra)) {
        return; /* its proposer runs into its deadline: "unknown" [R23] */
    }
    for (size_t i = 0; i < m->propose.entry_count; i++) {
        raft_leader_append(r, RAFT_ENTRY_COMMAND, m->propose.entries[i].payload);
    }
}

/* -- commit -- */

/* The highest index that a majority of `set` holds on disk. */
static uint64_t majority_match(const struct raft *r, uint64_t set)
{
    uint64_t sorted[RAFT_PEER_COUNT_MAX + 1]; /* falling */
    size_t count = 0, majority_at = 0;
    for (size_t slot = 0; slot <= r->peer_count; slot++) {
        uint64_t match;
        if (slot == r->peer_count) {
            if (!RAFT_FAULT(REMOVED_LEADER_COUNTS) ||
                raft_conf_has_voter(raft_conf(r), r->config.id)) {
                break;
            }
            match = r->durable_index;
        } else if ((set >> slot & 1) != 0) {
            match = r->peers[slot].match;
        } else {
            continue;
        }
        size_t at = count++;
        while (at > 0 && sorted[at - 1] < match) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = match;
    }
    nb_assert(count != 0);
    majority_at = (size_t)__builtin_popcountll(set) / 2;
    if (RAFT_FAULT(HALF_IS_MAJORITY)) {
        majority_at = (count - 1) / 2;
    }
    return sorted[majority_at];
}

void raft_leader_maybe_commit(struct raft *r)
{
    nb_assert(r->role == RAFT_LEADER);
    if (r->voters == 0) {
        return;
    }
    uint64_t index = majority_match(r, r->voters);
    if (r->outgoing != 0) {
        index = raft_min_u64(index, majority_match(r, r->outgoing));
    }
    if (index <= r->commit_index) {
        return;
    }
    uint64_t term;
    enum raft_term_at known = raft_log_term(&r->log, index, &term);
    nb_assert(known == RAFT_TERM_KNOWN);
    /* An entry of an older term on a majority may still be replaced [Raft 5.4.2, fig. 8]. */
    if (term != r->term && !RAFT_FAULT(COMMIT_OLD_TERM)) {
        return;
    }
    r->commit_index = index;
    r->term_committed = true;
    r->dirty = true;
    raft_members_committed(r);
}

/* -- leadership transfer -- */

void raft_leader_maybe_transfer(struct raft *r)
{
    if (r->transfer_target == 0 || r->transfer_sent) {
        return;
    }
    const struct raft_peer *p = raft_members_peer(r, r->transfer_target);
    if (p != NULL && p->match == raft_log_last_index(&r->log)) {
        raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .to = p->id});
        r->transfer_sent = true;
    }
}

enum raft_transfer_outcome raft_transfer(struct raft *r, uint64_t target)
{
    if (r->role != RAFT_LEADER) {
        return RAFT_TRANSFER_NOT_LEADER;
    }
    if (target == r->config.id || !raft_conf_has_voter(raft_conf(r), target)) {
        return RAFT_TRANSFER_BAD_TARGET;
    }
    if (r->transfer_target != target) {
        r->transfer_target = target;
        r->transfer_elapsed = 0;
        r->transfer_sent = false;
    }
    raft_leader_maybe_transfer(r);
    r->dirty = true;
    return RAFT_TRANSFER_STARTED;
}

/* -- answers -- */

static void matched(struct raft *r, struct raft_peer *p, uint64_t index)
{
    if (index > raft_log_last_index(&r->log) && !RAFT_FAULT(MATCH_UNBOUNDED)) {
        return; /* nobody can hold more of our log than we do */
    }
    bool grew = index > p->match;
    if (grew || RAFT_FAULT(MATCH_LOWERED)) {
        p->match = index;
        p->progress_tick = r->now;
    }
    if (p->state == RAFT_PROGRESS_PROBE ||
        (p->state == RAFT_PROGRESS_SNAPSHOT && p->match >= r->log.compacted.index)) {
        replicate(r, p);
    }
    p->next = raft_max_u64(p->next, p->match + 1);
    inflight_free(r, p, p->match);
    if (p->match + 1 == p->next) {
        p->progress_tick = r->now;
    }
    if (grew) {
        raft_leader_maybe_commit(r);
        raft_leader_maybe_transfer(r);
    }
}

static void refused(struct raft *r, struct raft_peer *p, const struct raft_append_result *a)
{
    bool late = p->state == RAFT_PROGRESS_PROBE ? a->refused_index != p->next - 1
                                                : a->refused_index <= p->match;
    late = a->wants_snapshot ? p->match != 0 : late || a->refused_index <= p->match;
    if (late || p->state == RAFT_PROGRESS_SNAPSHOT) {
        return; /* [R08] */
    }
    if (a->wants_snapshot && !RAFT_FAULT(SNAPSHOT_WISH_IGNORED)) {
        raft_leader_probe(r, p);
        p->wants_snapshot = true; /* the next drain sends it */
        return;
    }
    /* Skip our entries of terms above the hint's: they cannot be what the follower has there. */
    uint64_t bound = raft_min_u64(a->hint.index, a->refused_index - 1);
    uint64_t meet = bound < r->log.compacted.index
                        ? bound /* it needs what we have forgotten: a snapshot */
                        : raft_log_meet(&r->log, bound, a->hint.term);
    raft_leader_probe(r, p);
    p->next = raft_max_u64(p->match, meet) + 1;
}

void raft_leader_on_append_result(struct raft *r, const struct raft_msg *m)
{
    struct raft_peer *p = raft_members_peer(r, m->from);
    if (p == NULL) {
        return;
    }
    p->active_tick = r->now;
    r->dirty = true;
    if (m->append_result.accepted) {
        matched(r, p, m->append_result.matched_index);
    } else {
        refused(r, p, &m->append_result);
    }
}

static void send_append(struct raft *r, struct raft_peer *p, size_t count);

void raft_leader_on_heartbeat_result(struct raft *r, const struct raft_msg *m)
{
    struct raft_peer *p = raft_members_peer(r, m->from);
    if (p == NULL) {
        return;
    }
    p->active_tick = r->now;
    r->dirty = true;
    if (m->heartbeat_result.read_round > p->round_acked &&
        m->heartbeat_result.read_round <= r->read_round) {
        p->round_acked = m->heartbeat_result.read_round;
        raft_read_confirm(r);
    }
    if (!RAFT_FAULT(PROBE_ONCE)) {
        p->probe_sent = false;
    }
    /* A pipeline that stands still for two heartbeats: either appends were lost, or only answers. A
     * slow disk is neither: then the appends have been received, and nothing is sent again. */
    if (p->state == RAFT_PROGRESS_REPLICATE && p->match + 1 < p->next &&
        r->now - p->progress_tick > 2 * (uint64_t)r->config.heartbeat_ticks &&
        !RAFT_FAULT(PROBE_ONCE)) {
        if (m->heartbeat_result.received_index + 1 < p->next) {
            raft_leader_probe(r, p);
        } else if (p->next > r->log.compacted.index) { /* else the next drain sends a snapshot */
            send_append(r, p, 0);
            p->progress_tick = r->now;
        }
    }
}

/* -- sending -- */

/* Appends `count` entries from p->next on; 0 asks where the follower is and tells commit. */
static void send_append(struct raft *r, struct raft_peer *p, size_t count)
{
    struct raft_entry_id prev = {.index = p->next - 1};
    enum raft_term_at known = raft_log_term(&r->log, prev.index, &prev.term);
    nb_assert(known == RAFT_TERM_KNOWN);
    uint64_t round = raft_read_asked(r);
    round = p->round_sent < round ? round : 0;
    p->round_sent = raft_max_u64(p->round_sent, round);
    raft_send_now(r, (struct raft_msg){
                         .type = RAFT_MSG_APPEND,
                         .to = p->id,
                         .append = {.prev = prev,
                                    .leader_commit = r->commit_index,
                                    .read_round = round,
                                    .entries = count == 0 ? NULL : raft_log_at(&r->log, p->next),
                                    .entry_count = count}});
    p->commit_sent = r->commit_index;
}

static void send_snapshot(struct raft *r, struct raft_peer *p)
{
    if (!raft_leader_active(r, p)) {
        return; /* it would go nowhere; an answer to a heartbeat brings us back here */
    }
    p->state = RAFT_PROGRESS_SNAPSHOT;
    p->wants_snapshot = false; /* if this one fails, the next append is answered so again */
    p->snapshot_expires = 0;
    inflight_clear(p);
    struct raft_out *out = raft_out(r);
    out->snapshot_peers = nb_grow(out->snapshot_peers, &out->snapshot_peer_capacity,
                                  out->snapshot_peer_count + 1, sizeof *out->snapshot_peers);
    out->snapshot_peers[out->snapshot_peer_count++] = p->id;
}

static size_t fitting(const struct raft *r, const struct raft_peer *p)
{
    return raft_log_fitting(&r->log, p->next, r->config.append_bytes_max,
                            r->config.append_entry_count_max);
}

/* A removed member has been told of it for long enough; its slot goes with the next change. */
static bool told_enough(const struct raft *r, const struct raft_peer *p)
{
    return p->removed_expires != 0 && r->now >= p->removed_expires;
}

static void flush_peer(struct raft *r, struct raft_peer *p)
{
    if (told_enough(r, p) || p->state == RAFT_PROGRESS_SNAPSHOT ||
        (p->state == RAFT_PROGRESS_PROBE && p->probe_sent)) {
        return;
    }
    if (p->wants_snapshot || p->next - 1 < r->log.compacted.index) {
        send_snapshot(r, p);
        return;
    }
    if (p->state == RAFT_PROGRESS_PROBE) {
        send_append(r, p, fitting(r, p));
        p->probe_sent = true;
        return;
    }
    bool sent = false;
    while (p->next <= raft_log_last_index(&r->log) && !window_full(r, p)) {
        size_t count = fitting(r, p);
        if (p->match + 1 == p->next) {
            p->progress_tick = r->now;
        }
        send_append(r, p, count);
        p->next += count; /* optimistic: the next append does not wait for this one's answer */
        inflight_push(r, p, p->next - 1);
        sent = true;
    }
    if (!sent && p->commit_sent < r->commit_index) {
        send_append(r, p, 0); /* followers that wait to apply should not wait for a heartbeat */
    }
}

static void send_heartbeat(struct raft *r, struct raft_peer *p)
{
    uint64_t round = raft_read_asked(r);
    p->round_sent = raft_max_u64(p->round_sent, round);
    uint64_t commit = RAFT_FAULT(HEARTBEAT_COMMIT_UNBOUNDED)
                          ? r->commit_index
                          : raft_min_u64(r->commit_index, p->match);
    raft_send_now(r,
                  (struct raft_msg){
                      .type = RAFT_MSG_HEARTBEAT,
                      .to = p->id,
                      .heartbeat = {.commit_index = commit, .read_round = round, .full = r->full}});
}

/* Tells the others that we are out of the configuration, proposes a successor, steps down [M12]. */
static void leave(struct raft *r)
{
    const struct raft_peer *best = NULL;
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        if ((r->voters & raft_slot_bit(r, p)) != 0 && (best == NULL || p->match > best->match)) {
            best = p;
        }
    }
    nb_assert(best != NULL);
    raft_send_now(r, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .to = best->id});
    raft_become_follower(r, r->term, 0);
}

void raft_leader_flush(struct raft *r)
{
    raft_read_flush(r);
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id != r->config.id) {
            flush_peer(r, &r->peers[i]);
        }
    }
    uint64_t round = raft_read_asked(r);
    for (size_t i = 0; i < r->peer_count && round != 0; i++) {
        struct raft_peer *p = &r->peers[i];
        bool voter = ((r->voters | r->outgoing) & raft_slot_bit(r, p)) != 0;
        if (voter && p->id != r->config.id && p->round_sent < round) {
            send_heartbeat(r, p);
        }
    }
    if (r->leaving) {
        leave(r);
    }
}

/* -- time -- */

static bool hears_quorum(const struct raft *r)
{
    uint64_t active = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        if (raft_leader_active(r, &r->peers[i])) {
            active |= raft_slot_bit(r, &r->peers[i]);
        }
    }
    return raft_members_quorum(r, active);
}

static void tick_peer(struct raft *r, struct raft_peer *p, bool heartbeat)
{
    if (told_enough(r, p)) {
        return;
    }
    if (p->state == RAFT_PROGRESS_SNAPSHOT && p->snapshot_expires != 0 &&
        r->now >= p->snapshot_expires && !RAFT_FAULT(SNAPSHOT_AWAITED_FOREVER)) {
        raft_leader_probe(r, p); /* which asks for a snapshot again if it still needs one [S07] */
        r->dirty = true;
    }
    if (heartbeat) {
        send_heartbeat(r, p);
    }
}

void raft_leader_tick(struct raft *r)
{
    if (raft_election_disk_hangs(r) ||
        (r->config.check_quorum && !hears_quorum(r) && !RAFT_FAULT(QUORUM_UNCHECKED))) {
        raft_become_follower(r, r->term, 0); /* [E04, E12] */
        return;
    }
    if (r->transfer_target != 0 && ++r->transfer_elapsed >= r->config.election_timeout_ticks &&
        !RAFT_FAULT(TRANSFER_FOREVER)) {
        r->transfer_target = 0; /* proposals go on [E08] */
        r->transfer_sent = false;
    }
    bool heartbeat = ++r->heartbeat_elapsed >= r->config.heartbeat_ticks;
    if (heartbeat) {
        r->heartbeat_elapsed = 0;
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id != r->config.id) {
            tick_peer(r, &r->peers[i], heartbeat);
        }
    }
}

/* -- what the transport reports -- */

void raft_peer_unreachable(struct raft *r, uint64_t id)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft_members_peer(r, id) : NULL;
    if (p != NULL && p->state == RAFT_PROGRESS_REPLICATE) {
        raft_leader_probe(r, p);
        p->probe_sent = true; /* wait for a sign of life: a heartbeat's answer */
    }
}

void raft_snapshot_sent(struct raft *r, uint64_t id, bool ok)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft_members_peer(r, id) : NULL;
    if (p == NULL || p->state != RAFT_PROGRESS_SNAPSHOT) {
        return;
    }
    if (ok) {
        p->snapshot_expires = r->now + 2 * (uint64_t)r->config.election_timeout_ticks;
    } else {
        raft_leader_probe(r, p);
        p->probe_sent = true; /* not again before it is heard from */
    }
}
