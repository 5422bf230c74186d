/*
 * The configuration in force is a function of the log: that of its last conf entry, or of the
 * snapshot. It takes effect when appended and goes when cut [thesis 4.1; M03].
 */
#include "raft/internal.h"

#include <string.h>

static_assert(RAFT_PEER_COUNT_MAX <= 64, "masks of slots are 64 bits");

const struct raft_conf_record *raft_members_in_force(const struct raft *r)
{
    return &r->confs[r->conf_count - 1];
}

const struct raft_conf *raft_conf(const struct raft *r)
{
    return &raft_members_in_force(r)->conf;
}

bool raft_conf_at(const struct raft *r, uint64_t index, struct raft_conf *out)
{
    uint64_t term;
    if (raft_log_term(&r->log, index, &term) != RAFT_TERM_KNOWN) {
        return false;
    }
    size_t i = r->conf_count - 1;
    while (i > 0 && r->confs[i].index > index) {
        i--;
    }
    *out = r->confs[i].conf;
    return true;
}

struct raft_peer *raft_members_peer(struct raft *r, uint64_t id)
{
    for (size_t i = 0; i < r->peer_count; i++) {
        if (r->peers[i].id == id) {
            return &r->peers[i];
        }
    }
    return NULL;
}

static uint64_t mask_of(struct raft *r, const uint64_t *ids, uint32_t count)
{
    uint64_t mask = 0;
    for (uint32_t i = 0; i < count; i++) {
        mask |= raft_slot_bit(r, raft_members_peer(r, ids[i]));
    }
    return mask;
}

static void peer_add(struct raft *r, const struct raft_peer *p)
{
    nb_assert(r->peer_count < RAFT_PEER_COUNT_MAX);
    r->peers = nb_grow(r->peers, &r->peer_capacity, r->peer_count + 1, sizeof *r->peers);
    size_t at = r->peer_count++;
    while (at > 0 && r->peers[at - 1].id > p->id) {
        r->peers[at] = r->peers[at - 1];
        at--;
    }
    r->peers[at] = *p;
}

static void add_new_peers(struct raft *r, const uint64_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (raft_members_peer(r, ids[i]) == NULL) {
            peer_add(r, &(struct raft_peer){.id = ids[i],
                                            .next = raft_log_last_index(&r->log) + 1,
                                            .active_tick = r->now,
                                            .progress_tick = r->now});
        }
    }
}

/* Peers and masks after the configuration in force has changed. A leader keeps those who left for a
 * while, so that they learn of it [E05]. */
static void rebuild(struct raft *r)
{
    const struct raft_conf_record *in_force = raft_members_in_force(r);
    const struct raft_conf *c = &in_force->conf;
    size_t kept = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer p = r->peers[i];
        bool member = raft_conf_has_member(c, p.id);
        bool tell = r->role == RAFT_LEADER && p.id != r->config.id && kept < RAFT_MEMBER_COUNT_MAX;
        if (member) {
            p.removed_index = p.removed_expires = 0;
        } else if (!tell) {
            nb_free(p.inflight);
            continue;
        } else if (p.removed_index == 0) {
            p.removed_index = in_force->index;
            p.removed_expires = 0;
        }
        r->peers[kept++] = p;
    }
    r->peer_count = kept;
    add_new_peers(r, c->voters, c->voter_count);
    add_new_peers(r, c->outgoing, c->outgoing_count);
    add_new_peers(r, c->learners, c->learner_count);
    add_new_peers(r, c->learners_next, c->learner_next_count);
    r->voters = mask_of(r, c->voters, c->voter_count);
    r->outgoing = mask_of(r, c->outgoing, c->outgoing_count);
    r->learners = mask_of(r, c->learners, c->learner_count);
    if (RAFT_FAULT(LEARNER_COUNTS)) {
        r->voters |= r->learners;
    }
    if (RAFT_FAULT(JOINT_NEW_ONLY)) {
        r->outgoing = 0;
    }
    r->granted = r->rejected =
        0; /* slots have moved; a candidate appends nothing, so it has none */
}

static void push(struct raft *r, uint64_t index, const struct raft_conf *conf)
{
    r->confs = nb_grow(r->confs, &r->conf_capacity, r->conf_count + 1, sizeof *r->confs);
    r->confs[r->conf_count++] = (struct raft_conf_record){.index = index, .conf = *conf};
    rebuild(r);
}

void raft_members_appended(struct raft *r, const struct raft_entry *e)
{
    struct raft_conf conf;
    struct nb_bytes attached;
    enum nb_status status = raft_conf_decode(nb_payload_bytes(e->payload), &conf, &attached);
    nb_assert(status == NB_OK); /* whoever made the entry has decoded it: msg.c, raft_create, us */
    push(r, e->id.index, &conf);
}

