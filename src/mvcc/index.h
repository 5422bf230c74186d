/*
 * mvcc/index: which revisions each key has.
 *
 * A hash table finds a key, a counting tree orders them, a slab holds the records. The index knows
 * revisions, versions and liveness; values are rows of the backend. Everything a write needs to
 * know of the past (create revision, version) is here, so a put reads no row.
 */
#ifndef NABATA_MVCC_INDEX_H
#define NABATA_MVCC_INDEX_H

#include "mvcc/record.h"
#include "mvcc/request.h"
#include "mvcc/slab.h"
#include "mvcc/table.h"
#include "mvcc/tree.h"

struct mvcc_index {
    struct mvcc_slab slab;
    struct mvcc_table table;
    struct mvcc_tree tree;
    struct mvcc_hashed *loading; /* while loading: all records, in no order; owned */
    size_t loading_count, loading_capacity;
};

void mvcc_index_init(struct mvcc_index *x, uint64_t seed);
void mvcc_index_deinit(struct mvcc_index *x);

/* NULL when no version of the key is known. It may be dead. */
struct mvcc_record *mvcc_index_find(const struct mvcc_index *x, struct nb_bytes key);

/* Asks memory early for what writes of these keys will touch. Changes nothing. */
void mvcc_index_foresee(const struct mvcc_index *x, const struct nb_bytes *keys, size_t count);

/* A put of `key` at (main, sub), which is behind all its revisions. Gives its record, brought up to
 * date. */
struct mvcc_record *mvcc_index_put(struct mvcc_index *x, struct nb_bytes key, int64_t main,
                                   uint32_t sub, bool leased);
/* The same of a key whose record is at hand. */
void mvcc_index_renew(struct mvcc_index *x, struct mvcc_record *r, int64_t main, uint32_t sub,
                      bool leased);
/* A deletion of an alive key at (main, sub). */
void mvcc_index_delete(struct mvcc_index *x, struct mvcc_record *r, int64_t main, uint32_t sub);

/* Keys alive at the newest revision. */
uint64_t mvcc_index_count(const struct mvcc_index *x, const struct mvcc_interval *keys);

/*
 * What compaction at `revision` makes superfluous of one key: of the versions up to it all but the
 * last, and that too if it is a tombstone before it. Appends them to `dropped`, oldest first, and
 * forgets them; a record left without versions goes, and false is returned.
 */
struct mvcc_dropped {
    struct mvcc_version *items; /* owned */
    size_t count, capacity;
};

bool mvcc_index_trim(struct mvcc_index *x, struct mvcc_record *r, int64_t revision, uint32_t most,
                     struct mvcc_dropped *dropped);

/* Loading: rows in order of revision, then one call to order them. Nothing else meanwhile. */
struct mvcc_row {
    struct nb_bytes key;
    int64_t main;
    uint32_t sub;
    bool tombstone, leased;
    int64_t create, version; /* of a put */
};

/* False when the row does not follow from what was loaded before: a damaged store. */
NB_MUST_USE bool mvcc_index_load(struct mvcc_index *x, const struct mvcc_row *row);
void mvcc_index_loaded(struct mvcc_index *x);

uint64_t mvcc_index_bytes(const struct mvcc_index *x);
void mvcc_index_check(const struct mvcc_index *x);

#endif
