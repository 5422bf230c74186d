#include "base/bytes.h"

#include "base/arena.h"
#include "base/payload.h"
#include "base/random.h"
#include "base/status.h"
#include "tests/support/unit.h"

#include <errno.h>

static void compare_orders_bytes_then_length(void **state)
{
    (void)state;
    assert_true(nb_bytes_compare(nb_bytes_str("a"), nb_bytes_str("b")) < 0);
    assert_true(nb_bytes_compare(nb_bytes_str("a"), nb_bytes_str("ab")) < 0);
    assert_true(nb_bytes_compare(nb_bytes_str("\xff"), nb_bytes_str("a")) > 0);
    assert_int_equal(nb_bytes_compare((struct nb_bytes){0}, nb_bytes_str("")), 0);
    assert_true(nb_bytes_equal((struct nb_bytes){0}, nb_bytes_str("")));
}

static void buffers_grow_and_consume(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    for (unsigned i = 0; i < 1000; i++) {
        nb_buf_printf(&b, "%03u", i);
    }
    assert_int_equal(b.len, 3000);
    nb_buf_consume(&b, 2997);
    assert_true(nb_bytes_equal(nb_buf_bytes(&b), nb_bytes_str("999")));
    nb_buf_consume(&b, 3);
    assert_int_equal(b.len, 0);
    nb_buf_deinit(&b);
}

static void integers_survive_at_any_alignment(void **state)
{
    (void)state;
    uint8_t at[17];
    for (size_t offset = 0; offset < 8; offset++) {
        nb_put_u64(at + offset, 0x0102030405060708u);
        assert_int_equal(at[offset], 8);
        assert_true(nb_get_u64(at + offset) == 0x0102030405060708u);
        nb_put_u64_be(at + offset, 0x0102030405060708u);
        assert_int_equal(at[offset], 1);
        assert_true(nb_get_u64_be(at + offset) == 0x0102030405060708u);
        nb_put_u32(at + offset, 0x01020304u);
        assert_true(nb_get_u32(at + offset) == 0x01020304u);
        nb_put_u16(at + offset, 0x0102u);
        assert_true(nb_get_u16(at + offset) == 0x0102u);
    }
}

static void an_arena_keeps_what_it_gave_until_reset(void **state)
{
    (void)state;
    struct nb_arena a = {0};
    struct nb_bytes kept[200];
    for (size_t i = 0; i < 200; i++) {
        uint8_t piece[300];
        memset(piece, (int)i, sizeof piece);
        kept[i] = nb_arena_copy(&a, nb_bytes_of(piece, sizeof piece));
        assert_int_equal((uintptr_t)kept[i].data % 16, 0);
    }
    uint8_t *large = nb_arena_alloc(&a, 1 << 20);
    memset(large, 0xee, 1 << 20);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(kept[i].data[0], (uint8_t)i);
        assert_int_equal(kept[i].data[299], (uint8_t)i);
    }
    nb_arena_reset(&a);
    assert_int_equal(a.total, 0);
    assert_string_equal(nb_arena_str(&a, nb_bytes_str("x")), "x");
    nb_arena_deinit(&a);
}

static void a_payload_goes_with_its_last_reference(void **state)
{
    (void)state;
    struct nb_payload *p = nb_payload_copy(nb_bytes_str("entry"));
    assert_ptr_equal(nb_payload_acquire(p), p);
    nb_payload_release(p);
    assert_true(nb_bytes_equal(nb_payload_bytes(p), nb_bytes_str("entry")));
    nb_payload_release(p); /* the sanitizer sees it if this were not the last */
    nb_payload_release(NULL);
}

static void the_same_seed_gives_the_same_numbers(void **state)
{
    (void)state;
    struct nb_random a, b;
    nb_random_init(&a, 42);
    nb_random_init(&b, 42);
    unsigned seen[10] = {0};
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t value = nb_random_below(&a, 10);
        assert_true(value == nb_random_below(&b, 10));
        seen[value]++;
    }
    for (unsigned i = 0; i < 10; i++) {
        assert_in_range(seen[i], 800, 1200);
    }
    assert_true(nb_random_entropy() != nb_random_entropy());
}

static void every_status_has_words(void **state)
{
    (void)state;
    for (int s = 0; s < NB_STATUS_COUNT; s++) {
        assert_true(strlen(nb_status_text((enum nb_status)s)) > 0);
        assert_memory_equal(nb_status_name((enum nb_status)s), "NB_", 3);
    }
    assert_int_equal(nb_status_of_errno(ENOSPC), NB_NO_SPACE_DISK);
    assert_int_equal(nb_status_of_errno(EIO), NB_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compare_orders_bytes_then_length),
        cmocka_unit_test(buffers_grow_and_consume),
        cmocka_unit_test(integers_survive_at_any_alignment),
        cmocka_unit_test(an_arena_keeps_what_it_gave_until_reset),
        cmocka_unit_test(a_payload_goes_with_its_last_reference),
        cmocka_unit_test(the_same_seed_gives_the_same_numbers),
        cmocka_unit_test(every_status_has_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
