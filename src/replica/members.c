/* replica/members: changes of who is in the cluster. What votes comes from raft's configuration,
 * names and URLs from what is attached to its entries; both change with the same entry. [M10] */
#include "replica/internal.h"

static bool conf_has(const uint64_t *ids, uint32_t count, uint64_t id)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

bool replica_can_change_members(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return !r->failed && r->change == NULL && s.role == RAFT_LEADER && s.term_committed &&
           s.transfer_target == 0 && raft_conf(r->raft)->outgoing_count == 0 &&
           s.conf_index <= machine_applied_index(r->machine);
}

/* Ids there and once each, none that was removed [M08], and somebody to vote [M07]. */
static bool target_valid(const struct replica *r, const struct machine_members *target)
{
    size_t voters = 0;
    if (target->count > RAFT_MEMBER_COUNT_MAX || target->count > MACHINE_MEMBER_COUNT_MAX) {
        return false;
    }
    for (size_t i = 0; i < target->count; i++) {
        uint64_t id = target->items[i].id;
        if (id == 0 || (i > 0 && target->items[i - 1].id >= id) ||
            machine_members_was_removed(machine_members(r->machine), id)) {
            return false;
        }
        voters += target->items[i].is_learner ? 0 : 1;
    }
    return voters != 0;
}

static bool step_add(struct raft_conf_change *change, enum raft_conf_step_kind kind, uint64_t id)
{
    if (change->step_count == RAFT_MEMBER_COUNT_MAX) {
        return false;
    }
    change->steps[change->step_count++] = (struct raft_conf_step){.kind = kind, .id = id};
    return true;
}

/* Those of `ids` that the target does not name any more. */
static bool steps_remove(struct raft_conf_change *change, const struct machine_members *target,
                         const uint64_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (machine_members_find(target, ids[i]) == NULL &&
            !step_add(change, RAFT_CONF_REMOVE, ids[i])) {
            return false;
        }
    }
    return true;
}

/* The change that makes `target` of the configuration in force. */
static bool steps_to(const struct raft_conf *conf, const struct machine_members *target,
                     struct raft_conf_change *out)
{
    *out = (struct raft_conf_change){.mode = RAFT_CONF_AUTO};
    for (size_t i = 0; i < target->count; i++) {
        const struct machine_member *m = &target->items[i];
        bool is = m->is_learner ? conf_has(conf->learners, conf->learner_count, m->id)
                                : conf_has(conf->voters, conf->voter_count, m->id);
        if (!is &&
            !step_add(out, m->is_learner ? RAFT_CONF_ADD_LEARNER : RAFT_CONF_ADD_VOTER, m->id)) {
            return false;
        }
    }
    if (!steps_remove(out, target, conf->voters, conf->voter_count) ||
        !steps_remove(out, target, conf->learners, conf->learner_count)) {
        return false;
    }
    if (out->step_count == 0) {
        out->mode = RAFT_CONF_KEEP;
    }
    return true;
}

/* One voter, this one, that takes in a second one from nowhere. */
static bool is_first_other(const struct replica *r, const struct raft_conf_change *change)
{
    const struct raft_conf *conf = raft_conf(r->raft);
    return conf->voter_count == 1 && conf->voters[0] == r->config.member_id &&
           change->step_count == 1 && change->steps[0].kind == RAFT_CONF_ADD_VOTER &&
           !raft_conf_has_member(conf, change->steps[0].id);
}

static bool same_urls(const struct machine_member *a, const struct machine_member *b)
{
    bool same = a->peer_url_count == b->peer_url_count;
    for (size_t i = 0; same && i < a->peer_url_count; i++) {
        same = nb_bytes_equal(nb_bytes_str(a->peer_urls[i]), nb_bytes_str(b->peer_urls[i]));
    }
    return same;
}

/* Whether a change that moves no vote would change anything. */
static bool urls_differ(const struct replica *r, const struct machine_members *target)
{
    for (size_t i = 0; i < target->count; i++) {
        const struct machine_member *m =
            machine_members_find(machine_members(r->machine), target->items[i].id);
        if (m == NULL || !same_urls(m, &target->items[i])) {
            return true;
        }
    }
    return false;
}

static enum nb_status status_of(enum raft_conf_outcome outcome)
{
    switch (outcome) {
    case RAFT_CONF_ACCEPTED:
        return NB_OK;
    case RAFT_CONF_NOT_LEADER:
        return NB_NOT_LEADER;
    case RAFT_CONF_TRANSFERRING:
    case RAFT_CONF_TERM_UNCOMMITTED:
    case RAFT_CONF_IN_FLIGHT:
    case RAFT_CONF_IN_JOINT:
        return NB_BUSY;
    case RAFT_CONF_NOT_IN_JOINT:
    case RAFT_CONF_NEEDS_JOINT:
    case RAFT_CONF_NO_VOTER_LEFT:
    case RAFT_CONF_ALREADY:
    case RAFT_CONF_NOT_A_MEMBER:
    case RAFT_CONF_TOO_MANY:
    case RAFT_CONF_INVALID:
    case RAFT_CONF_OUTCOME_COUNT:
        break;
    }
    return NB_INVALID;
}

