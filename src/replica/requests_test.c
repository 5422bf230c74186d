#include "replica/requests.h"

#include "base/random.h"
#include "replica/replica.h"
#include "tests/support/unit.h"

static void requests_are_found_by_id_in_any_order(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    static struct replica_request requests[COUNT];
    struct replica_requests q = {.next_id = UINT64_MAX - 100}; /* ids may wrap */
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    size_t added = 0, live = 0;
    bool here[COUNT] = {0};
    uint64_t first_id = q.next_id;
    while (added < COUNT || live != 0) {
        if (added < COUNT && nb_random_chance(&r, 1, 2)) {
            assert_true(replica_requests_add(&q, &requests[added]) == first_id + added);
            here[added++] = true;
            live++;
        } else if (added != 0) {
            size_t i = nb_random_below(&r, added);
            struct replica_request *taken = replica_requests_take(&q, first_id + i);
            assert_ptr_equal(taken, here[i] ? &requests[i] : NULL);
            live -= here[i];
            here[i] = false;
        }
        if (live != 0 && added == COUNT) {
            struct replica_request *oldest = replica_requests_oldest(&q);
            size_t i = (size_t)(oldest - requests);
            assert_true(here[i]);
            assert_ptr_equal(replica_requests_take(&q, first_id + i), oldest);
            here[i] = false;
            live--;
        }
        assert_int_equal(q.count, live);
    }
    assert_null(replica_requests_oldest(&q));
    assert_null(replica_requests_take(&q, first_id + COUNT + 5));
    replica_requests_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_found_by_id_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
