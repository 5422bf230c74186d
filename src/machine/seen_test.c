#include "machine/seen.h"

#include "base/random.h"
#include "tests/support/unit.h"

static const uint64_t boot = UINT64_C(0x1234567890abcdef);

static void R22_an_id_counts_once(void **state)
{
    (void)state;
    struct machine_seen s = {0};
    assert_true(machine_seen_add(&s, 1, boot, 1));
    assert_false(machine_seen_add(&s, 1, boot, 2));
    assert_true(machine_seen_add(&s, 2, boot, 3)); /* another origin's */
    assert_true(machine_seen_add(&s, 1, boot + 2, 4));
    assert_true(machine_seen_add(&s, 1, boot + 1, 5)); /* overtaken */
    assert_true(machine_seen_add(&s, 1, boot - 1, 6)); /* the first one of all was overtaken */
    assert_false(machine_seen_add(&s, 1, boot + 1, 7));
    assert_false(machine_seen_add(&s, 1, boot - 1, 8));
    assert_int_equal(s.count, 2);
    machine_seen_deinit(&s);
}

static void R22_no_id_is_always_new(void **state)
{
    (void)state;
    struct machine_seen s = {0};
    assert_true(machine_seen_add(&s, 1, 0, 1));
    assert_true(machine_seen_add(&s, 1, 0, 2));
    assert_int_equal(s.count, 0);
    machine_seen_deinit(&s);
}

static void R22_what_is_too_old_to_tell_does_not_count(void **state)
{
    (void)state;
    struct machine_seen s = {0};
    assert_true(machine_seen_add(&s, 1, boot, 1));
    assert_true(machine_seen_add(&s, 1, boot + MACHINE_SEEN_WINDOW, 2));
    assert_false(machine_seen_add(&s, 1, boot, 3));
    assert_true(machine_seen_add(&s, 1, boot + 1, 4)); /* the oldest that can be told */
    assert_true(machine_seen_add(&s, 1, boot + 10 * MACHINE_SEEN_WINDOW, 5));
    assert_true(machine_seen_add(&s, 1, boot + 10 * MACHINE_SEEN_WINDOW - 1, 6));
    assert_int_equal(s.count, 1);
    machine_seen_deinit(&s);
}

static void N2_the_boot_used_longest_ago_is_forgotten(void **state)
{
    (void)state;
    struct machine_seen s = {0};
    uint64_t apart = UINT64_C(1) << 40;
    assert_true(machine_seen_add(&s, 1, boot, 1));
    assert_true(machine_seen_add(&s, 1, boot + apart, 2));
    assert_false(machine_seen_add(&s, 1, boot, 3));
    assert_true(machine_seen_add(&s, 1, boot + 1, 3)); /* boot is the younger one now */
    assert_true(machine_seen_add(&s, 1, boot + 2 * apart, 4));
    assert_int_equal(s.count, 2);
    assert_false(machine_seen_add(&s, 1, boot, 5));
    for (uint64_t origin = 2; origin < 1000; origin++) {
        assert_true(machine_seen_add(&s, origin, boot, 10 + origin));
    }
    assert_int_equal(s.count, MACHINE_SEEN_BOOT_COUNT_MAX);
    assert_false(machine_seen_add(&s, 999, boot, 2000));
    machine_seen_deinit(&s);
}

static struct machine_seen copy_of(const struct machine_seen *s)
{
    struct machine_seen copy = {0};
    struct nb_buf b = {0};
    for (size_t i = 0; i < s->count; i++) {
        nb_buf_clear(&b);
        machine_seen_boot_encode(&s->boots[i], &b);
        assert_int_equal(machine_seen_boot_decode(&copy, nb_buf_bytes(&b)), NB_OK);
    }
    nb_buf_deinit(&b);
    return copy;
}

/* Against an array that forgets nothing, through the encoding now and then. */
static void R22_random_ids_are_told_apart_as_a_plain_array_does(void **state)
{
    (void)state;
    enum { COUNT = 60000, ADDS = 200000, SPREAD = 3000 };
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    bool *known = nb_alloc_zero(COUNT, sizeof *known);
    struct machine_seen s = {0};
    uint64_t start = nb_random_u64(&random) | 1;
    for (uint64_t i = 0; i < ADDS; i++) {
        uint64_t at = i * (COUNT - SPREAD) / ADDS + nb_random_below(&random, SPREAD);
        assert_int_equal(machine_seen_add(&s, 1, start + at, i + 1), start + at == 0 || !known[at]);
        known[at] = true;
        if (nb_random_below(&random, 2000) == 0) {
            struct machine_seen copy = copy_of(&s);
            assert_memory_equal(copy.boots, s.boots, sizeof *s.boots);
            machine_seen_deinit(&s);
            s = copy;
        }
    }
    nb_free(known);
    machine_seen_deinit(&s);
}

static void ids_in_order_take_few_bytes(void **state)
{
    (void)state;
    struct machine_seen s = {0};
    struct nb_buf b = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        assert_true(machine_seen_add(&s, 1, boot + i, i + 1));
        if (i % 1000 == 0) {
            nb_buf_clear(&b);
            machine_seen_boot_encode(&s.boots[0], &b);
            assert_true(b.len < 48);
        }
    }
    nb_buf_deinit(&b);
    machine_seen_deinit(&s);
}

static void malformed_boots_are_refused(void **state)
{
    (void)state;
    static const uint8_t too_long[] = {0x20, 0x80, 0x80, 0x01, 0x20, 0x01}; /* runs of W and 1 */
    struct machine_seen s = {0};
    assert_int_equal(machine_seen_boot_decode(&s, nb_bytes_of(too_long, sizeof too_long)),
                     NB_MALFORMED);
    for (unsigned i = 0; i < MACHINE_SEEN_BOOT_COUNT_MAX; i++) {
        assert_int_equal(machine_seen_boot_decode(&s, nb_bytes_of(too_long, 4)), NB_OK);
    }
    assert_int_equal(machine_seen_boot_decode(&s, nb_bytes_of(too_long, 4)), NB_TOO_LARGE);
    machine_seen_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(R22_an_id_counts_once),
        cmocka_unit_test(R22_no_id_is_always_new),
        cmocka_unit_test(R22_what_is_too_old_to_tell_does_not_count),
        cmocka_unit_test(N2_the_boot_used_longest_ago_is_forgotten),
        cmocka_unit_test(R22_random_ids_are_told_apart_as_a_plain_array_does),
        cmocka_unit_test(ids_in_order_take_few_bytes),
        cmocka_unit_test(malformed_boots_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
