/*
 * mvcc against the model: random requests, compactions, batches, restarts and crashes; after each
 * one the answers, to the byte, and now and then everything else there is to see.
 */
#include "tests/mvcc/model.h"

#include "base/arena.h"
#include "base/random.h"
#include "storage/backend.h"
#include "storage/backend_memory.h"
#include "tests/support/unit.h"

/* What the file holds when the batches up to here are in it. */
struct saved {
    size_t row_count;
    int64_t current, compact;
};

struct world {
    struct nb_random random;
    struct nb_arena arena;
    struct backend_memory_store *store;
    struct backend *backend;
    struct mvcc *mvcc;
    struct model model;
    struct saved durable;
    struct saved sealed[64];
    size_t sealed_count;
    struct nb_buf expected, body;
};

static uint64_t below(struct world *w, uint64_t bound)
{
    return nb_random_below(&w->random, bound);
}

static bool chance(struct world *w, uint64_t of_hundred)
{
    return nb_random_chance(&w->random, of_hundred, 100);
}

static void open_world(struct world *w)
{
    static const struct backend_ident ident = {.cluster_id = 1, .member_id = 2};
    struct nb_buf message = {0};
    assert_int_equal(backend_memory_open(w->store, NULL, &ident, &w->backend, &message), NB_OK);
    nb_buf_deinit(&message);
    struct mvcc_options options = {.hash_seed = nb_random_u64(&w->random),
                                   .lease_exists = model_lease_exists};
    assert_int_equal(mvcc_create(w->backend, &options, &w->mvcc), NB_OK);
}

static struct nb_bytes any_key(struct world *w)
{
    return model_keys[below(w, MODEL_KEY_COUNT)];
}

static struct nb_bytes any_end(struct world *w)
{
    switch (below(w, 4)) {
    case 0:
        return nb_bytes_of("", 1);
    case 1:
        return any_key(w);
    case 2:
        return nb_bytes_of("\xff\xff\xff", 3);
    default:
        return (struct nb_bytes){0};
    }
}

static struct nb_bytes any_value(struct world *w)
{
    uint8_t *bytes = nb_arena_alloc(&w->arena, 8);
    size_t len = below(w, 4);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)('x' + below(w, 3));
    }
    return nb_bytes_of(bytes, len);
}

static int64_t any_revision(struct world *w)
{
    return (int64_t)below(w, (uint64_t)w->model.current + 4) - 2;
}

static struct mvcc_range_request *any_range(struct world *w)
{
    struct mvcc_range_request *r = nb_arena_alloc_zero(&w->arena, 1, sizeof *r);
    r->key = any_key(w);
    r->range_end = any_end(w);
    r->limit = chance(w, 50) ? 0 : (int64_t)below(w, 8) - 1;
    r->limit = chance(w, 3) ? INT64_MAX - (int64_t)below(w, 2) : r->limit;
    r->revision = chance(w, 60) ? 0 : any_revision(w);
    r->sort_order = chance(w, 50) ? 0 : (int32_t)below(w, 3);
    r->sort_target = chance(w, 50) ? 0 : (int32_t)below(w, 5);
    r->keys_only = chance(w, 20);
    r->count_only = chance(w, 10);
    r->min_mod_revision = chance(w, 10) ? any_revision(w) : 0;
    r->max_mod_revision = chance(w, 10) ? any_revision(w) : 0;
    r->min_create_revision = chance(w, 10) ? any_revision(w) : 0;
    r->max_create_revision = chance(w, 10) ? any_revision(w) : 0;
    return r;
}

static struct mvcc_put_request *any_put(struct world *w)
{
    struct mvcc_put_request *r = nb_arena_alloc_zero(&w->arena, 1, sizeof *r);
    r->key = any_key(w);
    r->ignore_value = chance(w, 10);
    r->ignore_lease = chance(w, 10);
    r->value = r->ignore_value ? (struct nb_bytes){0} : any_value(w);
    r->lease = r->ignore_lease || chance(w, 60) ? 0 : (int64_t)below(w, 32) % 4;
    r->lease = chance(w, 1) ? MODEL_LEASE_MAX + 1 : r->lease;
    r->prev_kv = chance(w, 30);
    return r;
}

