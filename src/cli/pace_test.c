#include "cli/pace.h"

#include "base/random.h"
#include "cli/histogram.h"
#include "tests/support/unit.h"

static const uint64_t ms = 1000000;

static void requests_are_due_at_even_distances_without_drift(void **state)
{
    (void)state;
    struct pace p = {.rate = 3, .start_ns = 7};
    static const uint64_t due[] = {7, 333333340, 666666673, 1000000007};
    for (size_t i = 0; i < NB_ARRAY_LEN(due); i++, p.begun++) {
        assert_int_equal(pace_due_ns(&p), due[i]);
    }
    p.begun = 3ULL * 1000000;
    assert_int_equal(pace_due_ns(&p), 1000000 * 1000 * ms + 7);
}

static void no_request_is_due_at_the_end_or_past_the_total(void **state)
{
    (void)state;
    struct pace p = {.rate = 4, .start_ns = 1000 * ms, .end_ns = 2000 * ms, .begun = 3};
    assert_true(pace_is_due(&p, 1750 * ms));
    assert_false(pace_is_due(&p, 1750 * ms - 1));
    p.begun = 4;
    assert_false(pace_is_due(&p, 9000 * ms));
    assert_true(pace_is_over(&p));
    p = (struct pace){.rate = 4, .total = 2, .begun = 2};
    assert_true(pace_is_over(&p));
}

/* P2: that the load has ended does not make a late request disappear. */
static void a_late_request_stays_due_after_the_end(void **state)
{
    (void)state;
    struct pace p = {.rate = 1000, .end_ns = 1000 * ms, .begun = 999};
    assert_true(pace_is_due(&p, 5000 * ms));
    assert_false(pace_is_over(&p));
}

static void missed_is_what_is_due_and_not_begun(void **state)
{
    (void)state;
    struct pace p = {.rate = 4, .start_ns = 1000 * ms, .end_ns = 2000 * ms};
    assert_int_equal(pace_missed(&p, 999 * ms), 0);
    assert_int_equal(pace_missed(&p, 1000 * ms), 1);
    assert_int_equal(pace_missed(&p, 1250 * ms - 1), 1);
    assert_int_equal(pace_missed(&p, 1250 * ms), 2);
    p.begun = 1;
    assert_int_equal(pace_missed(&p, 1250 * ms), 1);
    assert_int_equal(pace_missed(&p, 9000 * ms), 3);
    p.total = 3;
    assert_int_equal(pace_missed(&p, 9000 * ms), 2);
    p.begun = 3;
    assert_int_equal(pace_missed(&p, 9000 * ms), 0);
}

/* The same by counting one after the other, with rates that do not divide a second. */
static void missed_agrees_with_counting(void **state)
{
    (void)state;
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    for (int round = 0; round < 2000; round++) {
        struct pace p = {.rate = 1 + nb_random_below(&random, 997),
                         .start_ns = nb_random_below(&random, 1000 * ms),
                         .total = nb_random_below(&random, 3) * 100};
        p.end_ns = nb_random_below(&random, 2) * (p.start_ns + nb_random_below(&random, 900 * ms));
        uint64_t now_ns = nb_random_below(&random, 2000 * ms);
        uint64_t missed = pace_missed(&p, now_ns), counted = 0;
        for (; pace_is_due(&p, now_ns); p.begun++) {
            counted++;
        }
        assert_int_equal(missed, counted);
    }
}

/* What a stall of one second in ten does to the latencies of an open loop: the 99th percentile is
 * 0.9 s. A loop that waits for answers sees one slow request in a thousand. */
static void a_stall_is_in_the_percentiles(void **state)
{
    (void)state;
    struct pace p = {.rate = 100, .end_ns = 10000 * ms};
    static struct histogram h;
    for (; !pace_is_over(&p); p.begun++) {
        uint64_t due_ns = pace_due_ns(&p);
        bool stalled = due_ns >= 9000 * ms; /* the server answers nothing from 9 s to 10 s */
        histogram_add(&h, (stalled ? 10000 * ms - due_ns : 0) + ms);
    }
    assert_int_equal(h.count, 1000);
    assert_in_range(histogram_at(&h, 99000), 880 * ms, 920 * ms);
    assert_in_range(histogram_at(&h, 50000), ms, 2 * ms);
}

static void it_looks_at_every_request_within_bounds(void **state)
{
    (void)state;
    struct pace p = {.rate = 1};
    assert_int_equal(pace_tick_ns(&p), 10 * ms);
    p.rate = 500;
    assert_int_equal(pace_tick_ns(&p), 2 * ms);
    p.rate = 1000000;
    assert_int_equal(pace_tick_ns(&p), ms / 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_due_at_even_distances_without_drift),
        cmocka_unit_test(no_request_is_due_at_the_end_or_past_the_total),
        cmocka_unit_test(a_late_request_stays_due_after_the_end),
        cmocka_unit_test(missed_is_what_is_due_and_not_begun),
        cmocka_unit_test(missed_agrees_with_counting),
        cmocka_unit_test(a_stall_is_in_the_percentiles),
        cmocka_unit_test(it_looks_at_every_request_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
