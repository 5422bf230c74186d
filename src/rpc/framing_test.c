#include "rpc/framing.h"

#include "tests/support/unit.h"

/* Three messages, of 3, 0 and 300 bytes. */
static struct nb_buf three_messages(void)
{
    struct nb_buf b = {0};
    const size_t sizes[] = {3, 0, 300};
    for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
        rpc_prefix_put(nb_buf_extend(&b, RPC_PREFIX_SIZE), sizes[i]);
        memset(nb_buf_extend(&b, sizes[i] + 1), (int)('a' + i), sizes[i] + 1);
        b.len--;
    }
    return b;
}

static void N10_messages_are_the_same_at_every_split(void **state)
{
    (void)state;
    struct nb_buf all = three_messages();
    for (size_t first = 0; first <= all.len; first++) {
        for (size_t second = first; second <= all.len; second += 7) {
            struct rpc_reader r = {0};
            const size_t ends[] = {first, second, all.len};
            size_t at = 0, count = 0, total = 0;
            for (size_t piece = 0; piece < 3; piece++) {
                struct nb_bytes in = nb_bytes_of(all.data + at, ends[piece] - at), m;
                at = ends[piece];
                while (in.len != 0 && rpc_reader_next(&r, &in, 300, &m) == RPC_READ_MESSAGE) {
                    assert_int_equal(m.len, ((const size_t[]){3, 0, 300})[count]);
                    assert_true(m.len == 0 || m.data[m.len - 1] == 'a' + count);
                    count++;
                    total += m.len;
                }
                assert_int_equal(in.len, 0);
            }
            assert_int_equal(count, 3);
            assert_int_equal(total, 303);
            assert_false(rpc_reader_is_partial(&r));
            rpc_reader_reset(&r, false);
        }
    }
    nb_buf_deinit(&all);
}

static void N10_a_huge_length_is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    struct rpc_reader r = {0};
    struct nb_bytes in = nb_bytes_of("\0\xff\xff\xff\xff", 5), m;
    assert_int_equal(rpc_reader_next(&r, &in, 2 << 20, &m), RPC_READ_TOO_LARGE);
    assert_int_equal(r.need, UINT32_MAX);
    assert_int_equal(r.partial.capacity, 0);
    rpc_reader_reset(&r, false);
}

static void F2_memory_follows_what_came_not_what_was_promised(void **state)
{
    (void)state;
    struct rpc_reader r = {0};
    struct nb_bytes in = nb_bytes_of("\0\0\x10\0\0abc", 8), m;
    assert_int_equal(rpc_reader_next(&r, &in, 2 << 20, &m), RPC_READ_MORE);
    assert_int_equal(rpc_reader_held_bytes(&r), 3);
    assert_in_range(r.partial.capacity, 3, 64);
    rpc_reader_reset(&r, false);
}

static void flags_other_than_plain_are_refused(void **state)
{
    (void)state;
    struct rpc_reader r = {0};
    struct nb_bytes in = nb_bytes_of("\1\0\0\0\0", 5), m;
    assert_int_equal(rpc_reader_next(&r, &in, 10, &m), RPC_READ_COMPRESSED);
    r = (struct rpc_reader){0};
    in = nb_bytes_of("\2\0\0\0\0", 5);
    assert_int_equal(rpc_reader_next(&r, &in, 10, &m), RPC_READ_BAD_FLAG);
}

static void a_message_is_held_until_the_next_call(void **state)
{
    (void)state;
    struct rpc_reader r = {0};
    struct nb_bytes in = nb_bytes_of("\0\0\0\0\2hi", 7), m;
    assert_int_equal(rpc_reader_next(&r, &in, 10, &m), RPC_READ_MESSAGE);
    rpc_reader_hold(&r, m);
    assert_true(nb_bytes_equal(nb_buf_bytes(&r.partial), nb_bytes_str("hi")));
    in = nb_bytes_of("\0\0\0\0\1x", 6);
    assert_int_equal(rpc_reader_next(&r, &in, 10, &m), RPC_READ_MESSAGE);
    assert_true(nb_bytes_equal(m, nb_bytes_str("x")));
    rpc_reader_reset(&r, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(N10_messages_are_the_same_at_every_split),
        cmocka_unit_test(N10_a_huge_length_is_refused_before_memory_is_taken),
        cmocka_unit_test(F2_memory_follows_what_came_not_what_was_promised),
        cmocka_unit_test(flags_other_than_plain_are_refused),
        cmocka_unit_test(a_message_is_held_until_the_next_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
