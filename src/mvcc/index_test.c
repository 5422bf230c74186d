#include "mvcc/index.h"

#include "base/random.h"
#include "mvcc/sort.h"
#include "tests/support/unit.h"

/* The model: all keys that could be, in order, with what the index should say of each. */
enum { KEY_COUNT = 3000 };

struct model_key {
    uint8_t bytes[24];
    size_t len;
    bool there, alive;
    int64_t create, mod, version;
};

static struct model_key model[KEY_COUNT];

static struct nb_bytes key_of(const struct model_key *k)
{
    return nb_bytes_of(k->bytes, k->len);
}

static int by_key(const void *a, const void *b)
{
    return nb_bytes_compare(key_of(a), key_of(b));
}

/* Few letters, many shared prefixes, zeros at ends: keys that sit close together. */
static void random_key(struct nb_random *r, struct model_key *k)
{
    static const uint8_t letters[] = {0, 'a', 'b', 0xff};
    *k = (struct model_key){.len = 1 + nb_random_below(r, sizeof k->bytes)};
    for (size_t i = 0; i < k->len; i++) {
        k->bytes[i] = letters[nb_random_below(r, NB_ARRAY_LEN(letters))];
    }
}

static void make_keys(struct nb_random *r)
{
    for (size_t i = 0; i < KEY_COUNT; i++) {
        random_key(r, &model[i]);
    }
    qsort(model, KEY_COUNT, sizeof *model, by_key);
    for (size_t i = KEY_COUNT - 1; i != 0; i--) {
        if (by_key(&model[i - 1], &model[i]) == 0) { /* make it the last of its kind */
            model[i].bytes[0] = 0xfe;
            nb_put_u64_be(model[i].bytes + 1, i);
            model[i].len = 9;
        }
    }
    qsort(model, KEY_COUNT, sizeof *model, by_key);
}

static void compare_all(const struct mvcc_index *x)
{
    mvcc_index_check(x);
    struct mvcc_cursor all = mvcc_tree_seek(&x->tree, (struct nb_bytes){0});
    struct mvcc_cursor live = all;
    uint64_t rank = 0;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        const struct model_key *k = &model[i];
        const struct mvcc_record *r = mvcc_index_find(x, key_of(k));
        assert_int_equal(r != NULL, k->there);
        assert_int_equal(mvcc_tree_rank(&x->tree, key_of(k)), rank);
        if (r != NULL) {
            assert_ptr_equal(mvcc_tree_next(&all), r);
            assert_int_equal(!r->dead, k->alive);
            assert_int_equal(r->mod, k->mod);
            assert_int_equal(r->create, k->alive ? k->create : 0);
            assert_int_equal(r->version, k->alive ? k->version : 0);
        }
        if (k->there && k->alive) {
            assert_ptr_equal(mvcc_tree_next_live(&live), r);
            rank++;
        }
    }
    assert_null(mvcc_tree_next(&all));
    assert_null(mvcc_tree_next_live(&live));
    assert_int_equal(x->tree.live, rank);
}

static void compare_range(const struct mvcc_index *x, struct nb_random *r)
{
    size_t first = nb_random_below(r, KEY_COUNT);
    size_t end = nb_random_below(r, KEY_COUNT);
    uint64_t expected = 0;
    for (size_t i = first; i < end; i++) {
        expected += model[i].there && model[i].alive;
    }
    struct mvcc_interval keys = {.first = key_of(&model[first]), .end = key_of(&model[end])};
    assert_int_equal(mvcc_index_count(x, &keys), expected);
    struct mvcc_cursor c = mvcc_tree_seek(&x->tree, keys.first);
    const struct mvcc_record *next = mvcc_tree_next(&c);
    while (first < KEY_COUNT && !model[first].there) {
        first++;
    }
    assert_ptr_equal(next, first == KEY_COUNT ? NULL : mvcc_index_find(x, key_of(&model[first])));
}

static void model_put(struct mvcc_index *x, struct model_key *k, int64_t main)
{
    k->create = k->there && k->alive ? k->create : main;
    k->version = k->there && k->alive ? k->version + 1 : 1;
    k->mod = main;
    k->there = true;
    k->alive = true;
    (void)mvcc_index_put(x, key_of(k), main, 0, false);
}

static void model_delete(struct mvcc_index *x, struct model_key *k, int64_t main)
{
    mvcc_index_delete(x, mvcc_index_find(x, key_of(k)), main, 0);
    k->mod = main;
    k->alive = false;
}

