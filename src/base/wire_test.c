#include "base/wire.h"

#include "base/random.h"
#include "tests/support/unit.h"

static void varints_survive_at_every_width(void **state)
{
    (void)state;
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t value = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
        struct nb_buf b = {0};
        nb_wire_varint(&b, 1, value);
        assert_int_equal(b.len, 1 + nb_varint_size(value));
        struct nb_wire_reader r = nb_wire_reader_of(nb_buf_bytes(&b));
        struct nb_wire_field f;
        assert_int_equal(nb_wire_next(&r, &f), NB_OK);
        assert_true(f.value == value);
        assert_false(nb_wire_more(&r));
        nb_buf_deinit(&b);
    }
}

static void default_values_are_left_out(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    nb_wire_varint_field(&b, 3, 0);
    nb_wire_bytes_field(&b, 4, (struct nb_bytes){0});
    assert_int_equal(b.len, 0);
    assert_int_equal(nb_wire_varint_field_size(3, 0), 0);
    nb_wire_bytes(&b, 4, (struct nb_bytes){0});
    assert_int_equal(b.len, 2);
    nb_buf_deinit(&b);
}

static void sizes_equal_what_is_written(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t number = (uint32_t)(1 + nb_random_below(&r, 1u << 20));
        uint64_t value = nb_random_u64(&r) >> nb_random_below(&r, 64);
        size_t len = nb_random_below(&r, 400);
        static const uint8_t zeros[400];
        struct nb_buf b = {0};
        nb_wire_varint_field(&b, number, value);
        assert_int_equal(b.len, nb_wire_varint_field_size(number, value));
        nb_buf_clear(&b);
        nb_wire_bytes_field(&b, number, nb_bytes_of(zeros, len));
        assert_int_equal(b.len, nb_wire_bytes_field_size(number, len));
        nb_buf_deinit(&b);
    }
}

static void N13_malformed_input_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[12];
        size_t len;
    } rows[] = {
        {"key cut short", {0x88}, 1},
        {"value cut short", {0x08, 0x80}, 2},
        {"varint of 11 bytes", {0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1}, 12},
        {"varint over 64 bits", {0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2}, 11},
        {"field number 0", {0x00, 1}, 2},
        {"group", {0x0b}, 1},
        {"length beyond the end", {0x0a, 5, 1}, 3},
        {"fixed32 cut short", {0x0d, 1, 2, 3}, 4},
        {"fixed64 cut short", {0x09, 1, 2, 3}, 4},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct nb_wire_reader r = nb_wire_reader_of(nb_bytes_of(rows[i].bytes, rows[i].len));
        struct nb_wire_field f;
        if (nb_wire_next(&r, &f) != NB_MALFORMED) {
            fail_msg("taken: %s", rows[i].what);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varints_survive_at_every_width),
        cmocka_unit_test(default_values_are_left_out),
        cmocka_unit_test(sizes_equal_what_is_written),
        cmocka_unit_test(N13_malformed_input_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
