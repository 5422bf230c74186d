#include "mvcc/request.h"

#include "base/random.h"
#include "base/wire.h"
#include "tests/support/unit.h"

/* Requests are built from the wire up, so that the decoders are in every test. */

static struct nb_bytes str(const char *text)
{
    return nb_bytes_str(text);
}

static void put_op(struct nb_buf *list, uint32_t list_number, uint32_t member, struct nb_bytes b)
{
    struct nb_buf op = {0};
    nb_wire_bytes(&op, member, b);
    nb_wire_bytes(list, list_number, nb_buf_bytes(&op));
    nb_buf_deinit(&op);
}

static enum nb_status decode_check(struct nb_bytes b, uint32_t ops_max)
{
    struct nb_arena arena = {0};
    struct mvcc_txn_request t;
    enum nb_status status = mvcc_txn_decode(b, &arena, &t);
    if (status == NB_OK) {
        status = mvcc_txn_check(&t, ops_max, &arena);
    }
    nb_arena_deinit(&arena);
    return status;
}

static void N13_last_value_of_a_field_wins(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    nb_wire_bytes(&b, 1, str("first"));
    nb_wire_varint(&b, 3, 7);
    nb_wire_bytes(&b, 1, str("last"));
    nb_wire_varint(&b, 3, 0);
    struct mvcc_put_request r;
    assert_int_equal(mvcc_put_decode(nb_buf_bytes(&b), &r), NB_OK);
    assert_true(nb_bytes_equal(r.key, str("last")));
    assert_int_equal(r.lease, 0);
    nb_buf_deinit(&b);
}

static void N13_known_field_of_another_type_is_unknown(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    nb_wire_varint(&b, 1, 5);          /* key as a number */
    nb_wire_bytes(&b, 3, str("oh"));   /* lease as bytes */
    nb_wire_bytes(&b, 99, str("new")); /* a field of the future */
    nb_wire_bytes(&b, 2, str("v"));
    struct mvcc_put_request r;
    assert_int_equal(mvcc_put_decode(nb_buf_bytes(&b), &r), NB_OK);
    assert_int_equal(r.key.len, 0);
    assert_int_equal(r.lease, 0);
    assert_true(nb_bytes_equal(r.value, str("v")));
    nb_buf_deinit(&b);
}

static void N13_member_of_a_oneof_given_twice_is_merged_another_replaces(void **state)
{
    (void)state;
    struct nb_buf key = {0};
    struct nb_buf value = {0};
    struct nb_buf op = {0};
    struct nb_buf b = {0};
    struct nb_arena arena = {0};
    struct mvcc_txn_request t;
    nb_wire_bytes(&key, 1, str("k"));
    nb_wire_bytes(&value, 2, str("v"));
    nb_wire_bytes(&op, 2, nb_buf_bytes(&key));
    nb_wire_bytes(&op, 2, nb_buf_bytes(&value));
    nb_wire_bytes(&b, 2, nb_buf_bytes(&op));
    nb_wire_bytes(&op, 3, nb_buf_bytes(&key)); /* then a deletion */
    nb_wire_bytes(&b, 2, nb_buf_bytes(&op));
    assert_int_equal(mvcc_txn_decode(nb_buf_bytes(&b), &arena, &t), NB_OK);
    assert_int_equal(t.success.count, 2);
    assert_int_equal(t.success.items[0].kind, MVCC_OP_PUT);
    assert_true(nb_bytes_equal(t.success.items[0].as.put->key, str("k")));
    assert_true(nb_bytes_equal(t.success.items[0].as.put->value, str("v")));
    assert_int_equal(t.success.items[1].kind, MVCC_OP_DELETE);
    nb_arena_deinit(&arena);
    nb_buf_deinit(&key);
    nb_buf_deinit(&value);
    nb_buf_deinit(&op);
    nb_buf_deinit(&b);
}

/* A txn in a txn in a txn, `depth` of them. */
static void nested(struct nb_buf *out, unsigned depth)
{
    nb_buf_clear(out);
    for (unsigned i = 1; i < depth; i++) {
        struct nb_buf outer = {0};
        put_op(&outer, 2, 4, nb_buf_bytes(out));
        nb_buf_deinit(out);
        *out = outer;
    }
}

static void N13_nesting_is_bounded(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    nested(&b, MVCC_TXN_OPS_DEFAULT + 1); /* each level but the last costs one operation */
    assert_int_equal(decode_check(nb_buf_bytes(&b), MVCC_TXN_OPS_DEFAULT), NB_OK);
    nested(&b, MVCC_TXN_OPS_DEFAULT + 2);
    assert_int_equal(decode_check(nb_buf_bytes(&b), MVCC_TXN_OPS_DEFAULT), NB_TOO_MANY_OPS);
    nested(&b, MVCC_TXN_DEPTH_MAX + 1);
    assert_int_equal(decode_check(nb_buf_bytes(&b), MVCC_TXN_OPS_DEFAULT), NB_TOO_DEEP);
    nb_buf_deinit(&b);
}