static struct mvcc_delete_request *any_delete(struct world *w)
{
    struct mvcc_delete_request *r = nb_arena_alloc_zero(&w->arena, 1, sizeof *r);
    r->key = any_key(w);
    r->range_end = chance(w, 60) ? (struct nb_bytes){0} : any_end(w);
    r->prev_kv = chance(w, 30);
    return r;
}

static struct mvcc_compare any_compare(struct world *w)
{
    struct mvcc_compare c = {.key = any_key(w), .range_end = any_end(w)};
    c.result = (int32_t)below(w, 5); /* 4 is no member */
    c.target = (int32_t)below(w, 6); /* nor is 5 */
    c.has_operand = chance(w, 90);
    c.operand_target = chance(w, 90) && c.target < 5 ? c.target : (int32_t)below(w, 5);
    c.value = any_value(w);
    c.number = chance(w, 50) ? (int64_t)below(w, 4) : any_revision(w);
    return c;
}

static struct mvcc_txn_request *any_txn(struct world *w, unsigned depth);

static struct mvcc_ops any_ops(struct world *w, unsigned depth)
{
    struct mvcc_ops ops = {.count = below(w, 5)};
    ops.items = nb_arena_alloc_zero(&w->arena, ops.count + 1, sizeof *ops.items);
    for (size_t i = 0; i < ops.count; i++) {
        struct mvcc_op *op = &ops.items[i];
        uint64_t what = below(w, depth < 3 ? 10 : 8);
        if (what < 3) {
            *op = (struct mvcc_op){.kind = MVCC_OP_RANGE, .as.range = any_range(w)};
        } else if (what < 6) {
            *op = (struct mvcc_op){.kind = MVCC_OP_PUT, .as.put = any_put(w)};
        } else if (what < 8) {
            *op = (struct mvcc_op){.kind = MVCC_OP_DELETE, .as.delete = any_delete(w)};
        } else {
            *op = (struct mvcc_op){.kind = MVCC_OP_TXN, .as.txn = any_txn(w, depth + 1)};
        }
    }
    return ops;
}

static struct mvcc_txn_request *any_txn(struct world *w, unsigned depth)
{
    struct mvcc_txn_request *t = nb_arena_alloc_zero(&w->arena, 1, sizeof *t);
    t->compare_count = below(w, 3);
    t->compares = nb_arena_alloc(&w->arena, 3 * sizeof *t->compares);
    for (size_t i = 0; i < t->compare_count; i++) {
        t->compares[i] = any_compare(w);
    }
    t->success = any_ops(w, depth);
    t->failure = any_ops(w, depth);
    return t;
}

static void assert_same_bytes(const struct nb_buf *got, const struct nb_buf *expected)
{
    assert_int_equal(got->len, expected->len);
    if (got->len != 0) {
        assert_memory_equal(got->data, expected->data, got->len);
    }
}

static void compare_answers(struct world *w, enum nb_status got, enum nb_status expected,
                            int64_t revision)
{
    assert_string_equal(nb_status_name(got), nb_status_name(expected));
    assert_same_bytes(&w->body, &w->expected);
    if (got == NB_OK) {
        assert_int_equal(revision, w->model.current);
    }
    assert_int_equal(mvcc_current_revision(w->mvcc), w->model.current);
}

