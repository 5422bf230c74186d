#include "base/checksum.h"
#include "base/random.h"
#include "tests/support/unit.h"

static void crc32c_equals_the_published_check_value(void **state)
{
    (void)state;
    assert_int_equal(nb_crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(nb_crc32c_portable(0, "123456789", 9), 0xe3069283u);
}

static void crc32c_of_pieces_equals_crc32c_of_the_whole(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    uint8_t bytes[257];
    for (unsigned round = 0; round < 2000; round++) {
        size_t len = nb_random_below(&r, sizeof bytes + 1);
        size_t cut = nb_random_below(&r, len + 1);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)nb_random_u64(&r);
        }
        uint32_t whole = nb_crc32c_portable(0, bytes, len);
        assert_int_equal(nb_crc32c(0, bytes, len), whole);
        assert_int_equal(nb_crc32c(nb_crc32c(0, bytes, cut), bytes + cut, len - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_equals_the_published_check_value),
        cmocka_unit_test(crc32c_of_pieces_equals_crc32c_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