void raft_members_cut(struct raft *r, uint64_t first)
{
    if (raft_members_in_force(r)->index < first) {
        return;
    }
    if (RAFT_FAULT(CONF_NOT_ROLLED_BACK)) {
        r->confs[r->conf_count - 1].index = first - 1;
        return;
    }
    while (raft_members_in_force(r)->index >= first) {
        nb_assert(r->conf_count > 1);
        r->conf_count--;
    }
    rebuild(r);
}

void raft_members_compact(struct raft *r, uint64_t index)
{
    size_t drop = 0;
    while (drop + 1 < r->conf_count && r->confs[drop + 1].index <= index) {
        drop++;
    }
    if (drop != 0) {
        r->conf_count -= drop;
        memmove(r->confs, r->confs + drop, r->conf_count * sizeof *r->confs);
    }
}

void raft_members_reset(struct raft *r, uint64_t index, const struct raft_conf *conf)
{
    r->conf_count = 0;
    push(r, index, conf);
}

static bool majority(uint64_t set, uint64_t mask)
{
    int need = __builtin_popcountll(set) / 2 + 1;
    if (RAFT_FAULT(HALF_IS_MAJORITY)) {
        need = (__builtin_popcountll(set) + 1) / 2;
    }
    return __builtin_popcountll(set & mask) >= need;
}

bool raft_members_quorum(const struct raft *r, uint64_t mask)
{
    return r->voters != 0 && majority(r->voters, mask) &&
           (r->outgoing == 0 || majority(r->outgoing, mask));
}

bool raft_members_blocked(const struct raft *r, uint64_t rejected)
{
    return !raft_members_quorum(r, (r->voters | r->outgoing) & ~rejected);
}

static uint64_t append_conf(struct raft *r, const struct raft_conf *conf, struct nb_bytes attached)
{
    struct nb_buf bytes = {0};
    raft_conf_encode(conf, &bytes);
    nb_buf_append_bytes(&bytes, attached);
    struct nb_payload *payload = nb_payload_copy(nb_buf_bytes(&bytes));
    nb_buf_deinit(&bytes);
    raft_leader_append(r, RAFT_ENTRY_CONF, payload);
    nb_payload_release(payload);
    return raft_log_last_index(&r->log);
}

enum raft_conf_outcome raft_propose_conf(struct raft *r, const struct raft_conf_change *change,
                                         struct nb_bytes attached, struct raft_entry_id *out_id)
{
    if (r->role != RAFT_LEADER || r->leaving) {
        return RAFT_CONF_NOT_LEADER;
    }
    if (r->transfer_target != 0) {
        return RAFT_CONF_TRANSFERRING;
    }
    if (!r->term_committed && !RAFT_FAULT(CONF_BEFORE_NOOP)) {
        return RAFT_CONF_TERM_UNCOMMITTED;
    }
    if (raft_members_in_force(r)->index > r->commit_index && !RAFT_FAULT(CONF_TWO_IN_FLIGHT)) {
        return RAFT_CONF_IN_FLIGHT;
    }
    struct raft_conf next;
    enum raft_conf_outcome outcome = raft_conf_apply(raft_conf(r), change, &next);
    if (outcome != RAFT_CONF_ACCEPTED) {
        return outcome;
    }
    uint64_t index = append_conf(r, &next, attached);
    r->dirty = true;
    if (out_id != NULL) {
        *out_id = (struct raft_entry_id){.index = index, .term = r->term};
    }
    return RAFT_CONF_ACCEPTED;
}

void raft_members_committed(struct raft *r)
{
    const struct raft_conf_record *in_force = raft_members_in_force(r);
    if (r->role != RAFT_LEADER || in_force->index > r->commit_index || !r->term_committed) {
        return;
    }
    for (size_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (p->removed_index != 0 && p->removed_expires == 0) {
            p->removed_expires = r->now + 4 * (uint64_t)r->config.election_timeout_ticks;
        }
    }
    if (in_force->conf.outgoing_count != 0) {
        if (in_force->conf.auto_leave) {
            struct raft_conf next;
            enum raft_conf_outcome outcome = raft_conf_apply(
                &in_force->conf, &(struct raft_conf_change){.mode = RAFT_CONF_LEAVE}, &next);
            nb_assert(outcome == RAFT_CONF_ACCEPTED);
            (void)append_conf(r, &next, (struct nb_bytes){0});
        }
    } else if (!raft_conf_has_voter(&in_force->conf, r->config.id)) {
        r->leaving = true; /* the next drain tells the others first [M12] */
    }
}