/* What leases and watches are told of a write. */
static void compare_changes(struct world *w, size_t rows_before)
{
    struct mvcc_changes changes = mvcc_changes(w->mvcc);
    assert_int_equal(changes.count, w->model.count - rows_before);
    for (size_t i = 0; i < changes.count; i++) {
        const struct mvcc_change *c = &changes.items[i];
        const struct model_row *row = &w->model.rows[rows_before + i];
        nb_buf_clear(&w->expected);
        model_row_encode(row, &w->expected);
        assert_int_equal(c->main, row->main);
        assert_int_equal(c->sub, row->sub);
        assert_int_equal(c->deleted, row->tombstone);
        assert_int_equal(c->lease, row->lease);
        assert_int_equal(c->create_revision, row->create);
        assert_true(nb_bytes_equal(c->key, row->key));
        assert_true(nb_bytes_equal(c->kv, nb_buf_bytes(&w->expected)));
        const struct model_row *before = NULL;
        for (size_t k = 0; k < rows_before + i; k++) {
            before = nb_bytes_equal(w->model.rows[k].key, row->key) ? &w->model.rows[k] : before;
        }
        bool was = before != NULL && !before->tombstone;
        assert_int_equal(c->previous_lease, was ? before->lease : 0);
        assert_int_equal(c->previous_main, was ? before->main : 0);
    }
}

static void do_write(struct world *w)
{
    int64_t revision = 0;
    size_t rows_before = w->model.count;
    enum nb_status got = NB_OK;
    enum nb_status expected = NB_OK;
    uint64_t what = below(w, 10);
    if (what < 5) {
        const struct mvcc_put_request *r = any_put(w);
        expected = model_put(&w->model, r, &w->expected);
        got = mvcc_put(w->mvcc, r, &w->body, &revision);
    } else if (what < 7) {
        const struct mvcc_delete_request *r = any_delete(w);
        model_delete(&w->model, r, &w->expected);
        mvcc_delete_range(w->mvcc, r, &w->body, &revision);
    } else {
        const struct mvcc_txn_request *t = any_txn(w, 1);
        expected = model_txn(&w->model, t, &w->expected);
        got = mvcc_txn(w->mvcc, t, &w->body, &revision);
    }
    compare_answers(w, got, expected, revision);
    compare_changes(w, rows_before);
}

/* All chunks in a row are the answer of Range. */
static void do_stream(struct world *w, const struct mvcc_range_request *r)
{
    struct mvcc_stream s = {0};
    enum nb_status status = mvcc_stream_begin(w->mvcc, r, 1 + below(w, 200), &s);
    nb_buf_clear(&w->body);
    while (status == NB_OK && !s.finished) {
        s.chunk_keys = chance(w, 30) ? 1 : s.chunk_keys;
        status = mvcc_stream_next(w->mvcc, &s, &w->body);
    }
    assert_int_equal(status, NB_OK);
    assert_same_bytes(&w->body, &w->expected);
    assert_int_equal(s.header_revision, w->model.current);
    mvcc_stream_deinit(&s);
}

static void do_read(struct world *w)
{
    int64_t revision = 0;
    const struct mvcc_range_request *r = any_range(w);
    enum nb_status expected = model_range(&w->model, r, &w->expected);
    enum nb_status got = mvcc_range(w->mvcc, r, &w->body, &revision);
    compare_answers(w, got, expected, revision);
    /* A stream without an order ignores the target, so the range's answer is no measure for it. */
    if (got == NB_OK && mvcc_stream_check(r) == NB_OK && r->sort_target == MVCC_BY_KEY) {
        do_stream(w, r);
    }
}

static void do_hash(struct world *w)
{
    int64_t revision = any_revision(w);
    struct mvcc_hash h;
    enum nb_status status = mvcc_hash_begin(w->mvcc, revision, &h);
    int64_t hashed = revision == 0 ? w->model.current : revision;
    assert_int_equal(status, hashed > w->model.current                 ? NB_FUTURE_REVISION
                             : hashed > 0 && hashed < w->model.compact ? NB_COMPACTED
                                                                       : NB_OK);
    if (status != NB_OK) {
        return;
    }
    uint32_t expected = model_hash(&w->model, hashed);
    while (!h.done) { /* removal goes on between the steps and must not show [C05, C06] */
        assert_int_equal(mvcc_hash_step(w->mvcc, &h, 1 + below(w, 40)), NB_OK);
        (void)mvcc_compact_step(w->mvcc, below(w, 3));
    }
    assert_int_equal(h.sum, expected);
    assert_int_equal(h.compact_revision, w->model.compact);
    assert_int_equal(h.revision, hashed);
}

