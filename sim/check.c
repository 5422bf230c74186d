#include "sim/cluster.h"

#include <inttypes.h>

enum { HASH_EVERY_REVISIONS = 32 };

void sim_check_init(struct sim_check *c)
{
    *c = (struct sim_check){0};
    sim_model_init(&c->model);
}

void sim_check_deinit(struct sim_check *c)
{
    for (size_t i = 0; i < c->op_count; i++) {
        sim_op_destroy(c->ops[i]);
    }
    for (unsigned i = 0; i < SIM_MEMBER_COUNT_MAX; i++) {
        nb_free(c->members[i].votes);
    }
    nb_free(c->log);
    nb_free(c->leaders);
    nb_free(c->hashes);
    nb_free(c->ops);
    nb_free(c->by_id);
    nb_free(c->answered);
    sim_model_deinit(&c->model);
    *c = (struct sim_check){0};
}

/* ---- operations by their request id ---- */

static size_t id_place(const struct sim_check *c, uint64_t origin, uint64_t id)
{
    size_t at = (size_t)((id * UINT64_C(0x9e3779b97f4a7c15)) >> 20) & (c->by_id_capacity - 1);
    while (c->by_id[at] != NULL &&
           (c->by_id[at]->origin != origin || c->by_id[at]->request.id != id)) {
        at = (at + 1) & (c->by_id_capacity - 1);
    }
    return at;
}

static struct sim_op *op_of_id(const struct sim_check *c, uint64_t origin, uint64_t id)
{
    return c->by_id_capacity == 0 ? NULL : c->by_id[id_place(c, origin, id)];
}

static void ids_grow(struct sim_check *c)
{
    struct sim_op **old = c->by_id;
    size_t old_capacity = c->by_id_capacity;
    c->by_id_capacity = old_capacity == 0 ? 256 : old_capacity * 2;
    c->by_id = nb_alloc_zero(c->by_id_capacity, sizeof(struct sim_op *));
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i] != NULL) {
            c->by_id[id_place(c, old[i]->origin, old[i]->request.id)] = old[i];
        }
    }
    nb_free(old);
}

void sim_check_called(struct sim *s, struct sim_op *op)
{
    struct sim_check *c = &s->check;
    c->ops = nb_grow(c->ops, &c->op_capacity, c->op_count + 1, sizeof(struct sim_op *));
    c->ops[c->op_count++] = op;
    if (op->what.kind == SIM_OP_READ || op->refused) {
        return; /* one that was refused has no place in the log: found there, it is unknown */
    }
    if (2 * (c->by_id_count + 1) > c->by_id_capacity) {
        ids_grow(c);
    }
    c->by_id[id_place(c, op->origin, op->request.id)] = op;
    c->by_id_count++;
}

void sim_check_answered(struct sim *s, struct sim_op *op)
{
    struct sim_check *c = &s->check;
    if (op->status != NB_OK) {
        return; /* "unknown": anything may be true */
    }
    c->answered =
        nb_grow(c->answered, &c->answered_capacity, c->answered_count + 1, sizeof(struct sim_op *));
    c->answered[c->answered_count++] = op;
    if (op->answer_index > c->completed_index) {
        c->completed_index = op->answer_index;
    }
}

/* ---- answers against the model ---- */

/* It shows all that was shown before, also on a member that lags or has just started. [Q05, Q10] */
static void check_read(struct sim *s, const struct sim_op *op)
{
    const struct sim_model *model = &s->check.model;
    if (op->answer_index < op->floor) {
        sim_broken(s, "stale_read",
                   "a read at m%u saw the log up to %" PRIu64 ", but %" PRIu64
                   " was shown to a client before it began",
                   op->member, op->answer_index, op->floor);
        return;
    }
    if (op->answer.revision != sim_model_revision_at(model, op->answer_index)) {
        sim_broken(s, "read_revision", "a read at m%u tells revision %" PRId64, op->member,
                   op->answer.revision);
    }
    for (unsigned k = 0; k < SIM_KEY_COUNT; k++) {
        const struct sim_version *v = sim_model_at(model, k, op->answer_index);
        if (op->seen[k] != (v == NULL ? 0 : v->value) ||
            op->seen_mod[k] != (v == NULL ? 0 : v->mod)) {
            sim_broken(s, "read_value",
                       "k%u read at m%u, index %" PRIu64 ": %" PRIu64 " instead of %" PRIu64, k,
                       op->member, op->answer_index, op->seen[k], v == NULL ? 0 : v->value);
        }
    }
}

