/* Who a joining member is, by what the cluster says of its members. */
#include "peer/hello.h"
#include "server/join.h"

#include "tests/support/unit.h"

static void add(struct machine_members *m, uint64_t id, const char *name, const char *url)
{
    char *urls[] = {nb_strdup(url)}, *named = nb_strdup(name);
    machine_members_set(m, &(struct machine_member){
                               .id = id, .name = named, .peer_urls = urls, .peer_url_count = 1});
    nb_free(urls[0]);
    nb_free(named);
}

static uint64_t match(const char *list, const struct machine_members *members, struct nb_buf *words)
{
    struct nb_arena arena = {0};
    struct nb_buf why = {0};
    struct server_members listed;
    assert_true(server_members_parse(list, &arena, &listed, &why));
    nb_buf_clear(words);
    uint64_t id = server_join_match(&listed, "b", members, words);
    nb_buf_append(words, "", 1);
    nb_arena_deinit(&arena);
    return id;
}

static void a_joiner_finds_itself_by_its_peer_urls(void **state)
{
    (void)state;
    struct machine_members members = {0};
    struct nb_buf words = {0};
    add(&members, 5, "a", "http://h1:1");
    add(&members, 9, "", "http://h2:1");
    assert_int_equal(match("a=http://h1:1,b=http://h2:1", &members, &words), 9);
    assert_int_equal(match("a=http://h1:1", &members, &words), 0);
    assert_non_null(strstr((char *)words.data, "member count is unequal"));
    assert_int_equal(match("a=http://h1:1,b=http://h3:1", &members, &words), 0);
    assert_non_null(strstr((char *)words.data, "unmatched member"));
    machine_members_deinit(&members);
    nb_buf_deinit(&words);
}

static void K04_one_that_has_started_before_does_not_join_with_an_empty_folder(void **state)
{
    (void)state;
    struct machine_members members = {0};
    struct nb_buf words = {0};
    add(&members, 5, "a", "http://h1:1");
    add(&members, 9, "b", "http://h2:1");
    assert_int_equal(match("a=http://h1:1,b=http://h2:1", &members, &words), 0);
    assert_non_null(strstr((char *)words.data, "has already been bootstrapped"));
    machine_members_deinit(&members);
    nb_buf_deinit(&words);
}

static void a_card_survives_the_wire_and_damage_is_refused(void **state)
{
    (void)state;
    struct machine_members members = {0}, back = {0};
    struct nb_buf card = {0};
    uint64_t applied;
    add(&members, 5, "a", "http://h1:1");
    add(&members, 9, "", "http://h2:1");
    server_card_encode(5, 77, &members, &card);
    assert_int_equal(server_card_decode(nb_buf_bytes(&card), &applied, &back), NB_OK);
    assert_int_equal(applied, 77);
    assert_int_equal(back.count, 2);
    assert_string_equal(back.items[0].name, "a");
    assert_string_equal(back.items[1].peer_urls[0], "http://h2:1");
    for (size_t len = 0; len < card.len; len++) { /* any front of it: no crash, no leak */
        struct machine_members part = {0};
        (void)!server_card_decode(nb_bytes_of(card.data, len), &applied, &part);
        machine_members_deinit(&part);
    }
    machine_members_deinit(&members);
    machine_members_deinit(&back);
    nb_buf_deinit(&card);
}

/* A card was 4,096 bytes at most: the fifteenth member with such URLs could not join. */
static void a_cluster_of_as_many_members_as_there_can_be_is_joined_by_one_hello(void **state)
{
    (void)state;
    struct machine_members members = {0}, back = {0};
    struct nb_buf card = {0}, hello = {0};
    uint64_t applied;
    char url[256];
    for (uint64_t id = 1; id <= MACHINE_MEMBER_COUNT_MAX; id++) {
        int len = snprintf(url, sizeof url, "http://m%02u.", (unsigned)id);
        memset(url + len, 'h', 240);
        (void)snprintf(url + len + 239, 8, ":2380");
        add(&members, id, "a-name-that-is-as-long-as-one-of-a-pod-may-be-0", url);
    }
    server_card_encode(5, 77, &members, &card);
    assert_in_range(card.len, 8000, PEER_CARD_SIZE_MAX);
    struct peer_hello h = {.protocol_version = PEER_PROTOCOL_VERSION,
                           .channel = PEER_CHANNEL_PROBE,
                           .from = 1,
                           .boot_id = 1,
                           .boot_count = 1,
                           .card = nb_buf_bytes(&card)},
                      said;
    peer_hello_encode(&h, &hello);
    assert_in_range(hello.len, card.len, PEER_HELLO_SIZE_MAX);
    assert_int_equal(peer_hello_decode(nb_buf_bytes(&hello), &said), NB_OK);
    assert_int_equal(server_card_decode(said.card, &applied, &back), NB_OK);
    assert_int_equal(back.count, MACHINE_MEMBER_COUNT_MAX);
    assert_string_equal(back.items[back.count - 1].peer_urls[0], url);
    machine_members_deinit(&members);
    machine_members_deinit(&back);
    nb_buf_deinit(&hello);
    nb_buf_deinit(&card);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_joiner_finds_itself_by_its_peer_urls),
        cmocka_unit_test(K04_one_that_has_started_before_does_not_join_with_an_empty_folder),
        cmocka_unit_test(a_card_survives_the_wire_and_damage_is_refused),
        cmocka_unit_test(a_cluster_of_as_many_members_as_there_can_be_is_joined_by_one_hello),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