static void do_history(struct world *w)
{
    int64_t first = any_revision(w);
    struct mvcc_history page = {0};
    enum nb_status status = mvcc_history_read(w->mvcc, first, 1 + below(w, 30), &page);
    assert_int_equal(status, first < w->model.compact ? NB_COMPACTED : NB_OK);
    size_t at = 0;
    while (status == NB_OK) {
        for (size_t i = 0; i < page.count; i++, at++) {
            while (w->model.rows[at].main < first ||
                   !model_row_stays(&w->model, &w->model.rows[at])) {
                at++;
            }
            const struct model_row *row = &w->model.rows[at];
            nb_buf_clear(&w->expected);
            model_row_encode(row, &w->expected);
            assert_int_equal(page.items[i].main, row->main);
            assert_int_equal(page.items[i].sub, row->sub);
            assert_int_equal(page.items[i].deleted, row->tombstone);
            assert_true(nb_bytes_equal(page.items[i].key, row->key));
            assert_true(nb_bytes_equal(page.items[i].kv, nb_buf_bytes(&w->expected)));
        }
        if (page.next_main > w->model.current) {
            break;
        }
        assert_true(page.next_main > page.items[page.count - 1].main);
        status = mvcc_history_read(w->mvcc, page.next_main, 1 + below(w, 30), &page);
        assert_int_equal(status, NB_OK);
    }
    for (; status == NB_OK && at < w->model.count; at++) { /* nothing was left out */
        assert_true(w->model.rows[at].main < first ||
                    !model_row_stays(&w->model, &w->model.rows[at]));
    }
    mvcc_history_deinit(&page);
}

static void do_compact(struct world *w)
{
    int64_t revision = chance(w, 70) ? w->model.current - (int64_t)below(w, 20) : any_revision(w);
    enum nb_status expected = model_compact(&w->model, revision);
    assert_int_equal(mvcc_compact(w->mvcc, revision), expected);
    assert_int_equal(mvcc_compact_revision(w->mvcc), w->model.compact);
}

static void commit(struct world *w)
{
    if (w->sealed_count == NB_ARRAY_LEN(w->sealed)) {
        return;
    }
    mvcc_batch_seal(w->mvcc);
    struct backend_label label = {0};
    (void)backend_commit(w->backend, &label);
    w->sealed[w->sealed_count++] = (struct saved){
        .row_count = w->model.count, .current = w->model.current, .compact = w->model.compact};
}

static void reap(struct world *w, size_t batches_max)
{
    (void)backend_memory_step(w->backend, batches_max);
    size_t reaped = backend_reap(w->backend);
    mvcc_batch_reaped(w->mvcc, reaped);
    if (reaped != 0) {
        w->durable = w->sealed[reaped - 1];
        w->sealed_count -= reaped;
        memmove(w->sealed, w->sealed + reaped, w->sealed_count * sizeof *w->sealed);
    }
}

/* A crash: what was not committed never was. */
static void restart(struct world *w)
{
    if (chance(w, 50)) {
        commit(w);
        reap(w, SIZE_MAX);
    }
    mvcc_destroy(w->mvcc);
    backend_memory_crash(w->backend);
    w->model.count = w->durable.row_count;
    w->model.current = w->durable.current;
    w->model.compact = w->durable.compact;
    w->sealed_count = 0;
    open_world(w);
    assert_int_equal(mvcc_current_revision(w->mvcc), w->model.current); /* D07 */
    assert_int_equal(mvcc_compact_revision(w->mvcc), w->model.compact);
    mvcc_check(w->mvcc);
}

/* When the removal is over and all is reaped, the file has exactly the rows that should stay [C02].
 */
