/*
 * bench/mvcc: what the store costs with many keys: memory a key, time an operation. The backend's
 * share is in the figures of the store, not in those of the index. Times are of the processor, so
 * that others on the machine show less. Keys are put in random order, so that the rows of a page
 * lie far apart.
 *
 *     bench_mvcc [keys, default 1000000 [empty folder: LMDB there instead of memory]]
 */
#include "base/random.h"
#include "mvcc/index.h"
#include "mvcc/mvcc.h"
#include "storage/backend.h"
#include "storage/backend_lmdb.h"
#include "storage/backend_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEY_SIZE = 40, VALUE_SIZE = 256, PAGE_KEYS = 500, PAGE_COUNT = 2000, AT_ONCE = 16 };

static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void report(const char *what, double from, size_t count)
{
    (void)printf("%-44s %9.0f ns\n", what, (now() - from) / (double)count);
}

static struct nb_bytes key_of(char *room, uint32_t i)
{
    int len = snprintf(room, KEY_SIZE, "/registry/pods/ns-%03u/pod-%07u", i % 200, i % 10000000);
    return nb_bytes_of(room, (size_t)len);
}

static uint32_t *shuffled(struct nb_random *r, uint32_t count)
{
    uint32_t *order = nb_alloc(count * sizeof *order);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t k = (uint32_t)nb_random_below(r, i + 1);
        order[i] = order[k];
        order[k] = i;
    }
    return order;
}

static void bench_index(const uint32_t *order, uint32_t count)
{
    struct mvcc_index x;
    char room[KEY_SIZE];
    mvcc_index_init(&x, 7);
    size_t key_bytes = 0;
    double from = now();
    for (uint32_t i = 0; i < count; i++) {
        struct nb_bytes key = key_of(room, order[i]);
        key_bytes += key.len;
        (void)mvcc_index_put(&x, key, 2 + i, 0, false);
    }
    report("index: create, random order", from, count);
    (void)printf("%-44s %9.1f bytes, of these %.1f the key's\n", "index: memory a key",
                 (double)mvcc_index_bytes(&x) / count, (double)key_bytes / count);
    (void)printf("%-44s %9.1f bytes\n", "index:   nodes of the tree", (double)x.tree.bytes / count);
    (void)printf("%-44s %9.1f bytes\n", "index:   hash table",
                 (double)mvcc_table_bytes(&x.table) / count);
    from = now();
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        found += mvcc_index_find(&x, key_of(room, order[count - 1 - i])) != NULL;
    }
    nb_assert(found == count);
    report("index: find (with making the key)", from, count);
    from = now();
    for (uint32_t i = 0; i < count; i++) {
        (void)mvcc_index_put(&x, key_of(room, order[count - 1 - i]), 2 + count + i, 0, false);
    }
    report("index: update (with making the key)", from, count);
    (void)printf("%-44s %9.1f bytes\n", "index: memory a key with one older version",
                 (double)mvcc_index_bytes(&x) / count);
    mvcc_index_deinit(&x);
    from = now();
    for (uint32_t i = 0; i < count; i++) {
        (void)key_of(room, order[i]);
    }
    report("making the key", from, count);
}

/* Puts a few keys, said before or not, as a replica applies its log. */
static void put_some(struct mvcc *m, const uint32_t *order, uint32_t count, bool foreseen,
                     struct nb_buf *body)
{
    static const uint8_t value[VALUE_SIZE] = {1, 2, 3};
    char rooms[AT_ONCE][KEY_SIZE];
    struct nb_bytes keys[AT_ONCE];
    int64_t revision;
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = key_of(rooms[i], order[i]);
    }
    if (foreseen) {
        mvcc_foresee(m, keys, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mvcc_put_request r = {.key = keys[i], .value = nb_bytes_of(value, sizeof value)};
        nb_buf_clear(body);
        enum nb_status status = mvcc_put(m, &r, body, &revision);
        nb_assert(status == NB_OK);
    }
}