static void check_write(struct sim *s, const struct sim_op *op)
{
    const struct sim_answer *got = &op->answer, *want = &op->expected;
    if (op->log_index == 0 || op->log_index != op->answer_index) {
        sim_broken(s, "answer_place",
                   "a write at m%u was answered at index %" PRIu64
                   ", but the log has it at %" PRIu64,
                   op->member, op->answer_index, op->log_index);
    } else if (op->log_index <= op->floor) {
        sim_broken(s, "write_order",
                   "a write at m%u lies at index %" PRIu64 ", before it was asked for (%" PRIu64
                   ")",
                   op->member, op->log_index, op->floor);
    } else if (got->status != want->status || got->revision != want->revision ||
               got->deleted != want->deleted || got->succeeded != want->succeeded ||
               got->has_previous != want->has_previous ||
               got->previous_value != want->previous_value) {
        sim_broken(s, "answer",
                   "index %" PRIu64 " at m%u: %s at revision %" PRId64
                   ", but the model says %s at %" PRId64,
                   op->log_index, op->member, nb_status_name(got->status), got->revision,
                   nb_status_name(want->status), want->revision);
    }
}

/* ---- the log ---- */

static const struct sim_request *check_command(struct sim_member *m, uint64_t index,
                                               struct nb_bytes payload, struct sim_op **out)
{
    struct sim *s = m->sim;
    struct machine_header h;
    struct nb_bytes body;
    if (machine_header_get(payload, &h, &body) != NB_OK) {
        sim_broken(s, "entry", "index %" PRIu64 " has no header", index);
        return NULL;
    }
    struct sim_op *op = op_of_id(&s->check, h.origin, h.request_id);
    if (op == NULL && h.request_id == 0) {
        sim_broken(s, "applied_twice", "index %" PRIu64 " counts again: it has no id", index);
        return NULL;
    }
    if (op == NULL) {
        sim_broken(s, "entry", "index %" PRIu64 " is a request that nobody made", index);
        return NULL;
    }
    if (op->log_index != 0) {
        s->report.duplicate_count++;
        return NULL; /* offered twice: the machine must let the second one be [R22] */
    }
    if (!nb_bytes_equal(body, nb_buf_bytes(&op->payload))) {
        sim_broken(s, "payload", "index %" PRIu64 " is not what was asked", index);
    }
    op->log_index = index;
    *out = op;
    return &op->what;
}

static void learn(struct sim_member *m, const struct raft_entry *e, uint64_t hash)
{
    struct sim_check *c = &m->sim->check;
    struct sim_op *op = NULL;
    const struct sim_request *what = NULL;
    if (e->kind == RAFT_ENTRY_COMMAND) {
        what = check_command(m, e->id.index, nb_payload_bytes(e->payload), &op);
    }
    struct sim_answer answer;
    sim_model_apply(&c->model, what, &answer);
    if (op != NULL) {
        op->expected = answer;
    }
    c->log = nb_grow(c->log, &c->log_capacity, c->log_count + 1, sizeof *c->log);
    c->log[c->log_count++] = (struct sim_logged){.hash = hash};
    m->sim->report.entry_count++;
    m->sim->report.compaction_count +=
        what != NULL && what->kind == SIM_OP_COMPACT && answer.status == NB_OK;
}

/* What a member applied is what every other did at this place. [Raft 5.4.3] */
static void check_entry(struct sim_member *m, const struct raft_entry *e)
{
    struct sim_check *c = &m->sim->check;
    uint64_t hash = machine_entry_hash(e->id.index, e->id.term, (enum machine_entry_kind)e->kind,
                                       nb_payload_bytes(e->payload));
    if (e->id.index == c->log_count + 1) {
        learn(m, e, hash);
    } else if (e->id.index <= c->log_count && c->log[e->id.index - 1].hash != hash) {
        sim_broken(m->sim, "log", "m%u applied another entry at index %" PRIu64 ", term %" PRIu64,
                   m->place, e->id.index, e->id.term);
    }
}

static void check_running(struct sim_member *m, uint64_t index)
{
    struct sim_logged *l = &m->sim->check.log[index - 1];
    uint64_t hash;
    if (!machine_log_hash(m->machine, index, &hash)) {
        return;
    }
    if (!l->running_known) {
        l->running = hash;
        l->running_known = true;
    } else if (l->running != hash) {
        sim_broken(m->sim, "log_hash", "m%u: the hash of the log up to %" PRIu64 " differs",
                   m->place, index);
    }
}

