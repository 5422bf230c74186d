/*
 * HashKV and Hash. [surface 2.10; hazard C05]
 */
#include "mvcc/store.h"

#include "base/checksum.h"

#include <string.h>

static bool any_alive_at(const struct mvcc *m, int64_t revision)
{
    if (revision == m->current) {
        return m->index.tree.live != 0;
    }
    struct mvcc_cursor c = mvcc_tree_seek(&m->index.tree, (struct nb_bytes){0});
    const struct mvcc_record *r;
    struct mvcc_version v;
    while ((r = mvcc_tree_next(&c)) != NULL) {
        if (mvcc_record_at(r, revision, &v)) {
            return true;
        }
    }
    return false;
}

static uint32_t sum_begin(void)
{
    return nb_crc32c(0, "key", 3); /* etcd's name of the bucket */
}

static uint32_t sum_row(uint32_t sum, const struct mvcc_version *v, struct nb_bytes value)
{
    uint8_t name[MVCC_ROW_KEY_SIZE_MAX];
    size_t len = mvcc_row_key_put(name, *v);
    return nb_crc32c(nb_crc32c(sum, name, len), value.data, value.len);
}

static void start(const struct mvcc *m, int64_t revision, struct mvcc_hash *out)
{
    *out = (struct mvcc_hash){.revision = revision,
                              .compact_revision = m->compact,
                              .sum = sum_begin(),
                              .any_alive = any_alive_at(m, revision)};
}

enum nb_status mvcc_hash_begin(struct mvcc *m, int64_t revision, struct mvcc_hash *out)
{
    revision = revision == 0 ? m->current : revision;
    if (revision > m->current) {
        return NB_FUTURE_REVISION;
    }
    if (revision > 0 && revision < m->compact) {
        return NB_COMPACTED;
    }
    start(m, revision, out);
    out->done = revision < 0; /* etcd takes it for the time before the first row */
    return NB_OK;
}

struct hashing {
    const struct mvcc *m;
    struct mvcc_hash *h;
    size_t budget;
    bool stopped; /* with rows left */
};

/*
 * Whether a row up to the compact revision counts. With keys alive at the hashed revision: only
 * their last rows. With none etcd takes whatever is there; what is there once the removal is over
 * is what compaction keeps, so that is taken here at any time.
 */
static bool counts(const struct hashing *c, const struct mvcc_version *v, struct nb_bytes value)
{
    if (v->main > c->h->compact_revision) {
        return true;
    }
    if (v->tombstone) { /* before the compact revision it is superfluous, at it it is left out */
        return false;
    }
    struct mvcc_kv kv;
    enum nb_status status = mvcc_kv_decode(value, &kv);
    nb_assert(status == NB_OK);
    int64_t at = c->h->any_alive ? c->h->revision : c->h->compact_revision;
    return mvcc_row_kept(c->m, v, kv.key, at);
}

static bool visit_row(void *context, const struct mvcc_version *v, struct nb_bytes value)
{
    struct hashing *c = context;
    if (v->main > c->h->revision) {
        c->h->done = true;
        return false;
    }
    if (c->budget == 0) {
        c->h->next_main = v->main;
        c->h->next_sub = v->sub;
        c->stopped = true;
        return false;
    }
    c->budget--;
    if (counts(c, v, value)) {
        c->h->sum = sum_row(c->h->sum, v, value);
    }
    return true;
}

enum nb_status mvcc_hash_step(struct mvcc *m, struct mvcc_hash *h, size_t row_count)
{
    if (h->done) {
        return NB_OK;
    }
    if (h->compact_revision != m->compact) {
        if (h->revision < m->compact) {
            return NB_COMPACTED;
        }
        start(m, h->revision, h);
    }
    struct hashing c = {.m = m, .h = h, .budget = row_count == 0 ? 1 : row_count};
    enum nb_status status =
        mvcc_rows_scan(&m->rows, h->next_main, (uint32_t)h->next_sub, visit_row, &c);
    if (status == NB_OK && !c.stopped) {
        h->done = true;
    }
    return status;
}

enum nb_status mvcc_hash_kv(struct mvcc *m, int64_t revision, struct mvcc_hash *out)
{
    struct mvcc_hash h;
    enum nb_status status = mvcc_hash_begin(m, revision, &h);
    if (status == NB_OK) {
        status = mvcc_hash_step(m, &h, SIZE_MAX);
    }
    if (status == NB_OK) {
        nb_assert(h.done);
        *out = h;
    }
    return status;
}

static bool visit_any_row(void *context, const struct mvcc_version *v, struct nb_bytes value)
{
    uint32_t *sum = context;
    *sum = sum_row(*sum, v, value);
    return true;
}

enum nb_status mvcc_hash_all(struct mvcc *m, uint32_t *out_sum)
{
    uint32_t sum = sum_begin();
    enum nb_status status = mvcc_rows_scan(&m->rows, 0, 0, visit_any_row, &sum);
    if (status == NB_OK) {
        *out_sum = sum;
    }
    return status;
}
