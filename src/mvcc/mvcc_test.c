#include "mvcc/mvcc.h"

#include "base/wire.h"
#include "mvcc/kv.h"
#include "storage/backend.h"
#include "storage/backend_memory.h"
#include "tests/support/unit.h"

/* Rules of etcd's surface one at a time; the whole of it is held against a model in tests/mvcc. */

struct fixture {
    struct backend_memory_store *store;
    struct backend *backend;
    struct mvcc *m;
    struct nb_buf body;
    int64_t revision; /* of the last answer */
};

static bool lease_exists(void *context, int64_t lease)
{
    (void)context;
    return lease == 5;
}

static void open_store(struct fixture *f)
{
    static const struct backend_ident ident = {.cluster_id = 1, .member_id = 1};
    struct nb_buf message = {0};
    assert_int_equal(backend_memory_open(f->store, NULL, &ident, &f->backend, &message), NB_OK);
    nb_buf_deinit(&message);
    struct mvcc_options options = {.hash_seed = 42, .lease_exists = lease_exists};
    assert_int_equal(mvcc_create(f->backend, &options, &f->m), NB_OK);
}

static void flush(struct fixture *f)
{
    struct backend_label label = {0};
    mvcc_batch_seal(f->m);
    (void)backend_commit(f->backend, &label);
    (void)backend_memory_step(f->backend, SIZE_MAX);
    mvcc_batch_reaped(f->m, backend_reap(f->backend));
}

static void crash_and_open(struct fixture *f)
{
    mvcc_destroy(f->m);
    backend_memory_crash(f->backend);
    open_store(f);
}

static int setup(void **state)
{
    struct fixture *f = nb_alloc_zero(1, sizeof *f);
    f->store = backend_memory_store_create();
    open_store(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    mvcc_check(f->m);
    mvcc_destroy(f->m);
    backend_memory_crash(f->backend);
    backend_memory_store_destroy(f->store);
    nb_buf_deinit(&f->body);
    nb_free(f);
    return 0;
}

static enum nb_status put_request(struct fixture *f, const struct mvcc_put_request *r)
{
    nb_buf_clear(&f->body);
    return mvcc_put(f->m, r, &f->body, &f->revision);
}

static void put(struct fixture *f, const char *key, const char *value)
{
    struct mvcc_put_request r = {.key = nb_bytes_str(key), .value = nb_bytes_str(value)};
    assert_int_equal(put_request(f, &r), NB_OK);
}

static void delete_range(struct fixture *f, const char *key, struct nb_bytes range_end)
{
    struct mvcc_delete_request r = {.key = nb_bytes_str(key), .range_end = range_end};
    nb_buf_clear(&f->body);
    mvcc_delete_range(f->m, &r, &f->body, &f->revision);
}

static const struct nb_bytes one_key = {0};
static const struct nb_bytes to_the_end = {(const uint8_t *)"", 1};

/* A range as text: each key with create, mod and version, its value and lease, then more and count.
 */
static const char *range(struct fixture *f, const struct mvcc_range_request *r)
{
    static char text[1024];
    size_t at = 0;
    bool more = false;
    uint64_t count = 0;
    nb_buf_clear(&f->body);
    enum nb_status status = mvcc_range(f->m, r, &f->body, &f->revision);
    if (status != NB_OK) {
        return nb_status_name(status);
    }
    struct nb_wire_reader reader = nb_wire_reader_of(nb_buf_bytes(&f->body));
    while (nb_wire_more(&reader)) {
        struct nb_wire_field field;
        struct mvcc_kv kv;
        assert_int_equal(nb_wire_next(&reader, &field), NB_OK);
        more = field.number == 3 ? field.value != 0 : more;
        count = field.number == 4 ? field.value : count;
        if (field.number == 2) {
            assert_int_equal(mvcc_kv_decode(field.bytes, &kv), NB_OK);
            at += (size_t)snprintf(text + at, sizeof text - at, "%.*s(%d,%d,%d)%.*s ",
                                   (int)kv.key.len, (const char *)kv.key.data, (int)kv.create,
                                   (int)kv.mod, (int)kv.version, (int)kv.value.len,
                                   kv.value.len == 0 ? "" : (const char *)kv.value.data);
        }
    }
    (void)snprintf(text + at, sizeof text - at, "%s%d", more ? "more of " : "of ", (int)count);
    return text;
}

static const char *all(struct fixture *f, int64_t revision)
{
    struct mvcc_range_request r = {
        .key = nb_bytes_of("", 1), .range_end = to_the_end, .revision = revision};
    return range(f, &r);
}

static void empty_store_is_at_revision_1_and_the_first_write_makes_2(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mvcc_current_revision(f->m), 1);
    assert_int_equal(mvcc_compact_revision(f->m), -1);
    assert_string_equal(all(f, 0), "of 0");
    assert_int_equal(f->revision, 1);
    put(f, "a", "1");
    assert_int_equal(f->revision, 2);
}

