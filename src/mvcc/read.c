/*
 * Reads: ranges of all kinds, chunks of them, history. [surface 2.2]
 *
 * A plain range walks the tree from its first key and places rows into the answer as they lie. One
 * that sorts or filters gathers first. At the newest revision the index alone says what is there
 * and how many; at an older one each key's versions are asked, and create revision and version come
 * from the row.
 */
#include "mvcc/store.h"

#include "base/wire.h"

#include <stdlib.h>
#include <string.h>

enum { STREAM_FIRST_KEYS = 10 };

/* The keys of a range that are alive at a revision, in order. */
struct walk {
    struct mvcc *m;
    struct mvcc_interval keys;
    int64_t revision;
    bool newest;
    bool started;
    struct mvcc_cursor cursor;
};

static struct walk walk_of(struct mvcc *m, const struct mvcc_interval *keys, int64_t revision)
{
    return (struct walk){
        .m = m, .keys = *keys, .revision = revision, .newest = revision == mvcc_newest(m)};
}

static bool walk_single(struct walk *w, struct mvcc_record **out, struct mvcc_version *out_version)
{
    struct mvcc_record *r = w->started ? NULL : mvcc_index_find(&w->m->index, w->keys.first);
    w->started = true;
    if (r == NULL || !mvcc_record_at(r, w->revision, out_version)) {
        return false;
    }
    *out = r;
    return true;
}

static bool walk_next(struct walk *w, struct mvcc_record **out, struct mvcc_version *out_version)
{
    if (w->keys.single) {
        return walk_single(w, out, out_version);
    }
    if (!w->started) {
        w->cursor = mvcc_tree_seek(&w->m->index.tree, w->keys.first);
        w->started = true;
    }
    for (;;) {
        struct mvcc_record *r =
            w->newest ? mvcc_tree_next_live(&w->cursor) : mvcc_tree_next(&w->cursor);
        if (r == NULL ||
            (!w->keys.open && nb_bytes_compare(mvcc_record_key(r), w->keys.end) >= 0)) {
            w->cursor.leaf = NULL;
            return false;
        }
        if (mvcc_record_at(r, w->revision, out_version)) {
            *out = r;
            return true;
        }
    }
}

/* How many keys the rest of a walk would give. */
static uint64_t walk_count(struct walk *w)
{
    uint64_t count = 0;
    struct mvcc_record *r;
    struct mvcc_version v;
    while (walk_next(w, &r, &v)) {
        count++;
    }
    return count;
}

/* All keys of the range at the revision. */
static uint64_t count_keys(struct mvcc *m, const struct mvcc_interval *keys, int64_t revision)
{
    if (revision == mvcc_newest(m)) {
        return mvcc_index_count(&m->index, keys);
    }
    struct walk w = walk_of(m, keys, revision);
    return walk_count(&w);
}

/* A row that mvcc wrote itself. */
static struct mvcc_kv row_kv(struct mvcc *m, struct mvcc_version v)
{
    struct mvcc_kv kv;
    enum nb_status status = mvcc_kv_decode(mvcc_rows_get(&m->rows, v), &kv);
    nb_assert(status == NB_OK);
    return kv;
}

static void put_key_only(struct nb_buf *body, const struct mvcc_kv *kv)
{
    size_t mark = mvcc_message_begin(body);
    mvcc_kv_encode(body, kv);
    mvcc_message_end(body, mark, 2);
}

/* One `kvs` of a response. keys_only is answered from the index, without the lease, as etcd does.
 */
static void put_row(struct mvcc *m, const struct mvcc_record *r, struct mvcc_version v,
                    bool keys_only, struct nb_buf *body)
{
    if (!keys_only) {
        nb_wire_bytes(body, 2, mvcc_rows_get(&m->rows, v));
        return;
    }
    struct mvcc_kv kv = {.key = mvcc_record_key(r), .mod = v.main};
    if (v.main == r->mod && v.sub == r->mod_sub) {
        kv.create = r->create;
        kv.version = r->version;
    } else {
        struct mvcc_kv stored = row_kv(m, v);
        kv.create = stored.create;
        kv.version = stored.version;
    }
    put_key_only(body, &kv);
}

