#include "mvcc/index.h"

#include "mvcc/sort.h"

#include <string.h>

/* How many of older[] are at or before the revision. */
static uint32_t older_upto(const struct mvcc_record *r, int64_t revision)
{
    uint32_t low = 0; /* versions before low are */
    uint32_t high = r->older == NULL ? 0 : r->older->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (r->older->versions[middle].main <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool mvcc_record_last(const struct mvcc_record *r, int64_t revision, struct mvcc_version *out)
{
    if (r->mod <= revision) {
        *out = mvcc_record_newest(r);
        return true;
    }
    uint32_t upto = older_upto(r, revision);
    if (upto == 0) {
        return false;
    }
    *out = r->older->versions[upto - 1];
    return true;
}

bool mvcc_record_at(const struct mvcc_record *r, int64_t revision, struct mvcc_version *out)
{
    struct mvcc_version v;
    if (!mvcc_record_last(r, revision, &v) || v.tombstone) {
        return false;
    }
    *out = v;
    return true;
}

void mvcc_index_init(struct mvcc_index *x, uint64_t seed)
{
    *x = (struct mvcc_index){0};
    mvcc_table_init(&x->table, seed);
    mvcc_tree_init(&x->tree);
}

static size_t record_size(size_t key_len)
{
    return sizeof(struct mvcc_record) + key_len;
}

static size_t older_size(uint32_t capacity)
{
    return sizeof(struct mvcc_older) + capacity * sizeof(struct mvcc_version);
}

static void older_free(struct mvcc_index *x, struct mvcc_record *r)
{
    if (r->older != NULL) {
        mvcc_slab_free(&x->slab, r->older, older_size(r->older->capacity));
        r->older = NULL;
    }
}

static void record_free(struct mvcc_index *x, struct mvcc_record *r)
{
    older_free(x, r);
    mvcc_slab_free(&x->slab, r, record_size(r->key_len));
}

void mvcc_index_deinit(struct mvcc_index *x)
{
    for (size_t i = 0; i < x->loading_count; i++) {
        record_free(x, x->loading[i].record);
    }
    nb_free(x->loading);
    struct mvcc_cursor c = mvcc_tree_seek(&x->tree, (struct nb_bytes){0});
    for (struct mvcc_record *r = mvcc_tree_next(&c); r != NULL; r = mvcc_tree_next(&c)) {
        record_free(x, r); /* the nodes point at it still, but are not asked again */
    }
    mvcc_tree_deinit(&x->tree);
    mvcc_table_deinit(&x->table);
    mvcc_slab_deinit(&x->slab);
    *x = (struct mvcc_index){0};
}

struct mvcc_record *mvcc_index_find(const struct mvcc_index *x, struct nb_bytes key)
{
    return mvcc_table_find(&x->table, mvcc_table_hash(&x->table, key), key);
}

enum { FORESEEN_AT_ONCE = MVCC_TREE_FORESEEN_MAX };

/* Each step waits for what the one before has asked for: the slot, the record, its older versions;
 * of a new key, its way down the tree. */
static void foresee_some(const struct mvcc_index *x, const struct nb_bytes *keys, size_t count)
{
    uint64_t hashes[FORESEEN_AT_ONCE];
    const struct mvcc_record *records[FORESEEN_AT_ONCE];
    struct nb_bytes fresh[FORESEEN_AT_ONCE];
    size_t fresh_count = 0;
    for (size_t i = 0; i < count; i++) {
        hashes[i] = mvcc_table_hash(&x->table, keys[i]);
        mvcc_table_fetch_slot(&x->table, hashes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        records[i] = mvcc_table_fetch_record(&x->table, hashes[i]);
        if (records[i] == NULL) {
            fresh[fresh_count++] = keys[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (records[i] != NULL && records[i]->older != NULL) {
            __builtin_prefetch(records[i]->older);
        }
    }
    mvcc_tree_foresee(&x->tree, fresh, fresh_count);
}

void mvcc_index_foresee(const struct mvcc_index *x, const struct nb_bytes *keys, size_t count)
{
    for (size_t i = 0; i < count; i += FORESEEN_AT_ONCE) {
        size_t left = count - i;
        foresee_some(x, keys + i, left < FORESEEN_AT_ONCE ? left : FORESEEN_AT_ONCE);
    }
}

/* Another array of that capacity with the same versions. */
static void older_resize(struct mvcc_index *x, struct mvcc_record *r, uint32_t capacity)
{
    struct mvcc_older *bigger = mvcc_slab_alloc(&x->slab, older_size(capacity));
    bigger->count = 0;
    bigger->capacity = capacity;
    if (r->older != NULL) {
        nb_assert(r->older->count <= capacity);
        bigger->count = r->older->count;
        memcpy(bigger->versions, r->older->versions, bigger->count * sizeof *bigger->versions);
        older_free(x, r);
    }
    r->older = bigger;
}

/* The newest version becomes an older one; the caller sets the new one. */
static void push_newest(struct mvcc_index *x, struct mvcc_record *r)
{
    if (r->older == NULL || r->older->count == r->older->capacity) {
        /* 1, 3, 7, ...: with the head of 8 bytes these fit the slab's sizes. */
        older_resize(x, r, r->older == NULL ? 1 : r->older->capacity * 2 + 1);
    }
    r->older->versions[r->older->count++] = mvcc_record_newest(r);
}

static void set_newest(struct mvcc_record *r, int64_t main, uint32_t sub)
{
    nb_assert(main > r->mod || (main == r->mod && sub > r->mod_sub)); /* K1 */
    r->mod = main;
    r->mod_sub = sub;
}

static struct mvcc_record *record_create(struct mvcc_index *x, struct nb_bytes key)
{
    nb_assert(key.len < (UINT32_C(1) << 30));
    struct mvcc_record *r = mvcc_slab_alloc(&x->slab, record_size(key.len));
    memset(r, 0, sizeof *r);
    r->key_len = (uint32_t)key.len & 0x3fffffff;
    if (key.len != 0) {
        memcpy(r->key, key.data, key.len);
    }
    return r;
}

void mvcc_index_renew(struct mvcc_index *x, struct mvcc_record *r, int64_t main, uint32_t sub,
                      bool leased)
{
    mvcc_table_tidy(&x->table);
    push_newest(x, r);
    set_newest(r, main, sub);
    if (r->dead) {
        r->dead = 0;
        r->create = main;
        mvcc_tree_set_live(&x->tree, r, true);
    }
    r->version++;
    r->leased = leased;
}

struct mvcc_record *mvcc_index_put(struct mvcc_index *x, struct nb_bytes key, int64_t main,
                                   uint32_t sub, bool leased)
{
    uint64_t hash = mvcc_table_hash(&x->table, key);
    struct mvcc_record *r = mvcc_table_find(&x->table, hash, key);
    if (r != NULL) {
        mvcc_index_renew(x, r, main, sub, leased);
        return r;
    }
    r = record_create(x, key);
    r->mod = main;
    r->mod_sub = sub;
    r->create = main;
    r->version = 1;
    r->leased = leased;
    mvcc_table_insert(&x->table, hash, r);
    mvcc_tree_insert(&x->tree, r);
    return r;
}

void mvcc_index_delete(struct mvcc_index *x, struct mvcc_record *r, int64_t main, uint32_t sub)
{
    nb_assert(!r->dead);
    push_newest(x, r);
    set_newest(r, main, sub);
    r->dead = 1;
    r->leased = 0;
    r->create = 0;
    r->version = 0;
    mvcc_tree_set_live(&x->tree, r, false);
}

uint64_t mvcc_index_count(const struct mvcc_index *x, const struct mvcc_interval *keys)
{
    if (keys->single) {
        const struct mvcc_record *r = mvcc_index_find(x, keys->first);
        return r != NULL && !r->dead;
    }
    uint64_t before_end = keys->open ? x->tree.live : mvcc_tree_rank(&x->tree, keys->end);
    uint64_t before_first = mvcc_tree_rank(&x->tree, keys->first);
    return before_end > before_first ? before_end - before_first : 0;
}

static void drop(struct mvcc_dropped *dropped, struct mvcc_version v)
{
    dropped->items =
        nb_grow(dropped->items, &dropped->capacity, dropped->count + 1, sizeof *dropped->items);
    dropped->items[dropped->count++] = v;
}

/* How many of older[] are not needed behind a compaction at `revision`. */
static uint32_t needless_older(const struct mvcc_record *r, int64_t revision)
{
    uint32_t upto = older_upto(r, revision);
    if (upto == 0 || r->mod <= revision) {
        return upto; /* the newest is the last up to it */
    }
    const struct mvcc_version *last = &r->older->versions[upto - 1];
    return last->tombstone && last->main < revision ? upto : upto - 1;
}

static void forget_older(struct mvcc_index *x, struct mvcc_record *r, uint32_t count)
{
    struct mvcc_older *o = r->older;
    o->count -= count;
    if (o->count == 0) {
        older_free(x, r);
        return;
    }
    memmove(o->versions, o->versions + count, o->count * sizeof *o->versions);
    if (o->count <= o->capacity / 4) {
        older_resize(x, r, o->count * 2 + 1);
    }
}

bool mvcc_index_trim(struct mvcc_index *x, struct mvcc_record *r, int64_t revision, uint32_t most,
                     struct mvcc_dropped *dropped)
{
    uint32_t needless = needless_older(r, revision);
    bool cut = needless > most;
    needless = cut ? most : needless;
    for (uint32_t i = 0; i < needless; i++) {
        drop(dropped, r->older->versions[i]);
    }
    if (needless != 0) {
        forget_older(x, r, needless);
    }
    if (cut || !r->dead || r->mod >= revision) {
        return !cut;
    }
    nb_assert(r->older == NULL);
    drop(dropped, mvcc_record_newest(r));
    mvcc_tree_remove(&x->tree, r);
    mvcc_table_remove(&x->table, mvcc_table_hash(&x->table, mvcc_record_key(r)), r);
    record_free(x, r);
    return true;
}

bool mvcc_index_load(struct mvcc_index *x, const struct mvcc_row *row)
{
    uint64_t hash = mvcc_table_hash(&x->table, row->key);
    struct mvcc_record *r = mvcc_table_find(&x->table, hash, row->key);
    if (r == NULL) {
        r = record_create(x, row->key);
        r->dead = 1; /* not yet put */
        if (mvcc_table_full(&x->table)) {
            mvcc_table_widen(&x->table, x->loading, x->loading_count);
        }
        mvcc_table_insert(&x->table, hash, r);
        x->loading =
            nb_grow(x->loading, &x->loading_capacity, x->loading_count + 1, sizeof *x->loading);
        x->loading[x->loading_count++] = (struct mvcc_hashed){.hash = hash, .record = r};
    } else {
        if (row->main < r->mod || (row->main == r->mod && row->sub <= r->mod_sub)) {
            return false;
        }
        push_newest(x, r);
    }
    r->mod = row->main;
    r->mod_sub = row->sub;
    r->dead = row->tombstone;
    r->leased = row->leased;
    r->create = row->tombstone ? 0 : row->create;
    r->version = row->tombstone ? 0 : row->version;
    return true;
}

void mvcc_index_loaded(struct mvcc_index *x)
{
    struct mvcc_record **records = nb_alloc(x->loading_count * sizeof *records);
    for (size_t i = 0; i < x->loading_count; i++) {
        records[i] = x->loading[i].record;
    }
    mvcc_sort_records(records, x->loading_count);
    mvcc_tree_build(&x->tree, records, x->loading_count);
    nb_free(records);
    nb_free(x->loading);
    x->loading = NULL;
    x->loading_count = 0;
    x->loading_capacity = 0;
}

uint64_t mvcc_index_bytes(const struct mvcc_index *x)
{
    return x->slab.bytes + mvcc_table_bytes(&x->table) + x->tree.bytes;
}

static void check_record(const struct mvcc_record *r)
{
    struct mvcc_version before = {0};
    uint32_t count = r->older == NULL ? 0 : r->older->count;
    nb_assert(r->older == NULL || count != 0); /* K3 */
    for (uint32_t i = 0; i <= count; i++) {
        struct mvcc_version v = i < count ? r->older->versions[i] : mvcc_record_newest(r);
        nb_assert(v.main > before.main || (v.main == before.main && v.sub > before.sub)); /* K1 */
        before = v;
    }
    if (r->dead) {
        nb_assert(r->create == 0 && r->version == 0 && !r->leased); /* K2 */
    } else {
        nb_assert(r->create != 0 && r->create <= r->mod && r->version >= 1);
    }
}

void mvcc_index_check(const struct mvcc_index *x)
{
    mvcc_tree_check(&x->tree);
    mvcc_table_check(&x->table);
    nb_assert(x->tree.count == x->table.count);
    struct mvcc_cursor c = mvcc_tree_seek(&x->tree, (struct nb_bytes){0});
    for (struct mvcc_record *r = mvcc_tree_next(&c); r != NULL; r = mvcc_tree_next(&c)) {
        check_record(r);
        nb_assert(mvcc_index_find(x, mvcc_record_key(r)) == r);
    }
}