static void model_trim(struct mvcc_index *x, struct model_key *k, int64_t revision)
{
    struct mvcc_dropped dropped = {0};
    assert_true(mvcc_index_trim(x, mvcc_index_find(x, key_of(k)), revision, UINT32_MAX, &dropped));
    for (size_t i = 1; i < dropped.count; i++) { /* oldest first: hazard C02 */
        assert_true(dropped.items[i - 1].main < dropped.items[i].main);
    }
    nb_free(dropped.items);
    if (!k->alive && k->mod < revision) {
        k->there = false;
    }
}

/* Waves of puts and of deletions with removal, so that the tree grows high and shrinks to nothing.
 */
static void index_equals_a_sorted_array(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    make_keys(&r);
    struct mvcc_index x;
    mvcc_index_init(&x, nb_random_u64(&r));
    uint64_t steps = unit_scaled(120000);
    for (uint64_t step = 0; step < steps; step++) {
        int64_t main = (int64_t)step + 2;
        bool growing = step / 9000 % 2 == 0;
        size_t i = step % 3 == 0 ? step / 3 % KEY_COUNT : nb_random_below(&r, KEY_COUNT);
        struct model_key *k = &model[i];
        if (nb_random_chance(&r, growing ? 9 : 1, 10)) {
            model_put(&x, k, main);
        } else if (k->there && k->alive) {
            model_delete(&x, k, main);
            if (!nb_random_chance(&r, 1, 4)) {
                model_trim(&x, k, main + 1);
            }
        } else if (k->there) {
            model_trim(&x, k, main);
        }
        compare_range(&x, &r);
        if (step % 4500 == 4499) {
            compare_all(&x);
        }
    }
    compare_all(&x);
    mvcc_index_deinit(&x);
}

/* Versions as load sees them: rows of all keys mixed, in order of revision. */
static void D09_loaded_index_equals_the_live_one(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    make_keys(&r);
    struct mvcc_index live;
    struct mvcc_index loaded;
    mvcc_index_init(&live, 1);
    mvcc_index_init(&loaded, 2);
    for (int64_t main = 2; main < 12000; main++) {
        struct model_key *k = &model[nb_random_below(&r, KEY_COUNT)];
        bool deletion = k->there && k->alive && nb_random_chance(&r, 1, 3);
        if (deletion) {
            model_delete(&live, k, main);
        } else {
            model_put(&live, k, main);
        }
        struct mvcc_row row = {.key = key_of(k),
                               .main = main,
                               .tombstone = deletion,
                               .create = k->create,
                               .version = k->version};
        assert_true(mvcc_index_load(&loaded, &row));
        assert_false(mvcc_index_load(&loaded, &row)); /* the same revision again is damage */
    }
    mvcc_index_loaded(&loaded);
    compare_all(&live);
    compare_all(&loaded);
    mvcc_index_deinit(&live);
    mvcc_index_deinit(&loaded);
}

/* What the header of mvcc.h shows. */
static void trim_keeps_what_the_worked_example_says(void **state)
{
    (void)state;
    static const struct {
        int64_t revision;
        int64_t dropped[2]; /* 0: none */
        bool gone;
    } steps[] = {{2, {0}, false}, {3, {2}, false}, {4, {3}, false},
                 {5, {4}, false}, {6, {5}, false}, {7, {6}, true}};
    struct mvcc_index x;
    mvcc_index_init(&x, 7);
    struct nb_bytes key = nb_bytes_str("k");
    struct mvcc_record *k = mvcc_index_put(&x, key, 2, 0, false);
    (void)mvcc_index_put(&x, key, 3, 0, false);
    assert_int_equal(k->create, 2);
    assert_int_equal(k->version, 2);
    mvcc_index_delete(&x, k, 4, 0);
    (void)mvcc_index_put(&x, key, 5, 0, false);
    assert_int_equal(k->create, 5);
    assert_int_equal(k->version, 1);
    mvcc_index_delete(&x, k, 6, 0);
    for (size_t i = 0; i < NB_ARRAY_LEN(steps); i++) {
        struct mvcc_dropped dropped = {0};
        assert_true(mvcc_index_trim(&x, k, steps[i].revision, UINT32_MAX, &dropped));
        assert_int_equal(dropped.count, steps[i].dropped[0] != 0);
        if (dropped.count != 0) {
            assert_int_equal(dropped.items[0].main, steps[i].dropped[0]);
        }
        nb_free(dropped.items);
        assert_int_equal(mvcc_index_find(&x, key) == NULL, steps[i].gone);
    }
    mvcc_index_deinit(&x);
}

