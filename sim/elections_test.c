/* How long a cluster that starts anew, or loses its leader, is without one, measured over many
 * seeds. [E04, E10, E13] */
#include "sim/cluster.h"
#include "tests/support/unit.h"

#include <stdlib.h>

enum {
    SEED_COUNT = 200,
    TIMEOUTS_MAX = 10,
    CUT_OFF_TIMEOUTS_MAX = 5,
    STEP_MS = 10,
    START_SPREAD_MS = 3000
};

/* What a seed alone decides. */
struct restart {
    unsigned member_count, down_count; /* those that stay down, less than half */
    bool power_lost, hurried;
    unsigned lost_per_mille;
};

static struct restart draw(struct sim *s)
{
    struct restart r = {.member_count = s->member_count};
    r.down_count = (unsigned)sim_below(s, (s->member_count + 1) / 2);
    r.power_lost = sim_chance(s, 500);
    r.hurried = sim_chance(s, 500);
    r.lost_per_mille = sim_chance(s, 300) ? 50 : 0;
    return r;
}

static void run(struct sim *s, uint64_t ns)
{
    if (!sim_run_for(s, ns)) {
        fail_msg("seed %llu: %s: %s", (unsigned long long)s->options.seed, s->report.rule,
                 s->report.text);
    }
}

/* A life before: terms, votes and logs that differ a little. */
static struct sim *lived(uint64_t seed)
{
    struct sim_options options = {.seed = seed, .member_count = seed % 2 == 0 ? 3 : 5};
    struct sim *s = sim_create(&options);
    s->quiet = true;
    for (unsigned i = 0; i < s->member_count; i++) {
        sim_member_start(&s->members[i]);
    }
    run(s, 5 * SIM_SECOND);
    for (unsigned i = 0; i < 20; i++) {
        struct sim_request put = {.kind = SIM_OP_PUT, .value = ++s->value_last};
        (void)sim_client_call(s, i % SIM_CLIENT_COUNT_MAX, i % s->member_count, &put);
        run(s, sim_below(s, 20 * SIM_MS));
    }
    return s;
}

/* Who is reached says so, as connections do. */
static void greet(struct sim *s, unsigned place)
{
    for (unsigned i = 0; i < s->member_count; i++) {
        if (i != place && s->members[i].alive) {
            replica_peer_up(s->members[i].replica, s->members[place].id);
            replica_peer_up(s->members[place].replica, s->members[i].id);
        }
    }
}

/* From the start of the member that makes a majority until one leads. */
static uint64_t leaderless_ns(uint64_t seed)
{
    struct sim *s = lived(seed);
    struct restart r = draw(s);
    uint64_t start_ns[SIM_MEMBER_COUNT_MAX] = {0}, quorum_ns = 0;
    for (unsigned i = 0; i < s->member_count; i++) {
        sim_member_stop(&s->members[i], r.power_lost);
        start_ns[i] = s->now_ns + sim_below(s, START_SPREAD_MS) * SIM_MS;
    }
    assert_int_equal(sim_leader(s), -1);
    s->network.lost_per_mille = r.lost_per_mille;
    unsigned up = 0;
    while (sim_leader(s) < 0) {
        for (unsigned i = r.down_count; i < s->member_count; i++) {
            if (!s->members[i].alive && s->now_ns >= start_ns[i]) {
                sim_member_start(&s->members[i]);
                if (r.hurried) {
                    greet(s, i);
                }
                if (++up == s->member_count / 2 + 1) {
                    quorum_ns = s->now_ns;
                }
            }
        }
        run(s, STEP_MS * SIM_MS);
        if (quorum_ns != 0 && s->now_ns - quorum_ns > 2 * TIMEOUTS_MAX * SIM_ELECTION_NS) {
            break; /* far too long: the caller says so */
        }
    }
    assert_true(quorum_ns != 0); /* no leader without a majority */
    uint64_t took = s->now_ns - quorum_ns;
    sim_destroy(s);
    return took;
}

/* From the moment at which the leader of a busy cluster is cut off until another one leads. */
static uint64_t cut_off_ns(uint64_t seed)
{
    struct sim *s = lived(seed);
    run(s, 3 * SIM_SECOND);
    int old = sim_leader(s);
    assert_true(old >= 0);
    uint64_t writing_ns = s->now_ns + sim_below(s, 200) * SIM_MS;
    while (s->now_ns < writing_ns) {
        struct sim_request put = {.kind = SIM_OP_PUT, .value = ++s->value_last};
        (void)sim_client_call(s, 0, (unsigned)old, &put);
        run(s, sim_below(s, 3 * SIM_MS));
    }
    for (unsigned i = 0; i < s->member_count; i++) {
        s->network.cut[old][i] = s->network.cut[i][old] = true;
    }
    uint64_t begin_ns = s->now_ns;
    while ((sim_leader(s) < 0 || sim_leader(s) == old) &&
           s->now_ns - begin_ns <= 2 * TIMEOUTS_MAX * SIM_ELECTION_NS) {
        run(s, STEP_MS * SIM_MS);
    }
    uint64_t took = s->now_ns - begin_ns;
    sim_destroy(s);
    return took;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The time that so many of a hundred runs did not exceed, of a sorted list. */
static double in_timeouts(const uint64_t took[SEED_COUNT], unsigned percent)
{
    unsigned rank = SEED_COUNT * percent / 100;
    return (double)took[rank] / (double)SIM_ELECTION_NS;
}

/* Measures with seeds that stay and fresh ones, says what was found, and holds it to a bound. */
static void measure(const char *what, uint64_t (*took_of)(uint64_t seed), unsigned timeouts_max)
{
    static uint64_t took[SEED_COUNT];
    uint64_t worst_seed = 0, worst = 0, first = unit_seed();
    for (unsigned i = 0; i < SEED_COUNT; i++) {
        uint64_t seed = i < SEED_COUNT / 2 ? i + 1 : first + i;
        took[i] = took_of(seed);
        if (took[i] > worst) {
            worst = took[i];
            worst_seed = seed;
        }
    }
    qsort(took, SEED_COUNT, sizeof took[0], by_size);
    print_message("%s: without a leader, in election timeouts: median %.2f, 90%% %.2f, 99%% %.2f, "
                  "worst %.2f (seed %llu)\n",
                  what, in_timeouts(took, 50), in_timeouts(took, 90), in_timeouts(took, 99),
                  (double)worst / (double)SIM_ELECTION_NS, (unsigned long long)worst_seed);
    assert_true(worst <= timeouts_max * SIM_ELECTION_NS);
}

static void E13_a_full_restart_has_a_leader_within_ten_timeouts_of_a_majority(void **state)
{
    (void)state;
    measure("full restart", leaderless_ns, TIMEOUTS_MAX);
}

static void E04_E10_a_leader_that_is_cut_off_is_followed_within_five_timeouts(void **state)
{
    (void)state;
    measure("leader cut off", cut_off_ns, CUT_OFF_TIMEOUTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(E13_a_full_restart_has_a_leader_within_ten_timeouts_of_a_majority),
        cmocka_unit_test(E04_E10_a_leader_that_is_cut_off_is_followed_within_five_timeouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
