#include "cli/txn_parse.h"

#include "tests/support/unit.h"

static struct nb_arena arena;
static struct nb_buf error;

static int clear(void **state)
{
    (void)state;
    nb_arena_deinit(&arena);
    nb_buf_deinit(&error);
    return 0;
}

static Etcdserverpb__Compare compare_of(const char *line)
{
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    assert_true(txn_parse_compare(&arena, line, &compare, &error));
    return compare;
}

static void assert_bytes(ProtobufCBinaryData bytes, const char *text)
{
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.len);
}

static void compare_of_a_mod_revision(void **state)
{
    (void)state;
    Etcdserverpb__Compare compare = compare_of("mod(\"key1\") > \"12\"");
    assert_int_equal(compare.target, ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD);
    assert_int_equal(compare.result, ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER);
    assert_int_equal(compare.mod_revision, 12);
    assert_bytes(compare.key, "key1");
}

static void compare_knows_all_targets_and_results(void **state)
{
    (void)state;
    assert_int_equal(compare_of("ver(\"k\") = \"1\"").version, 1);
    assert_int_equal(compare_of("version(\"k\")!=\"2\"").result,
                     ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL);
    assert_int_equal(compare_of("c(\"k\") < \"3\"").create_revision, 3);
    assert_int_equal(compare_of("create(\"k\") < \"4\"").create_revision, 4);
    assert_int_equal(compare_of(" m ( \"k\" ) = \"5\" ").mod_revision, 5);
    assert_int_equal(compare_of("lease(\"k\") = \"1f\"").lease, 0x1f);
    assert_bytes(compare_of("val(\"k\") = \"a b\\\"c\"").value, "a b\"c");
    assert_bytes(compare_of("value(\"k\\x41\") = \"\"").key, "kA");
}

static void compare_refuses_what_it_cannot_read(void **state)
{
    (void)state;
    const char *lines[] = {"",
                           "mod",
                           "mod(\"k\"",
                           "mod(\"k\") \"0\"",
                           "mode(\"k\") = \"0\"",
                           "mod(\"k\") = \"x\"",
                           "mod(\"k\") = \"1\" more",
                           "mod(\"k) = 1",
                           "mod(\"k\") => \"1\""};
    for (size_t i = 0; i < NB_ARRAY_LEN(lines); i++) {
        Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
        nb_buf_clear(&error);
        assert_false(txn_parse_compare(&arena, lines[i], &compare, &error));
        assert_true(error.len > 0);
    }
}

static void words_keep_quotes_together(void **state)
{
    (void)state;
    char **words;
    size_t count;
    assert_true(txn_parse_words(&arena, " put a\\b \"x y\\n\" 'q\"' \"\" ", &words, &count));
    assert_int_equal(count, 5);
    assert_string_equal(words[1], "a\\b");
    assert_string_equal(words[2], "x y\n");
    assert_string_equal(words[3], "q\"");
    assert_string_equal(words[4], "");
    assert_false(txn_parse_words(&arena, "put \"open", &words, &count));
}

static void operations_take_their_options(void **state)
{
    (void)state;
    Etcdserverpb__RequestOp op = ETCDSERVERPB__REQUEST_OP__INIT;
    assert_true(txn_parse_op(&arena, "get a --prefix --limit=3", &op, &error));
    assert_int_equal(op.request_case, ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE);
    assert_bytes(op.request_range->range_end, "b");
    assert_int_equal(op.request_range->limit, 3);
    assert_true(txn_parse_op(&arena, "put k \"some value\" --lease 1f", &op, &error));
    assert_bytes(op.request_put->value, "some value");
    assert_int_equal(op.request_put->lease, 0x1f);
    assert_true(txn_parse_op(&arena, "del a c --prev-kv", &op, &error));
    assert_bytes(op.request_delete_range->range_end, "c");
    assert_true(op.request_delete_range->prev_kv);
    assert_false(txn_parse_op(&arena, "watch a", &op, &error));
    assert_false(txn_parse_op(&arena, "put only-a-key", &op, &error));
    assert_false(txn_parse_op(&arena, "get a --nonsense", &op, &error));
}

static void empty_lines_part_the_transaction(void **state)
{
    (void)state;
    const char *lines[] = {"mod(\"a\") > \"0\"", "", "put a 1", "put b 2", "", "get a", "", "junk"};
    struct txn_parse parse = {.arena = &arena};
    for (size_t i = 0; i < NB_ARRAY_LEN(lines); i++) {
        assert_true(txn_parse_line(&parse, lines[i], &error));
    }
    Etcdserverpb__TxnRequest request;
    txn_parse_request(&parse, &request);
    assert_int_equal(parse.part, TXN_PART_COUNT);
    assert_int_equal(request.n_compare, 1);
    assert_int_equal(request.n_success, 2);
    assert_int_equal(request.n_failure, 1);
    txn_parse_deinit(&parse);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(compare_of_a_mod_revision, clear),
        cmocka_unit_test_teardown(compare_knows_all_targets_and_results, clear),
        cmocka_unit_test_teardown(compare_refuses_what_it_cannot_read, clear),
        cmocka_unit_test_teardown(words_keep_quotes_together, clear),
        cmocka_unit_test_teardown(operations_take_their_options, clear),
        cmocka_unit_test_teardown(empty_lines_part_the_transaction, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
