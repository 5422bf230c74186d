/* Which names are those of pods, and what stands behind them. The rest is shown with real name
 * servers: tests/kubernetes/rig, no-second-cluster. */
#include "server/service.h"

#include "tests/support/unit.h"

static void K01_the_service_of_a_pod_is_what_stands_behind_its_name(void **state)
{
    (void)state;
    assert_string_equal(server_service_of_host("ss-0.ss-service.default.svc"),
                        "ss-service.default.svc");
    assert_string_equal(server_service_of_host("ss-0.ss-service.default.svc.cluster.local"),
                        "ss-service.default.svc.cluster.local");
}

static void K01_names_that_are_no_pods_have_no_service(void **state)
{
    (void)state;
    static const char *const others[] = {"",
                                         "localhost",
                                         "10.0.0.7",
                                         "m1.example.com",
                                         "a.b.c.svcs.d",
                                         "a.b.svc",
                                         "ss-0.service.",
                                         ".service.default.svc",
                                         "ss-0..default.svc",
                                         "ss-0.service..svc"};
    for (size_t i = 0; i < NB_ARRAY_LEN(others); i++) {
        assert_null(server_service_of_host(others[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(K01_the_service_of_a_pod_is_what_stands_behind_its_name),
        cmocka_unit_test(K01_names_that_are_no_pods_have_no_service),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
