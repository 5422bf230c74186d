/*
 * The checks at the door. [etcd v3rpc/key.go; surface 2.4]
 *
 * The duplicate check works on sets of keys: a list of operations has a set of keys that it puts
 * (each only once) and a set of intervals that it deletes. Both are sorted arrays in the scratch
 * arena; intervals are merged where they touch, since only "does it hold this key" is ever asked.
 */
#include "mvcc/request.h"

#include <stdlib.h>

enum { SCRATCH_BYTES_MAX = 64 * 1024 * 1024 };

enum nb_status mvcc_range_check(const struct mvcc_range_request *r)
{
    if (r->key.len == 0) {
        return NB_EMPTY_KEY;
    }
    if (r->sort_order < MVCC_SORT_NONE || r->sort_order > MVCC_SORT_DESCEND ||
        r->sort_target < MVCC_BY_KEY || r->sort_target > MVCC_BY_VALUE) {
        return NB_INVALID_SORT;
    }
    return NB_OK;
}

enum nb_status mvcc_put_check(const struct mvcc_put_request *r)
{
    if (r->key.len == 0) {
        return NB_EMPTY_KEY;
    }
    if (r->ignore_value && r->value.len != 0) {
        return NB_VALUE_PROVIDED;
    }
    if (r->ignore_lease && r->lease != 0) {
        return NB_LEASE_PROVIDED;
    }
    return NB_OK;
}

enum nb_status mvcc_delete_check(const struct mvcc_delete_request *r)
{
    return r->key.len == 0 ? NB_EMPTY_KEY : NB_OK;
}

enum nb_status mvcc_stream_check(const struct mvcc_range_request *r)
{
    enum nb_status status = mvcc_range_check(r);
    if (status != NB_OK) {
        return status;
    }
    /* Without an order the target counts for nothing here, unlike in Range. */
    bool by_key = r->sort_order == MVCC_SORT_NONE ||
                  (r->sort_target == MVCC_BY_KEY && r->sort_order == MVCC_SORT_ASCEND);
    if (!by_key) {
        return NB_STREAM_SORT;
    }
    if (r->min_mod_revision != 0 || r->max_mod_revision != 0 || r->min_create_revision != 0 ||
        r->max_create_revision != 0) {
        return NB_STREAM_FILTER;
    }
    return NB_OK;
}

static enum nb_status check_shape(const struct mvcc_txn_request *t, size_t ops_max);

