/* Long answers take turns. */
#include "api/internal.h"
#include "tests/support/unit.h"

enum { JOB_COUNT = 100 };

struct counted {
    struct api_job job;
    enum api_step says;
    size_t *steps;
};

static enum api_step count_step(struct api_job *job)
{
    struct counted *c = (struct counted *)job;
    (*c->steps)++;
    return c->says;
}

static void on_wake(void *user)
{
    (void)user;
}

static void add(struct api *a, enum api_step says, size_t *steps)
{
    struct counted *c = nb_alloc_zero(1, sizeof *c);
    *c = (struct counted){
        .job = {.api = a, .next = a->jobs, .step = count_step}, .says = says, .steps = steps};
    a->jobs = &c->job;
}

static void E11_a_turn_works_on_few_of_many_long_answers(void **state)
{
    (void)state;
    struct net_loop *loop = net_loop_create();
    struct api a = {.wake = net_wake_create(loop, on_wake, NULL)};
    size_t steps[JOB_COUNT] = {0}, blocked = 0, once = 0;
    for (size_t i = 0; i < JOB_COUNT; i++) {
        add(&a, API_STEP_MORE, &steps[i]);
    }
    add(&a, API_STEP_BLOCKED, &blocked);
    add(&a, API_STEP_DONE, &once);
    api_jobs_step(&a);
    size_t sum = 0;
    for (size_t i = 0; i < JOB_COUNT; i++) {
        sum += steps[i];
    }
    assert_int_equal(sum, API_JOBS_A_TURN);
    assert_int_equal(once, 1);
    for (size_t turn = 1; turn < JOB_COUNT; turn++) {
        api_jobs_step(&a);
    }
    for (size_t i = 0; i < JOB_COUNT; i++) { /* and none is left out */
        assert_int_equal(steps[i], API_JOBS_A_TURN);
    }
    assert_true(blocked >= API_JOBS_A_TURN);
    assert_int_equal(once, 1);
    api_jobs_drop(&a);
    net_wake_destroy(a.wake);
    net_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(E11_a_turn_works_on_few_of_many_long_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
