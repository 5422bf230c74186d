/*
 * The rules together: random lives of the pods of a StatefulSet against a model of the group that
 * is too plain to be wrong. A voter holds the log up to some index; a leader exists while a
 * majority of voters is alive and one of them holds all that is committed; a change of members
 * counts when a majority of the old and of the new voters is alive.
 *
 * Pods start, die, lose their volumes and are scaled up and down. Always:
 *   - a second cluster is founded only when no volume of the first is left [K07]
 *   - what is committed lies with a majority of the voters after every change [M06, M07]
 *   - no volume that came after another ever speaks with its id [K04, M08]
 * And at the end, when all that should be there is and volumes were spared, the voters are the pods
 * wanted.
 */
#include "steward/stops.h"

#include "base/random.h"
#include "tests/support/unit.h"

enum { PODS = 6, TURN_MS = 100 };

struct pod {
    bool alive;
    bool has_cluster;
    uint64_t cluster_id, member_id; /* of the volume; member 0: no volume yet */
    uint64_t held;                  /* log of the volume, an index */
    uint64_t silent_since_ns;
    bool leaving;
};

struct world {
    struct nb_random random;
    struct pod pods[PODS];
    uint32_t replicas;
    bool api;
    uint64_t annotation;
    uint64_t now_ns, next_id;
    struct machine_members members;
    uint64_t cluster_id; /* of the living cluster; 0: none yet */
    uint64_t committed;
    uint64_t leader; /* id; 0 none */
    struct steward_keeper keeper;
    uint64_t scale_reads;
    unsigned founded, changes, replaced, promoted, removed;
    uint64_t used_ids[4096];
    size_t used_id_count;
};

static uint64_t fresh_id(struct world *w)
{
    uint64_t id = nb_random_u64(&w->random) | 1;
    for (size_t i = 0; i < w->used_id_count; i++) {
        assert_true(w->used_ids[i] != id);
    }
    assert_true(w->used_id_count < NB_ARRAY_LEN(w->used_ids));
    w->used_ids[w->used_id_count++] = id;
    return id;
}

static struct pod *pod_of(struct world *w, uint64_t id)
{
    for (unsigned i = 0; i < PODS; i++) {
        if (w->pods[i].member_id == id) {
            return &w->pods[i];
        }
    }
    return NULL; /* its volume is gone */
}

static bool is_up(struct world *w, uint64_t id)
{
    const struct pod *p = pod_of(w, id);
    return p != NULL && p->alive && p->cluster_id == w->cluster_id;
}

static bool majority_of(struct world *w, const struct machine_members *members, uint64_t held)
{
    size_t voters = 0;
    size_t good = 0;
    for (size_t i = 0; i < members->count; i++) {
        if (!members->items[i].is_learner) {
            voters++;
            const struct pod *p = pod_of(w, members->items[i].id);
            good += is_up(w, members->items[i].id) && p->held >= held ? 1 : 0;
        }
    }
    return voters != 0 && good > voters / 2;
}

/* Who leads: a voter that holds all that is committed, while a majority is up. */
static void elect(struct world *w)
{
    const struct machine_member *m = machine_members_find(&w->members, w->leader);
    if (w->leader != 0 && m != NULL && is_up(w, w->leader) && majority_of(w, &w->members, 0)) {
        return;
    }
    uint64_t before = w->leader;
    w->leader = 0;
    for (size_t i = 0; i < w->members.count && majority_of(w, &w->members, 0); i++) {
        const struct machine_member *c = &w->members.items[i];
        if (!c->is_learner && is_up(w, c->id) && pod_of(w, c->id)->held >= w->committed) {
            w->leader = c->id;
            break;
        }
    }
    if (w->leader != before) {
        steward_keeper_reset(&w->keeper);
    }
}

/* The leader writes, and those that are up follow. */
static void replicate(struct world *w)
{
    if (w->leader == 0) {
        return;
    }
    struct pod *leader = pod_of(w, w->leader);
    leader->held += 1 + nb_random_below(&w->random, 50);
    for (size_t i = 0; i < w->members.count; i++) {
        struct machine_member *m = &w->members.items[i];
        struct pod *p = pod_of(w, m->id);
        if (is_up(w, m->id) && p->held < leader->held && nb_random_chance(&w->random, 3, 4)) {
            p->held = leader->held;
            char name[] = "started";
            assert_true(machine_members_publish(&w->members, m->id, name, NULL, 0));
        }
    }
    if (majority_of(w, &w->members, leader->held)) {
        w->committed = leader->held;
    }
}

static void scale_of(const struct world *w, struct steward_scale *out)
{
    *out = (struct steward_scale){.known = w->api, .replicas = w->replicas};
    out->cluster_id = w->annotation;
}