static void version_and_create_revision_restart_after_a_deletion(void **state)
{
    struct fixture *f = *state;
    put(f, "k", "a");
    put(f, "k", "b");
    assert_string_equal(all(f, 0), "k(2,3,2)b of 1");
    delete_range(f, "k", one_key);
    assert_string_equal(all(f, 0), "of 0");
    put(f, "k", "c");
    assert_string_equal(all(f, 0), "k(5,5,1)c of 1");
    assert_string_equal(all(f, 3), "k(2,3,2)b of 1");
    assert_int_equal(f->revision, 5); /* the current one, not the one asked for */
}

static void deletion_of_nothing_makes_no_revision(void **state)
{
    struct fixture *f = *state;
    put(f, "k", "a");
    delete_range(f, "x", one_key);
    assert_int_equal(f->revision, 2);
    assert_int_equal(f->body.len, 0);
    assert_int_equal(mvcc_current_revision(f->m), 2);
}

static void deletions_of_one_request_share_a_revision(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "");
    put(f, "b", "");
    put(f, "c", "");
    delete_range(f, "a", nb_bytes_str("c"));
    assert_int_equal(f->revision, 5);
    struct mvcc_changes changes = mvcc_changes(f->m);
    assert_int_equal(changes.count, 2);
    assert_int_equal(changes.items[0].main, 5);
    assert_int_equal(changes.items[0].sub, 0);
    assert_int_equal(changes.items[1].main, 5);
    assert_int_equal(changes.items[1].sub, 1);
    assert_string_equal(all(f, 0), "c(4,4,1) of 1");
}

static void count_is_before_limit_and_filters(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "3");
    put(f, "b", "2");
    put(f, "c", "1");
    struct mvcc_range_request r = {.key = nb_bytes_str("a"), .range_end = to_the_end, .limit = 2};
    assert_string_equal(range(f, &r), "a(2,2,1)3 b(3,3,1)2 more of 3");
    r.limit = 3;
    assert_string_equal(range(f, &r), "a(2,2,1)3 b(3,3,1)2 c(4,4,1)1 of 3");
    r.limit = -1;
    assert_string_equal(range(f, &r), "a(2,2,1)3 b(3,3,1)2 c(4,4,1)1 of 3");
    r.limit = 1;
    r.min_mod_revision = 3;
    assert_string_equal(range(f, &r), "b(3,3,1)2 more of 3");
    r.max_mod_revision = 3;
    assert_string_equal(range(f, &r), "b(3,3,1)2 of 3");
    r.count_only = true;
    assert_string_equal(range(f, &r), "of 3");
}

