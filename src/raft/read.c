/*
 * Read index [thesis 6.4]: a leader notes its commit index, asks a majority whether it still leads,
 * and answers with the noted index. All reads of one drain share one round. Round numbers rise for
 * as long as the process lives and answers of other terms do not get here, so an old answer never
 * confirms a later read [Q03]. A follower's batches start at a random number, for the same reason.
 */
#include "raft/internal.h"

#include <string.h>

static void push(struct raft *r, const struct raft_pending_read *read)
{
    if (r->read_head != 0 && r->read_head >= r->read_count) {
        memmove(r->reads, r->reads + r->read_head, r->read_count * sizeof *r->reads);
        r->read_head = 0;
    }
    r->reads =
        nb_grow(r->reads, &r->read_capacity, r->read_head + r->read_count + 1, sizeof *r->reads);
    r->reads[r->read_head + r->read_count++] = *read;
    r->dirty = true;
}

static void ready(struct raft *r, uint64_t context, uint64_t index)
{
    struct raft_out *out = raft_out(r);
    out->ready =
        nb_grow(out->ready, &out->ready_capacity, out->ready_count + 1, sizeof *out->ready);
    out->ready[out->ready_count++] = (struct raft_read_ready){.context = context, .index = index};
    r->dirty = true;
}

static void failed(struct raft *r, uint64_t context)
{
    struct raft_out *out = raft_out(r);
    out->failed =
        nb_grow(out->failed, &out->failed_capacity, out->failed_count + 1, sizeof *out->failed);
    out->failed[out->failed_count++] = context;
    r->dirty = true;
}

void raft_read_fail_all(struct raft *r)
{
    for (size_t i = 0; i < r->read_count; i++) {
        const struct raft_pending_read *read = &r->reads[r->read_head + i];
        if (read->from == 0) { /* followers notice the change of leader themselves */
            failed(r, read->context);
        }
    }
    r->read_head = r->read_count = 0;
}

enum raft_outcome raft_read(struct raft *r, uint64_t context)
{
    if (r->leader_id == 0) {
        return RAFT_NO_LEADER;
    }
    if (r->read_count >= r->config.read_count_max) {
        return RAFT_DROPPED;
    }
    push(r, &(struct raft_pending_read){.context = context});
    return r->role == RAFT_LEADER ? RAFT_ACCEPTED : RAFT_FORWARDED;
}

/* -- leader -- */

/* The planted bug: a majority of who voted before the last change. */
static bool old_majority(const struct raft *r, uint64_t acked)
{
    const struct raft_conf *c = &r->confs[r->conf_count - 2].conf;
    uint32_t count = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        count +=
            (acked & raft_slot_bit(r, &r->peers[i])) != 0 && raft_conf_has_voter(c, r->peers[i].id);
    }
    return count > c->voter_count / 2;
}

static bool round_confirmed(const struct raft *r, uint64_t round)
{
    uint64_t acked = 0;
    for (size_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (p->id == r->config.id || p->round_acked >= round ||
            (RAFT_FAULT(READ_ANY_ROUND) && p->round_acked != 0) ||
            (RAFT_FAULT(READ_BY_LEASE) &&
             r->now - p->active_tick < r->config.election_timeout_ticks)) { /* [Q08] */
            acked |= raft_slot_bit(r, p);
        }
    }
    if (RAFT_FAULT(READ_OLD_CONF) && r->conf_count > 1) {
        return old_majority(r, acked);
    }
    return raft_members_quorum(r, acked) || RAFT_FAULT(READ_UNCONFIRMED); /* newest conf [Q07] */
}

static void answer(struct raft *r, const struct raft_pending_read *read)
{
    if (read->from == 0) {
        ready(r, read->context, read->index);
        return;
    }
    raft_send_now(
        r, (struct raft_msg){.type = RAFT_MSG_READ_RESULT,
                             .to = read->from,
                             .read_result = {.context = read->context, .index = read->index}});
}

void raft_read_confirm(struct raft *r)
{
    uint64_t confirmed = 0; /* the last round looked at and found confirmed */
    while (r->read_count != 0) {
        const struct raft_pending_read *read = &r->reads[r->read_head];
        if (read->round == 0 || (read->round != confirmed && !round_confirmed(r, read->round))) {
            return;
        }
        confirmed = read->round;
        answer(r, read);
        r->read_head++;
        r->read_count--;
    }
    r->read_head = 0;
}

void raft_read_on_request(struct raft *r, const struct raft_msg *m)
{
    if (r->read_count < r->config.read_count_max) { /* else the follower asks again */
        push(r, &(struct raft_pending_read){.context = m->read.context, .from = m->from});
    }
}

/* The reads that have no round yet, at the tail. */
static size_t first_unasked(const struct raft *r)
{
    size_t first = r->read_count;
    while (first > 0 && r->reads[r->read_head + first - 1].round == 0) {
        first--;
    }
    return first;
}

uint64_t raft_read_asked(const struct raft *r)
{
    bool asked =
        r->read_count != 0 && r->reads[r->read_head].round != 0; /* first in, first asked */
    return asked ? r->read_round : 0;
}

static void leader_flush(struct raft *r)
{
    size_t first = first_unasked(r);
    if (first == r->read_count || (!r->term_committed && !RAFT_FAULT(READ_BEFORE_NOOP))) {
        return; /* a new leader does not know what is committed before its no-op is [Q02] */
    }
    r->read_round++;
    for (size_t i = first; i < r->read_count; i++) {
        struct raft_pending_read *read = &r->reads[r->read_head + i];
        read->round = r->read_round;
        read->index = r->commit_index;
    }
    raft_read_confirm(r); /* the only voter needs no answer */
}

/* -- follower -- */

static void ask(struct raft *r, uint64_t batch)
{
    raft_send_now(r, (struct raft_msg){
                         .type = RAFT_MSG_READ, .to = r->leader_id, .read = {.context = batch}});
}

static void follower_flush(struct raft *r)
{
    size_t first = first_unasked(r);
    if (first == r->read_count) {
        return;
    }
    nb_assert(r->leader_id != 0); /* without a leader they have failed */
    r->read_round++;
    for (size_t i = first; i < r->read_count; i++) {
        r->reads[r->read_head + i].round = r->read_round;
    }
    ask(r, r->read_round);
}

void raft_read_tick(struct raft *r)
{
    if (r->read_count == 0 || r->leader_id == 0 || r->now % r->config.heartbeat_ticks != 0) {
        return;
    }
    uint64_t asked = 0;
    for (size_t i = 0; i < r->read_count; i++) {
        uint64_t batch = r->reads[r->read_head + i].round;
        if (batch != 0 && batch != asked) {
            ask(r, batch); /* the question or its answer may be lost [Q09] */
            asked = batch;
        }
    }
}

void raft_read_on_result(struct raft *r, const struct raft_msg *m)
{
    if (m->from != r->leader_id) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < r->read_count; i++) {
        const struct raft_pending_read *read = &r->reads[r->read_head + i];
        if (read->round == m->read_result.context) {
            ready(r, read->context, m->read_result.index);
        } else {
            r->reads[r->read_head + kept++] = *read;
        }
    }
    r->read_count = kept;
}

void raft_read_flush(struct raft *r)
{
    if (r->role == RAFT_LEADER) {
        leader_flush(r);
    } else {
        follower_flush(r);
    }
}
