#include "steward/founding.h"

#include "tests/support/unit.h"

enum { PODS = 5 };

struct scene {
    struct steward_probe probes[PODS];
    struct steward_search search;
    struct steward_decision decision;
};

static void card(struct scene *s, uint32_t ordinal, enum steward_state state, uint64_t cluster_id)
{
    struct steward_probe *p = &s->probes[s->search.probe_count++];
    *p = (struct steward_probe){.ordinal = ordinal, .heard = STEWARD_HEARD_CARD};
    p->card = (struct steward_card){
        .ordinal = ordinal, .state = state, .cluster_id = cluster_id, .member_id = 100 + ordinal};
    (void)snprintf(p->card.slot, sizeof p->card.slot, "ss-%u", ordinal);
}

static void silence(struct scene *s, uint32_t ordinal)
{
    s->probes[s->search.probe_count++] = (struct steward_probe){.ordinal = ordinal};
}

static struct scene scene_of(uint32_t ordinal)
{
    struct scene s = {0};
    s.search = (struct steward_search){
        .slot = "ss", .ordinal = ordinal, .member_id = 1, .replicas_expected = 3};
    return s;
}

static enum steward_move decide(struct scene *s)
{
    s->search.probes = s->probes;
    steward_decide(&s->search, &s->decision);
    assert_true(s->decision.words[0] != '\0');
    return s->decision.move;
}

static void K07_pod_0_founds_when_all_others_are_empty(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    card(&s, 1, STEWARD_EMPTY, 0);
    assert_int_equal(decide(&s), STEWARD_WAIT); /* a majority is not enough */
    silence(&s, 2);
    assert_int_equal(decide(&s), STEWARD_WAIT);
    card(&s, 2, STEWARD_EMPTY, 0);
    assert_int_equal(decide(&s), STEWARD_FOUND);
}

/* The API falls silent after it was read: what it said before still holds back. */
static void K07_an_annotation_read_before_the_api_fell_silent_still_counts(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    card(&s, 1, STEWARD_EMPTY, 0);
    card(&s, 2, STEWARD_EMPTY, 0);
    s.search.scale = (struct steward_scale){.replicas = 3, .cluster_id = 42};
    assert_int_equal(decide(&s), STEWARD_WAIT);
    assert_non_null(strstr(s.decision.words, "not founding a second one"));
    s.search.scale = (struct steward_scale){.replicas = 5};
    assert_int_equal(decide(&s), STEWARD_WAIT); /* 3 and 4 did not answer */
    s.search.scale = (struct steward_scale){.replicas = 1};
    assert_int_equal(decide(&s), STEWARD_FOUND);
}

static void K07_only_pod_0_founds(void **state)
{
    (void)state;
    struct scene s = scene_of(1);
    card(&s, 0, STEWARD_EMPTY, 0);
    card(&s, 2, STEWARD_EMPTY, 0);
    assert_int_equal(decide(&s), STEWARD_WAIT);
}

static void K01_another_pod_at_the_address_is_no_answer(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    card(&s, 1, STEWARD_EMPTY, 0);
    card(&s, 2, STEWARD_EMPTY, 0);
    s.probes[1].card.ordinal = 1; /* the name of pod 2 leads to pod 1 */
    assert_int_equal(decide(&s), STEWARD_WAIT);
}

static void K07_one_that_knows_a_cluster_ends_all_founding(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    card(&s, 1, STEWARD_EMPTY, 0);
    card(&s, 2, STEWARD_JOINING, 42);
    assert_int_equal(decide(&s), STEWARD_WAIT);
    assert_non_null(strstr(s.decision.words, "no leader"));
}

static void K07_an_annotation_without_members_founds_nothing_and_says_so(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    s.search.scale = (struct steward_scale){.known = true, .replicas = 1, .cluster_id = 42};
    assert_int_equal(decide(&s), STEWARD_WAIT);
    assert_non_null(strstr(s.decision.words, "not founding a second one"));
    s.search.scale.cluster_id = 0;
    assert_int_equal(decide(&s), STEWARD_FOUND);
}

static void the_api_says_how_many_pods_are_expected(void **state)
{
    (void)state;
    struct scene s = scene_of(0);
    card(&s, 1, STEWARD_EMPTY, 0);
    card(&s, 2, STEWARD_EMPTY, 0);
    s.search.scale = (struct steward_scale){.known = true, .replicas = 5};
    assert_int_equal(decide(&s), STEWARD_WAIT);
    card(&s, 3, STEWARD_EMPTY, 0);
    card(&s, 4, STEWARD_EMPTY, 0);
    assert_int_equal(decide(&s), STEWARD_FOUND);
    s.search.scale.known = false;
    s.search.api_awaited = true;
    assert_int_equal(decide(&s), STEWARD_WAIT);
}

static void K04_a_cluster_is_joined_when_a_member_says_so(void **state)
{
    (void)state;
    struct scene s = scene_of(2);
    card(&s, 0, STEWARD_MEMBER, 42);
    s.probes[0].card.leader_id = 100;
    assert_int_equal(decide(&s), STEWARD_WAIT);
    s.probes[0].card.you_are_member = true;
    assert_int_equal(decide(&s), STEWARD_JOIN);
    assert_true(s.decision.cluster_id == 42);
    s.probes[0].card.state = STEWARD_JOINING; /* who holds no configuration cannot know */
    assert_int_equal(decide(&s), STEWARD_WAIT);
}

static void M08_a_removed_id_is_given_up(void **state)
{
    (void)state;
    struct scene s = scene_of(2);
    card(&s, 0, STEWARD_MEMBER, 42);
    card(&s, 1, STEWARD_MEMBER, 42);
    s.probes[0].card.you_are_member = true; /* it lags behind */
    s.probes[1].card.you_were_removed = true;
    assert_int_equal(decide(&s), STEWARD_RENEW_ID);
}

static void the_annotated_cluster_comes_before_others(void **state)
{
    (void)state;
    struct scene s = scene_of(2);
    card(&s, 0, STEWARD_MEMBER, 41);
    card(&s, 1, STEWARD_MEMBER, 42);
    s.probes[0].card.you_are_member = s.probes[1].card.you_are_member = true;
    s.search.scale = (struct steward_scale){.known = true, .replicas = 3, .cluster_id = 42};
    assert_int_equal(decide(&s), STEWARD_JOIN);
    assert_true(s.decision.cluster_id == 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(K07_pod_0_founds_when_all_others_are_empty),
        cmocka_unit_test(K07_only_pod_0_founds),
        cmocka_unit_test(K07_an_annotation_read_before_the_api_fell_silent_still_counts),
        cmocka_unit_test(K01_another_pod_at_the_address_is_no_answer),
        cmocka_unit_test(K07_one_that_knows_a_cluster_ends_all_founding),
        cmocka_unit_test(K07_an_annotation_without_members_founds_nothing_and_says_so),
        cmocka_unit_test(the_api_says_how_many_pods_are_expected),
        cmocka_unit_test(K04_a_cluster_is_joined_when_a_member_says_so),
        cmocka_unit_test(M08_a_removed_id_is_given_up),
        cmocka_unit_test(the_annotated_cluster_comes_before_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