static void range_ends_are_those_of_etcd(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "");
    put(f, "ab", "");
    put(f, "b", "");
    struct mvcc_range_request r = {.key = nb_bytes_str("a")};
    assert_string_equal(range(f, &r), "a(2,2,1) of 1");
    r.range_end = nb_bytes_str("b");
    assert_string_equal(range(f, &r), "a(2,2,1) ab(3,3,1) of 2");
    r.range_end = nb_bytes_str("a");
    assert_string_equal(range(f, &r), "of 0");
    r.key = nb_bytes_str("ab");
    r.range_end = to_the_end;
    assert_string_equal(range(f, &r), "ab(3,3,1) b(4,4,1) of 2");
    r.range_end = nb_bytes_of("\0\0", 2); /* not the sign for "to the end" */
    assert_string_equal(range(f, &r), "of 0");
}

static void order_none_with_a_target_sorts_what_the_limit_left_and_one_more(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "3");
    put(f, "b", "2");
    put(f, "c", "1");
    struct mvcc_range_request r = {.key = nb_bytes_str("a"),
                                   .range_end = to_the_end,
                                   .limit = 1,
                                   .sort_target = MVCC_BY_VALUE};
    assert_string_equal(range(f, &r), "b(3,3,1)2 more of 3");
    r.sort_order = MVCC_SORT_ASCEND;
    assert_string_equal(range(f, &r), "c(4,4,1)1 more of 3");
    r.sort_order = MVCC_SORT_DESCEND;
    assert_string_equal(range(f, &r), "a(2,2,1)3 more of 3");
}

static void D14_revisions_at_the_edges_are_refused_with_their_own_status(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    put(f, "a", "2");
    put(f, "a", "3");
    assert_string_equal(all(f, 5), "NB_FUTURE_REVISION");
    assert_string_equal(all(f, INT64_MAX), "NB_FUTURE_REVISION");
    assert_string_equal(all(f, INT64_MIN), "a(2,4,3)3 of 1");
    assert_int_equal(mvcc_compact(f->m, 3), NB_OK);
    assert_string_equal(all(f, 2), "NB_COMPACTED");
    assert_string_equal(all(f, 3), "a(2,3,2)2 of 1");
    assert_string_equal(all(f, -7), "a(2,4,3)3 of 1");
}

static void C04_repeated_and_future_compactions_have_no_effect(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(mvcc_compact(f->m, -1), NB_COMPACTED);
    assert_int_equal(mvcc_compact(f->m, 2), NB_FUTURE_REVISION);
    assert_int_equal(mvcc_compact_revision(f->m), -1);
    assert_int_equal(mvcc_compact(f->m, 0), NB_OK); /* on a store never compacted */
    assert_int_equal(mvcc_compact(f->m, 0), NB_COMPACTED);
    put(f, "a", "1");
    assert_int_equal(mvcc_compact(f->m, 2), NB_OK);
    assert_int_equal(mvcc_compact(f->m, 2), NB_COMPACTED);
    assert_int_equal(mvcc_compact(f->m, 1), NB_COMPACTED);
    assert_int_equal(mvcc_compact_revision(f->m), 2);
}

static void C01_tombstone_at_the_compact_revision_stays_until_the_next(void **state)
{
    struct fixture *f = *state;
    put(f, "k", "a");
    delete_range(f, "k", one_key); /* 3 */
    put(f, "x", "");
    assert_int_equal(mvcc_compact(f->m, 3), NB_OK);
    while (!mvcc_compact_step(f->m, 1)) {
    }
    struct mvcc_history page = {0};
    assert_int_equal(mvcc_history_read(f->m, 3, 10, &page), NB_OK);
    assert_int_equal(page.count, 2);
    assert_true(page.items[0].deleted);
    assert_int_equal(page.items[0].main, 3);
    assert_int_equal(mvcc_history_read(f->m, 2, 10, &page), NB_COMPACTED);
    assert_int_equal(mvcc_compact(f->m, 4), NB_OK);
    while (!mvcc_compact_step(f->m, 1)) {
    }
    assert_int_equal(mvcc_stats(f->m).record_count, 1);
    mvcc_history_deinit(&page);
}

