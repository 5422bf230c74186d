#include "steward/card.h"

#include "tests/support/unit.h"

static struct steward_card sample(void)
{
    struct steward_card card = {.ordinal = 2,
                                .state = STEWARD_MEMBER,
                                .cluster_id = 0xfedcba9876543210,
                                .member_id = 7,
                                .leader_id = 9,
                                .you_are_member = true};
    (void)snprintf(card.slot, sizeof card.slot, "ss-2");
    (void)snprintf(card.peer_url, sizeof card.peer_url, "http://ss-2.svc:2380");
    (void)snprintf(card.client_url, sizeof card.client_url, "http://ss-2.svc:2379");
    (void)snprintf(card.leader_slot, sizeof card.leader_slot, "ss-0");
    (void)snprintf(card.words, sizeof card.words, "not yet");
    return card;
}

static void a_card_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct steward_card card = sample();
    char url[] = "http://ss-0.svc:2380";
    char *urls[] = {url};
    struct machine_members members = {0};
    struct machine_member m = {.id = 3, .peer_urls = urls, .peer_url_count = 1};
    machine_members_set(&members, &m);
    struct nb_buf bytes = {0};
    steward_card_encode(&card, &members, &bytes);
    struct steward_card out;
    assert_int_equal(steward_card_decode(nb_buf_bytes(&bytes), &out), NB_OK);
    assert_string_equal(out.slot, card.slot);
    assert_int_equal(out.ordinal, 2);
    assert_int_equal(out.state, STEWARD_MEMBER);
    assert_string_equal(out.peer_url, card.peer_url);
    assert_string_equal(out.client_url, card.client_url);
    assert_true(out.cluster_id == card.cluster_id && out.member_id == 7 && out.leader_id == 9);
    assert_string_equal(out.leader_slot, "ss-0");
    assert_true(out.you_are_member && !out.you_were_removed);
    assert_string_equal(out.words, "not yet");
    struct machine_members back = {0};
    assert_int_equal(machine_members_apply(&back, out.members), NB_OK);
    assert_int_equal(back.count, 1);
    assert_string_equal(back.items[0].peer_urls[0], urls[0]);
    machine_members_deinit(&back);
    machine_members_deinit(&members);
    nb_buf_deinit(&bytes);
}

static char long_url[4][251];

/* As many members as there can be, each with `url_count` URLs of 250 bytes. */
static void add_many(struct machine_members *members, size_t url_count)
{
    char *urls[4];
    for (size_t i = 0; i < url_count; i++) {
        (void)snprintf(long_url[i], sizeof long_url[i], "http://%zu", i);
        memset(long_url[i] + 8, 'h', sizeof long_url[i] - 9);
        urls[i] = long_url[i];
    }
    for (uint64_t id = 1; id <= MACHINE_MEMBER_COUNT_MAX; id++) {
        struct machine_member m = {
            .id = id << 48, .peer_urls = urls, .peer_url_count = url_count, .is_learner = id < 20};
        machine_members_set(members, &m);
    }
}

static void a_card_tells_as_many_members_as_there_can_be(void **state)
{
    (void)state;
    for (size_t url_count = 1; url_count <= 4; url_count += 3) { /* 9 and 33 KB */
        struct steward_card card = sample(), out;
        struct machine_members members = {0}, back = {0};
        struct nb_buf bytes = {0};
        add_many(&members, url_count);
        steward_card_encode(&card, &members, &bytes);
        assert_in_range(bytes.len, MACHINE_MEMBER_COUNT_MAX * url_count * 250,
                        STEWARD_CARD_SIZE_MAX);
        assert_int_equal(steward_card_decode(nb_buf_bytes(&bytes), &out), NB_OK);
        assert_int_equal(machine_members_apply(&back, out.members), NB_OK);
        assert_int_equal(back.count, MACHINE_MEMBER_COUNT_MAX);
        for (size_t i = 0; i < back.count; i++) {
            assert_int_equal(back.items[i].peer_url_count, url_count);
            assert_string_equal(back.items[i].peer_urls[url_count - 1], long_url[url_count - 1]);
        }
        machine_members_deinit(&back);
        machine_members_deinit(&members);
        nb_buf_deinit(&bytes);
    }
}