/* Contiguous, and never back. [R19] */
static void check_log(struct sim_member *m)
{
    struct sim_check *c = &m->sim->check;
    struct sim_member_marks *marks = &c->members[m->place];
    uint64_t applied = sim_member_applied(m);
    if (applied < marks->checked_index) {
        sim_broken(m->sim, "applied", "m%u: applied index went back", m->place);
        return;
    }
    /* Between the steps of an install that failed, the machine is ahead of raft. */
    struct raft_status r;
    raft_status(replica_raft(m->replica), &r);
    for (uint64_t i = marks->checked_index + 1; i <= applied && i <= r.applied_index; i++) {
        size_t count;
        const struct raft_entry *e = raft_entries(replica_raft(m->replica), i, i + 1, &count);
        if (e != NULL) { /* else a snapshot has covered it */
            check_entry(m, e);
        }
    }
    if (applied > c->log_count) {
        sim_broken(m->sim, "log", "m%u holds index %" PRIu64 ", which nobody has applied", m->place,
                   applied);
        return;
    }
    for (uint64_t i = marks->checked_index + 1; i <= applied; i++) {
        check_running(m, i);
    }
    marks->checked_index = applied;
}

/* ---- state ---- */

static void check_hash(struct sim_member *m, int64_t revision)
{
    struct sim_check *c = &m->sim->check;
    struct mvcc_hash h;
    if (mvcc_hash_kv(machine_mvcc(m->machine), revision, &h) != NB_OK) {
        return; /* compacted */
    }
    for (size_t i = 0; i < c->hash_count; i++) {
        const struct sim_seen_hash *seen = &c->hashes[i];
        if (seen->revision == revision && seen->compact_revision == h.compact_revision) {
            if (seen->sum != h.sum) {
                sim_broken(m->sim, "hash_kv", "m%u: HashKV at revision %" PRId64 " differs",
                           m->place, revision);
            }
            return;
        }
    }
    c->hashes = nb_grow(c->hashes, &c->hash_capacity, c->hash_count + 1, sizeof *c->hashes);
    c->hashes[c->hash_count++] = (struct sim_seen_hash){
        .revision = revision, .compact_revision = h.compact_revision, .sum = h.sum};
}

static void check_state(struct sim_member *m)
{
    struct sim_member_marks *marks = &m->sim->check.members[m->place];
    struct mvcc *mvcc = machine_mvcc(m->machine);
    int64_t revision = mvcc_current_revision(mvcc);
    int64_t want = sim_model_revision_at(&m->sim->check.model, sim_member_applied(m));
    if (revision != want) {
        sim_broken(m->sim, "revision", "m%u is at revision %" PRId64 " instead of %" PRId64,
                   m->place, revision, want);
        return;
    }
    int64_t at = revision - revision % HASH_EVERY_REVISIONS;
    if (at > marks->hashed_revision) {
        marks->hashed_revision = at;
        check_hash(m, at);
    }
}

/* ---- elections and promises ---- */

/* False when `list` has another candidate for that term. */
static bool note_vote(struct sim_vote **list, size_t *count, size_t *capacity, uint64_t term,
                      uint64_t candidate)
{
    for (size_t i = *count; i-- > 0;) {
        if ((*list)[i].term == term) {
            return (*list)[i].candidate == candidate;
        }
    }
    *list = nb_grow(*list, capacity, *count + 1, sizeof **list);
    (*list)[(*count)++] = (struct sim_vote){.term = term, .candidate = candidate};
    return true;
}

static void check_vote(struct sim_member *m, uint64_t term, uint64_t candidate)
{
    struct sim_member_marks *marks = &m->sim->check.members[m->place];
    if (!note_vote(&marks->votes, &marks->vote_count, &marks->vote_capacity, term, candidate)) {
        sim_broken(m->sim, "one_vote", "m%u votes twice in term %" PRIu64, m->place, term);
    }
}

void sim_check_sent(struct sim_member *m, const struct raft_msg *msg)
{
    struct sim_member_marks *marks = &m->sim->check.members[m->place];
    if (msg->type == RAFT_MSG_VOTE) {
        check_vote(m, msg->term, m->id);
    } else if (msg->type == RAFT_MSG_VOTE_RESULT && msg->vote_result.granted) {
        check_vote(m, msg->term, msg->to);
    } else if (msg->type == RAFT_MSG_APPEND_RESULT && msg->append_result.accepted) {
        uint64_t matched = msg->append_result.matched_index;
        if (msg->term > marks->matched_term) {
            marks->matched_term = msg->term;
            marks->matched_index = matched;
        } else if (msg->term == marks->matched_term && matched > marks->matched_index) {
            marks->matched_index = matched;
        }
    }
}