static void C02_removal_goes_on_after_a_crash_and_brings_nothing_back(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%02d", i);
        put(f, key, "1");
        put(f, key, "2");
        delete_range(f, key, one_key);
    }
    put(f, "z", "");
    assert_int_equal(mvcc_compact(f->m, mvcc_current_revision(f->m)), NB_OK);
    flush(f);
    unsigned rounds = 0;
    while (!mvcc_compact_step(f->m, 2)) { /* each step is lost or kept by turns */
        if (rounds++ % 2 == 0) {
            flush(f);
        }
        crash_and_open(f);
        assert_string_equal(all(f, 0), "z(152,152,1) of 1");
        assert_true(rounds < 1000);
    }
    assert_int_equal(mvcc_stats(f->m).record_count, 1);
    flush(f);
    crash_and_open(f);
    assert_false(mvcc_compact_pending(f->m));
    assert_int_equal(mvcc_current_revision(f->m), 152);
}

static void D07_revision_does_not_go_back_after_restart(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    delete_range(f, "a", one_key);
    assert_int_equal(mvcc_compact(f->m, 3), NB_OK);
    assert_true(mvcc_compact_step(f->m, 100));
    flush(f);
    crash_and_open(f);
    assert_int_equal(mvcc_current_revision(f->m), 3);
    assert_int_equal(mvcc_compact_revision(f->m), 3);
    put(f, "a", "2");
    assert_int_equal(f->revision, 4);
}

static void leases_and_ignore_flags_are_checked_before_anything_is_written(void **state)
{
    struct fixture *f = *state;
    struct mvcc_put_request r = {.key = nb_bytes_str("k"), .lease = 6};
    assert_int_equal(put_request(f, &r), NB_LEASE_NOT_FOUND);
    r = (struct mvcc_put_request){.key = nb_bytes_str("k"), .ignore_value = true};
    assert_int_equal(put_request(f, &r), NB_KEY_NOT_FOUND);
    assert_int_equal(mvcc_current_revision(f->m), 1);
    r = (struct mvcc_put_request){.key = nb_bytes_str("k"), .value = nb_bytes_str("v"), .lease = 5};
    assert_int_equal(put_request(f, &r), NB_OK);
    assert_int_equal(mvcc_changes(f->m).items[0].lease, 5);
    r = (struct mvcc_put_request){.key = nb_bytes_str("k"), .ignore_value = true};
    assert_int_equal(put_request(f, &r), NB_OK);
    assert_int_equal(mvcc_changes(f->m).items[0].previous_lease, 5);
    assert_int_equal(mvcc_changes(f->m).items[0].lease, 0); /* lease 0 detaches */
    assert_string_equal(all(f, 0), "k(2,3,2)v of 1");
}

static void D08_fresh_and_reaped_rows_are_read_as_one(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    flush(f);
    put(f, "b", "2");
    struct backend_label label = {0};
    mvcc_batch_seal(f->m);
    (void)backend_commit(f->backend, &label); /* under way */
    put(f, "c", "3");
    put(f, "a", "4");
    assert_string_equal(all(f, 0), "a(2,5,2)4 b(3,3,1)2 c(4,4,1)3 of 3");
    assert_string_equal(all(f, 4), "a(2,2,1)1 b(3,3,1)2 c(4,4,1)3 of 3");
    assert_int_equal(mvcc_stats(f->m).pending_row_count, 3);
    delete_range(f, "b", to_the_end);
    assert_string_equal(all(f, 0), "a(2,5,2)4 of 1");
    flush(f);
    assert_int_equal(mvcc_stats(f->m).pending_row_count, 0);
    assert_int_equal(mvcc_stats(f->m).pending_bytes, 0);
    assert_string_equal(all(f, 0), "a(2,5,2)4 of 1");
    assert_string_equal(all(f, 4), "a(2,2,1)1 b(3,3,1)2 c(4,4,1)3 of 3");
}

