#include "cli/format.h"

#include "cli/ops.h"
#include "cli/table.h"
#include "tests/support/unit.h"

static struct nb_buf out;

static const char *text(void)
{
    nb_buf_append(&out, "", 1);
    return (const char *)out.data;
}

static int clear(void **state)
{
    (void)state;
    nb_buf_deinit(&out);
    return 0;
}

static Etcdserverpb__ResponseHeader header = ETCDSERVERPB__RESPONSE_HEADER__INIT;
static Mvccpb__KeyValue pair = MVCCPB__KEY_VALUE__INIT;
static Mvccpb__KeyValue *pairs[] = {&pair};
static Etcdserverpb__RangeResponse range = ETCDSERVERPB__RANGE_RESPONSE__INIT;
static Etcdserverpb__PutResponse put = ETCDSERVERPB__PUT_RESPONSE__INIT;

static int prepare(void **state)
{
    (void)state;
    header.cluster_id = 17237436991929493444u;
    header.member_id = 9372538179322589801u;
    header.revision = 2;
    header.raft_term = 2;
    pair.key = ops_text("foo");
    pair.value = ops_text("bar");
    pair.create_revision = pair.mod_revision = 2;
    pair.version = 1;
    range.header = &header;
    range.kvs = pairs;
    range.n_kvs = 1;
    range.count = 1;
    put.header = &header;
    return 0;
}

static void range_simple_is_key_and_value_lines(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_SIMPLE}, &range);
    assert_string_equal(text(), "foo\nbar\n");
}

static void range_simple_value_only(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_SIMPLE, .value_only = true}, &range);
    assert_string_equal(text(), "bar\n");
}

static void range_simple_hex_escapes_every_byte(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_SIMPLE, .hex = true}, &range);
    assert_string_equal(text(), "\\x66\\x6f\\x6f\n\\x62\\x61\\x72\n");
}

static void range_json_is_as_etcdctl_prints_it(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_JSON}, &range);
    assert_string_equal(
        text(), "{\"header\":{\"cluster_id\":17237436991929493444,\"member_id\":"
                "9372538179322589801,\"revision\":2,\"raft_term\":2},\"kvs\":[{\"key\":\"Zm9v\","
                "\"create_revision\":2,\"mod_revision\":2,\"version\":1,\"value\":\"YmFy\"}],"
                "\"count\":1}\n");
}

static void json_hex_turns_ids_into_texts(void **state)
{
    (void)state;
    format_put(&out, &(struct format){.kind = FORMAT_JSON, .hex = true}, &put);
    assert_string_equal(text(), "{\"header\":{\"cluster_id\":\"ef37ad9dc622a7c4\",\"member_id\":"
                                "\"8211f1d0f64f3269\",\"revision\":2,\"raft_term\":2}}\n");
}

static void range_fields_names_everything(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_FIELDS}, &range);
    assert_string_equal(text(), "\"ClusterID\" : 17237436991929493444\n"
                                "\"MemberID\" : 9372538179322589801\n"
                                "\"Revision\" : 2\n\"RaftTerm\" : 2\n"
                                "\"Key\" : \"foo\"\n\"CreateRevision\" : 2\n"
                                "\"ModRevision\" : 2\n\"Version\" : 1\n\"Value\" : \"bar\"\n"
                                "\"Lease\" : 0\n\"More\" : false\n\"Count\" : 1\n");
}

static void protobuf_is_the_message_itself(void **state)
{
    (void)state;
    format_range(&out, &(struct format){.kind = FORMAT_PROTOBUF}, &range);
    Etcdserverpb__RangeResponse *back =
        etcdserverpb__range_response__unpack(NULL, out.len, out.data);
    assert_non_null(back);
    assert_int_equal(back->n_kvs, 1);
    etcdserverpb__range_response__free_unpacked(back, NULL);
}

static void put_and_delete_simple(void **state)
{
    (void)state;
    Etcdserverpb__DeleteRangeResponse deleted = ETCDSERVERPB__DELETE_RANGE_RESPONSE__INIT;
    Etcdserverpb__PutResponse with_previous = put;
    with_previous.prev_kv = &pair;
    deleted.deleted = 1;
    deleted.prev_kvs = pairs;
    deleted.n_prev_kvs = 1;
    struct format simple = {.kind = FORMAT_SIMPLE};
    format_put(&out, &simple, &put);
    format_put(&out, &simple, &with_previous);
    format_delete(&out, &simple, &deleted);
    assert_string_equal(text(), "OK\nOK\nfoo\nbar\n1\nfoo\nbar\n");
}

