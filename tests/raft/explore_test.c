/* Every order of events of small groups, up to bounds; see explore.h. */
#include "tests/raft/explore.h"
#include "tests/support/unit.h"

#include <inttypes.h>

static uint64_t states_seen;

/* True when nothing was left to look at. */
static bool look_with(struct group_report *report, struct explore_options o)
{
    o.report = report;
    struct explore_result r = explore(&o);
    (void)fprintf(stderr,
                  "%-28s %9" PRIu64 " states %10" PRIu64 " transitions %7" PRIu64
                  " member states %6" PRIu64 " messages%s\n",
                  o.name, r.states, r.transitions, r.member_states, r.messages,
                  r.complete ? ", complete" : "");
    assert_true(r.complete || r.states >= o.state_max);
    states_seen += r.states;
    return r.complete;
}

static void look_at(struct explore_options o)
{
    struct group_report report = {0};
    o.state_max = (uint32_t)unit_scaled(o.state_max);
    (void)look_with(&report, o);
}

static void two_members(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "two members",
                                     .voter_count = 2,
                                     .term_max = 3,
                                     .index_max = 4,
                                     .wire_max = 4,
                                     .crash_max = 2,
                                     .duplicate_max = 1,
                                     .read_max = 1,
                                     .state_max = 2000000});
}

static void three_members(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "three members",
                                     .voter_count = 3,
                                     .term_max = 3,
                                     .index_max = 3,
                                     .wire_max = 5,
                                     .crash_max = 1,
                                     .duplicate_max = 1,
                                     .state_max = 2000000});
}

static void three_members_with_pre_vote(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "three members, pre-vote",
                                     .voter_count = 3,
                                     .term_max = 2,
                                     .index_max = 2,
                                     .wire_max = 5,
                                     .crash_max = 1,
                                     .read_max = 1,
                                     .pre_vote = true,
                                     .state_max = 700000});
}

static void changes_of_members(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "two members and a third",
                                     .voter_count = 2,
                                     .spare_count = 1,
                                     .term_max = 3,
                                     .index_max = 5,
                                     .wire_max = 3,
                                     .conf_max = 2,
                                     .state_max = 1500000});
}

static void snapshots(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "two members, snapshots",
                                     .voter_count = 2,
                                     .term_max = 3,
                                     .index_max = 4,
                                     .wire_max = 4,
                                     .crash_max = 1,
                                     .duplicate_max = 1,
                                     .compact_max = 2,
                                     .state_max = 700000});
}

static void learners(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "two voters and a learner",
                                     .voter_count = 3,
                                     .learner_count = 1,
                                     .term_max = 2,
                                     .index_max = 3,
                                     .wire_max = 4,
                                     .crash_max = 1,
                                     .conf_max = 1,
                                     .read_max = 1,
                                     .state_max = 500000});
}

/* Everything that can happen within bounds so tight that nothing is left to look at. */
static void small_groups_to_the_end(void **state)
{
    (void)state;
    enum { MANY = 400000 };
    static const struct explore_options small[] = {
        {.name = "two, crash, to the end",
         .voter_count = 2,
         .term_max = 2,
         .index_max = 1,
         .wire_max = 2,
         .crash_max = 1},
        {.name = "two, two entries, to the end",
         .voter_count = 2,
         .term_max = 1,
         .index_max = 2,
         .wire_max = 2},
        {.name = "two, two terms, to the end",
         .voter_count = 2,
         .term_max = 2,
         .index_max = 2,
         .wire_max = 2},
        {.name = "two, a read, to the end",
         .voter_count = 2,
         .term_max = 1,
         .index_max = 1,
         .wire_max = 2,
         .read_max = 1,
         .duplicate_max = 1},
        {.name = "two, pre-vote, to the end",
         .voter_count = 2,
         .term_max = 2,
         .index_max = 1,
         .wire_max = 2,
         .pre_vote = true},
        {.name = "three, to the end",
         .voter_count = 3,
         .term_max = 1,
         .index_max = 1,
         .wire_max = 2},
        {.name = "two, snapshots, to the end",
         .voter_count = 2,
         .term_max = 1,
         .index_max = 2,
         .wire_max = 2,
         .compact_max = 1},
    };
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++) {
        struct group_report report = {0};
        struct explore_options o = small[i];
        o.state_max = MANY;
        assert_true(look_with(&report, o));
    }
}

static void figure_8(void **state)
{
    (void)state;
    look_at((struct explore_options){.name = "three members, figure 8",
                                     .voter_count = 3,
                                     .term_max = 5,
                                     .index_max = 4,
                                     .wire_max = 3,
                                     .figure_8 = true,
                                     .state_max = 2000000});
}

/* Voter 2 is about to become a learner and campaigns still, as it may [thesis 4.2.2]. The vote that
 * elects it is on its way while 1, now the only voter, elects itself in a newer term and commits:
 * a leader lacks only what newer terms committed [Raft 5.4.3]. */
static void a_leader_elected_late_may_lack_what_newer_terms_committed(void **state)
{
    (void)state;
    struct group_report report = {0};
    (void)look_with(&report, (struct explore_options){.name = "two members, one on its way out",
                                                      .voter_count = 2,
                                                      .demotion = true,
                                                      .term_max = 3,
                                                      .index_max = 3,
                                                      .wire_max = 3,
                                                      .crash_max = 1,
                                                      .state_max = 300000});
    assert_true(report.late_leaders > 0);
}

static void millions_of_states_were_seen(void **state)
{
    (void)state;
    (void)fprintf(stderr, "distinct states in all: %" PRIu64 "\n", states_seen);
    assert_true(states_seen >= unit_scaled(3000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_members),
        cmocka_unit_test(three_members),
        cmocka_unit_test(three_members_with_pre_vote),
        cmocka_unit_test(changes_of_members),
        cmocka_unit_test(snapshots),
        cmocka_unit_test(learners),
        cmocka_unit_test(small_groups_to_the_end),
        cmocka_unit_test(figure_8),
        cmocka_unit_test(a_leader_elected_late_may_lack_what_newer_terms_committed),
        cmocka_unit_test(millions_of_states_were_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