enum nb_status replica_change_members(struct replica *r, const struct machine_members *target,
                                      struct replica_request *request)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->failed) {
        return NB_STOPPED;
    }
    if (s.role != RAFT_LEADER) {
        return NB_NOT_LEADER;
    }
    if (!replica_can_change_members(r)) {
        return NB_BUSY;
    }
    struct raft_conf_change change;
    if (!target_valid(r, target) || !steps_to(raft_conf(r->raft), target, &change) ||
        (change.mode == RAFT_CONF_KEEP && !urls_differ(r, target))) {
        return NB_INVALID;
    }
    r->change_early = is_first_other(r, &change);
    struct nb_buf attached = {0};
    machine_members_encode(target, &attached);
    enum nb_status status =
        status_of(raft_propose_conf(r->raft, &change, nb_buf_bytes(&attached), &r->change_id));
    nb_buf_deinit(&attached);
    if (status == NB_OK) {
        request->begun_ns = replica_now(r);
        r->change = request;
        r->change_applied = r->change_lost = false;
        nb_log(r->config.log, NB_LOG_INFO, "members.changing", "asks for another set of members",
               NB_KV_U64("index", r->change_id.index), NB_KV_U64("members", target->count),
               NB_KV_U64("steps", change.step_count), NB_KV_END);
    }
    return status;
}

void replica_conf_applied(struct replica *r, struct raft_entry_id id)
{
    if (r->change != NULL && id.index == r->change_id.index) {
        r->change_applied = id.term == r->change_id.term;
        r->change_lost = !r->change_applied;
    }
    nb_log(r->config.log, NB_LOG_INFO, "members.changed", "the set of members changed",
           NB_KV_U64("index", id.index), NB_KV_U64("members", machine_members(r->machine)->count),
           NB_KV_BOOL("joint", raft_conf(r->raft)->outgoing_count != 0), NB_KV_END);
}

static void end_change(struct replica *r, enum nb_status status)
{
    struct replica_request *request = r->change;
    r->change = NULL;
    request->done(request, status, NULL);
}

void replica_finish_change(struct replica *r)
{
    if (r->change == NULL) {
        return;
    }
    struct raft_status s;
    raft_status(r->raft, &s);
    uint64_t applied = machine_applied_index(r->machine);
    uint64_t term;
    bool cut = applied >= r->change_id.index && !r->change_applied &&
               raft_term_at(r->raft, r->change_id.index, &term) == RAFT_TERM_KNOWN &&
               term != r->change_id.term; /* an entry of another kind took its place */
    bool durable = r->change_early && s.durable_index >= r->change_id.index &&
                   s.conf_index == r->change_id.index && s.role == RAFT_LEADER &&
                   s.term == r->change_id.term;
    if (r->change_lost || cut) {
        end_change(r, NB_LEADER_CHANGED);
    } else if (durable || (r->change_applied && raft_conf(r->raft)->outgoing_count == 0 &&
                           s.conf_index <= applied)) {
        end_change(r, NB_OK);
    }
}

void replica_expire_change(struct replica *r, uint64_t now_ns, enum nb_status status)
{
    if (r->change != NULL && now_ns - r->change->begun_ns > r->config.request_timeout_ns) {
        end_change(r, status);
    }
}

bool replica_progress(const struct replica *r, uint64_t id, struct replica_progress *out)
{
    struct raft_progress p;
    if (!raft_progress_of(r->raft, id, &p)) {
        return false;
    }
    *out = (struct replica_progress){.match_index = p.match_index,
                                     .active = p.recently_active,
                                     .snapshot = p.state == RAFT_PROGRESS_SNAPSHOT,
                                     .learner = p.learner};
    return true;
}

bool replica_is_removed(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return r->told_removed ||
           (machine_members_was_removed(machine_members(r->machine), r->config.member_id) &&
            !raft_conf_has_member(raft_conf(r->raft), r->config.member_id) &&
            s.conf_index <= machine_applied_index(r->machine));
}

uint64_t replica_members_version(const struct replica *r)
{
    /* The index of the last configuration in the log only falls when the log is cut, which is never
     * below what is applied; both in one number that no two states share. */
    struct raft_status s;
    raft_status(r->raft, &s);
    uint64_t applied_conf = machine_conf_index(r->machine);
    return s.conf_index * 2 + (applied_conf == s.conf_index ? 1 : 0);
}

void replica_known_members(const struct replica *r, struct machine_members *out)
{
    const struct machine_members *applied = machine_members(r->machine);
    struct raft_status s;
    raft_status(r->raft, &s);
    for (size_t i = 0; i < applied->count; i++) {
        machine_members_set(out, &applied->items[i]);
    }
    size_t count;
    const struct raft_entry *e = raft_entries(r->raft, s.conf_index, s.conf_index + 1, &count);
    if (e == NULL || s.conf_index <= machine_applied_index(r->machine)) {
        return;
    }
    struct raft_conf conf;
    struct nb_bytes attached;
    struct machine_members next = {0};
    if (raft_conf_decode(nb_payload_bytes(e->payload), &conf, &attached) == NB_OK &&
        machine_members_apply(&next, attached) == NB_OK) {
        for (size_t i = 0; i < next.count; i++) {
            machine_members_set(out, &next.items[i]);
        }
    }
    machine_members_deinit(&next);
}