static void facts_of(struct world *w, struct steward_fact *items, struct steward_facts *out)
{
    *out = (struct steward_facts){.now_ns = w->now_ns,
                                  .self_id = w->leader,
                                  .commit_index = w->committed,
                                  .members = &w->members,
                                  .items = items,
                                  .scale_reads = ++w->scale_reads};
    scale_of(w, &out->scale);
    for (size_t i = 0; i < w->members.count; i++) {
        uint64_t id = w->members.items[i].id;
        const struct pod *p = pod_of(w, id);
        struct steward_fact *f = &items[out->count++];
        *f = (struct steward_fact){.id = id, .connected = is_up(w, id)};
        f->match_index = p == NULL ? 0 : p->held;
        f->silent_ns = f->connected ? 0 : p == NULL ? 100000000000 : w->now_ns - p->silent_since_ns;
    }
}

static void take_on(struct world *w, struct steward_action *a)
{
    /* Joint consensus: a majority of both; and what is committed goes with it. */
    assert_true(majority_of(w, &w->members, 0));
    struct pod *leader = pod_of(w, w->leader);
    for (size_t i = 0; i < a->target.count; i++) {
        struct pod *p = pod_of(w, a->target.items[i].id);
        bool learner_new = machine_members_find(&w->members, a->target.items[i].id) == NULL;
        if (p != NULL && p->alive && !learner_new && p->held < leader->held) {
            p->held = leader->held;
        }
        assert_false(machine_members_was_removed(&w->members, a->target.items[i].id)); /* [M08] */
    }
    assert_true(majority_of(w, &a->target, w->committed)); /* [M06, M07] */
    struct nb_buf bytes = {0};
    machine_members_encode(&a->target, &bytes);
    assert_int_equal(machine_members_apply(&w->members, nb_buf_bytes(&bytes)), NB_OK);
    nb_buf_deinit(&bytes);
    w->changes++;
    w->replaced += a->kind == STEWARD_REPLACE ? 1 : 0;
    w->promoted += a->kind == STEWARD_PROMOTE ? 1 : 0;
    w->removed += a->kind == STEWARD_REMOVE ? 1 : 0;
}

static void lead(struct world *w)
{
    if (w->leader == 0) {
        return;
    }
    struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
    struct steward_facts facts;
    struct steward_action a;
    facts_of(w, items, &facts);
    for (unsigned i = 0; i < PODS; i++) {
        if (w->pods[i].leaving && w->pods[i].alive &&
            machine_members_find(&w->members, w->pods[i].member_id) != NULL) {
            steward_keeper_leave(&w->keeper, w->pods[i].member_id, w->now_ns);
        }
    }
    steward_keeper_turn(&w->keeper, &facts, &a);
    if (a.kind == STEWARD_HAND_OVER) {
        w->leader = pod_of(w, a.id)->held >= w->committed ? a.id : w->leader;
        steward_keeper_reset(&w->keeper);
    } else if (a.kind != STEWARD_REST) {
        take_on(w, &a);
    }
    steward_action_deinit(&a);
    w->annotation = w->api ? w->cluster_id : 0;
}

static void card_of(struct world *w, unsigned i, uint64_t asker, struct steward_card *out)
{
    const struct pod *p = &w->pods[i];
    *out = (struct steward_card){.ordinal = i,
                                 .state = p->has_cluster ? STEWARD_MEMBER : STEWARD_EMPTY,
                                 .cluster_id = p->cluster_id,
                                 .member_id = p->member_id};
    (void)snprintf(out->slot, sizeof out->slot, "ss-%u", i);
    (void)snprintf(out->peer_url, sizeof out->peer_url, "http://ss-%u.s:2380", i);
    if (p->has_cluster && p->held == 0) {
        out->state = STEWARD_JOINING;
    } else if (p->has_cluster && p->cluster_id == w->cluster_id) {
        out->leader_id = w->leader;
        out->you_are_member = machine_members_find(&w->members, asker) != NULL;
        out->you_were_removed = machine_members_was_removed(&w->members, asker);
    }
}

static bool volume_left(const struct world *w)
{
    for (unsigned i = 0; i < w->replicas; i++) {
        if (w->pods[i].has_cluster) {
            return true;
        }
    }
    return false;
}

