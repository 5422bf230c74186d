#include "steward/pod.h"

#include "tests/support/unit.h"

static void a_slot_is_a_set_and_an_ordinal(void **state)
{
    (void)state;
    size_t len;
    uint32_t ordinal;
    assert_true(steward_slot_parse("ss-0", &len, &ordinal));
    assert_true(len == 2 && ordinal == 0);
    assert_true(steward_slot_parse("my-store-12", &len, &ordinal));
    assert_true(len == 8 && ordinal == 12);
    static const char *const bad[] = {"ss", "ss-", "-1", "ss-01", "ss-a", "ss-1a", "ss-10000", ""};
    for (size_t i = 0; i < NB_ARRAY_LEN(bad); i++) {
        assert_false(steward_slot_parse(bad[i], &len, &ordinal));
    }
    assert_int_equal(steward_ordinal_of("ss", "ss-3"), 3);
    assert_true(steward_ordinal_of("ss", "sss-3") == STEWARD_ORDINAL_NONE);
    assert_true(steward_ordinal_of("ss", "s-3") == STEWARD_ORDINAL_NONE);
}

static void a_member_holds_the_slot_of_its_url_even_before_it_has_a_name(void **state)
{
    (void)state;
    char url[] = "http://ss-2.ss-service.default.svc:2380";
    char *urls[] = {url};
    struct machine_member m = {.id = 1, .peer_urls = urls, .peer_url_count = 1};
    char slot[STEWARD_SLOT_SIZE_MAX + 1];
    assert_true(steward_slot_of_member(&m, slot));
    assert_string_equal(slot, "ss-2");
    m.peer_url_count = 0;
    assert_false(steward_slot_of_member(&m, slot));
}

static void a_pods_name_has_no_cluster_domain(void **state)
{
    (void)state;
    struct nb_buf out = {0};
    steward_pod_host(&out, "ss", 1, "ss-service", "default");
    assert_true(nb_bytes_equal(nb_buf_bytes(&out), nb_bytes_str("ss-1.ss-service.default.svc")));
    nb_buf_clear(&out);
    steward_pod_host(&out, "ss", 1, "ss-service", "");
    assert_true(nb_bytes_equal(nb_buf_bytes(&out), nb_bytes_str("ss-1.ss-service")));
    nb_buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slot_is_a_set_and_an_ordinal),
        cmocka_unit_test(a_member_holds_the_slot_of_its_url_even_before_it_has_a_name),
        cmocka_unit_test(a_pods_name_has_no_cluster_domain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