/* Every other batch with its keys foreseen, so that both meet the same store. */
static void put_all(struct mvcc *m, struct backend *b, const uint32_t *order, uint32_t count,
                    const char *what)
{
    enum { BATCH = 125 * AT_ONCE };
    struct nb_buf body = {0};
    double spent[2] = {0};
    uint32_t put[2] = {0};
    for (uint32_t i = 0; i < count;) {
        bool foreseen = i / BATCH % 2 != 0;
        double from = now();
        for (uint32_t k = 0; k < BATCH && i < count; k += AT_ONCE) {
            uint32_t few = count - i < AT_ONCE ? count - i : AT_ONCE;
            put_some(m, order + i, few, foreseen, &body);
            i += few;
            put[foreseen] += few;
        }
        spent[foreseen] += now() - from;
        mvcc_batch_seal(m);
        (void)backend_commit(b, &(struct backend_label){0});
        uint64_t committed = backend_committed(b);
        backend_wait(b);
        mvcc_batch_reaped(m, (size_t)(backend_committed(b) - committed));
    }
    for (unsigned foreseen = 0; foreseen < 2; foreseen++) {
        (void)printf("store: put, %s keys%s %*.0f ns\n", what, foreseen ? ", foreseen" : "",
                     foreseen ? 16 : 26, spent[foreseen] / put[foreseen]);
    }
    nb_buf_deinit(&body);
}

static void read_all(struct mvcc *m, const uint32_t *order, uint32_t count)
{
    char room[KEY_SIZE];
    struct nb_buf body = {0};
    int64_t revision;
    double from = now();
    for (uint32_t i = 0; i < count; i++) {
        struct mvcc_range_request r = {.key = key_of(room, order[count - 1 - i])};
        nb_buf_clear(&body);
        nb_assert(mvcc_range(m, &r, &body, &revision) == NB_OK);
    }
    report("store: get (with making the key)", from, count);
    from = now();
    for (uint32_t i = 0; i < PAGE_COUNT; i++) {
        struct mvcc_range_request r = {.key = key_of(room, order[i]),
                                       .range_end = nb_bytes_str("/registry/pods0"),
                                       .limit = PAGE_KEYS};
        nb_buf_clear(&body);
        nb_assert(mvcc_range(m, &r, &body, &revision) == NB_OK);
    }
    report("store: page of 500 keys, with count", from, PAGE_COUNT);
    from = now();
    for (uint32_t i = 0; i < PAGE_COUNT; i++) {
        struct mvcc_range_request r = {.key = key_of(room, order[i]),
                                       .range_end = nb_bytes_str("/registry/pods0"),
                                       .count_only = true};
        nb_buf_clear(&body);
        nb_assert(mvcc_range(m, &r, &body, &revision) == NB_OK);
    }
    report("store: count", from, PAGE_COUNT);
    nb_buf_deinit(&body);
}

int main(int argc, char **argv)
{
    static const struct backend_ident ident = {.cluster_id = 1, .member_id = 1};
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    struct nb_random random;
    nb_random_init(&random, 1);
    uint32_t *order = shuffled(&random, count);
    bench_index(order, count);
    struct backend_memory_store *store = backend_memory_store_create();
    struct backend *backend;
    struct nb_buf message = {0};
    if (argc > 2) {
        struct backend_lmdb_options lmdb = {.no_sync = true};
        nb_assert(backend_lmdb_open(argv[2], &ident, &lmdb, &backend, &message) == NB_OK);
    } else {
        nb_assert(backend_memory_open(store, NULL, &ident, &backend, &message) == NB_OK);
    }
    struct mvcc_options options = {.hash_seed = 3};
    struct mvcc *m;
    nb_assert(mvcc_create(backend, &options, &m) == NB_OK);
    uint32_t *again = shuffled(&random, count);
    put_all(m, backend, order, count, "new  ");
    put_all(m, backend, again, count, "known");
    nb_free(again);
    read_all(m, order, count);
    double from = now();
    struct mvcc_hash hash;
    nb_assert(mvcc_hash_kv(m, 0, &hash) == NB_OK);
    report("store: HashKV, a row", from, count);
    mvcc_destroy(m);
    from = now();
    nb_assert(mvcc_create(backend, &options, &m) == NB_OK);
    (void)printf("%-44s %9.0f ms\n", "store: start", (now() - from) / 1e6);
    mvcc_destroy(m);
    backend_close(backend);
    backend_memory_store_destroy(store);
    nb_free(order);
    nb_buf_deinit(&message);
    return 0;
}
