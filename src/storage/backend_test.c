#include "storage/backend.h"

#include "base/random.h"
#include "storage/backend_lmdb.h"
#include "storage/backend_memory.h"
#include "storage/disk_memory.h"
#include "tests/support/unit.h"

#include <sys/stat.h>
#include <unistd.h>

static const struct backend_ident ident = {.cluster_id = 0xc1, .member_id = 0x31};

/* One world, in either body. */
struct world {
    bool lmdb;
    char dir[32];
    struct backend_memory_store *store;
    struct disk *disk;
};

static void world_begin(struct world *w, bool lmdb)
{
    *w = (struct world){.lmdb = lmdb};
    memcpy(w->dir, "backend_test.XXXXXX", 20);
    assert_non_null(mkdtemp(w->dir));
    if (!lmdb) {
        w->store = backend_memory_store_create();
        w->disk = disk_memory_create(1);
    }
}

static void world_end(struct world *w)
{
    backend_memory_store_destroy(w->store);
    disk_destroy(w->disk);
    char *command = nb_sprintf("rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    nb_free(command);
}

static enum nb_status world_open_as(struct world *w, const struct backend_ident *as,
                                    struct backend **b)
{
    struct nb_buf message = {0};
    enum nb_status status = w->lmdb ? backend_lmdb_open(w->dir, as, NULL, b, &message)
                                    : backend_memory_open(w->store, w->disk, as, b, &message);
    assert_true((status == NB_OK) == (message.len == 0));
    nb_buf_deinit(&message);
    return status;
}

static struct backend *world_open(struct world *w)
{
    struct backend *b;
    assert_int_equal(world_open_as(w, &ident, &b), NB_OK);
    return b;
}

static struct nb_bytes key_of(uint64_t n, uint8_t *room)
{
    nb_put_u64_be(room, n);
    return nb_bytes_of(room, 8);
}

/* The model: value of key n in table t, 0 when absent. */
enum { MODEL_KEYS = 40 };
struct model {
    uint32_t values[2][MODEL_KEYS];
    uint64_t index;
};

static const enum backend_table model_tables[2] = {BACKEND_KEY, BACKEND_LEASE};

static void compare(struct backend *b, const struct model *m)
{
    assert_int_equal(backend_label(b)->applied_index, m->index);
    for (size_t t = 0; t < 2; t++) {
        struct backend_cursor *c =
            backend_cursor_open(b, model_tables[t], (struct nb_bytes){0}, (struct nb_bytes){0});
        for (uint64_t n = 0; n < MODEL_KEYS; n++) {
            uint8_t room[8];
            struct nb_bytes value;
            bool there = backend_get(b, model_tables[t], key_of(n, room), &value);
            assert_int_equal(there, m->values[t][n] != 0);
            if (there) {
                assert_int_equal(nb_get_u32(value.data), m->values[t][n]);
                struct nb_bytes key;
                assert_true(backend_cursor_next(c, &key, &value));
                assert_int_equal(nb_get_u64_be(key.data), n);
            }
        }
        struct nb_bytes key;
        struct nb_bytes value;
        assert_false(backend_cursor_next(c, &key, &value));
        backend_cursor_close(c);
    }
}

static void change_at_random(struct backend *b, struct model *m, struct nb_random *x)
{
    uint64_t count = nb_random_below(x, 30);
    for (uint64_t i = 0; i < count; i++) {
        size_t t = (size_t)nb_random_below(x, 2);
        uint64_t n = nb_random_below(x, MODEL_KEYS);
        uint8_t room[8];
        if (nb_random_chance(x, 1, 3)) {
            backend_batch_delete(b, model_tables[t], key_of(n, room));
            m->values[t][n] = 0;
        } else {
            m->values[t][n] = (uint32_t)nb_random_u64(x) | 1;
            size_t len = 4 + (size_t)nb_random_below(x, 9000);
            uint8_t *to = backend_batch_reserve(b, model_tables[t], key_of(n, room), len);
            memset(to, 0x55, len);
            nb_put_u32(to, m->values[t][n]);
        }
    }
    m->index += 1 + nb_random_below(x, 3);
    const struct backend_label label = {
        .applied_index = m->index, .applied_term = 3, .meta = nb_bytes_str("meta")};
    (void)backend_commit(b, &label);
}

static void D01_the_file_always_equals_the_model_at_its_label(bool lmdb)
{
    struct nb_random x;
    nb_random_init(&x, unit_seed());
    struct world w;
    world_begin(&w, lmdb);
    static struct model history[200];
    memset(history, 0, sizeof history);
    struct model now = {0};
    size_t versions = 1;
    for (unsigned life = 0; life < 5; life++) {
        struct backend *b = world_open(&w);
        /* Whatever survived is one of the states that were committed. */
        size_t at = versions;
        while (at > 0 && history[at - 1].index != backend_label(b)->applied_index) {
            at--;
        }
        assert_true(at != 0);
        now = history[at - 1];
        versions = at;
        compare(b, &now);
        for (unsigned i = 0; i < 12; i++) {
            change_at_random(b, &now, &x);
            history[versions++] = now;
            if (nb_random_chance(&x, 1, 2)) {
                if (!lmdb) {
                    (void)backend_memory_step(b, (size_t)nb_random_below(&x, 3));
                }
                (void)backend_reap(b);
                for (size_t k = 0; k < versions; k++) {
                    if (history[k].index == backend_label(b)->applied_index) {
                        compare(b, &history[k]);
                    }
                }
            }
        }
        if (nb_random_chance(&x, 1, 2)) {
            backend_wait(b);
            assert_int_equal(backend_committed(b), 12);
            assert_int_equal(backend_pending_bytes(b), 0);
            compare(b, &now);
        }
        if (lmdb) {
            backend_close(b);
        } else {
            backend_memory_crash(b);
        }
    }
    world_end(&w);
}

static void a_file_in_memory_equals_the_model(void **state)
{
    (void)state;
    D01_the_file_always_equals_the_model_at_its_label(false);
}

static void a_file_of_lmdb_equals_the_model(void **state)
{
    (void)state;
    D01_the_file_always_equals_the_model_at_its_label(true);
}

static void on_copied(void *context, enum nb_status status, const char *text)
{
    (void)text;
    *(enum nb_status *)context = status;
}

/* One batch is under way and another not yet sealed when a received file takes the place of the
 * old: neither they nor their label come after it, now or when it is opened again. */
static void S04_what_was_under_way_never_follows_a_replacement(void **state)
{
    (void)state;
    enum { OF_COPY = 40, UNDER_WAY = 7 };
    for (unsigned lmdb = 0; lmdb < 2; lmdb++) {
        struct world w;
        world_begin(&w, lmdb == 1);
        struct backend *b = world_open(&w);
        struct backend_label label = {.applied_index = UNDER_WAY - 1};
        char *path = nb_sprintf("%s/copy", w.dir), *early = nb_sprintf("%s/early", w.dir);
        enum nb_status status = NB_BUSY;
        (void)backend_commit(b, &label);
        backend_wait(b);
        backend_copy(b, early, on_copied, &status); /* the member as it is while it lags */
        backend_wait(b);
        assert_int_equal(status, NB_OK);
        label.applied_index = OF_COPY;
        (void)backend_commit(b, &label);
        backend_wait(b);
        backend_copy(b, path, on_copied, &status); /* the leader's, further on */
        backend_wait(b);
        assert_int_equal(status, NB_OK);
        struct nb_buf message = {0};
        assert_int_equal(backend_replace(b, early, &message), NB_OK);
        backend_batch_put(b, BACKEND_KEY, nb_bytes_str("old"), nb_bytes_str("old"));
        label.applied_index = UNDER_WAY;
        uint64_t number = backend_commit(b, &label);
        backend_batch_put(b, BACKEND_KEY, nb_bytes_str("older"), nb_bytes_str("older"));
        assert_int_equal(backend_replace(b, path, &message), NB_OK);
        assert_true(backend_committed(b) >= number); /* nobody waits for it any more */
        for (unsigned life = 0; life < 2; life++) {
            struct nb_bytes value;
            backend_wait(b);
            assert_int_equal(backend_label(b)->applied_index, OF_COPY);
            assert_int_equal(backend_batch_bytes(b), 0);
            assert_false(backend_get(b, BACKEND_KEY, nb_bytes_str("old"), &value));
            assert_false(backend_get(b, BACKEND_KEY, nb_bytes_str("older"), &value));
            backend_close(b);
            b = world_open(&w);
        }
        backend_close(b);
        nb_buf_deinit(&message);
        nb_free(path);
        nb_free(early);
        world_end(&w);
    }
}

static void S02_a_copy_has_its_own_label_and_replaces_another_members_file(void **state)
{
    (void)state;
    for (unsigned lmdb = 0; lmdb < 2; lmdb++) {
        struct nb_random x;
        nb_random_init(&x, unit_seed());
        struct world from;
        struct world to;
        world_begin(&from, lmdb == 1);
        world_begin(&to, lmdb == 1);
        struct backend *b = world_open(&from);
        struct model m = {0};
        change_at_random(b, &m, &x);
        backend_wait(b);
        char *path = nb_sprintf("%s/copy", from.dir);
        enum nb_status status = NB_BUSY;
        backend_copy(b, path, on_copied, &status);
        backend_wait(b);
        assert_int_equal(status, NB_OK);
        struct model later = m;
        change_at_random(b, &later, &x); /* not in the copy */
        backend_close(b);
        if (lmdb == 0) { /* the receiver looks on the same disk */
            disk_destroy(to.disk);
            to.disk = from.disk;
        }
        const struct backend_ident other = {.cluster_id = ident.cluster_id, .member_id = 0x77};
        assert_int_equal(world_open_as(&to, &other, &b), NB_OK);
        backend_batch_put(b, BACKEND_KEY, nb_bytes_str("old"), nb_bytes_str("old"));
        const struct backend_label label = {.applied_index = 1};
        (void)backend_commit(b, &label);
        struct nb_buf message = {0};
        assert_int_not_equal(backend_replace(b, "none/such", &message), NB_OK);
        nb_buf_clear(&message);
        assert_int_equal(backend_replace(b, path, &message), NB_OK);
        compare(b, &m);
        struct model after = m;
        change_at_random(b, &after, &x);
        backend_wait(b);
        compare(b, &after);
        backend_close(b);
        assert_int_equal(world_open_as(&to, &ident, &b), NB_FOREIGN); /* it is 0x77's now */
        assert_int_equal(world_open_as(&to, &other, &b), NB_OK);
        compare(b, &after);
        backend_close(b);
        nb_buf_deinit(&message);
        nb_free(path);
        if (lmdb == 0) {
            to.disk = NULL;
        }
        world_end(&to);
        world_end(&from);
    }
}

static void a_fresh_file_is_small_and_sizes_tell_free_pages(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w, true);
    struct backend *b = world_open(&w);
    struct backend_sizes sizes;
    backend_sizes(b, &sizes);
    assert_true(sizes.allocated <= 50 * 1024);
    uint8_t room[8];
    uint8_t value[1000] = {0};
    for (uint64_t n = 0; n < 2000; n++) {
        backend_batch_put(b, BACKEND_KEY, key_of(n, room), nb_bytes_of(value, sizeof value));
    }
    struct backend_label label = {.applied_index = 1};
    (void)backend_commit(b, &label);
    backend_wait(b);
    struct backend_sizes full;
    backend_sizes(b, &full);
    assert_true(full.in_use > 2000000);
    for (uint64_t n = 0; n < 2000; n++) {
        backend_batch_delete(b, BACKEND_KEY, key_of(n, room));
    }
    label.applied_index = 2;
    (void)backend_commit(b, &label);
    backend_wait(b);
    backend_sizes(b, &sizes);
    assert_true(sizes.in_use < 200000 && sizes.allocated >= full.allocated);
    backend_close(b);
    world_end(&w);
}

