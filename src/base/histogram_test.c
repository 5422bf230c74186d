#include "base/histogram.h"

#include "tests/support/unit.h"

static void buckets_are_cumulative_and_inclusive(void **state)
{
    (void)state;
    struct nb_histogram h;
    struct nb_buf out = {0};
    nb_histogram_init(&h, 0.001, 2, 2);
    nb_histogram_observe_ns(&h, 1000000);
    nb_histogram_observe_ns(&h, 1000001);
    nb_histogram_observe_ns(&h, 9000000);
    nb_histogram_write(&h, "x_seconds", "a=\"b\"", &out);
    nb_buf_append(&out, "", 1);
    assert_string_equal((char *)out.data, "x_seconds_bucket{a=\"b\",le=\"0.001\"} 1\n"
                                          "x_seconds_bucket{a=\"b\",le=\"0.002\"} 2\n"
                                          "x_seconds_bucket{a=\"b\",le=\"+Inf\"} 3\n"
                                          "x_seconds_sum{a=\"b\"} 0.011000001\n"
                                          "x_seconds_count{a=\"b\"} 3\n");
    nb_buf_deinit(&out);
}

static void bounds_are_written_as_go_writes_them(void **state)
{
    (void)state;
    struct nb_histogram h;
    struct nb_buf out = {0};
    nb_histogram_init(&h, 524288, 4, 2);
    nb_histogram_observe(&h, 2000000);
    nb_histogram_write(&h, "x", "", &out);
    nb_buf_append(&out, "", 1);
    assert_string_equal((char *)out.data, "x_bucket{le=\"524288\"} 0\n"
                                          "x_bucket{le=\"2.097152e+06\"} 1\n"
                                          "x_bucket{le=\"+Inf\"} 1\n"
                                          "x_sum 2000000\n"
                                          "x_count 1\n");
    nb_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_cumulative_and_inclusive),
        cmocka_unit_test(bounds_are_written_as_go_writes_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