static void found(struct world *w, unsigned i)
{
    assert_int_equal(i, 0);
    assert_false(volume_left(w));               /* [K07] */
    assert_true(!w->api || w->annotation == 0); /* [K07] */
    machine_members_deinit(&w->members);
    w->members = (struct machine_members){0};
    w->cluster_id = fresh_id(w);
    w->committed = 0;
    w->leader = 0;
    w->founded++;
    char url[] = "http://ss-0.s:2380";
    char *urls[] = {url};
    struct machine_member m = {.id = w->pods[0].member_id, .peer_urls = urls, .peer_url_count = 1};
    machine_members_set(&w->members, &m);
    w->pods[0].has_cluster = true;
    w->pods[0].cluster_id = w->cluster_id;
    w->pods[0].held = 1;
}

static void seek(struct world *w, unsigned i)
{
    struct pod *p = &w->pods[i];
    struct steward_probe probes[PODS];
    struct steward_search s = {.slot = "ss",
                               .ordinal = i,
                               .member_id = p->member_id,
                               .replicas_expected = w->replicas,
                               .probes = probes};
    scale_of(w, &s.scale);
    for (unsigned k = 0; k < PODS && (k < w->replicas || k < i); k++) {
        if (k == i) {
            continue;
        }
        struct steward_probe *probe = &probes[s.probe_count++];
        *probe = (struct steward_probe){.ordinal = k};
        if (w->pods[k].alive && nb_random_chance(&w->random, 9, 10)) {
            probe->heard = STEWARD_HEARD_CARD;
            card_of(w, k, p->member_id, &probe->card);
            if (w->leader != 0 && w->pods[k].member_id == w->leader) {
                struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
                struct steward_facts facts;
                struct steward_card mine;
                facts_of(w, items, &facts);
                card_of(w, i, 0, &mine);
                steward_keeper_wish(&w->keeper, &facts, &mine, probe->card.words);
            }
        }
    }
    struct steward_decision d;
    steward_decide(&s, &d);
    if (d.move == STEWARD_FOUND) {
        found(w, i);
    } else if (d.move == STEWARD_RENEW_ID) {
        p->member_id = fresh_id(w);
    } else if (d.move == STEWARD_JOIN) {
        assert_true(d.cluster_id == w->cluster_id);
        assert_non_null(machine_members_find(&w->members, p->member_id)); /* [K04] */
        p->has_cluster = true;
        p->cluster_id = d.cluster_id;
    }
}

/* What a removed member does when it hears of it. */
static void hear_of_removal(struct world *w, unsigned i)
{
    struct pod *p = &w->pods[i];
    if (p->has_cluster && w->leader != 0 &&
        machine_members_was_removed(&w->members, p->member_id)) {
        if (p->leaving) {
            p->alive = p->leaving = false;
            p->silent_since_ns = w->now_ns;
        } else {
            *p = (struct pod){.alive = true, .member_id = fresh_id(w)};
        }
    }
}

static void start(struct world *w, unsigned i)
{
    struct pod *p = &w->pods[i];
    if (!p->alive) {
        p->alive = true;
        p->leaving = false;
        p->member_id = p->member_id == 0 ? fresh_id(w) : p->member_id;
    }
}

static void stop(struct world *w, unsigned i)
{
    if (w->pods[i].alive) {
        w->pods[i].alive = false;
        w->pods[i].silent_since_ns = w->now_ns;
    }
}

static void turn(struct world *w)
{
    w->now_ns += TURN_MS * UINT64_C(1000000);
    for (unsigned i = 0; i < PODS; i++) {
        hear_of_removal(w, i);
        if (w->pods[i].alive && !w->pods[i].has_cluster) {
            seek(w, i);
            if (w->pods[i].leaving && !w->pods[i].has_cluster) {
                stop(w, i);
            }
        }
    }
    elect(w);
    replicate(w);
    lead(w);
    elect(w);
}

/* As the StatefulSet's controller does: pods in range run, others are told to stop. */
static void control(struct world *w)
{
    for (unsigned i = 0; i < PODS; i++) {
        if (i < w->replicas && !w->pods[i].alive) {
            start(w, i);
        } else if (i >= w->replicas && w->pods[i].alive) {
            w->pods[i].leaving = w->api;
            if (!w->api) {
                stop(w, i);
            }
        }
    }
}

static unsigned volumes_at_stake(struct world *w)
{
    unsigned held = 0;
    for (size_t i = 0; i < w->members.count; i++) {
        const struct pod *p = pod_of(w, w->members.items[i].id);
        held += !w->members.items[i].is_learner && p != NULL && p->held >= w->committed ? 1 : 0;
    }
    return held;
}