static void W13_a_full_file_loses_nothing_and_is_told(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w, true);
    const struct backend_lmdb_options options = {.map_size = 256 * 1024};
    struct nb_buf message = {0};
    struct backend *b;
    assert_int_equal(backend_lmdb_open(w.dir, &ident, &options, &b, &message), NB_OK);
    uint8_t value[100000] = {7};
    struct nb_bytes kept = {0};
    for (uint64_t n = 1; n <= 6; n++) {
        uint8_t room[8];
        kept = backend_batch_put(b, BACKEND_KEY, key_of(n, room), nb_bytes_of(value, sizeof value));
        const struct backend_label label = {.applied_index = n};
        (void)backend_commit(b, &label);
        backend_wait(b);
    }
    const char *text;
    assert_int_equal(backend_status(b, &text), NB_NO_SPACE_DISK);
    assert_non_null(strstr(text, "MDB_MAP_FULL"));
    assert_true(backend_committed(b) < 6 && backend_pending_bytes(b) != 0);
    assert_int_equal(kept.data[0], 7); /* B1 */
    uint64_t committed = backend_committed(b);
    assert_int_equal(backend_label(b)->applied_index, committed);
    backend_retry(b);
    backend_wait(b);
    assert_int_equal(backend_status(b, NULL), NB_NO_SPACE_DISK);
    backend_close(b);
    b = world_open(&w); /* with the ordinary size */
    assert_int_equal(backend_label(b)->applied_index, committed);
    backend_close(b);
    nb_buf_deinit(&message);
    world_end(&w);
}