static enum nb_status check_ops(const struct mvcc_ops *ops, size_t ops_max)
{
    for (size_t i = 0; i < ops->count; i++) {
        const struct mvcc_op *op = &ops->items[i];
        enum nb_status status = NB_OK;
        switch (op->kind) {
        case MVCC_OP_NONE:
            return NB_KEY_NOT_FOUND;
        case MVCC_OP_RANGE:
            status = mvcc_range_check(op->as.range);
            break;
        case MVCC_OP_PUT:
            status = mvcc_put_check(op->as.put);
            break;
        case MVCC_OP_DELETE:
            status = mvcc_delete_check(op->as.delete);
            break;
        case MVCC_OP_TXN:
            status = check_shape(op->as.txn, ops_max);
            break;
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return NB_OK;
}

/* A nested txn may use what its parent's longest list leaves of the limit. */
static enum nb_status check_shape(const struct mvcc_txn_request *t, size_t ops_max)
{
    size_t longest = t->compare_count;
    longest = longest < t->success.count ? t->success.count : longest;
    longest = longest < t->failure.count ? t->failure.count : longest;
    if (longest > ops_max) {
        return NB_TOO_MANY_OPS;
    }
    for (size_t i = 0; i < t->compare_count; i++) {
        if (t->compares[i].key.len == 0) {
            return NB_EMPTY_KEY;
        }
    }
    enum nb_status status = check_ops(&t->success, ops_max - longest);
    if (status == NB_OK) {
        status = check_ops(&t->failure, ops_max - longest);
    }
    return status;
}

/* Sorted, without repetition. */
struct key_set {
    struct nb_bytes *keys;
    size_t count;
};

/* A half-open interval; a single key k is [k, k + "\0"), told by `single`. */
struct span {
    struct nb_bytes first, end;
    bool single; /* end is just behind first */
};

/* Sorted by first; no two of them overlap. */
struct span_set {
    struct span *spans;
    size_t count;
};

struct touched {
    struct key_set puts;
    struct span_set deletes;
};

static int compare_keys(const void *a, const void *b)
{
    const struct nb_bytes *x = (const struct nb_bytes *)a;
    const struct nb_bytes *y = (const struct nb_bytes *)b;
    return nb_bytes_compare(*x, *y);
}

static int compare_spans(const void *a, const void *b)
{
    const struct span *x = (const struct span *)a;
    const struct span *y = (const struct span *)b;
    return nb_bytes_compare(x->first, y->first);
}

static bool span_holds(const struct span *s, struct nb_bytes key)
{
    int order = nb_bytes_compare(s->first, key);
    return s->single ? order == 0 : order <= 0 && nb_bytes_compare(key, s->end) < 0;
}

/* Whether a's end is at or behind b's. */
static bool ends_later(const struct span *a, const struct span *b)
{
    if (a->single && b->single) {
        return nb_bytes_compare(a->first, b->first) >= 0;
    }
    if (a->single) { /* behind a->first is at or behind b->end: a->first >= b->end */
        return nb_bytes_compare(a->first, b->end) >= 0;
    }
    if (b->single) {
        return nb_bytes_compare(a->end, b->first) > 0;
    }
    return nb_bytes_compare(a->end, b->end) >= 0;
}

/* Takes `s`, whose first is not before that of any span held, into the set. */
static void span_set_push(struct span_set *set, const struct span *s)
{
    struct span *last = set->count == 0 ? NULL : &set->spans[set->count - 1];
    if (last == NULL || !span_holds(last, s->first)) {
        set->spans[set->count++] = *s;
    } else if (!ends_later(last, s)) {
        nb_assert(!s->single); /* a single key that `last` holds does not end behind it */
        last->end = s->end;    /* overlapping: one span from the first on */
        last->single = false;
    }
}

static struct span_set span_set_join(const struct span_set *a, const struct span_set *b,
                                     struct nb_arena *scratch)
{
    if (a->count == 0 || b->count == 0) {
        return a->count == 0 ? *b : *a;
    }
    struct span_set both = {
        .spans = nb_arena_alloc(scratch, (a->count + b->count) * sizeof *both.spans)};
    size_t i = 0;
    size_t k = 0;
    while (i < a->count || k < b->count) {
        bool from_a =
            k == b->count || (i < a->count && compare_spans(&a->spans[i], &b->spans[k]) <= 0);
        span_set_push(&both, from_a ? &a->spans[i++] : &b->spans[k++]);
    }
    return both;
}

static bool span_set_holds(const struct span_set *set, struct nb_bytes key)
{
    size_t low = 0;
    size_t high = set->count; /* spans before low begin at or before the key */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (nb_bytes_compare(set->spans[middle].first, key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low != 0 && span_holds(&set->spans[low - 1], key);
}

/* False when a key is in both. With `exclusive` off that is fine. */
static bool key_set_join(struct key_set *a, const struct key_set *b, bool exclusive,
                         struct nb_arena *scratch)
{
    if (b->count == 0) {
        return true;
    }
    struct key_set both = {.keys =
                               nb_arena_alloc(scratch, (a->count + b->count) * sizeof *both.keys)};
    size_t i = 0;
    size_t k = 0;
    while (i < a->count || k < b->count) {
        int order = i == a->count   ? 1
                    : k == b->count ? -1
                                    : nb_bytes_compare(a->keys[i], b->keys[k]);
        if (order == 0 && exclusive) {
            return false;
        }
        both.keys[both.count++] = order <= 0 ? a->keys[i] : b->keys[k];
        i += order <= 0;
        k += order >= 0;
    }
    *a = both;
    return true;
}

static bool any_held(const struct key_set *keys, const struct span_set *spans)
{
    for (size_t i = 0; spans->count != 0 && i < keys->count; i++) {
        if (span_set_holds(spans, keys->keys[i])) {
            return true;
        }
    }
    return false;
}

/* The intervals that this list itself deletes. One that ends before it begins holds nothing; and
 * one with the end "\0" is taken at its word by etcd, so it too is empty here. */
static struct span_set own_deletes(const struct mvcc_ops *ops, struct nb_arena *scratch)
{
    struct span_set set = {.spans = nb_arena_alloc(scratch, ops->count * sizeof *set.spans)};
    struct span *raw = nb_arena_alloc(scratch, ops->count * sizeof *raw);
    size_t count = 0;
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind != MVCC_OP_DELETE) {
            continue;
        }
        const struct mvcc_delete_request *d = ops->items[i].as.delete;
        struct span s = {.first = d->key, .end = d->range_end, .single = d->range_end.len == 0};
        if (s.single || nb_bytes_compare(s.first, s.end) < 0) {
            raw[count++] = s;
        }
    }
    if (count != 0) {
        qsort(raw, count, sizeof *raw, compare_spans);
    }
    for (size_t i = 0; i < count; i++) {
        span_set_push(&set, &raw[i]);
    }
    return set;
}

/* False when this list itself puts a key twice. */
static bool own_puts(const struct mvcc_ops *ops, struct nb_arena *scratch, struct key_set *out)
{
    struct key_set set = {.keys = nb_arena_alloc(scratch, ops->count * sizeof *set.keys)};
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_PUT) {
            set.keys[set.count++] = ops->items[i].as.put->key;
        }
    }
    if (set.count != 0) {
        qsort(set.keys, set.count, sizeof *set.keys, compare_keys);
    }
    for (size_t i = 1; i < set.count; i++) {
        if (nb_bytes_equal(set.keys[i - 1], set.keys[i])) {
            return false;
        }
    }
    *out = set;
    return true;
}

