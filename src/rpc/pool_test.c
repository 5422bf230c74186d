#include "rpc/pool.h"

#include "base/random.h"
#include "tests/support/unit.h"

static void P1_blocks_come_back_and_idle_memory_is_bounded(void **state)
{
    (void)state;
    enum { COUNT = 300, IDLE_MAX = 20000 };
    struct rpc_pool p;
    rpc_pool_init(&p, IDLE_MAX);
    struct nb_random random;
    nb_random_init(&random, unit_seed());
    struct {
        uint8_t *data;
        size_t size;
    } blocks[COUNT] = {0};
    for (int i = 0; i < 20000; i++) {
        size_t at = nb_random_below(&random, COUNT);
        if (blocks[at].data == NULL || nb_random_chance(&random, 1, 3)) {
            size_t size = 1 + nb_random_below(&random, 2000);
            uint8_t *data = p.mem.realloc(blocks[at].data, size, &p);
            size_t kept = blocks[at].size < size ? blocks[at].size : size;
            for (size_t k = 0; k < kept; k++) {
                assert_int_equal(data[k], (uint8_t)at);
            }
            memset(data, (uint8_t)at, size);
            blocks[at].data = data;
            blocks[at].size = size;
        } else {
            p.mem.free(blocks[at].data, &p);
            blocks[at].data = NULL;
            blocks[at].size = 0;
        }
        assert_in_range(p.idle_bytes, 0, IDLE_MAX);
    }
    for (size_t i = 0; i < COUNT; i++) {
        p.mem.free(blocks[i].data, &p);
    }
    assert_int_equal(p.used_bytes, 0);
    assert_int_not_equal(p.idle_bytes, 0);
    rpc_pool_drain(&p);
    assert_int_equal(p.idle_bytes, 0);
    uint8_t *zeroed = p.mem.calloc(10, 10, &p);
    for (size_t i = 0; i < 100; i++) {
        assert_int_equal(zeroed[i], 0);
    }
    p.mem.free(zeroed, &p);
    rpc_pool_deinit(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(P1_blocks_come_back_and_idle_memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