static void requests_are_refused_at_the_door(void **state)
{
    (void)state;
    struct mvcc_range_request range = {.key = str("k")};
    assert_int_equal(mvcc_range_check(&range), NB_OK);
    range.sort_target = 5;
    assert_int_equal(mvcc_range_check(&range), NB_INVALID_SORT);
    range.sort_target = 0;
    range.sort_order = -1;
    assert_int_equal(mvcc_range_check(&range), NB_INVALID_SORT);
    range.key.len = 0;
    assert_int_equal(mvcc_range_check(&range), NB_EMPTY_KEY); /* before the sort */
    struct mvcc_put_request put = {.key = str("k"), .value = str("v"), .ignore_value = true};
    assert_int_equal(mvcc_put_check(&put), NB_VALUE_PROVIDED);
    put = (struct mvcc_put_request){.key = str("k"), .lease = 1, .ignore_lease = true};
    assert_int_equal(mvcc_put_check(&put), NB_LEASE_PROVIDED);
    put.key.len = 0;
    assert_int_equal(mvcc_put_check(&put), NB_EMPTY_KEY);
    struct mvcc_delete_request deletion = {0};
    assert_int_equal(mvcc_delete_check(&deletion), NB_EMPTY_KEY);
    struct mvcc_range_request stream = {.key = str("k"), .sort_order = MVCC_SORT_ASCEND};
    assert_int_equal(mvcc_stream_check(&stream), NB_OK);
    stream.sort_order = MVCC_SORT_DESCEND;
    assert_int_equal(mvcc_stream_check(&stream), NB_STREAM_SORT);
    stream = (struct mvcc_range_request){.key = str("k"), .sort_target = MVCC_BY_MOD};
    assert_int_equal(mvcc_stream_check(&stream), NB_OK); /* without an order a target is nothing */
    stream.sort_order = MVCC_SORT_ASCEND;
    assert_int_equal(mvcc_stream_check(&stream), NB_STREAM_SORT);
    stream = (struct mvcc_range_request){.key = str("k"), .max_create_revision = 1};
    assert_int_equal(mvcc_stream_check(&stream), NB_STREAM_FILTER);
}

static void txn_limit_counts_the_longest_list(void **state)
{
    (void)state;
    struct nb_buf b = {0};
    struct nb_buf range = {0};
    nb_wire_bytes(&range, 1, str("k"));
    for (unsigned i = 0; i < 3; i++) {
        put_op(&b, 2, 1, nb_buf_bytes(&range));
        put_op(&b, 3, 1, nb_buf_bytes(&range));
    }
    assert_int_equal(decode_check(nb_buf_bytes(&b), 3), NB_OK);
    assert_int_equal(decode_check(nb_buf_bytes(&b), 2), NB_TOO_MANY_OPS);
    nb_wire_bytes(&b, 1, (struct nb_bytes){0}); /* a compare without a key */
    assert_int_equal(decode_check(nb_buf_bytes(&b), 2), NB_TOO_MANY_OPS); /* the limit is first */
    assert_int_equal(decode_check(nb_buf_bytes(&b), 3), NB_EMPTY_KEY);
    nb_buf_clear(&b);
    nb_wire_bytes(&b, 2, (struct nb_bytes){0}); /* an operation with no oneof */
    assert_int_equal(decode_check(nb_buf_bytes(&b), 3), NB_KEY_NOT_FOUND);
    nb_buf_deinit(&b);
    nb_buf_deinit(&range);
}

/* Txns in a small notation: p<key> puts, d<key><end> deletes (end '.': one key, '0': to the end),
 * t(..|..) is a nested txn with its two branches. */
struct script {
    const char *at;
    struct nb_arena *arena;
};

static struct mvcc_ops script_ops(struct script *s);

static void script_op(struct script *s, struct mvcc_op *op)
{
    char what = *s->at++;
    if (what == 'p') {
        struct mvcc_put_request *r = nb_arena_alloc_zero(s->arena, 1, sizeof *r);
        r->key = nb_bytes_of(s->at++, 1);
        *op = (struct mvcc_op){.kind = MVCC_OP_PUT, .as.put = r};
    } else if (what == 'd') {
        struct mvcc_delete_request *r = nb_arena_alloc_zero(s->arena, 1, sizeof *r);
        r->key = nb_bytes_of(s->at++, 1);
        r->range_end = *s->at == '.'   ? (struct nb_bytes){0}
                       : *s->at == '0' ? nb_bytes_of("", 1)
                                       : nb_bytes_of(s->at, 1);
        s->at++;
        *op = (struct mvcc_op){.kind = MVCC_OP_DELETE, .as.delete = r};
    } else {
        struct mvcc_txn_request *t = nb_arena_alloc_zero(s->arena, 1, sizeof *t);
        assert_true(what == 't' && *s->at == '(');
        s->at++;
        t->success = script_ops(s);
        assert_true(*s->at++ == '|');
        t->failure = script_ops(s);
        assert_true(*s->at++ == ')');
        *op = (struct mvcc_op){.kind = MVCC_OP_TXN, .as.txn = t};
    }
}

