#include "steward/stops.h"

#include "tests/support/unit.h"

/* A cluster as its leader, member 100 of slot ss-0, sees it. Ids: 100 + ordinal, 200 + ordinal for
 * those that come after. */
struct scene {
    struct steward_keeper keeper;
    struct machine_members members;
    struct steward_fact items[MACHINE_MEMBER_COUNT_MAX];
    struct steward_facts facts;
    struct steward_action action;
};

static const uint64_t second = 1000000000;

static void member(struct scene *s, uint64_t id, bool learner)
{
    char url[64];
    (void)snprintf(url, sizeof url, "http://ss-%u.svc.ns.svc:2380", (unsigned)(id % 100));
    char *urls[] = {url};
    char name[16];
    (void)snprintf(name, sizeof name, "ss-%u", (unsigned)(id % 100));
    struct machine_member m = {
        .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1, .is_learner = learner};
    machine_members_set(&s->members, &m);
    s->items[s->facts.count++] =
        (struct steward_fact){.id = id, .connected = true, .match_index = 1000, .boot_id = 1};
}

static struct scene *scene(unsigned voters)
{
    struct scene *s = nb_alloc_zero(1, sizeof *s);
    steward_keeper_init(&s->keeper, "ss", NULL);
    s->facts = (struct steward_facts){.now_ns = 1000 * second,
                                      .self_id = 100,
                                      .commit_index = 1000,
                                      .members = &s->members,
                                      .items = s->items};
    for (unsigned i = 0; i < voters; i++) {
        member(s, 100 + i, false);
    }
    return s;
}

static struct steward_fact *fact(struct scene *s, uint64_t id)
{
    for (size_t i = 0; i < s->facts.count; i++) {
        if (s->items[i].id == id) {
            return &s->items[i];
        }
    }
    fail();
    return NULL;
}

static void silent(struct scene *s, uint64_t id, uint64_t seconds)
{
    fact(s, id)->connected = false;
    fact(s, id)->silent_ns = seconds * second;
}

static const char *wish(struct scene *s, uint64_t id)
{
    static char words[STEWARD_WORDS_SIZE_MAX + 1];
    struct steward_card card = {
        .ordinal = (uint32_t)(id % 100), .state = STEWARD_EMPTY, .member_id = id};
    (void)snprintf(card.slot, sizeof card.slot, "ss-%u", (unsigned)(id % 100));
    (void)snprintf(card.peer_url, sizeof card.peer_url, "http://%s.svc.ns.svc:2380", card.slot);
    steward_keeper_wish(&s->keeper, &s->facts, &card, words);
    return words;
}

static void scale_to(struct scene *s, uint32_t replicas)
{
    s->facts.scale.known = true;
    s->facts.scale.replicas = replicas;
    s->facts.scale_reads++;
}

static enum steward_action_kind turn(struct scene *s)
{
    steward_action_deinit(&s->action);
    steward_keeper_turn(&s->keeper, &s->facts, &s->action);
    return s->action.kind;
}

static enum steward_action_kind turns(struct scene *s, unsigned count)
{
    enum steward_action_kind kind = STEWARD_REST;
    for (unsigned i = 0; i < count && kind == STEWARD_REST; i++) {
        kind = turn(s);
    }
    return kind;
}

static bool targets(struct scene *s, uint64_t id, bool learner)
{
    const struct machine_member *m = machine_members_find(&s->action.target, id);
    return m != NULL && m->is_learner == learner;
}

static void end(struct scene *s)
{
    steward_action_deinit(&s->action);
    machine_members_deinit(&s->members);
    nb_free(s);
}

static void M05_a_new_slot_becomes_a_learner_first(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    (void)wish(s, 103);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    assert_true(targets(s, 103, true) && s->action.target.count == 4);
    end(s);
}

static void M05_a_learner_is_promoted_after_rounds_of_being_caught_up(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    member(s, 103, true);
    fact(s, 103)->match_index = 10;
    assert_int_equal(turns(s, 10), STEWARD_REST);
    fact(s, 103)->match_index = 990;
    assert_int_equal(turns(s, 2), STEWARD_REST);
    assert_int_equal(turn(s), STEWARD_PROMOTE);
    assert_true(targets(s, 103, false));
    end(s);
}

static void M05_a_learner_that_has_not_started_is_not_promoted(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    member(s, 103, true);
    assert_true(machine_members_publish(&s->members, 103, "", NULL, 0));
    assert_int_equal(turns(s, 10), STEWARD_REST);
    end(s);
}

static void K04_M06_a_lost_member_is_replaced_in_one_change(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    silent(s, 102, 5);
    assert_non_null(strstr(wish(s, 202), "heard lately"));
    assert_int_equal(turn(s), STEWARD_REST);
    silent(s, 102, 10);
    (void)wish(s, 202);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    assert_true(targets(s, 102, false) && targets(s, 202, true));
    member(s, 202, true);
    assert_int_equal(turns(s, 3), STEWARD_REPLACE);
    assert_true(targets(s, 202, false) && s->action.target.count == 3 && s->action.other_id == 102);
    end(s);
}