static void put_tail(struct nb_buf *body, bool more, uint64_t count)
{
    nb_wire_varint_field(body, 3, more);
    nb_wire_varint_field(body, 4, count);
}

enum { ROWS_AT_ONCE = 16, ROWS_OF_A_LARGE_PAGE = 64 };

/* A few of the next rows: their places in memory are asked for before the first of them is read.
 * How many; fewer than `most` at the end of the range only. */
static size_t put_some(struct walk *w, bool keys_only, size_t most, struct nb_buf *body)
{
    struct mvcc_record *records[ROWS_AT_ONCE];
    struct mvcc_version versions[ROWS_AT_ONCE];
    size_t count = 0;
    while (count < most && walk_next(w, &records[count], &versions[count])) {
        count++;
    }
    if (!keys_only) {
        mvcc_rows_foresee(&w->m->rows, versions, count);
    }
    for (size_t i = 0; i < count; i++) {
        put_row(w->m, records[i], versions[i], keys_only, body);
    }
    return count;
}

/* In key order, no filters. */
static void read_page(struct mvcc *m, const struct mvcc_range_request *r, int64_t revision,
                      struct nb_buf *body)
{
    struct mvcc_interval keys = mvcc_interval_of(r->key, r->range_end);
    struct walk w = walk_of(m, &keys, revision);
    uint64_t limit = r->limit > 0 ? (uint64_t)r->limit : UINT64_MAX;
    uint64_t sent = 0;
    for (bool more = true; more && sent < limit;) {
        size_t most = limit - sent < ROWS_AT_ONCE ? (size_t)(limit - sent) : ROWS_AT_ONCE;
        size_t count = put_some(&w, r->keys_only, most, body);
        sent += count;
        more = count == most;
        if (sent == ROWS_OF_A_LARGE_PAGE) {
            mvcc_places_size(&m->rows.places, m->index.tree.count);
        }
    }
    uint64_t count = sent;
    if (sent == limit) {
        count = w.newest ? mvcc_index_count(&m->index, &keys) : sent + walk_count(&w);
    }
    put_tail(body, count > sent, count);
}

/* A key gathered for sorting. */
struct item {
    const struct mvcc_record *record;
    struct mvcc_version at;
    struct mvcc_kv kv; /* value and lease only where they are asked for */
};

struct items {
    struct item *items; /* owned */
    size_t count, capacity;
};

static bool filtered_out(const struct mvcc_range_request *r, const struct mvcc_kv *kv)
{
    return (r->max_mod_revision != 0 && kv->mod > r->max_mod_revision) ||
           (r->min_mod_revision != 0 && kv->mod < r->min_mod_revision) ||
           (r->max_create_revision != 0 && kv->create > r->max_create_revision) ||
           (r->min_create_revision != 0 && kv->create < r->min_create_revision);
}

static bool has_filters(const struct mvcc_range_request *r)
{
    return r->min_mod_revision != 0 || r->max_mod_revision != 0 || r->min_create_revision != 0 ||
           r->max_create_revision != 0;
}

/* What the key is sorted and filtered by. */
static struct mvcc_kv facts_of(struct mvcc *m, const struct mvcc_record *r, struct mvcc_version v,
                               bool with_value)
{
    if (with_value || v.main != r->mod || v.sub != r->mod_sub) {
        return row_kv(m, v);
    }
    return (struct mvcc_kv){
        .key = mvcc_record_key(r), .create = r->create, .mod = r->mod, .version = r->version};
}

/* Gathers at most `most` keys, in key order, and says how many the range has. */
static uint64_t gather(struct mvcc *m, const struct mvcc_range_request *r, int64_t revision,
                       uint64_t most, struct items *out)
{
    struct mvcc_interval keys = mvcc_interval_of(r->key, r->range_end);
    struct walk w = walk_of(m, &keys, revision);
    struct item item;
    uint64_t seen = 0;
    struct mvcc_record *record;
    while (seen < most && walk_next(&w, &record, &item.at)) {
        seen++;
        item.record = record;
        item.kv = facts_of(m, record, item.at, r->sort_target == MVCC_BY_VALUE);
        if (!filtered_out(r, &item.kv)) {
            out->items = nb_grow(out->items, &out->capacity, out->count + 1, sizeof *out->items);
            out->items[out->count++] = item;
        }
    }
    return seen < most ? seen : count_keys(m, &keys, revision);
}

