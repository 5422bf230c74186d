#include "machine/members.h"

#include "tests/support/unit.h"

static struct machine_member member(uint64_t id, char **urls)
{
    return (struct machine_member){.id = id, .peer_urls = urls, .peer_url_count = 1};
}

static void members_stay_ordered_by_id(void **state)
{
    (void)state;
    struct machine_members m = {0};
    char *urls[] = {(char[]){"http://a:1"}};
    static const uint64_t ids[] = {5, 1, 9, 3};
    for (size_t i = 0; i < 4; i++) {
        struct machine_member one = member(ids[i], urls);
        machine_members_set(&m, &one);
    }
    static const uint64_t ordered[] = {1, 3, 5, 9};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(m.items[i].id, ordered[i]);
    }
    machine_members_deinit(&m);
}

static void a_list_survives_encoding(void **state)
{
    (void)state;
    struct machine_members m = {0}, copy = {0};
    char *urls[] = {(char[]){"http://a:1"}};
    struct machine_member one = member(7, urls), two = member(8, urls);
    two.is_learner = true;
    machine_members_set(&m, &one);
    machine_members_set(&m, &two);
    assert_true(machine_members_publish(&m, 7, "m7", urls, 1));
    assert_false(machine_members_publish(&m, 70, "m70", urls, 1));
    struct nb_buf b = {0};
    machine_members_encode(&m, &b);
    assert_int_equal(machine_members_apply(&copy, nb_buf_bytes(&b)), NB_OK);
    assert_int_equal(copy.count, 2);
    assert_string_equal(copy.items[0].name, "m7");
    assert_string_equal(copy.items[0].client_urls[0], "http://a:1");
    assert_string_equal(copy.items[1].name, "");
    assert_true(copy.items[1].is_learner);
    nb_buf_deinit(&b);
    machine_members_deinit(&m);
    machine_members_deinit(&copy);
}

static void M08_a_removed_id_never_returns(void **state)
{
    (void)state;
    struct machine_members m = {0};
    char *urls[] = {(char[]){"http://a:1"}};
    struct machine_member one = member(7, urls), two = member(8, urls);
    machine_members_set(&m, &one);
    machine_members_set(&m, &two);
    struct nb_buf both = {0}, rest = {0};
    machine_members_encode(&m, &both);
    machine_members_remove(&m, 8);
    machine_members_encode(&m, &rest);
    assert_int_equal(machine_members_apply(&m, nb_buf_bytes(&both)), NB_OK);
    assert_int_equal(m.count, 1);
    assert_true(machine_members_was_removed(&m, 8));
    nb_buf_deinit(&both);
    nb_buf_deinit(&rest);
    machine_members_deinit(&m);
}

static void a_cut_list_changes_nothing(void **state)
{
    (void)state;
    struct machine_members m = {0}, copy = {0};
    char *urls[] = {(char[]){"http://a:1"}};
    struct machine_member one = member(7, urls);
    machine_members_set(&m, &one);
    struct nb_buf b = {0};
    machine_members_encode(&m, &b);
    for (size_t len = 1; len < b.len; len++) {
        assert_int_not_equal(machine_members_apply(&copy, nb_bytes_of(b.data, len)), NB_OK);
        assert_int_equal(copy.count, 0);
    }
    nb_buf_deinit(&b);
    machine_members_deinit(&m);
    machine_members_deinit(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_stay_ordered_by_id),
        cmocka_unit_test(a_list_survives_encoding),
        cmocka_unit_test(M08_a_removed_id_never_returns),
        cmocka_unit_test(a_cut_list_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