static void damaged_rows_are_refused_at_the_start(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    (void)backend_batch_put(f->backend, BACKEND_KEY, nb_bytes_str("not a revision"),
                            nb_bytes_str(""));
    flush(f);
    mvcc_destroy(f->m);
    struct mvcc_options options = {0};
    assert_int_equal(mvcc_create(f->backend, &options, &f->m), NB_CORRUPT);
    backend_batch_delete(f->backend, BACKEND_KEY, nb_bytes_str("not a revision"));
    (void)backend_commit(f->backend, &(struct backend_label){0});
    (void)backend_memory_step(f->backend, SIZE_MAX);
    (void)backend_reap(f->backend);
    assert_int_equal(mvcc_create(f->backend, &options, &f->m), NB_OK);
}

/* The row of one put, spelled out: etcd's layout, on which HashKV rests. */
static void row_is_laid_out_as_in_etcd(void **state)
{
    struct fixture *f = *state;
    static const uint8_t name[] = {0, 0, 0, 0, 0, 0, 0, 2, '_', 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t row[] = {0x0a, 1, 'k', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, 'v', 0x30, 5};
    static const uint8_t stone_name[] = {0, 0, 0, 0, 0, 0, 0, 3, '_', 0, 0, 0, 0, 0, 0, 0, 0, 't'};
    static const uint8_t stone[] = {0x0a, 1, 'k'};
    struct mvcc_put_request r = {.key = nb_bytes_str("k"), .value = nb_bytes_str("v"), .lease = 5};
    assert_int_equal(put_request(f, &r), NB_OK);
    delete_range(f, "k", one_key);
    flush(f);
    struct nb_bytes value;
    assert_true(backend_get(f->backend, BACKEND_KEY, nb_bytes_of(name, sizeof name), &value));
    assert_true(nb_bytes_equal(value, nb_bytes_of(row, sizeof row)));
    assert_true(
        backend_get(f->backend, BACKEND_KEY, nb_bytes_of(stone_name, sizeof stone_name), &value));
    assert_true(nb_bytes_equal(value, nb_bytes_of(stone, sizeof stone)));
}

/* The path is chosen by the state before the outer txn, and responses carry the headers etcd gives.
 */
static void D10_nested_txn_sees_the_state_before_the_outer_one(void **state)
{
    struct fixture *f = *state;
    static const uint8_t expected[] = {
        0x10, 1,                                 /* succeeded */
        0x1a, 6,  0x12, 4,  0x0a, 2,    0x18, 2, /* put: header.revision 2 */
        0x1a, 6,  0x22, 4,  0x0a, 0,    0x10, 1, /* txn: empty header, succeeded */
        0x1a, 19, 0x0a, 17, 0x0a, 2,    0x18, 2, /* range: header.revision 2 */
        0x12, 9,  0x0a, 1,  'k',  0x10, 2,    0x18, 2, 0x20, 1, 0x20, 1,
    };
    struct mvcc_put_request p = {.key = nb_bytes_str("k")};
    struct mvcc_range_request g = {.key = nb_bytes_str("k")};
    struct mvcc_compare absent = {.target = MVCC_COMPARE_VERSION, .key = nb_bytes_str("k")};
    struct mvcc_txn_request inner = {.compares = &absent, .compare_count = 1};
    struct mvcc_op ops[] = {{.kind = MVCC_OP_PUT, .as.put = &p},
                            {.kind = MVCC_OP_TXN, .as.txn = &inner},
                            {.kind = MVCC_OP_RANGE, .as.range = &g}};
    struct mvcc_txn_request outer = {.success = {.items = ops, .count = 3}};
    nb_buf_clear(&f->body);
    assert_int_equal(mvcc_txn(f->m, &outer, &f->body, &f->revision), NB_OK);
    assert_int_equal(f->revision, 2);
    assert_int_equal(f->body.len, sizeof expected);
    assert_memory_equal(f->body.data, expected, sizeof expected);
}

static void D03_txn_that_fails_writes_nothing(void **state)
{
    struct fixture *f = *state;
    put(f, "a", "1");
    struct mvcc_put_request p = {.key = nb_bytes_str("b")};
    struct mvcc_range_request g = {.key = nb_bytes_str("a"), .revision = 3};
    struct mvcc_op ops[] = {{.kind = MVCC_OP_PUT, .as.put = &p},
                            {.kind = MVCC_OP_RANGE, .as.range = &g}};
    struct mvcc_txn_request t = {.success = {.items = ops, .count = 2}};
    nb_buf_clear(&f->body);
    assert_int_equal(mvcc_txn(f->m, &t, &f->body, &f->revision), NB_FUTURE_REVISION);
    g.revision = -2;
    assert_int_equal(mvcc_txn(f->m, &t, &f->body, &f->revision), NB_COMPACTED);
    assert_int_equal(f->body.len, 0);
    assert_string_equal(all(f, 0), "a(2,2,1)1 of 1");
    g.revision = -1; /* accepted until the first compaction, and means the newest */
    assert_int_equal(mvcc_txn(f->m, &t, &f->body, &f->revision), NB_OK);
    assert_int_equal(f->revision, 3);
}

/* Takes the whole hash, and sees that no step does more than it may. */
static uint32_t hash_in_steps(struct fixture *f, struct mvcc_hash *h, size_t row_count,
                              size_t *out_step_count)
{
    *out_step_count = 0;
    while (!h->done) {
        struct mvcc_hash before = *h;
        assert_int_equal(mvcc_hash_step(f->m, h, row_count), NB_OK);
        (*out_step_count)++;
        if (!h->done && h->looking == before.looking && before.next_main != 0) {
            assert_true((size_t)(h->next_main - before.next_main) <= row_count);
        }
    }
    return h->sum;
}

static void C05_no_step_of_a_hash_takes_more_rows_than_it_may(void **state)
{
    enum { ROWS = 500, STEP = 7 };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ROWS; i++) {
        put(f, "gone", "value");
    }
    delete_range(f, "gone", (struct nb_bytes){0});
    int64_t nothing_alive = f->revision;
    flush(f);
    put(f, "key", "value");
    size_t step_count;
    struct mvcc_hash whole, h;
    /* Nothing is alive there, so all rows are gone through to know it, and then hashed. */
    assert_int_equal(mvcc_hash_begin(f->m, nothing_alive, &h), NB_OK);
    assert_true(h.looking);
    (void)hash_in_steps(f, &h, STEP, &step_count);
    assert_true(step_count >= 2 * ROWS / STEP);
    assert_int_equal(mvcc_hash_kv(f->m, nothing_alive, &whole), NB_OK);
    assert_int_equal(h.sum, whole.sum);
    mvcc_hash_begin_all(f->m, &whole);
    (void)hash_in_steps(f, &whole, SIZE_MAX, &step_count);
    mvcc_hash_begin_all(f->m, &h);
    assert_int_equal(hash_in_steps(f, &h, STEP, &step_count), whole.sum);
    assert_true(step_count >= ROWS / STEP);
}

