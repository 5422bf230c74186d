#include "sim/cluster.h"

#include <inttypes.h>

/* A change of members under way, asked of one boot of one member. */
struct sim_change {
    struct replica_request request; /* first: found again by its address */
    struct sim *sim;
};

static void on_done(struct replica_request *request, enum nb_status status,
                    const struct machine_result *result)
{
    (void)result;
    struct sim_change *change = (struct sim_change *)request;
    struct sim *s = change->sim;
    sim_trace(s, -1, "change of members: %s", nb_status_name(status));
    s->report.change_count += status == NB_OK;
    s->change = NULL;
    nb_free(change);
}

void sim_members_deinit(struct sim *s)
{
    nb_assert(s->change == NULL); /* the member it was asked of has ended, and so has it */
}

static void copy_members(const struct machine_members *from, struct machine_members *to)
{
    for (size_t i = 0; i < from->count; i++) {
        machine_members_set(to, &from->items[i]);
    }
}

static void set_member(struct machine_members *target, uint64_t id, bool learner)
{
    char url[] = "http://member", name[] = "";
    char *urls[] = {url};
    machine_members_set(
        target,
        &(struct machine_member){
            .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1, .is_learner = learner});
}

static size_t voter_count(const struct machine_members *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        count += !m->items[i].is_learner;
    }
    return count;
}

/* Somebody in `target`, a learner or a voter; 0 when there is none. */
static uint64_t any_of(struct sim *s, const struct machine_members *target, bool learner)
{
    uint64_t ids[SIM_MEMBER_COUNT_MAX];
    size_t count = 0;
    for (size_t i = 0; i < target->count; i++) {
        if (target->items[i].is_learner == learner) {
            ids[count++] = target->items[i].id;
        }
    }
    return count == 0 ? 0 : ids[sim_below(s, count)];
}

/* As the steward and etcd do: a learner votes once it holds nearly all. */
static bool caught_up(const struct sim_member *leader, uint64_t id)
{
    struct replica_progress p, own;
    return id != 0 && replica_progress(leader->replica, id, &p) &&
           replica_progress(leader->replica, leader->id, &own) && p.active &&
           p.match_index * 10 >= own.match_index * 9;
}

/* The new member starts when the change is under way, and not before. */
static bool add_one(struct sim *s, struct machine_members *target, bool learner)
{
    if (s->member_count == SIM_MEMBER_COUNT_MAX) {
        return false;
    }
    set_member(target, s->member_count + 1, learner);
    return true;
}

static bool remove_one(struct sim *s, struct machine_members *target)
{
    uint64_t id = any_of(s, target, sim_chance(s, 300));
    const struct machine_member *m = machine_members_find(target, id);
    if (m == NULL || (!m->is_learner && voter_count(target) < 2)) {
        return false;
    }
    machine_members_remove(target, id);
    return true;
}

/* Draws what `target` becomes; false: nothing. */
static bool draw(struct sim *s, const struct sim_member *leader, struct machine_members *target)
{
    uint64_t learner = any_of(s, target, true);
    uint64_t dice = sim_below(s, 100);
    if (dice < 30) {
        return add_one(s, target, true);
    }
    if (dice < 38) {
        return add_one(s, target, false);
    }
    if (dice < 60) {
        if (!caught_up(leader, learner)) {
            return false;
        }
        set_member(target, learner, false);
        return true;
    }
    if (dice < 80) { /* a replacement in one joint step */
        uint64_t old = any_of(s, target, false);
        if (!caught_up(leader, learner) || old == 0) {
            return false;
        }
        set_member(target, learner, false);
        machine_members_remove(target, old);
        return true;
    }
    if (dice < 88) { /* and one that becomes a learner again */
        uint64_t old = any_of(s, target, false);
        if (voter_count(target) < 2) {
            return false;
        }
        set_member(target, old, true);
        return true;
    }
    return remove_one(s, target);
}

static void start_joiners(struct sim *s, const struct machine_members *target)
{
    while (machine_members_find(target, s->member_count + 1) != NULL) {
        unsigned place = s->member_count++;
        sim_member_init(s, place);
        s->members[place].joins = true;
        s->report.joined_count++;
        sim_plan(s, SIM_EVENT_START, place, sim_below(s, SIM_SECOND));
        sim_trace(s, (int)place, "joins");
    }
}

void sim_members_event(struct sim *s)
{
    int place = sim_leader(s);
    if (place < 0 || s->change != NULL) {
        return;
    }
    struct sim_member *leader = &s->members[place];
    if (leader->paused_until_ns > s->now_ns) {
        return;
    }
    struct machine_members target = {0};
    copy_members(machine_members(leader->machine), &target);
    if (draw(s, leader, &target)) {
        struct sim_change *change = nb_alloc_zero(1, sizeof *change);
        change->request.done = on_done;
        change->sim = s;
        s->change = change;
        enum nb_status status = replica_change_members(leader->replica, &target, &change->request);
        sim_trace(s, place, "asked for other members: %s", nb_status_name(status));
        if (status == NB_OK) {
            s->members_changed = true;
            start_joiners(s, &target);
        } else {
            s->change = NULL;
            nb_free(change);
            if (status != NB_BUSY && status != NB_NOT_LEADER) {
                sim_broken(s, "members", "a sound change is refused: %s", nb_status_name(status));
            }
        }
        sim_member_settle(leader);
    }
    machine_members_deinit(&target);
}

void sim_members_settle(struct sim_member *m)
{
    if (m->alive && replica_is_removed(m->replica)) {
        sim_trace(m->sim, (int)m->place, "knows that it was removed");
        m->removed = m->doomed = true;
        m->sim->report.removed_count++;
        sim_member_crash(m, false, SIM_SECOND); /* the others see its connections end */
    }
}

void sim_members_core(struct sim *s, bool *core)
{
    int leader = sim_leader(s);
    if (leader < 0 || !s->members_changed) {
        return;
    }
    const struct raft_conf *conf = raft_conf(replica_raft(s->members[leader].replica));
    for (unsigned i = 0; i < s->member_count; i++) {
        core[i] = core[i] && raft_conf_has_member(conf, s->members[i].id);
    }
}