static void compare_rows(struct world *w)
{
    while (!mvcc_compact_step(w->mvcc, 5)) {
    }
    commit(w);
    reap(w, SIZE_MAX);
    if (w->sealed_count != 0) {
        return;
    }
    struct backend_cursor *c =
        backend_cursor_open(w->backend, BACKEND_KEY, (struct nb_bytes){0}, (struct nb_bytes){0});
    for (size_t i = 0; i < w->model.count; i++) {
        const struct model_row *row = &w->model.rows[i];
        if (!model_row_stays(&w->model, row)) {
            continue;
        }
        struct nb_bytes name;
        struct nb_bytes value;
        assert_true(backend_cursor_next(c, &name, &value));
        assert_int_equal(nb_get_u64_be(name.data), row->main);
        assert_int_equal(nb_get_u64_be(name.data + 9), row->sub);
        assert_int_equal(name.len, row->tombstone ? 18 : 17);
        nb_buf_clear(&w->expected);
        model_row_encode(row, &w->expected);
        assert_true(nb_bytes_equal(value, nb_buf_bytes(&w->expected)));
    }
    struct nb_bytes name;
    struct nb_bytes value;
    assert_false(backend_cursor_next(c, &name, &value));
    backend_cursor_close(c);
}

static void visit_lease(void *context, int64_t lease, struct nb_bytes key)
{
    struct nb_buf *out = context;
    nb_buf_printf(out, "%d:", (int)lease);
    nb_buf_append_bytes(out, key);
}

static void compare_leases(struct world *w)
{
    nb_buf_clear(&w->body);
    nb_buf_clear(&w->expected);
    mvcc_leases_visit(w->mvcc, &w->body, visit_lease);
    for (size_t i = 0; i < MODEL_KEY_COUNT; i++) {
        const struct model_row *last = NULL;
        for (size_t k = 0; k < w->model.count; k++) {
            last = nb_bytes_equal(w->model.rows[k].key, model_keys[i]) ? &w->model.rows[k] : last;
        }
        if (last != NULL && last->lease != 0) {
            visit_lease(&w->expected, last->lease, model_keys[i]);
        }
    }
    assert_same_bytes(&w->body, &w->expected);
}

static void one_step(struct world *w)
{
    nb_arena_reset(&w->arena);
    nb_buf_clear(&w->body);
    nb_buf_clear(&w->expected);
    uint64_t what = below(w, 1000);
    if (what < 350) {
        do_write(w);
    } else if (what < 700) {
        do_read(w);
    } else if (what < 780) {
        commit(w);
    } else if (what < 860) {
        reap(w, 1 + below(w, 3));
    } else if (what < 920) {
        (void)mvcc_compact_step(w->mvcc, below(w, 8));
    } else if (what < 940) {
        do_compact(w);
    } else if (what < 965) {
        do_hash(w);
    } else if (what < 985) {
        do_history(w);
    } else if (what < 995) {
        restart(w);
    } else {
        mvcc_check(w->mvcc);
        compare_rows(w);
        compare_leases(w);
    }
}

static void run_world(uint64_t seed, uint64_t steps)
{
    struct world *w = nb_alloc_zero(1, sizeof *w);
    nb_random_init(&w->random, seed);
    model_init(&w->model);
    w->durable = (struct saved){.current = 1, .compact = -1};
    w->store = backend_memory_store_create();
    open_world(w);
    for (uint64_t i = 0; i < steps; i++) {
        one_step(w);
    }
    compare_rows(w);
    mvcc_destroy(w->mvcc);
    backend_memory_crash(w->backend);
    backend_memory_store_destroy(w->store);
    nb_arena_deinit(&w->arena);
    nb_buf_deinit(&w->body);
    nb_buf_deinit(&w->expected);
    nb_free(w);
}

/* D07 D08 D09 D10 D11 C01 C02 C04 C05 C06 */
static void mvcc_answers_as_the_model_does(void **state)
{
    (void)state;
    uint64_t worlds = unit_scaled(200);
    for (uint64_t i = 0; i < worlds; i++) {
        run_world(unit_seed() + i, 1200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mvcc_answers_as_the_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
