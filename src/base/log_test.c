#include "base/log.h"

#include "tests/support/unit.h"

static const struct nb_kv pairs[] = {
    {.type = NB_KV_TYPE_U64, .name = "term", .u64 = 7},
    {.type = NB_KV_TYPE_ID, .name = "leader", .u64 = 0xabc},
    {.type = NB_KV_TYPE_STR, .name = "key", .str = "a \"b\"\n"},
    {.type = NB_KV_TYPE_END},
};

static void json_lines_are_as_etcd_writes_them(void **state)
{
    (void)state;
    struct nb_logger logger = {.format = NB_LOG_JSON};
    struct nb_buf b = {0};
    nb_log_format_line(&logger, NB_LOG_INFO, "raft.leader_elected", "elected", pairs,
                       1753265472123456789, &b);
    nb_buf_append(&b, "", 1);
    assert_string_equal((char *)b.data,
                        "{\"level\":\"info\",\"ts\":\"2025-07-23T10:11:12.123456Z\","
                        "\"caller\":\"raft.leader_elected\",\"msg\":\"elected\",\"term\":7,"
                        "\"leader\":\"abc\",\"key\":\"a \\\"b\\\"\\n\"}\n");
    nb_buf_deinit(&b);
}

static void console_lines_are_for_people(void **state)
{
    (void)state;
    struct nb_logger logger = {.format = NB_LOG_CONSOLE, .member = "m1"};
    struct nb_buf b = {0};
    nb_log_format_line(&logger, NB_LOG_WARN, "raft.leader_elected", NULL, pairs,
                       1753265472123456789, &b);
    nb_buf_append(&b, "", 1);
    assert_string_equal((char *)b.data,
                        "2025-07-23T10:11:12.123456Z WRN m1 raft.leader_elected term=7 leader=abc "
                        "key=\"a \\\"b\\\"\\n\"\n");
    nb_buf_deinit(&b);
}

static void user_bytes_cannot_break_a_line(void **state)
{
    (void)state;
    static const uint8_t nasty[] = {'x', 0, 0x1b, '[', 0x7f, 0xff, 0xc0, 0x80, 0xe2, 0x82, 0xac};
    struct nb_buf b = {0};
    nb_json_escape(&b, nb_bytes_of(nasty, sizeof nasty));
    nb_buf_append(&b, "", 1);
    assert_string_equal((char *)b.data, "x\\u0000\\u001b[\\u007f\\ufffd\\ufffd\\ufffd\xe2\x82\xac");
    nb_buf_deinit(&b);
}

static void level_names_are_known(void **state)
{
    (void)state;
    enum nb_log_level level;
    assert_true(nb_log_level_of("warn", &level));
    assert_int_equal(level, NB_LOG_WARN);
    assert_false(nb_log_level_of("loud", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(json_lines_are_as_etcd_writes_them),
        cmocka_unit_test(console_lines_are_for_people),
        cmocka_unit_test(user_bytes_cannot_break_a_line),
        cmocka_unit_test(level_names_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