static int order_of_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* Equal ones stay in key order. */
static int by_key(const struct item *a, const struct item *b)
{
    return nb_bytes_compare(mvcc_record_key(a->record), mvcc_record_key(b->record));
}

static int by_version(const void *a, const void *b)
{
    const struct item *x = (const struct item *)a;
    const struct item *y = (const struct item *)b;
    int order = order_of_numbers(x->kv.version, y->kv.version);
    return order != 0 ? order : by_key(x, y);
}

static int by_create(const void *a, const void *b)
{
    const struct item *x = (const struct item *)a;
    const struct item *y = (const struct item *)b;
    int order = order_of_numbers(x->kv.create, y->kv.create);
    return order != 0 ? order : by_key(x, y);
}

static int by_mod(const void *a, const void *b)
{
    const struct item *x = (const struct item *)a;
    const struct item *y = (const struct item *)b;
    int order = order_of_numbers(x->kv.mod, y->kv.mod);
    return order != 0 ? order : by_key(x, y);
}

static int by_value(const void *a, const void *b)
{
    const struct item *x = (const struct item *)a;
    const struct item *y = (const struct item *)b;
    int order = nb_bytes_compare(x->kv.value, y->kv.value);
    return order != 0 ? order : by_key(x, y);
}

static void reverse(struct items *g)
{
    for (size_t i = 0; i < g->count / 2; i++) {
        struct item swap = g->items[i];
        g->items[i] = g->items[g->count - 1 - i];
        g->items[g->count - 1 - i] = swap;
    }
}

static void sort_items(const struct mvcc_range_request *r, struct items *g)
{
    static int (*const orders[])(const void *, const void *) = {
        [MVCC_BY_KEY] = NULL, /* as gathered */
        [MVCC_BY_VERSION] = by_version, [MVCC_BY_CREATE] = by_create,
        [MVCC_BY_MOD] = by_mod,         [MVCC_BY_VALUE] = by_value,
    };
    bool known = r->sort_target >= MVCC_BY_KEY && r->sort_target <= MVCC_BY_VALUE;
    if (known && orders[r->sort_target] != NULL && g->count != 0) {
        qsort(g->items, g->count, sizeof *g->items, orders[r->sort_target]);
    }
    if (r->sort_order == MVCC_SORT_DESCEND) {
        reverse(g);
    }
}

/* keys_only of rows sorted by value: these were read anyhow, and in etcd keep their lease. */
static void put_item(struct mvcc *m, const struct mvcc_range_request *r, const struct item *item,
                     struct nb_buf *body)
{
    if (r->keys_only && r->sort_target == MVCC_BY_VALUE) {
        struct mvcc_kv kv = item->kv;
        kv.value = (struct nb_bytes){0};
        put_key_only(body, &kv);
    } else {
        put_row(m, item->record, item->at, r->keys_only, body);
    }
}

/* With an order or filters of its own. The whole range is read, filtered, sorted and only then cut;
 * but order NONE with a target is sorted after it was cut to one more than the limit, as etcd has
 * it. */
static void read_sorted(struct mvcc *m, const struct mvcc_range_request *r, int64_t revision,
                        struct nb_buf *body)
{
    uint64_t limit = r->limit > 0 ? (uint64_t)r->limit : UINT64_MAX;
    uint64_t most = UINT64_MAX;
    if (r->sort_order == MVCC_SORT_NONE && !has_filters(r) && limit < INT64_MAX) {
        most = limit + 1;
    }
    struct items g = {0};
    uint64_t count = gather(m, r, revision, most, &g);
    sort_items(r, &g);
    for (size_t i = 0; i < g.count && i < limit; i++) {
        put_item(m, r, &g.items[i], body);
    }
    put_tail(body, g.count > limit, count);
    nb_free(g.items);
}

