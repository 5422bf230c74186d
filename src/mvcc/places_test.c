#include "mvcc/places.h"

#include "tests/support/unit.h"

static const uint8_t bytes[64];

static struct mvcc_version revision(int64_t main)
{
    return (struct mvcc_version){.main = main};
}

static void L1_what_was_remembered_is_found_until_the_view_changes(void **state)
{
    (void)state;
    struct mvcc_places p = {0};
    struct nb_bytes value;
    mvcc_places_put(&p, revision(2), nb_bytes_of(bytes, 3)); /* no table yet: nothing happens */
    assert_false(mvcc_places_get(&p, revision(2), &value));
    mvcc_places_size(&p, 10);
    mvcc_places_put(&p, revision(2), nb_bytes_of(bytes, 3));
    assert_true(mvcc_places_get(&p, revision(2), &value));
    assert_ptr_equal(value.data, bytes);
    assert_int_equal(value.len, 3);
    mvcc_places_forget(&p);
    assert_false(mvcc_places_get(&p, revision(2), &value));
    mvcc_places_fetch_slot(&p, revision(2)); /* stale addresses are for hints only */
    mvcc_places_fetch_value(&p, revision(2));
    mvcc_places_deinit(&p);
}

static void L1_views_whose_numbers_come_again_share_nothing(void **state)
{
    (void)state;
    struct mvcc_places p = {0};
    struct nb_bytes value;
    mvcc_places_size(&p, 10);
    mvcc_places_put(&p, revision(5), nb_bytes_of(bytes, 1));
    for (unsigned i = 0; i <= UINT16_MAX; i++) {
        mvcc_places_forget(&p);
        assert_false(mvcc_places_get(&p, revision(5), &value));
    }
    mvcc_places_deinit(&p);
}

static void L1_rows_that_share_a_slot_are_not_mistaken(void **state)
{
    (void)state;
    struct mvcc_places p = {0};
    struct nb_bytes value;
    mvcc_places_size(&p, UINT64_MAX);
    assert_int_equal(p.count, MVCC_PLACES_COUNT_MAX);
    mvcc_places_put(&p, revision(7), nb_bytes_of(bytes, 1));
    struct mvcc_version second = {.main = 7, .sub = 1};
    mvcc_places_put(&p, second, nb_bytes_of(bytes, 2));
    assert_false(mvcc_places_get(&p, second, &value));
    assert_true(mvcc_places_get(&p, revision(7), &value));
    assert_int_equal(value.len, 1);
    for (int64_t i = 1; i <= 4; i++) { /* as many as there is room for take its place */
        assert_true(mvcc_places_get(&p, revision(7), &value));
        struct mvcc_version other = revision(7 + i * MVCC_PLACES_COUNT_MAX);
        mvcc_places_put(&p, other, nb_bytes_of(bytes, 1 + (size_t)i));
        assert_true(mvcc_places_get(&p, other, &value));
        assert_int_equal(value.len, 1 + i);
    }
    assert_false(mvcc_places_get(&p, revision(7), &value));
    /* What has no room in a slot is not remembered at all. */
    mvcc_places_put(&p, revision(8), nb_bytes_of(bytes, (size_t)UINT16_MAX + 1));
    assert_false(mvcc_places_get(&p, revision(8), &value));
    mvcc_places_put(&p, revision(INT64_MAX), nb_bytes_of(bytes, 1));
    assert_false(mvcc_places_get(&p, revision(INT64_MAX), &value));
    mvcc_places_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(L1_what_was_remembered_is_found_until_the_view_changes),
        cmocka_unit_test(L1_views_whose_numbers_come_again_share_nothing),
        cmocka_unit_test(L1_rows_that_share_a_slot_are_not_mistaken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
