/*
 * Compaction. [surface 2.5]
 *
 * Logically it is one number. The removal that follows walks the index, not the rows: each key's
 * older versions say which rows it no longer needs. It goes from key to key in their order, a few
 * at a time, and remembers only the key to go on with; after a restart it begins again, which gives
 * the same rows in the end, since what is superfluous depends on the key's versions and the compact
 * revision alone [hazard C02].
 */
#include "mvcc/store.h"

static void restart(struct mvcc *m)
{
    m->removing = true;
    m->remove_begun = false;
}

enum nb_status mvcc_compact(struct mvcc *m, int64_t revision)
{
    if (revision <= m->compact) {
        return NB_COMPACTED;
    }
    if (revision > m->current) {
        return NB_FUTURE_REVISION;
    }
    m->compact = revision;
    mvcc_rows_mark(&m->rows, MVCC_MARK_COMPACT, revision);
    restart(m); /* a removal under way would leave what only the new revision makes superfluous */
    return NB_OK;
}

bool mvcc_compact_pending(const struct mvcc *m)
{
    return m->removing;
}

/* At most ROWS_MAX rows of one key at a time: a key may have a long history. */
enum { ROWS_MAX = 4096 };

static void remember(struct mvcc *m, const struct mvcc_record *next)
{
    nb_buf_clear(&m->remove_next);
    nb_buf_append_bytes(&m->remove_next, mvcc_record_key(next));
    m->remove_begun = true;
}

/* Drops rows of one key. False when there are more of them. */
static bool trim(struct mvcc *m, struct mvcc_record *r, size_t *budget)
{
    m->dropped.count = 0;
    bool whole = mvcc_index_trim(&m->index, r, m->compact, ROWS_MAX, &m->dropped);
    for (size_t i = 0; i < m->dropped.count; i++) {
        mvcc_rows_drop(&m->rows, m->dropped.items[i]); /* oldest first [M5] */
    }
    m->stats.compact_row_count += m->dropped.count;
    *budget = *budget > m->dropped.count ? *budget - m->dropped.count : 0;
    return whole;
}

/* Whether a compaction at the present revision has anything to take from the record. */
static bool superfluous(const struct mvcc *m, const struct mvcc_record *r)
{
    return (r->older != NULL && r->older->versions[0].main <= m->compact) ||
           (r->dead && r->mod < m->compact);
}

bool mvcc_compact_step(struct mvcc *m, size_t key_count)
{
    if (!m->removing) {
        return true;
    }
    struct nb_bytes from = m->remove_begun ? nb_buf_bytes(&m->remove_next) : (struct nb_bytes){0};
    struct mvcc_cursor c = mvcc_tree_seek(&m->index.tree, from);
    struct mvcc_record *r = mvcc_tree_next(&c);
    size_t budget = key_count == 0 ? 1 : key_count;
    while (r != NULL) {
        if (budget == 0) {
            remember(m, r);
            return false;
        }
        budget--;
        m->stats.compact_key_count++;
        if (!superfluous(m, r)) {
            r = mvcc_tree_next(&c);
            continue;
        }
        /* The tree may change under the cursor: find the place again by key. */
        remember(m, r);
        if (trim(m, r, &budget)) {
            nb_buf_append(&m->remove_next, "", 1); /* the least key above this one */
        }
        c = mvcc_tree_seek(&m->index.tree, nb_buf_bytes(&m->remove_next));
        r = mvcc_tree_next(&c);
    }
    m->removing = false;
    m->remove_begun = false;
    mvcc_rows_mark(&m->rows, MVCC_MARK_REMOVED, m->compact);
    return true;
}

bool mvcc_row_kept(const struct mvcc *m, const struct mvcc_version *v, struct nb_bytes key,
                   int64_t revision)
{
    struct mvcc_version last;
    const struct mvcc_record *r = mvcc_index_find(&m->index, key);
    if (r == NULL || !mvcc_record_last(r, revision, &last)) {
        return false;
    }
    return last.main == v->main && last.sub == v->sub && (!last.tombstone || last.main == revision);
}