enum nb_status mvcc_read_range(struct mvcc *m, const struct mvcc_range_request *r,
                               struct nb_buf *body)
{
    int64_t newest = mvcc_newest(m);
    int64_t revision = r->revision <= 0 ? newest : r->revision;
    if (revision > newest) {
        return NB_FUTURE_REVISION;
    }
    if (revision < m->compact) {
        return NB_COMPACTED;
    }
    bool key_order = r->sort_target == MVCC_BY_KEY && r->sort_order != MVCC_SORT_DESCEND;
    if (r->count_only) {
        struct mvcc_interval keys = mvcc_interval_of(r->key, r->range_end);
        put_tail(body, false, count_keys(m, &keys, revision));
    } else if (key_order && !has_filters(r)) {
        read_page(m, r, revision, body);
    } else {
        read_sorted(m, r, revision, body);
    }
    return NB_OK;
}

enum nb_status mvcc_range(struct mvcc *m, const struct mvcc_range_request *r, struct nb_buf *body,
                          int64_t *out_revision)
{
    m->stats.range_count++;
    enum nb_status status = mvcc_read_range(m, r, body);
    if (status == NB_OK) {
        *out_revision = m->current;
    }
    return status;
}

bool mvcc_value_at(struct mvcc *m, struct nb_bytes key, int64_t revision, struct nb_buf *out)
{
    struct mvcc_version v;
    if (revision > m->current || revision < m->compact) {
        return false;
    }
    const struct mvcc_record *r = mvcc_index_find(&m->index, key);
    if (r == NULL || !mvcc_record_at(r, revision, &v)) {
        return false;
    }
    nb_buf_append_bytes(out, mvcc_rows_get(&m->rows, v));
    return true;
}

void mvcc_leases_visit(struct mvcc *m, void *context,
                       void (*visit)(void *context, int64_t lease, struct nb_bytes key))
{
    struct mvcc_cursor c = mvcc_tree_seek(&m->index.tree, (struct nb_bytes){0});
    struct mvcc_record *r;
    while ((r = mvcc_tree_next_live(&c)) != NULL) {
        if (r->leased) {
            visit(context, row_kv(m, mvcc_record_newest(r)).lease, mvcc_record_key(r));
        }
    }
}

/* Chunks of a range. */

enum nb_status mvcc_stream_begin(struct mvcc *m, const struct mvcc_range_request *r,
                                 size_t chunk_bytes, struct mvcc_stream *s)
{
    int64_t revision = r->revision <= 0 ? m->current : r->revision;
    if (revision > m->current) {
        return NB_FUTURE_REVISION;
    }
    if (revision < m->compact) {
        return NB_COMPACTED;
    }
    *s = (struct mvcc_stream){.request = *r,
                              .revision = revision,
                              .header_revision = m->current,
                              .chunk_keys = STREAM_FIRST_KEYS,
                              .chunk_bytes = chunk_bytes};
    m->stats.range_count++;
    return NB_OK;
}

/* The keys not sent yet. */
static struct mvcc_interval rest_of(const struct mvcc_stream *s)
{
    struct mvcc_interval keys = mvcc_interval_of(s->request.key, s->request.range_end);
    if (s->started && !keys.single) {
        keys.first = nb_buf_bytes(&s->next);
    }
    return keys;
}

/* Remembers the key behind which the next chunk begins: the least key above the last one sent. */
static void remember(struct mvcc_stream *s, const struct mvcc_record *last)
{
    nb_buf_clear(&s->next);
    nb_buf_append_bytes(&s->next, mvcc_record_key(last));
    nb_buf_append(&s->next, "", 1);
    s->started = true;
}

static void adapt_chunk(struct mvcc_stream *s, size_t bytes)
{
    if (bytes > s->chunk_bytes && s->chunk_keys > 1) {
        s->chunk_keys /= 2;
    } else if (bytes < s->chunk_bytes / 2 && s->chunk_keys < UINT32_MAX / 2) {
        s->chunk_keys *= 2;
    }
}