static struct mvcc_ops script_ops(struct script *s)
{
    struct mvcc_ops ops = {.items = nb_arena_alloc(s->arena, 8 * sizeof *ops.items)};
    while (*s->at != '\0' && *s->at != '|' && *s->at != ')') {
        nb_assert(ops.count < 8);
        script_op(s, &ops.items[ops.count++]);
    }
    return ops;
}

static void D10_duplicate_keys_are_refused_as_etcd_does(void **state)
{
    (void)state;
    static const struct {
        const char *script;
        enum nb_status status;
    } rows[] = {
        {"papb", NB_OK},
        {"papa", NB_DUPLICATE_KEY},
        {"pada.", NB_DUPLICATE_KEY},
        {"da.pa", NB_DUPLICATE_KEY},
        {"pbdac", NB_DUPLICATE_KEY},
        {"pcdac", NB_OK}, /* the end is not deleted */
        {"dacdbd", NB_OK},
        {"pbda0", NB_OK},    /* quirk: not taken as "to the end" */
        {"pbdca", NB_OK},    /* ends before it begins */
        {"t(pa|pa)", NB_OK}, /* branches exclude each other */
        {"pat(pa|)", NB_DUPLICATE_KEY},
        {"pat(|pa)", NB_DUPLICATE_KEY},
        {"t(pa|)t(|pa)", NB_DUPLICATE_KEY},
        {"t(pa|)da.", NB_DUPLICATE_KEY},
        {"da.t(pa|)", NB_DUPLICATE_KEY},
        {"t(da.|)pa", NB_DUPLICATE_KEY},
        {"t(pa|)t(da.|)", NB_OK}, /* quirk: the deletion comes later */
        {"t(da.|)t(pa|)", NB_DUPLICATE_KEY},
        {"t(da.|pa)", NB_OK},
        {"t(t(pb|)|)t(t(|pb)|)", NB_DUPLICATE_KEY},
        {"t(t(dad|)|)pb", NB_DUPLICATE_KEY},
    };
    for (size_t i = 0; i < NB_ARRAY_LEN(rows); i++) {
        struct nb_arena arena = {0};
        struct script s = {.at = rows[i].script, .arena = &arena};
        struct mvcc_txn_request t = {.success = script_ops(&s)};
        enum nb_status got = mvcc_txn_check(&t, MVCC_TXN_OPS_DEFAULT, &arena);
        if (got != rows[i].status) {
            fail_msg("%s: %s", rows[i].script, nb_status_name(got));
        }
        t = (struct mvcc_txn_request){.failure = t.success};
        assert_int_equal(mvcc_txn_check(&t, MVCC_TXN_OPS_DEFAULT, &arena), rows[i].status);
        nb_arena_deinit(&arena);
    }
}

/* The rule once more, over keys of one letter: what a list puts and deletes is a set of letters. */
enum { LETTER_COUNT = 6 };

struct letters {
    bool put[LETTER_COUNT], deleted[LETTER_COUNT];
};

static bool plain_put(struct letters *l, size_t letter)
{
    bool fresh = !l->put[letter] && !l->deleted[letter];
    l->put[letter] = true;
    return fresh;
}

static bool plain_rule(const struct mvcc_ops *ops, struct letters *l)
{
    *l = (struct letters){0};
    for (size_t i = 0; i < ops->count; i++) {
        const struct mvcc_delete_request *d = ops->items[i].as.delete;
        for (size_t k = 0; ops->items[i].kind == MVCC_OP_DELETE && k < LETTER_COUNT; k++) {
            uint8_t letter = (uint8_t)('a' + k);
            l->deleted[k] |= d->range_end.len == 0
                                 ? d->key.data[0] == letter
                                 : d->key.data[0] <= letter && letter < d->range_end.data[0];
        }
    }
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind != MVCC_OP_TXN) {
            continue;
        }
        struct letters success;
        struct letters failure;
        if (!plain_rule(&ops->items[i].as.txn->success, &success) ||
            !plain_rule(&ops->items[i].as.txn->failure, &failure)) {
            return false;
        }
        for (size_t k = 0; k < LETTER_COUNT; k++) {
            if ((success.put[k] || failure.put[k]) && !plain_put(l, k)) {
                return false;
            }
        }
        for (size_t k = 0; k < LETTER_COUNT; k++) {
            l->deleted[k] |= success.deleted[k] || failure.deleted[k];
        }
    }
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_PUT &&
            !plain_put(l, (size_t)(ops->items[i].as.put->key.data[0] - 'a'))) {
            return false;
        }
    }
    return true;
}

