#include "rpc/text.h"

#include "tests/support/unit.h"

static void check_timeout(const char *text, bool valid, uint64_t ns)
{
    uint64_t got = 7;
    assert_int_equal(rpc_timeout_parse(nb_bytes_str(text), &got), valid);
    assert_int_equal(got, valid ? ns : 7);
}

static void timeout_is_digits_and_a_unit(void **state)
{
    (void)state;
    check_timeout("1n", true, 1);
    check_timeout("20u", true, 20000);
    check_timeout("5m", true, 5000000);
    check_timeout("99999999S", true, UINT64_C(99999999) * 1000000000);
    check_timeout("2M", true, UINT64_C(120) * 1000000000);
    check_timeout("99999999H", true, UINT64_MAX);
    const char *bad[] = {"", "1", "n", "1x", "123456789S", "-1S", "1 S", "1.5S", "S1"};
    for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
        check_timeout(bad[i], false, 0);
    }
}

static void timeout_written_is_never_shorter_than_meant(void **state)
{
    (void)state;
    const uint64_t cases[] = {
        0, 1, 99999999, 100000000, UINT64_C(7000000001), UINT64_C(3600000000000), UINT64_MAX / 4};
    for (size_t i = 0; i < NB_ARRAY_LEN(cases); i++) {
        char text[RPC_TIMEOUT_TEXT_MAX];
        size_t len = rpc_timeout_format(cases[i], text);
        uint64_t back;
        assert_true(rpc_timeout_parse(nb_bytes_of(text, len), &back));
        assert_true(back >= cases[i] && back <= cases[i] + cases[i] / 1000000 + 1);
    }
}

static void percent_encoding_goes_there_and_back(void **state)
{
    (void)state;
    uint8_t all[256];
    for (size_t i = 0; i < sizeof all; i++) {
        all[i] = (uint8_t)i;
    }
    struct nb_buf encoded = {0}, decoded = {0};
    rpc_percent_encode(nb_bytes_of(all, sizeof all), &encoded);
    for (size_t i = 0; i < encoded.len; i++) {
        assert_in_range(encoded.data[i], 0x20, 0x7e);
    }
    rpc_percent_decode(nb_buf_bytes(&encoded), &decoded);
    assert_true(nb_bytes_equal(nb_buf_bytes(&decoded), nb_bytes_of(all, sizeof all)));
    nb_buf_clear(&decoded);
    rpc_percent_decode(nb_bytes_str("a%zz%4"), &decoded);
    assert_true(nb_bytes_equal(nb_buf_bytes(&decoded), nb_bytes_str("a%zz%4")));
    nb_buf_deinit(&encoded);
    nb_buf_deinit(&decoded);
}

static void content_type_of_grpc_has_a_boundary(void **state)
{
    (void)state;
    assert_true(rpc_content_type_is_grpc(nb_bytes_str("application/grpc")));
    assert_true(rpc_content_type_is_grpc(nb_bytes_str("application/grpc+proto")));
    assert_true(rpc_content_type_is_grpc(nb_bytes_str("application/grpc;x")));
    assert_false(rpc_content_type_is_grpc(nb_bytes_str("application/grpc-web")));
    assert_false(rpc_content_type_is_grpc(nb_bytes_str("application/json")));
    assert_false(rpc_content_type_is_grpc(nb_bytes_str("")));
}

static void decimal_refuses_overflow_and_signs(void **state)
{
    (void)state;
    uint64_t v;
    assert_true(rpc_decimal_parse(nb_bytes_str("18446744073709551615"), UINT64_MAX, &v));
    assert_true(v == UINT64_MAX);
    assert_false(rpc_decimal_parse(nb_bytes_str("18446744073709551616"), UINT64_MAX, &v));
    assert_false(rpc_decimal_parse(nb_bytes_str("8"), 7, &v));
    assert_false(rpc_decimal_parse(nb_bytes_str("70"), 69, &v));
    assert_false(rpc_decimal_parse(nb_bytes_str("+7"), 69, &v));
    assert_false(rpc_decimal_parse(nb_bytes_str(""), 69, &v));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeout_is_digits_and_a_unit),
        cmocka_unit_test(timeout_written_is_never_shorter_than_meant),
        cmocka_unit_test(percent_encoding_goes_there_and_back),
        cmocka_unit_test(content_type_of_grpc_has_a_boundary),
        cmocka_unit_test(decimal_refuses_overflow_and_signs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
