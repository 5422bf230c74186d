#include "mvcc/store.h"

enum { EMPTY_STORE_REVISION = 1, NEVER_COMPACTED = -1 };

struct loading {
    struct mvcc *m;
    enum nb_status status;
};

static bool load_row(void *context, const struct mvcc_version *v, struct nb_bytes value)
{
    struct loading *l = context;
    struct mvcc_kv kv;
    l->status = mvcc_kv_decode(value, &kv);
    bool sound = l->status == NB_OK && v->main > EMPTY_STORE_REVISION &&
                 kv.key.len < (UINT32_C(1) << 30) &&
                 (v->tombstone ||
                  (kv.mod == v->main && kv.create >= 1 && kv.create <= kv.mod && kv.version >= 1));
    struct mvcc_row row = {.key = kv.key,
                           .main = v->main,
                           .sub = v->sub,
                           .tombstone = v->tombstone,
                           .leased = !v->tombstone && kv.lease != 0,
                           .create = kv.create,
                           .version = kv.version};
    if (!sound || !mvcc_index_load(&l->m->index, &row)) {
        l->status = NB_CORRUPT;
        return false;
    }
    l->m->current = v->main > l->m->current ? v->main : l->m->current;
    return true;
}

static enum nb_status load(struct mvcc *m)
{
    int64_t removed;
    enum nb_status status =
        mvcc_rows_marked(&m->rows, MVCC_MARK_CURRENT, EMPTY_STORE_REVISION, &m->current);
    if (status == NB_OK) {
        status = mvcc_rows_marked(&m->rows, MVCC_MARK_COMPACT, NEVER_COMPACTED, &m->compact);
    }
    if (status == NB_OK) {
        status = mvcc_rows_marked(&m->rows, MVCC_MARK_REMOVED, NEVER_COMPACTED, &removed);
    }
    if (status != NB_OK) {
        return status;
    }
    struct loading l = {.m = m};
    status = mvcc_rows_scan(&m->rows, 0, 0, load_row, &l);
    if (status == NB_OK) {
        status = l.status;
    }
    if (status == NB_OK && (m->current < EMPTY_STORE_REVISION || m->compact > m->current)) {
        status = NB_CORRUPT;
    }
    if (status == NB_OK) {
        mvcc_index_loaded(&m->index);
        m->removing = removed < m->compact;
    }
    return status;
}

enum nb_status mvcc_create(struct backend *b, const struct mvcc_options *options, struct mvcc **out)
{
    struct mvcc *m = nb_alloc_zero(1, sizeof *m);
    m->options = *options;
    mvcc_rows_init(&m->rows, b);
    mvcc_index_init(&m->index, options->hash_seed);
    enum nb_status status = load(m);
    if (status != NB_OK) {
        mvcc_destroy(m);
        return status;
    }
    *out = m;
    return NB_OK;
}

void mvcc_destroy(struct mvcc *m)
{
    if (m == NULL) {
        return;
    }
    mvcc_index_deinit(&m->index);
    mvcc_rows_deinit(&m->rows);
    nb_free(m->changes);
    nb_free(m->doomed);
    nb_free(m->dropped.items);
    nb_buf_deinit(&m->scratch);
    nb_buf_deinit(&m->decisions);
    nb_buf_deinit(&m->remove_next);
    nb_free(m);
}

void mvcc_foresee(const struct mvcc *m, const struct nb_bytes *keys, size_t count)
{
    mvcc_index_foresee(&m->index, keys, count);
}

int64_t mvcc_current_revision(const struct mvcc *m)
{
    return m->current;
}

int64_t mvcc_compact_revision(const struct mvcc *m)
{
    return m->compact;
}

void mvcc_batch_seal(struct mvcc *m)
{
    /* The highest row would tell as well, but for a store whose rows somebody else removed [D07].
     */
    mvcc_rows_mark(&m->rows, MVCC_MARK_CURRENT, m->current);
    mvcc_rows_seal(&m->rows);
}

void mvcc_batch_reaped(struct mvcc *m, size_t batch_count)
{
    m->change_count = 0; /* their bytes may have been in a batch that is gone */
    mvcc_rows_reaped(&m->rows, batch_count);
}

struct mvcc_stats mvcc_stats(const struct mvcc *m)
{
    struct mvcc_stats s = m->stats;
    s.key_count = m->index.tree.live;
    s.record_count = m->index.tree.count;
    s.pending_row_count = m->rows.count - m->rows.first;
    s.pending_bytes = m->rows.pending_bytes;
    s.index_bytes = mvcc_index_bytes(&m->index);
    return s;
}

void mvcc_check(struct mvcc *m)
{
    mvcc_index_check(&m->index);
    nb_assert(m->compact <= m->current);
    nb_assert(m->rows.sealed_rows <= m->rows.count - m->rows.first);
    struct mvcc_cursor c = mvcc_tree_seek(&m->index.tree, (struct nb_bytes){0});
    const struct mvcc_record *r;
    while ((r = mvcc_tree_next(&c)) != NULL) {
        nb_assert(r->mod <= m->current);
        struct mvcc_kv kv;
        enum nb_status status = mvcc_kv_decode(mvcc_rows_get(&m->rows, mvcc_record_newest(r)), &kv);
        nb_assert(status == NB_OK);
        nb_assert(nb_bytes_equal(kv.key, mvcc_record_key(r)));
        nb_assert(r->dead || (kv.create == r->create && kv.mod == r->mod &&
                              kv.version == r->version && (kv.lease != 0) == r->leased));
    }
}
