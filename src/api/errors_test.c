#include "api/errors.h"
#include "tests/support/unit.h"

/* The statuses of the world below, which never reach a client but through a bug or as Internal. */
static bool is_internal(enum nb_status s)
{
    return s < NB_EMPTY_KEY && s != NB_TOO_LARGE;
}

static void every_client_status_has_a_row_of_its_own(void **state)
{
    (void)state;
    for (int s = NB_OK + 1; s < NB_STATUS_COUNT; s++) {
        struct api_error e = api_error_of((enum nb_status)s);
        assert_non_null(e.text);
        assert_in_range(e.grpc_code, 1, 16);
        if (!is_internal((enum nb_status)s)) {
            assert_int_not_equal(e.grpc_code, 13);
        }
        for (int other = NB_OK + 1; other < s; other++) {
            assert_string_not_equal(api_error_of((enum nb_status)other).text, e.text);
        }
    }
}

static void texts_that_clients_match_are_exact(void **state)
{
    (void)state;
    static const struct {
        enum nb_status status;
        int code;
        const char *text;
    } rows[] = {
        {NB_EMPTY_KEY, 3, "etcdserver: key is not provided"},
        {NB_TOO_LARGE, 3, "etcdserver: request is too large"},
        {NB_COMPACTED, 11, "etcdserver: mvcc: required revision has been compacted"},
        {NB_FUTURE_REVISION, 11, "etcdserver: mvcc: required revision is a future revision"},
        {NB_NO_SPACE, 8, "etcdserver: mvcc: database space exceeded"},
        {NB_TOO_MANY_REQUESTS, 2, "etcdserver: too many requests"},
        {NB_LEASE_NOT_FOUND, 5, "etcdserver: requested lease not found"},
        {NB_NO_LEADER, 14, "etcdserver: no leader"},
        {NB_TIMEOUT, 14, "etcdserver: request timed out"},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct api_error e = api_error_of(rows[i].status);
        assert_int_equal(e.grpc_code, rows[i].code);
        assert_string_equal(e.text, rows[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_client_status_has_a_row_of_its_own),
        cmocka_unit_test(texts_that_clients_match_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