static void K04_an_address_that_is_another_process_now_needs_no_waiting(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    silent(s, 102, 1);
    fact(s, 102)->lost = true;
    (void)wish(s, 202);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    end(s);
}

static void K05_a_second_process_of_a_connected_slot_is_refused(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    assert_non_null(strstr(wish(s, 202), "which is connected"));
    assert_int_equal(turn(s), STEWARD_REST);
    member(s, 202, true); /* and if it got in while the other was away, it goes again */
    assert_int_equal(turn(s), STEWARD_REMOVE);
    assert_null(machine_members_find(&s->action.target, 202));
    end(s);
}

static void M02_nothing_happens_while_a_change_is_in_flight(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    s->facts.in_flight = true;
    (void)wish(s, 103);
    steward_keeper_leave(&s->keeper, 102, 0);
    assert_int_equal(turn(s), STEWARD_REST);
    end(s);
}

static void one_catch_up_at_a_time(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    member(s, 103, true);
    fact(s, 103)->match_index = 0;
    assert_non_null(strstr(wish(s, 104), "one at a time"));
    assert_int_equal(turn(s), STEWARD_REST);
    end(s);
}

static void a_lost_member_is_replaced_before_the_cluster_grows(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    silent(s, 102, 20);
    (void)wish(s, 101 + 2);
    (void)wish(s, 202);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    assert_true(s->action.id == 202);
    end(s);
}

static void a_learner_whose_process_is_gone_is_dropped_after_a_while(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    member(s, 103, true);
    silent(s, 103, 59);
    assert_int_equal(turn(s), STEWARD_REST);
    silent(s, 103, 60);
    assert_int_equal(turn(s), STEWARD_REMOVE);
    end(s);
}

static void a_learner_that_lost_its_volume_makes_room_at_once(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    member(s, 103, true);
    silent(s, 103, 10);
    (void)wish(s, 203);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    assert_true(targets(s, 203, true) && machine_members_find(&s->action.target, 103) == NULL);
    end(s);
}

static void M08_a_removed_id_is_never_added(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    machine_members_remove(&s->members, 102);
    s->facts.count--;
    assert_non_null(strstr(wish(s, 102), "removed"));
    assert_int_equal(turn(s), STEWARD_REST);
    end(s);
}

static void a_wish_that_is_not_repeated_is_forgotten(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    (void)wish(s, 103);
    s->facts.now_ns += 4 * second;
    assert_int_equal(turn(s), STEWARD_REST);
    end(s);
}

static void five_to_one_is_one_change(void **state)
{
    (void)state;
    struct scene *s = scene(5);
    for (uint64_t id = 101; id < 105; id++) {
        steward_keeper_leave(&s->keeper, id, s->facts.now_ns);
    }
    assert_int_equal(turn(s), STEWARD_REST); /* gathers */
    s->facts.now_ns += second;
    assert_int_equal(turn(s), STEWARD_REMOVE);
    assert_true(s->action.target.count == 1 && targets(s, 100, false));
    end(s);
}

static void M12_a_leader_that_leaves_hands_over_first(void **state)
{
    (void)state;
    struct scene *s = scene(5);
    s->facts.self_id = 104;
    scale_to(s, 3);
    fact(s, 101)->match_index = 2000;
    fact(s, 103)->match_index = 3000; /* is out of range itself */
    steward_keeper_leave(&s->keeper, 104, 0);
    assert_int_equal(turn(s), STEWARD_HAND_OVER);
    assert_true(s->action.id == 101);
    end(s);
}

static void M07_leaving_never_takes_the_quorum(void **state)
{
    (void)state;
    struct scene *s = scene(5);
    silent(s, 101, 5);
    for (uint64_t id = 102; id < 105; id++) {
        steward_keeper_leave(&s->keeper, id, 0);
    }
    assert_int_equal(turn(s), STEWARD_REMOVE); /* two can go, the third is needed */
    assert_true(s->action.target.count == 3 && targets(s, 102, false));
    end(s);
    s = scene(2);
    silent(s, 101, 5);
    steward_keeper_leave(&s->keeper, 100, 0);
    assert_int_equal(turn(s), STEWARD_REST);
    end(s);
    s = scene(1);
    steward_keeper_leave(&s->keeper, 100, 0);
    assert_int_equal(turn(s), STEWARD_REST); /* the last one stays */
    end(s);
}

static void silent_pods_out_of_range_go_after_two_reads(void **state)
{
    (void)state;
    struct scene *s = scene(5);
    silent(s, 103, 29);
    silent(s, 104, 31);
    scale_to(s, 3);
    assert_int_equal(turns(s, 3), STEWARD_REST);
    scale_to(s, 3);
    assert_int_equal(turn(s), STEWARD_REMOVE);
    assert_true(s->action.target.count == 4);
    assert_null(machine_members_find(&s->action.target, 104));
    end(s);
}

