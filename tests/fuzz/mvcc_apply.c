/*
 * Any bytes, decoded and applied with no check at the door, harm nothing: no crash, and the store's
 * own checks hold after it [D04, D14]. The input is pieces of (kind, length, bytes).
 */
#include "base/wire.h"
#include "mvcc/mvcc.h"
#include "storage/backend.h"
#include "storage/backend_memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lease_exists(void *context, int64_t lease)
{
    (void)context;
    return lease % 2 != 0;
}

static void apply(struct mvcc *m, unsigned kind, struct nb_bytes b, struct nb_buf *body)
{
    struct nb_arena arena = {0};
    struct mvcc_txn_request t;
    struct mvcc_put_request p;
    struct mvcc_delete_request d;
    struct mvcc_range_request r;
    struct mvcc_compaction_request c;
    int64_t revision = mvcc_current_revision(m);
    enum nb_status status = NB_OK;
    if (kind == 0 && mvcc_txn_decode(b, &arena, &t) == NB_OK) {
        status = mvcc_txn(m, &t, body, &revision);
    } else if (kind == 1 && mvcc_put_decode(b, &p) == NB_OK) {
        status = mvcc_put(m, &p, body, &revision);
    } else if (kind == 2 && mvcc_delete_decode(b, &d) == NB_OK) {
        mvcc_delete_range(m, &d, body, &revision);
    } else if (kind == 3 && mvcc_range_decode(b, &r) == NB_OK) {
        status = mvcc_range(m, &r, body, &revision);
    } else if (kind == 4 && mvcc_compaction_decode(b, &c) == NB_OK) {
        status = mvcc_compact(m, c.revision);
        (void)mvcc_compact_step(m, 2);
    }
    nb_assert(status != NB_OK || revision == mvcc_current_revision(m));
    nb_assert(mvcc_compact_revision(m) <= mvcc_current_revision(m));
    nb_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct backend_ident ident = {.cluster_id = 1, .member_id = 1};
    struct backend_memory_store *store = backend_memory_store_create();
    struct backend *backend;
    struct nb_buf body = {0};
    struct mvcc *m;
    enum nb_status status = backend_memory_open(store, NULL, &ident, &backend, &body);
    nb_assert(status == NB_OK);
    struct mvcc_options options = {.hash_seed = 1, .lease_exists = lease_exists};
    status = mvcc_create(backend, &options, &m);
    nb_assert(status == NB_OK);
    size_t at = 0;
    while (at + 2 <= size) {
        size_t len = data[at + 1];
        len = len > size - at - 2 ? size - at - 2 : len;
        nb_buf_clear(&body);
        apply(m, data[at] % 5, nb_bytes_of(data + at + 2, len), &body);
        at += 2 + len;
    }
    mvcc_check(m);
    struct mvcc_hash hash;
    status = mvcc_hash_kv(m, 0, &hash);
    nb_assert(status == NB_OK);
    mvcc_destroy(m);
    backend_memory_crash(backend);
    backend_memory_store_destroy(store);
    nb_buf_deinit(&body);
    return 0;
}