static enum nb_status no_duplicates(const struct mvcc_ops *ops, struct nb_arena *scratch,
                                    struct touched *out);

/* One nested txn: its branches exclude each other, so both may put the same key. What it deletes
 * counts for the siblings behind it only. Joining costs memory for each nested txn: one request of
 * the largest size could ask for more than a hundred megabytes, and is refused before that. */
static enum nb_status take_nested(const struct mvcc_txn_request *t, struct nb_arena *scratch,
                                  struct touched *all)
{
    struct touched success;
    struct touched failure;
    enum nb_status status = no_duplicates(&t->success, scratch, &success);
    if (status == NB_OK) {
        status = no_duplicates(&t->failure, scratch, &failure);
    }
    if (status != NB_OK) {
        return status;
    }
    (void)key_set_join(&success.puts, &failure.puts, false, scratch);
    if (any_held(&success.puts, &all->deletes) ||
        !key_set_join(&all->puts, &success.puts, true, scratch)) {
        return NB_DUPLICATE_KEY;
    }
    all->deletes = span_set_join(&all->deletes, &success.deletes, scratch);
    all->deletes = span_set_join(&all->deletes, &failure.deletes, scratch);
    return scratch->total > SCRATCH_BYTES_MAX ? NB_TOO_MANY_OPS : NB_OK;
}

/* Calls itself through nested txns, whose depth the decoder has bounded. */
static enum nb_status no_duplicates(const struct mvcc_ops *ops, struct nb_arena *scratch,
                                    struct touched *out)
{
    struct touched all = {.deletes = own_deletes(ops, scratch)};
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_TXN) {
            enum nb_status status = take_nested(ops->items[i].as.txn, scratch, &all);
            if (status != NB_OK) {
                return status;
            }
        }
    }
    struct key_set own;
    if (!own_puts(ops, scratch, &own) || any_held(&own, &all.deletes) ||
        !key_set_join(&all.puts, &own, true, scratch)) {
        return NB_DUPLICATE_KEY;
    }
    *out = all;
    return NB_OK;
}

enum nb_status mvcc_txn_check(const struct mvcc_txn_request *t, uint32_t ops_max,
                              struct nb_arena *scratch)
{
    struct touched unused;
    enum nb_status status = check_shape(t, ops_max);
    if (status == NB_OK) {
        status = no_duplicates(&t->success, scratch, &unused);
    }
    if (status == NB_OK) {
        status = no_duplicates(&t->failure, scratch, &unused);
    }
    return status;
}