static void random_script(struct nb_random *r, char **at, unsigned depth)
{
    uint64_t count = nb_random_below(r, 4);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t what = nb_random_below(r, depth < 3 ? 6 : 4);
        char key = (char)('a' + nb_random_below(r, LETTER_COUNT));
        char end = ".0abcdefg"[nb_random_below(r, 9)];
        if (what < 3) {
            *at += sprintf(*at, "p%c", key);
        } else if (what < 4) {
            *at += sprintf(*at, "d%c%c", key, end);
        } else {
            *at += sprintf(*at, "t(");
            random_script(r, at, depth + 1);
            *at += sprintf(*at, "|");
            random_script(r, at, depth + 1);
            *at += sprintf(*at, ")");
        }
    }
    **at = '\0';
}

static void D10_duplicate_check_equals_the_plain_rule(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    unsigned refused = 0;
    uint64_t rounds = unit_scaled(20000);
    for (uint64_t i = 0; i < rounds; i++) {
        char text[4096];
        char *end = text;
        random_script(&r, &end, 0);
        struct nb_arena arena = {0};
        struct script s = {.at = text, .arena = &arena};
        struct mvcc_txn_request t = {.success = script_ops(&s)};
        struct letters unused;
        bool allowed = plain_rule(&t.success, &unused);
        if ((mvcc_txn_check(&t, MVCC_TXN_OPS_DEFAULT, &arena) == NB_OK) != allowed) {
            fail_msg("%s", text);
        }
        refused += !allowed;
        nb_arena_deinit(&arena);
    }
    assert_true(rounds < 1000 || (refused > rounds / 20 && refused < rounds - rounds / 20));
}

static void quota_cost_is_that_of_the_larger_branch(void **state)
{
    (void)state;
    struct nb_arena arena = {0};
    struct script s = {.at = "papbt(pc|)", .arena = &arena};
    struct script small = {.at = "pa", .arena = &arena};
    struct mvcc_txn_request t = {.success = script_ops(&small), .failure = script_ops(&s)};
    assert_int_equal(mvcc_txn_quota_cost(&t), 3 * 257);
    assert_true(mvcc_txn_has_put(&t));
    assert_false(mvcc_txn_is_readonly(&t));
    struct mvcc_put_request put = {.key = str("key"), .value = str("value")};
    assert_int_equal(mvcc_put_quota_cost(&put), 256 + 3 + 5);
    nb_arena_deinit(&arena);
}

static void txn_of_compares_only_is_readonly_and_serializable(void **state)
{
    (void)state;
    struct mvcc_txn_request t = {0};
    assert_true(mvcc_txn_is_readonly(&t));
    assert_true(mvcc_txn_is_serializable(&t));
    struct mvcc_range_request range = {.key = str("k")};
    struct mvcc_op op = {.kind = MVCC_OP_RANGE, .as.range = &range};
    t.failure = (struct mvcc_ops){.items = &op, .count = 1};
    assert_true(mvcc_txn_is_readonly(&t));
    assert_false(mvcc_txn_is_serializable(&t));
    range.serializable = true;
    assert_true(mvcc_txn_is_serializable(&t));
    struct mvcc_txn_request outer = {0};
    struct mvcc_op inner = {.kind = MVCC_OP_TXN, .as.txn = &t};
    outer.success = (struct mvcc_ops){.items = &inner, .count = 1};
    assert_false(mvcc_txn_is_readonly(&outer)); /* nested: always logged */
    assert_false(mvcc_txn_is_serializable(&outer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(N13_last_value_of_a_field_wins),
        cmocka_unit_test(N13_known_field_of_another_type_is_unknown),
        cmocka_unit_test(N13_member_of_a_oneof_given_twice_is_merged_another_replaces),
        cmocka_unit_test(N13_nesting_is_bounded),
        cmocka_unit_test(requests_are_refused_at_the_door),
        cmocka_unit_test(txn_limit_counts_the_longest_list),
        cmocka_unit_test(D10_duplicate_keys_are_refused_as_etcd_does),
        cmocka_unit_test(D10_duplicate_check_equals_the_plain_rule),
        cmocka_unit_test(quota_cost_is_that_of_the_larger_branch),
        cmocka_unit_test(txn_of_compares_only_is_readonly_and_serializable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