static void trim_of_a_long_history_can_be_cut(void **state)
{
    (void)state;
    struct mvcc_index x;
    mvcc_index_init(&x, 7);
    struct mvcc_record *k = NULL;
    for (int64_t main = 2; main <= 1001; main++) {
        k = mvcc_index_put(&x, nb_bytes_str("k"), main, 0, false);
    }
    struct mvcc_dropped dropped = {0};
    while (!mvcc_index_trim(&x, k, 1001, 64, &dropped)) {
        mvcc_index_check(&x);
    }
    assert_int_equal(dropped.count, 999);
    for (size_t i = 0; i < dropped.count; i++) {
        assert_int_equal(dropped.items[i].main, i + 2);
    }
    assert_null(k->older);
    nb_free(dropped.items);
    mvcc_index_deinit(&x);
}

static void sort_orders_keys_that_share_and_end_within(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    for (unsigned round = 0; round < 4; round++) {
        make_keys(&r);
        struct mvcc_index x;
        mvcc_index_init(&x, round);
        struct mvcc_record *records[KEY_COUNT];
        for (size_t i = 0; i < KEY_COUNT; i++) {
            size_t k = (i * 1009) % KEY_COUNT;
            records[i] = mvcc_index_put(&x, key_of(&model[k]), 2, 0, false);
        }
        mvcc_sort_records(records, KEY_COUNT);
        for (size_t i = 0; i < KEY_COUNT; i++) {
            assert_ptr_equal(records[i], mvcc_index_find(&x, key_of(&model[i])));
        }
        mvcc_index_deinit(&x);
    }
}

/* Foreseeing asks memory for what is there, also while the table moves, and does no more. */
static void foreseen_keys_are_found_and_nothing_changes(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    make_keys(&r);
    struct mvcc_index x;
    mvcc_index_init(&x, nb_random_u64(&r));
    enum { STEP = 40 };
    struct nb_bytes keys[STEP];
    for (size_t i = 0; i + STEP <= KEY_COUNT; i += STEP) {
        for (size_t k = 0; k < STEP; k++) { /* some there, some not */
            keys[k] = key_of(&model[nb_random_below(&r, KEY_COUNT)]);
        }
        mvcc_index_foresee(&x, keys, STEP);
        for (size_t k = 0; k < STEP; k++) {
            uint64_t hash = mvcc_table_hash(&x.table, keys[k]);
            assert_true(mvcc_index_find(&x, keys[k]) == NULL ||
                        mvcc_table_fetch_record(&x.table, hash) != NULL);
        }
        for (size_t k = i; k < i + STEP; k++) {
            (void)mvcc_index_put(&x, key_of(&model[k]), (int64_t)k + 2, 0, false);
        }
        mvcc_index_check(&x);
        assert_int_equal(x.tree.count, i + STEP);
    }
    mvcc_index_foresee(&x, NULL, 0);
    mvcc_index_deinit(&x);
}

/* No new key may come for long: then the writes of known ones end it. */
static void a_move_of_the_table_ends_without_new_keys(void **state)
{
    (void)state;
    struct nb_random r;
    nb_random_init(&r, unit_seed());
    make_keys(&r);
    struct mvcc_index x;
    mvcc_index_init(&x, nb_random_u64(&r));
    size_t count = 0;
    while (count < KEY_COUNT / 2 || x.table.old.slots == NULL) {
        assert_true(count < KEY_COUNT);
        (void)mvcc_index_put(&x, key_of(&model[count]), (int64_t)count + 2, 0, false);
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        (void)mvcc_index_put(&x, key_of(&model[i]), (int64_t)(KEY_COUNT + i) + 2, 0, false);
    }
    assert_null(x.table.old.slots);
    mvcc_index_check(&x);
    mvcc_index_deinit(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_equals_a_sorted_array),
        cmocka_unit_test(foreseen_keys_are_found_and_nothing_changes),
        cmocka_unit_test(a_move_of_the_table_ends_without_new_keys),
        cmocka_unit_test(D09_loaded_index_equals_the_live_one),
        cmocka_unit_test(trim_keeps_what_the_worked_example_says),
        cmocka_unit_test(trim_of_a_long_history_can_be_cut),
        cmocka_unit_test(sort_orders_keys_that_share_and_end_within),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