/* One trouble. `spare`: never lose a volume that the majority of the committed hangs on. */
static void trouble(struct world *w, bool spare)
{
    unsigned i = (unsigned)nb_random_below(&w->random, PODS);
    switch (nb_random_below(&w->random, 6)) {
    case 0:
    case 1:
        stop(w, i);
        break;
    case 2: {
        size_t voters = 0;
        for (size_t k = 0; k < w->members.count; k++) {
            voters += w->members.items[k].is_learner ? 0 : 1;
        }
        if (!spare || (w->cluster_id != 0 && volumes_at_stake(w) > voters / 2 + 1)) {
            stop(w, i);
            w->pods[i] = (struct pod){.silent_since_ns = w->now_ns};
        }
        break;
    }
    case 3:
        if (w->api && w->cluster_id != 0) {
            w->replicas = 1 + (uint32_t)nb_random_below(&w->random, 5);
        }
        break;
    default:
        control(w);
        break;
    }
}

static void begin(struct world *w, uint64_t seed, bool api)
{
    *w = (struct world){.replicas = 3, .api = api, .now_ns = 1000000000000};
    nb_random_init(&w->random, seed);
    steward_keeper_init(&w->keeper, "ss", NULL);
}

static bool is_settled(struct world *w)
{
    if (w->members.count != w->replicas) {
        return false;
    }
    for (uint32_t i = 0; i < w->replicas; i++) {
        const struct machine_member *m = machine_members_find(&w->members, w->pods[i].member_id);
        if (m == NULL || m->is_learner || !w->pods[i].alive) {
            return false;
        }
    }
    return true;
}

static bool settles(struct world *w, unsigned turns)
{
    for (unsigned i = 0; i < turns; i++) {
        control(w);
        turn(w);
        if (is_settled(w)) {
            return true;
        }
    }
    return false;
}

static void tell(struct world *w)
{
    (void)fprintf(stderr, "leader %llx committed %llu cluster %llx\n",
                  (unsigned long long)w->leader, (unsigned long long)w->committed,
                  (unsigned long long)w->cluster_id);
    for (unsigned i = 0; i < PODS; i++) {
        const struct pod *p = &w->pods[i];
        (void)fprintf(stderr, "  pod %u %s%s id %llx cluster %llx holds %llu\n", i,
                      p->alive ? "up" : "down", p->leaving ? " leaving" : "",
                      (unsigned long long)p->member_id, (unsigned long long)p->cluster_id,
                      (unsigned long long)p->held);
    }
    for (size_t i = 0; i < w->members.count; i++) {
        const struct machine_member *m = &w->members.items[i];
        (void)fprintf(stderr, "  member %llx %s %s\n", (unsigned long long)m->id, m->peer_urls[0],
                      m->is_learner ? "learner" : "voter");
    }
}

static void K07_M06_random_lives_settle_where_they_should(void **state)
{
    (void)state;
    unsigned changes = 0, replaced = 0, removed = 0;
    uint64_t runs = unit_scaled(300);
    for (uint64_t run = 0; run < runs; run++) {
        struct world w;
        begin(&w, unit_seed() + run, true);
        assert_true(settles(&w, 2000));
        for (unsigned k = 0; k < 40; k++) {
            trouble(&w, true);
            for (unsigned t = (unsigned)nb_random_below(&w.random, 60); t > 0; t--) {
                turn(&w);
            }
        }
        w.replicas =
            5; /* what a scale-down to fewer than a majority's volumes leaves behind waits */
        if (!settles(&w, 3000)) {
            tell(&w);
            fail_msg("run %llu of this seed does not settle at %u", (unsigned long long)run,
                     w.replicas);
        }
        assert_int_equal(w.founded, 1);
        changes += w.changes;
        replaced += w.replaced;
        removed += w.removed;
        machine_members_deinit(&w.members);
    }
    assert_true(changes > runs * 4 && replaced > runs / 4 && removed > runs); /* it did happen */
}

static void K07_whatever_is_lost_no_second_cluster_beside_a_volume_of_the_first(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < unit_scaled(300); run++) {
        struct world w;
        begin(&w, unit_seed() + run, run % 2 == 0);
        for (unsigned k = 0; k < 60; k++) {
            trouble(&w, false);
            for (unsigned t = (unsigned)nb_random_below(&w.random, 40); t > 0; t--) {
                turn(&w);
            }
        }
        machine_members_deinit(&w.members);
    }
}

static void three_to_five_to_three_and_five_to_one_settle(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {3, 5, 3, 5, 1, 4, 2, 3};
    struct world w;
    begin(&w, unit_seed(), true);
    for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
        w.replicas = sizes[i];
        assert_true(settles(&w, 2000));
    }
    machine_members_deinit(&w.members);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_to_five_to_three_and_five_to_one_settle),
        cmocka_unit_test(K07_M06_random_lives_settle_where_they_should),
        cmocka_unit_test(K07_whatever_is_lost_no_second_cluster_beside_a_volume_of_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
