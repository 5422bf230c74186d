#include "machine/state.h"

#include "base/random.h"
#include "tests/support/unit.h"

static void add_member(struct machine_state *s, uint64_t id, bool learner)
{
    char name[] = "n", url[] = "http://h:2380";
    char *urls[] = {url};
    machine_members_set(
        &s->members,
        &(struct machine_member){
            .id = id, .name = name, .peer_urls = urls, .peer_url_count = 1, .is_learner = learner});
}

static void draw_state(struct nb_random *random, struct machine_state *s)
{
    *s = (struct machine_state){.applied_index = nb_random_u64(random),
                                .applied_term = nb_random_u64(random),
                                .log_hash = nb_random_u64(random),
                                .conf_index = nb_random_below(random, 5)};
    for (uint64_t i = nb_random_below(random, 40); i-- > 0;) {
        uint8_t byte = (uint8_t)nb_random_u64(random);
        nb_buf_append(&s->conf, &byte, 1);
    }
    for (uint64_t i = nb_random_below(random, 6); i-- > 0;) {
        add_member(s, 1 + nb_random_u64(random) / 2, nb_random_chance(random, 1, 2));
    }
    for (uint64_t i = nb_random_below(random, 4); i-- > 0;) {
        uint64_t id = 1 + nb_random_below(random, 1000);
        add_member(s, id, false);
        machine_members_remove(&s->members, id);
    }
    for (uint64_t i = nb_random_below(random, 5); i-- > 0;) {
        machine_state_alarm_add(
            s, &(struct machine_alarm_member){.member_id = 1 + nb_random_below(random, 9),
                                              .alarm = 1 + (uint32_t)nb_random_below(random, 2)});
    }
    (void)snprintf(s->cluster_version, sizeof s->cluster_version, "3.%u.0",
                   (unsigned)nb_random_below(random, 100));
}

static void M10_the_state_survives_its_encoding_to_the_byte(void **state)
{
    (void)state;
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    for (uint64_t round = unit_scaled(2000); round-- > 0;) {
        struct machine_state s, back = {0};
        struct nb_buf first = {0}, second = {0};
        draw_state(&random, &s);
        machine_state_encode(&s, &first);
        assert_int_equal(machine_state_decode(nb_buf_bytes(&first), &back), NB_OK);
        machine_state_encode(&back, &second);
        assert_true(nb_bytes_equal(nb_buf_bytes(&first), nb_buf_bytes(&second)));
        assert_int_equal(back.applied_index, s.applied_index);
        assert_int_equal(back.log_hash, s.log_hash);
        assert_int_equal(back.members.count, s.members.count);
        assert_int_equal(back.members.removed_count, s.members.removed_count);
        assert_int_equal(back.alarm_count, s.alarm_count);
        assert_string_equal(back.cluster_version, s.cluster_version);
        machine_state_deinit(&s);
        machine_state_deinit(&back);
        nb_buf_deinit(&first);
        nb_buf_deinit(&second);
    }
}

static void K18_a_state_of_another_format_is_refused(void **state)
{
    (void)state;
    struct machine_state back = {0};
    uint8_t two[] = {1 << 3, 2};
    assert_int_equal(machine_state_decode(nb_bytes_of(two, sizeof two), &back), NB_VERSION);
    assert_int_equal(machine_state_decode((struct nb_bytes){0}, &back), NB_VERSION);
    machine_state_deinit(&back);
}

static void a_state_cut_short_is_refused(void **state)
{
    (void)state;
    struct nb_random random;
    struct machine_state s;
    struct nb_buf whole = {0};
    nb_random_init(&random, 7);
    draw_state(&random, &s);
    machine_state_encode(&s, &whole);
    struct machine_state back = {0};
    /* The version text stands last: any cut goes through it. */
    assert_int_not_equal(machine_state_decode(nb_bytes_of(whole.data, whole.len - 1), &back),
                         NB_OK);
    machine_state_deinit(&back);
    machine_state_deinit(&s);
    nb_buf_deinit(&whole);
}

static void alarms_are_a_sorted_set_with_a_bound(void **state)
{
    (void)state;
    struct machine_state s = {0};
    for (uint64_t id = 200; id > 0; id--) {
        struct machine_alarm_member a = {.member_id = id, .alarm = 1 + (uint32_t)(id % 2)};
        machine_state_alarm_add(&s, &a);
        machine_state_alarm_add(&s, &a); /* twice is once */
    }
    assert_int_equal(s.alarm_count, MACHINE_ALARM_COUNT_MAX);
    for (size_t i = 1; i < s.alarm_count; i++) {
        assert_true(s.alarms[i - 1].alarm < s.alarms[i].alarm ||
                    (s.alarms[i - 1].alarm == s.alarms[i].alarm &&
                     s.alarms[i - 1].member_id < s.alarms[i].member_id));
    }
    struct machine_alarm_member gone = s.alarms[3];
    assert_true(machine_state_alarm_remove(&s, &gone));
    assert_false(machine_state_alarm_remove(&s, &gone));
    assert_int_equal(s.alarm_count, MACHINE_ALARM_COUNT_MAX - 1);
    machine_state_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(M10_the_state_survives_its_encoding_to_the_byte),
        cmocka_unit_test(K18_a_state_of_another_format_is_refused),
        cmocka_unit_test(a_state_cut_short_is_refused),
        cmocka_unit_test(alarms_are_a_sorted_set_with_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