static void C05_no_step_of_a_hash_takes_many_large_values(void **state)
{
    enum { ROWS = 40, SIZE = 256 << 10 };
    struct fixture *f = *state;
    char *large = nb_alloc_zero(1, SIZE + 1);
    memset(large, 'x', SIZE);
    for (unsigned i = 0; i < ROWS; i++) {
        put(f, "k", large);
    }
    struct mvcc_hash h;
    size_t step_count;
    mvcc_hash_begin_all(f->m, &h);
    (void)hash_in_steps(f, &h, SIZE_MAX, &step_count);
    assert_true(step_count >= ROWS / 6);
    assert_int_equal(mvcc_hash_begin(f->m, 0, &h), NB_OK);
    (void)hash_in_steps(f, &h, SIZE_MAX, &step_count);
    assert_true(step_count >= ROWS / 6);
    nb_free(large);
}

static void C05_hash_of_all_rows_starts_over_when_rows_are_removed(void **state)
{
    enum { ROWS = 20 };
    struct fixture *f = *state;
    for (unsigned i = 0; i < ROWS; i++) {
        put(f, i % 2 == 0 ? "a" : "b", "value");
    }
    flush(f);
    struct mvcc_hash h, after;
    size_t step_count;
    mvcc_hash_begin_all(f->m, &h);
    assert_int_equal(mvcc_hash_step(f->m, &h, ROWS / 2), NB_OK);
    assert_int_equal(mvcc_compact(f->m, f->revision), NB_OK);
    while (!mvcc_compact_step(f->m, 1)) {
    }
    flush(f);
    (void)hash_in_steps(f, &h, ROWS, &step_count);
    mvcc_hash_begin_all(f->m, &after);
    assert_int_equal(h.sum, hash_in_steps(f, &after, SIZE_MAX, &step_count));
}