enum nb_status mvcc_stream_next(struct mvcc *m, struct mvcc_stream *s, struct nb_buf *body)
{
    nb_assert(!s->finished);
    if (s->revision < m->compact) {
        return NB_COMPACTED;
    }
    struct mvcc_interval keys = rest_of(s);
    if (s->request.count_only) {
        put_tail(body, false, count_keys(m, &keys, s->revision));
        s->finished = true;
        return NB_OK;
    }
    size_t before = body->len;
    uint64_t limit = s->request.limit > 0 ? (uint64_t)s->request.limit : UINT64_MAX;
    uint64_t most = limit - (uint64_t)s->sent;
    most = most > s->chunk_keys ? s->chunk_keys : most;
    struct walk w = walk_of(m, &keys, s->revision);
    struct mvcc_record *r;
    struct mvcc_version v;
    uint64_t taken = 0;
    while (taken < most && body->len - before < s->chunk_bytes && walk_next(&w, &r, &v)) {
        put_row(m, r, v, s->request.keys_only, body);
        remember(s, r);
        taken++;
    }
    s->sent += (int64_t)taken;
    struct mvcc_interval rest = rest_of(s);
    struct walk ahead = walk_of(m, &rest, s->revision);
    bool any_ahead = !keys.single && walk_next(&ahead, &r, &v);
    if (!any_ahead || (uint64_t)s->sent == limit) {
        uint64_t left = any_ahead ? count_keys(m, &rest, s->revision) : 0;
        put_tail(body, left != 0, (uint64_t)s->sent + left);
        s->finished = true;
    }
    adapt_chunk(s, body->len - before);
    return NB_OK;
}

void mvcc_stream_deinit(struct mvcc_stream *s)
{
    nb_buf_deinit(&s->next);
    *s = (struct mvcc_stream){0};
}

/* History. */

struct history_visit {
    struct mvcc *m;
    struct mvcc_history *page;
    size_t most;
    bool cut; /* stopped at next_main for want of room */
};

static bool visit_history(void *context, const struct mvcc_version *v, struct nb_bytes value)
{
    struct history_visit *h = context;
    struct mvcc_history *page = h->page;
    struct mvcc_kv kv;
    enum nb_status status = mvcc_kv_decode(value, &kv);
    nb_assert(status == NB_OK);
    bool new_main = page->count == 0 || page->items[page->count - 1].main != v->main;
    if (new_main && page->count >= h->most && page->count != 0) {
        page->next_main = v->main;
        h->cut = true;
        return false;
    }
    if (v->main <= h->m->compact && !mvcc_row_kept(h->m, v, kv.key, h->m->compact)) {
        return true; /* there or not as the removal has come; so never shown */
    }
    page->items = nb_grow(page->items, &page->capacity, page->count + 1, sizeof *page->items);
    /* Places in `bytes`, which may move yet: made addresses when all is read. */
    size_t key_at = (size_t)(kv.key.len == 0 ? 0 : kv.key.data - value.data);
    page->items[page->count++] =
        (struct mvcc_history_item){.main = v->main,
                                   .sub = v->sub,
                                   .deleted = v->tombstone,
                                   .key = {.data = NULL, .len = kv.key.len},
                                   .kv = {.data = NULL, .len = value.len}};
    nb_buf_append(&page->bytes, &key_at, sizeof key_at);
    nb_buf_append_bytes(&page->bytes, value);
    return true;
}

enum nb_status mvcc_history_read(struct mvcc *m, int64_t first, size_t change_count_max,
                                 struct mvcc_history *page)
{
    if (first < m->compact) {
        return NB_COMPACTED;
    }
    page->count = 0;
    nb_buf_clear(&page->bytes);
    struct history_visit h = {.m = m, .page = page, .most = change_count_max};
    enum nb_status status = mvcc_rows_scan(&m->rows, first < 0 ? 0 : first, 0, visit_history, &h);
    if (status != NB_OK) {
        return status;
    }
    if (!h.cut) {
        page->next_main = m->current + 1;
    }
    size_t at = 0;
    for (size_t i = 0; i < page->count; i++) {
        size_t key_at;
        memcpy(&key_at, page->bytes.data + at, sizeof key_at);
        at += sizeof key_at;
        page->items[i].kv.data = page->bytes.data + at;
        page->items[i].key.data = page->bytes.data + at + key_at;
        at += page->items[i].kv.len;
    }
    return NB_OK;
}

void mvcc_history_deinit(struct mvcc_history *page)
{
    nb_free(page->items);
    nb_buf_deinit(&page->bytes);
    *page = (struct mvcc_history){0};
}