static void a_copy_can_be_inspected(void **state)
{
    (void)state;
    struct world w;
    world_begin(&w, true);
    struct backend *b = world_open(&w);
    const struct backend_label label = {
        .applied_index = 41, .applied_term = 4, .meta = nb_bytes_str("revision 9")};
    (void)backend_commit(b, &label);
    backend_wait(b);
    char *path = nb_sprintf("%s/copy", w.dir);
    enum nb_status status = NB_BUSY;
    backend_copy(b, path, on_copied, &status);
    backend_wait(b);
    backend_close(b);
    struct backend_ident found;
    struct backend_label found_label;
    struct nb_buf meta = {0};
    struct nb_buf message = {0};
    assert_int_equal(backend_lmdb_inspect(path, &found, &found_label, &meta, &message), NB_OK);
    assert_int_equal(found.member_id, ident.member_id);
    assert_int_equal(found_label.applied_index, 41);
    assert_true(nb_bytes_equal(found_label.meta, nb_bytes_str("revision 9")));
    assert_int_equal(truncate(path, 5000), 0);
    assert_int_not_equal(backend_lmdb_inspect(w.dir, &found, &found_label, &meta, &message), NB_OK);
    nb_buf_deinit(&meta);
    nb_buf_deinit(&message);
    nb_free(path);
    world_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_in_memory_equals_the_model),
        cmocka_unit_test(a_file_of_lmdb_equals_the_model),
        cmocka_unit_test(S04_what_was_under_way_never_follows_a_replacement),
        cmocka_unit_test(S02_a_copy_has_its_own_label_and_replaces_another_members_file),
        cmocka_unit_test(a_fresh_file_is_small_and_sizes_tell_free_pages),
        cmocka_unit_test(W13_a_full_file_loses_nothing_and_is_told),
        cmocka_unit_test(a_copy_can_be_inspected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
