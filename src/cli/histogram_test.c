#include "cli/histogram.h"

#include "base/random.h"
#include "tests/support/unit.h"

static void small_values_are_exact(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 128; value++) {
        assert_int_equal(histogram_bucket_first(histogram_bucket(value)), value);
    }
}

static void a_bucket_holds_its_values_and_is_narrow(void **state)
{
    (void)state;
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t value = nb_random_u64(&random) >> nb_random_below(&random, 64);
        size_t bucket = histogram_bucket(value);
        uint64_t first = histogram_bucket_first(bucket);
        assert_true(bucket < HISTOGRAM_BUCKETS);
        assert_true(first <= value);
        assert_true(value - first <= value / 64);
        if (bucket + 1 < HISTOGRAM_BUCKETS) {
            assert_true(histogram_bucket_first(bucket + 1) > value);
        }
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void the_worked_example_of_the_header_holds(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket(1000), 3 * 64 + 125);
}

static void percentiles_are_within_a_bucket_of_the_truth(void **state)
{
    (void)state;
    struct histogram *h = nb_alloc_zero(1, sizeof *h);
    for (uint64_t value = 1; value <= 100000; value++) {
        histogram_add(h, value);
    }
    const uint32_t points[] = {50000, 90000, 99000, 99900};
    for (size_t i = 0; i < NB_ARRAY_LEN(points); i++) {
        uint64_t at = histogram_at(h, points[i]);
        assert_true(at >= points[i] && at <= points[i] + points[i] / 64);
    }
    assert_int_equal(histogram_at(h, 100000), 100000);
    assert_int_equal(histogram_mean(h), 50000);
    assert_int_equal(h->min, 1);
    assert_int_equal(histogram_between(h, 0, UINT64_MAX), 100000);
    nb_free(h);
}

static void an_empty_one_answers_zero(void **state)
{
    (void)state;
    struct histogram *h = nb_alloc_zero(1, sizeof *h);
    assert_int_equal(histogram_at(h, 50000), 0);
    assert_int_equal(histogram_mean(h), 0);
    nb_free(h);
}

static void merged_equals_added(void **state)
{
    (void)state;
    struct histogram *parts = nb_alloc_zero(3, sizeof *parts);
    for (uint64_t value = 0; value < 5000; value += 7) {
        histogram_add(&parts[value % 2], value);
        histogram_add(&parts[2], value);
    }
    histogram_merge(&parts[0], &parts[1]);
    assert_memory_equal(&parts[0], &parts[2], sizeof parts[0]);
    nb_free(parts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(a_bucket_holds_its_values_and_is_narrow),
        cmocka_unit_test(the_worked_example_of_the_header_holds),
        cmocka_unit_test(percentiles_are_within_a_bucket_of_the_truth),
        cmocka_unit_test(an_empty_one_answers_zero),
        cmocka_unit_test(merged_equals_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