static void a_card_of_many_members_stays_within_its_bound(void **state)
{
    (void)state;
    struct steward_card card = sample();
    memset(card.words, 'w', sizeof card.words - 1);
    memset(card.peer_url, 'u', sizeof card.peer_url - 1);
    memset(card.client_url, 'u', sizeof card.client_url - 1);
    char url[251] = "http://";
    memset(url + 7, 'h', sizeof url - 8);
    url[sizeof url - 1] = '\0';
    char *urls[] = {url, url, url, url, url, url, url, url, url, url, url, url, url, url, url, url};
    struct machine_members members = {0};
    for (uint64_t id = 1; id <= MACHINE_MEMBER_COUNT_MAX; id++) {
        struct machine_member m = {.id = id << 48,
                                   .peer_urls = urls,
                                   .peer_url_count = NB_ARRAY_LEN(urls), /* 130 KB in all */
                                   .is_learner = id < 20};
        machine_members_set(&members, &m);
    }
    struct nb_buf bytes = {0};
    steward_card_encode(&card, &members, &bytes);
    assert_in_range(bytes.len, 1000, STEWARD_CARD_SIZE_MAX);
    struct steward_card out;
    assert_int_equal(steward_card_decode(nb_buf_bytes(&bytes), &out), NB_OK);
    struct machine_members back = {0};
    assert_int_equal(machine_members_apply(&back, out.members), NB_OK);
    assert_in_range(back.count, 5, MACHINE_MEMBER_COUNT_MAX - 1);
    size_t voters = 0;
    for (size_t i = 0; i < back.count; i++) {
        voters += back.items[i].is_learner ? 0 : 1;
    }
    assert_int_equal(voters, MACHINE_MEMBER_COUNT_MAX - 19); /* those that vote come first */
    machine_members_deinit(&back);
    machine_members_deinit(&members);
    nb_buf_deinit(&bytes);
}

static void a_card_that_contradicts_itself_is_malformed(void **state)
{
    (void)state;
    struct steward_card card = sample();
    card.cluster_id = 0; /* a member of no cluster */
    struct nb_buf bytes = {0};
    steward_card_encode(&card, NULL, &bytes);
    struct steward_card out;
    assert_int_equal(steward_card_decode(nb_buf_bytes(&bytes), &out), NB_MALFORMED);
    nb_buf_clear(&bytes);
    card = sample();
    card.state = STEWARD_EMPTY; /* empty, in a cluster */
    steward_card_encode(&card, NULL, &bytes);
    assert_int_equal(steward_card_decode(nb_buf_bytes(&bytes), &out), NB_MALFORMED);
    nb_buf_deinit(&bytes);
    assert_int_equal(steward_card_decode((struct nb_bytes){0}, &out), NB_MALFORMED);
}

static void calls_and_answers_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct steward_call call = {.kind = STEWARD_LEAVE, .boot_id = 77};
    (void)snprintf(call.slot, sizeof call.slot, "ss-4");
    struct nb_buf bytes = {0};
    steward_call_encode(&call, &bytes);
    struct steward_call out;
    assert_int_equal(steward_call_decode(nb_buf_bytes(&bytes), &out), NB_OK);
    assert_true(out.kind == STEWARD_LEAVE && out.boot_id == 77 && strcmp(out.slot, "ss-4") == 0);
    nb_buf_clear(&bytes);
    struct steward_answer answer = {.granted = true};
    (void)snprintf(answer.words, sizeof answer.words, "go");
    steward_answer_encode(&answer, &bytes);
    struct steward_answer back;
    assert_int_equal(steward_answer_decode(nb_buf_bytes(&bytes), &back), NB_OK);
    assert_true(back.granted && strcmp(back.words, "go") == 0);
    nb_buf_deinit(&bytes);
    assert_int_equal(steward_call_decode((struct nb_bytes){0}, &out), NB_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_card_comes_out_as_it_went_in),
        cmocka_unit_test(a_card_tells_as_many_members_as_there_can_be),
        cmocka_unit_test(a_card_of_many_members_stays_within_its_bound),
        cmocka_unit_test(a_card_that_contradicts_itself_is_malformed),
        cmocka_unit_test(calls_and_answers_come_out_as_they_went_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
