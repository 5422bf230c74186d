/*
 * HashKV and Hash. [surface 2.10; hazard C05]
 *
 * Which rows count for HashKV depends on whether any key is alive at the revision. At the current
 * one the index knows; at an older one the rows are gone through for a first such key, which is
 * mostly the first row's; that too goes in steps.
 */
#include "mvcc/store.h"

#include "base/checksum.h"

#include <string.h>

enum { STEP_SIZE_BYTES_MAX = 1 << 20 }; /* of values in a step, however many rows it may take */

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

static void start(const struct mvcc *m, int64_t revision, bool all, struct mvcc_hash *out)
{
    *out = (struct mvcc_hash){.revision = revision,
                              .compact_revision = m->compact,
                              .removed_rows = m->stats.compact_row_count,
                              .sum = sum_begin(),
                              .all = all,
                              .looking = !all && revision != m->current,
                              .any_alive = revision == m->current && m->index.tree.live != 0};
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
    start(m, revision, false, out);
    out->done = revision < 0; /* etcd takes it for the time before the first row */
    return NB_OK;
}

void mvcc_hash_begin_all(const struct mvcc *m, struct mvcc_hash *out)
{
    start(m, m->current, true, out);
}

struct hashing {
    const struct mvcc *m;
    struct mvcc_hash *h;
    size_t row_count; /* that may still be taken */
    size_t bytes;     /* taken */
    bool stopped;     /* with rows left */
};

static struct nb_bytes key_of(struct nb_bytes value)
{
    struct mvcc_kv kv;
    enum nb_status status = mvcc_kv_decode(value, &kv);
    nb_assert(status == NB_OK);
    return kv.key;
}

/*
 * Whether a row up to the compact revision counts. With keys alive at the hashed revision: only
 * their last rows. With none etcd takes whatever is there; what is there once the removal is over
 * is what compaction keeps, so that is taken here at any time.
 */
static bool counts(const struct hashing *c, const struct mvcc_version *v, struct nb_bytes value)
{
    if (c->h->all || v->main > c->h->compact_revision) {
        return true;
    }
    if (v->tombstone) { /* before the compact revision it is superfluous, at it it is left out */
        return false;
    }
    int64_t at = c->h->any_alive ? c->h->revision : c->h->compact_revision;
    return mvcc_row_kept(c->m, v, key_of(value), at);
}

/* Whether the row's key is alive at the hashed revision. */
static bool is_alive(const struct hashing *c, struct nb_bytes value)
{
    struct mvcc_version v;
    const struct mvcc_record *r = mvcc_index_find(&c->m->index, key_of(value));
    return r != NULL && mvcc_record_at(r, c->h->revision, &v);
}

/* Whether the step goes on with this row; if not, the next one begins with it. */
static bool may_take(struct hashing *c, const struct mvcc_version *v, struct nb_bytes value)
{
    if (c->row_count == 0 || c->bytes > STEP_SIZE_BYTES_MAX) {
        c->h->next_main = v->main;
        c->h->next_sub = v->sub;
        c->stopped = true;
        return false;
    }
    c->row_count--;
    c->bytes += value.len;
    return true;
}

static bool visit_row(void *context, const struct mvcc_version *v, struct nb_bytes value)
{
    struct hashing *c = context;
    if (v->main > c->h->revision || !may_take(c, v, value)) {
        return false;
    }
    if (c->h->looking) {
        c->h->any_alive = is_alive(c, value);
        return !c->h->any_alive;
    }
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
    if (h->all && h->removed_rows != m->stats.compact_row_count) {
        mvcc_hash_begin_all(m, h);
    } else if (!h->all && h->compact_revision != m->compact) {
        if (h->revision < m->compact) {
            return NB_COMPACTED;
        }
        start(m, h->revision, false, h);
    }
    struct hashing c = {.m = m, .h = h, .row_count = row_count == 0 ? 1 : row_count};
    enum nb_status status =
        mvcc_rows_scan(&m->rows, h->next_main, (uint32_t)h->next_sub, visit_row, &c);
    if (status != NB_OK || c.stopped) {
        return status;
    }
    h->done = !h->looking;
    h->looking = false;
    h->next_main = 0;
    h->next_sub = 0;
    return NB_OK;
}

enum nb_status mvcc_hash_kv(struct mvcc *m, int64_t revision, struct mvcc_hash *out)
{
    struct mvcc_hash h;
    enum nb_status status = mvcc_hash_begin(m, revision, &h);
    while (status == NB_OK && !h.done) {
        status = mvcc_hash_step(m, &h, SIZE_MAX);
    }
    if (status == NB_OK) {
        *out = h;
    }
    return status;
}