/* A large page remembers where its rows lie; what the backend moves must not be read from there. */
static void M2_pages_are_read_alike_before_and_after_the_backend_moves(void **state)
{
    enum { KEYS = 300, LINE = 32 };
    struct fixture *f = *state;
    char key[LINE], value[LINE];
    struct nb_buf expected = {0};
    struct mvcc_range_request page = {.key = nb_bytes_str("k"), .range_end = nb_bytes_str("l")};
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < KEYS; i++) {
            (void)snprintf(key, sizeof key, "k%04u", i * 7 % KEYS);
            (void)snprintf(value, sizeof value, "%u of %u", i, round);
            put(f, key, value);
        }
        nb_buf_clear(&expected);
        assert_int_equal(mvcc_range(f->m, &page, &expected, &f->revision), NB_OK);
        for (unsigned again = 0; again < 3; again++) {
            flush(f);
            nb_buf_clear(&f->body);
            assert_int_equal(mvcc_range(f->m, &page, &f->body, &f->revision), NB_OK);
            assert_true(nb_bytes_equal(nb_buf_bytes(&f->body), nb_buf_bytes(&expected)));
            page.limit = again == 0 ? KEYS : 0;
            put(f, "other", "value");
        }
        assert_int_equal(mvcc_compact(f->m, f->revision), NB_OK);
        while (!mvcc_compact_step(f->m, KEYS)) {
        }
    }
    nb_buf_deinit(&expected);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(empty_store_is_at_revision_1_and_the_first_write_makes_2),
        TEST(version_and_create_revision_restart_after_a_deletion),
        TEST(deletion_of_nothing_makes_no_revision),
        TEST(deletions_of_one_request_share_a_revision),
        TEST(count_is_before_limit_and_filters),
        TEST(range_ends_are_those_of_etcd),
        TEST(order_none_with_a_target_sorts_what_the_limit_left_and_one_more),
        TEST(D14_revisions_at_the_edges_are_refused_with_their_own_status),
        TEST(C04_repeated_and_future_compactions_have_no_effect),
        TEST(C01_tombstone_at_the_compact_revision_stays_until_the_next),
        TEST(C02_removal_goes_on_after_a_crash_and_brings_nothing_back),
        TEST(D07_revision_does_not_go_back_after_restart),
        TEST(leases_and_ignore_flags_are_checked_before_anything_is_written),
        TEST(D08_fresh_and_reaped_rows_are_read_as_one),
        TEST(damaged_rows_are_refused_at_the_start),
        TEST(row_is_laid_out_as_in_etcd),
        TEST(D10_nested_txn_sees_the_state_before_the_outer_one),
        TEST(D03_txn_that_fails_writes_nothing),
        TEST(M2_pages_are_read_alike_before_and_after_the_backend_moves),
        TEST(C05_no_step_of_a_hash_takes_more_rows_than_it_may),
        TEST(C05_no_step_of_a_hash_takes_many_large_values),
        TEST(C05_hash_of_all_rows_starts_over_when_rows_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
