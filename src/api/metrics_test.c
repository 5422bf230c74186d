#include "api/metrics.h"
#include "tests/support/unit.h"

#include <stdio.h>
#include <string.h>

static const struct rpc_method methods[] = {
    {.path = "/etcdserverpb.KV/Put", .kind = RPC_UNARY, .tag = 0},
    {.path = "/etcdserverpb.KV/RangeStream", .kind = RPC_SERVER_STREAM, .tag = 1},
};

static struct api_metrics *fresh(bool extensive)
{
    struct api_metrics *m = nb_alloc_zero(1, sizeof *m);
    api_metrics_init(m, methods, NB_ARRAY_LEN(methods), extensive);
    return m;
}

static void M1_versions_that_clients_say_make_a_bounded_number_of_rows(void **state)
{
    (void)state;
    struct api_metrics *m = fresh(false);
    uint64_t sum = 0;
    for (int i = 0; i < 1000; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "3.%d", i);
        api_metrics_client(m, i % 2 == 0, nb_bytes_str(text));
    }
    assert_int_equal(m->version_count, API_CLIENT_VERSION_COUNT_MAX);
    for (size_t i = 0; i < m->version_count; i++) {
        sum += m->versions[i].unary + m->versions[i].stream;
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(m->versions[i].text, m->versions[k].text);
        }
    }
    assert_int_equal(sum, 1000); /* none is lost */
    assert_string_equal(m->versions[0].text, "3.0");
    assert_string_equal(m->versions[API_CLIENT_VERSION_COUNT_MAX - 1].text, "other");
    api_metrics_client(m, false, nb_bytes_str("3.0"));
    assert_int_equal(m->versions[0].unary, 1);
    nb_free(m);
}

static void versions_too_long_or_with_a_zero_are_other_and_none_is_unknown(void **state)
{
    (void)state;
    struct api_metrics *m = fresh(false);
    api_metrics_client(m, false, nb_bytes_str("a version of more than thirty-one bytes"));
    api_metrics_client(m, false, nb_bytes_of((const uint8_t *)"3\0", 2));
    api_metrics_client(m, false, (struct nb_bytes){0});
    assert_int_equal(m->version_count, 2);
    assert_string_equal(m->versions[0].text, "other");
    assert_int_equal(m->versions[0].unary, 2);
    assert_string_equal(m->versions[1].text, "unknown");
    assert_int_equal(m->versions[1].unary, 1);
    nb_free(m);
}

static void calls_and_messages_count_by_method_and_code(void **state)
{
    (void)state;
    struct api_metrics *m = fresh(true);
    api_metrics_start(m, &methods[0]);
    api_metrics_message(m, &methods[0], false);
    api_metrics_message(m, &methods[0], true);
    api_metrics_message(m, &methods[1], true);
    api_metrics_end(m, &methods[0], RPC_OK, 0); /* as old as the machine: in no bucket but +Inf */
    api_metrics_end(m, &methods[0], RPC_OK, UINT64_MAX); /* a clock a moment ahead: nothing */
    api_metrics_start(m, NULL);
    api_metrics_end(m, NULL, RPC_UNIMPLEMENTED, 0);
    const struct api_method_metrics *put = &m->methods[0];
    assert_int_equal(put->started, 1);
    assert_int_equal(put->received, 1);
    assert_int_equal(put->sent, 1);
    assert_int_equal(m->methods[1].sent, 1);
    assert_int_equal(put->handled[RPC_OK], 2);
    assert_int_equal(put->took_count, 2);
    assert_int_equal(put->took[0], 1);
    nb_free(m);
}

static void call_durations_are_kept_only_when_asked_for(void **state)
{
    (void)state;
    struct api_metrics *m = fresh(false);
    api_metrics_end(m, &methods[0], RPC_OK, 0);
    assert_int_equal(m->methods[0].handled[RPC_OK], 1);
    assert_int_equal(m->methods[0].took_count, 0);
    nb_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(M1_versions_that_clients_say_make_a_bounded_number_of_rows),
        cmocka_unit_test(versions_too_long_or_with_a_zero_are_other_and_none_is_unknown),
        cmocka_unit_test(calls_and_messages_count_by_method_and_code),
        cmocka_unit_test(call_durations_are_kept_only_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