static void replicas_0_deletion_and_silence_of_the_api_remove_nobody(void **state)
{
    (void)state;
    for (unsigned how = 0; how < 3; how++) {
        struct scene *s = scene(5);
        silent(s, 104, 100);
        for (unsigned i = 0; i < 5; i++) {
            scale_to(s, how == 0 ? 0 : 3);
            s->facts.scale.deleting = how == 1;
            s->facts.scale.known = how != 2;
            assert_int_equal(turn(s), STEWARD_REST);
        }
        end(s);
    }
}

static void members_added_by_hand_are_left_alone(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    char url[] = "http://backup.example:2380";
    char name[] = "b";
    char *urls[] = {url};
    struct machine_member m = {
        .id = 500, .name = name, .peer_urls = urls, .peer_url_count = 1, .is_learner = true};
    machine_members_set(&s->members, &m);
    s->items[s->facts.count++] = (struct steward_fact){.id = 500, .match_index = 1000};
    silent(s, 500, 1000);
    scale_to(s, 3);
    assert_int_equal(turns(s, 5), STEWARD_REST);
    (void)wish(s, 103);
    end(s);
}

static void a_pod_beyond_the_replicas_is_not_let_in(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    scale_to(s, 3);
    assert_non_null(strstr(wish(s, 103), "beyond"));
    assert_int_equal(turn(s), STEWARD_REST);
    scale_to(s, 4);
    assert_int_equal(turn(s), STEWARD_ADD_LEARNER);
    end(s);
}

static void K10_two_stop_at_once_and_the_second_waits(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    struct steward_stops stops;
    char words[STEWARD_WORDS_SIZE_MAX + 1];
    steward_stops_init(&stops);
    assert_true(steward_stops_ask(&stops, &s->facts, 101, 1, words));
    assert_false(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    assert_true(words[0] != '\0');
    assert_true(steward_stops_ask(&stops, &s->facts, 101, 1, words)); /* asked again */
    silent(s, 101, 3);
    s->facts.now_ns += 3 * second;
    assert_false(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    fact(s, 101)->connected = true; /* is back, and catches up */
    fact(s, 101)->boot_id = 2;
    fact(s, 101)->match_index = 0;
    s->facts.now_ns += 300 * second; /* however long that takes */
    assert_false(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    fact(s, 101)->match_index = 1000;
    assert_true(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    end(s);
}

static void a_grant_that_is_not_used_expires(void **state)
{
    (void)state;
    struct scene *s = scene(3);
    struct steward_stops stops;
    char words[STEWARD_WORDS_SIZE_MAX + 1];
    steward_stops_init(&stops);
    steward_stops_note(&stops, 101, 1, s->facts.now_ns);
    assert_false(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    s->facts.now_ns += 31 * second;
    assert_true(steward_stops_ask(&stops, &s->facts, 102, 1, words));
    end(s);
}

static void a_cluster_that_can_miss_nobody_lets_go_at_once(void **state)
{
    (void)state;
    struct scene *s = scene(2);
    struct steward_stops stops;
    char words[STEWARD_WORDS_SIZE_MAX + 1];
    steward_stops_init(&stops);
    assert_true(steward_stops_ask(&stops, &s->facts, 101, 1, words));
    end(s);
    s = scene(3);
    member(s, 103, true);
    silent(s, 101, 1);
    assert_true(steward_stops_ask(&stops, &s->facts, 103, 1, words)); /* a learner holds nothing */
    end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(M05_a_new_slot_becomes_a_learner_first),
        cmocka_unit_test(M05_a_learner_is_promoted_after_rounds_of_being_caught_up),
        cmocka_unit_test(M05_a_learner_that_has_not_started_is_not_promoted),
        cmocka_unit_test(K04_M06_a_lost_member_is_replaced_in_one_change),
        cmocka_unit_test(K04_an_address_that_is_another_process_now_needs_no_waiting),
        cmocka_unit_test(K05_a_second_process_of_a_connected_slot_is_refused),
        cmocka_unit_test(M02_nothing_happens_while_a_change_is_in_flight),
        cmocka_unit_test(one_catch_up_at_a_time),
        cmocka_unit_test(a_lost_member_is_replaced_before_the_cluster_grows),
        cmocka_unit_test(a_learner_whose_process_is_gone_is_dropped_after_a_while),
        cmocka_unit_test(a_learner_that_lost_its_volume_makes_room_at_once),
        cmocka_unit_test(M08_a_removed_id_is_never_added),
        cmocka_unit_test(a_wish_that_is_not_repeated_is_forgotten),
        cmocka_unit_test(five_to_one_is_one_change),
        cmocka_unit_test(M12_a_leader_that_leaves_hands_over_first),
        cmocka_unit_test(M07_leaving_never_takes_the_quorum),
        cmocka_unit_test(silent_pods_out_of_range_go_after_two_reads),
        cmocka_unit_test(replicas_0_deletion_and_silence_of_the_api_remove_nobody),
        cmocka_unit_test(members_added_by_hand_are_left_alone),
        cmocka_unit_test(a_pod_beyond_the_replicas_is_not_let_in),
        cmocka_unit_test(K10_two_stop_at_once_and_the_second_waits),
        cmocka_unit_test(a_grant_that_is_not_used_expires),
        cmocka_unit_test(a_cluster_that_can_miss_nobody_lets_go_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