static void txn_is_outcome_and_parts(void **state)
{
    (void)state;
    Etcdserverpb__ResponseOp first = ETCDSERVERPB__RESPONSE_OP__INIT, second = first;
    Etcdserverpb__ResponseOp *ops[] = {&first, &second};
    Etcdserverpb__TxnResponse txn = ETCDSERVERPB__TXN_RESPONSE__INIT;
    Etcdserverpb__PutResponse bare = ETCDSERVERPB__PUT_RESPONSE__INIT;
    first.response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
    first.response_put = &bare;
    second.response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
    second.response_range = &range;
    txn.succeeded = true;
    txn.responses = ops;
    txn.n_responses = 2;
    format_txn(&out, &(struct format){.kind = FORMAT_SIMPLE}, &txn);
    txn.n_responses = 1;
    txn.succeeded = false;
    format_txn(&out, &(struct format){.kind = FORMAT_JSON}, &txn);
    assert_string_equal(text(), "SUCCESS\n\nOK\n\nfoo\nbar\n"
                                "{\"responses\":[{\"Response\":{\"response_put\":{}}}]}\n");
}

static void members_simple_is_a_row_each(void **state)
{
    (void)state;
    char first[] = "http://a:2380", second[] = "http://b:2380";
    char *peers[] = {first, second};
    char name[] = "m1";
    Etcdserverpb__Member member;
    Etcdserverpb__Member *members[] = {&member};
    Etcdserverpb__MemberListResponse list = ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
    etcdserverpb__member__init(&member);
    member.id = 0x8211f1d0f64f3269;
    member.name = name;
    member.peerurls = peers;
    member.n_peerurls = 2;
    list.members = members;
    list.n_members = 1;
    format_members(&out, &(struct format){.kind = FORMAT_SIMPLE}, &list);
    assert_string_equal(text(),
                        "8211f1d0f64f3269, started, m1, http://a:2380,http://b:2380, , false\n");
}

static void quoted_as_go_does(void **state)
{
    (void)state;
    format_quoted(&out, nb_bytes_of("a\"\\\n\t\x01\x7f\xff\xc3\xa9\xed\xa0\x80", 13));
    assert_string_equal(text(), "\"a\\\"\\\\\\n\\t\\x01\\x7f\\xff\xc3\xa9\\xed\\xa0\\x80\"");
}

static void base64_pads(void **state)
{
    (void)state;
    const char *words[] = {"", "f", "fo", "foo", "foob"};
    for (size_t i = 0; i < NB_ARRAY_LEN(words); i++) {
        format_base64(&out, nb_bytes_str(words[i]));
        nb_buf_append_str(&out, ",");
    }
    assert_string_equal(text(), ",Zg==,Zm8=,Zm9v,Zm9vYg==,");
}

static void sizes_are_in_powers_of_a_thousand(void **state)
{
    (void)state;
    const uint64_t sizes[] = {0, 9, 999, 1000, 20480, 2147483648, 9999999999};
    for (size_t i = 0; i < NB_ARRAY_LEN(sizes); i++) {
        format_size(&out, sizes[i]);
        nb_buf_append_str(&out, ",");
    }
    assert_string_equal(text(), "0 B,9 B,999 B,1.0 kB,20 kB,2.1 GB,10 GB,");
}

static void table_stands_right_with_centered_titles(void **state)
{
    (void)state;
    static const char *const titles[] = {"endpoint", "hash_revision"};
    struct table table;
    table_init(&table, titles, 2);
    table_add(&table, "127.0.0.1:2379");
    table_add(&table, "%d", 3);
    table_print(&table, &out);
    table_deinit(&table);
    assert_string_equal(text(), "┌────────────────┬───────────────┐\n"
                                "│    ENDPOINT    │ HASH REVISION │\n"
                                "├────────────────┼───────────────┤\n"
                                "│ 127.0.0.1:2379 │             3 │\n"
                                "└────────────────┴───────────────┘\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, prepare, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(range_simple_is_key_and_value_lines),
        TEST(range_simple_value_only),
        TEST(range_simple_hex_escapes_every_byte),
        TEST(range_json_is_as_etcdctl_prints_it),
        TEST(json_hex_turns_ids_into_texts),
        TEST(range_fields_names_everything),
        TEST(protobuf_is_the_message_itself),
        TEST(put_and_delete_simple),
        TEST(txn_is_outcome_and_parts),
        TEST(members_simple_is_a_row_each),
        TEST(quoted_as_go_does),
        TEST(base64_pads),
        TEST(sizes_are_in_powers_of_a_thousand),
        TEST(table_stands_right_with_centered_titles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