/* What was promised before is there after a restart. [R03, R05] */
void sim_check_started(struct sim_member *m)
{
    struct sim_member_marks *marks = &m->sim->check.members[m->place];
    struct raft_status r;
    raft_status(replica_raft(m->replica), &r);
    const struct sim_vote *last =
        marks->vote_count == 0 ? NULL : &marks->votes[marks->vote_count - 1];
    if (last != NULL &&
        (r.term < last->term || (r.term == last->term && r.voted_for != last->candidate))) {
        sim_broken(m->sim, "vote_kept", "m%u has forgotten its vote in term %" PRIu64, m->place,
                   last->term);
    }
    if (r.term < marks->matched_term ||
        (r.term == marks->matched_term && r.last.index < marks->matched_index)) {
        sim_broken(m->sim, "entries_kept",
                   "m%u promised to hold up to %" PRIu64 ", its log ends at %" PRIu64, m->place,
                   marks->matched_index, r.last.index);
    }
    marks->term = r.term;
    marks->commit_index = r.commit_index;
    marks->checked_index = sim_member_applied(m);
    marks->hashed_revision = 0;
    if (marks->checked_index > m->sim->check.log_count) {
        sim_broken(m->sim, "log", "m%u starts with index %" PRIu64 ", which nobody has applied",
                   m->place, marks->checked_index);
    } else if (marks->checked_index != 0) {
        check_running(m, marks->checked_index);
    }
}

static void check_roles(struct sim_member *m)
{
    struct sim_check *c = &m->sim->check;
    struct sim_member_marks *marks = &c->members[m->place];
    struct raft_status r;
    raft_status(replica_raft(m->replica), &r);
    if (r.term < marks->term || r.commit_index < marks->commit_index) {
        sim_broken(m->sim, "never_back", "m%u: term or commit index went back", m->place);
    }
    marks->term = r.term;
    marks->commit_index = r.commit_index;
    size_t leaders = c->leader_count;
    if (r.role == RAFT_LEADER &&
        !note_vote(&c->leaders, &c->leader_count, &c->leader_capacity, r.term, m->id)) {
        sim_broken(m->sim, "one_leader", "term %" PRIu64 " has two leaders", r.term);
    }
    if (c->leader_count != leaders) {
        m->sim->report.election_count++;
        sim_trace(m->sim, (int)m->place, "leads term %" PRIu64, r.term);
    }
}

void sim_check_member(struct sim_member *m)
{
    struct sim *s = m->sim;
    struct sim_check *c = &s->check;
    check_roles(m);
    check_log(m);
    if (s->report.rule == NULL) {
        check_state(m);
    }
    for (size_t i = 0; i < c->answered_count && s->report.rule == NULL; i++) {
        const struct sim_op *op = c->answered[i];
        if (op->answer_index > c->log_count) {
            sim_broken(s, "answer_place", "an answer from beyond the log");
        } else if (op->what.kind == SIM_OP_READ) {
            check_read(s, op);
        } else {
            check_write(s, op);
        }
    }
    c->answered_count = 0;
}

/* ---- the end ---- */

static void check_content(struct sim_member *m)
{
    struct sim *s = m->sim;
    uint64_t index = sim_member_applied(m);
    if (index < s->check.completed_index) {
        sim_broken(s, "kept", "m%u ends at index %" PRIu64 ", clients have seen %" PRIu64, m->place,
                   index, s->check.completed_index);
        return;
    }
    int64_t revision = mvcc_current_revision(machine_mvcc(m->machine));
    s->check.members[m->place].hashed_revision = revision;
    check_hash(m, revision);
    mvcc_check(machine_mvcc(m->machine));
}

void sim_check_end(struct sim *s, const bool *core)
{
    uint64_t applied = 0;
    for (unsigned i = 0; i < s->member_count; i++) {
        if (!core[i]) {
            continue;
        }
        struct sim_member *m = &s->members[i];
        check_content(m);
        if (applied != 0 && applied != sim_member_applied(m)) {
            sim_broken(s, "core_equal", "m%u has applied %" PRIu64 ", another %" PRIu64, i,
                       sim_member_applied(m), applied);
        }
        applied = sim_member_applied(m);
    }
    for (size_t i = 0; i < s->check.op_count; i++) {
        const struct sim_op *op = s->check.ops[i];
        if (!op->done) {
            sim_broken(s, "every_call_returned",
                       "a call of client %u at m%u from %" PRIu64 " ms was never answered",
                       op->client, op->member, op->called_ns / SIM_MS);
            return;
        }
    }
}
