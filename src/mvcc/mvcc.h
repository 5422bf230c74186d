/*
 * mvcc: the store of keys with all their revisions, with exactly etcd's semantics.
 *
 * Every write transaction makes one revision `main`; its changes are numbered `sub` 0, 1, 2... A
 * change is a row (revision -> encoded mvccpb.KeyValue) of the backend's KEY table, laid out as in
 * etcd, so that HashKV is etcd's number. An index in memory says which revisions each key has. Rows
 * that the backend has not committed and reaped yet are read from the batch's memory.
 *
 * The caller is the loop thread, and the only one. Nothing here reads a clock, draws a random
 * number or depends on the order of a hash table: the same calls give the same answers and rows on
 * every member. When the backend has moved, how far a compaction's removal has come, and when a
 * member was restarted never show in an answer.
 *
 * Left to others: permission, quota, leases (only the id is kept, and `lease_exists` is asked), the
 * matching of watches, and the checks at the door (mvcc/request.h), though a request that skips
 * them is still answered and never harms.
 *
 * Worked example: the life of one key. Each row is one revision of the store.
 *
 *   put k=a         2    create 2  version 1     generation 1: 2
 *   put k=b         3    create 2  version 2     generation 1: 2 3
 *   delete k        4    tombstone               generation 1: 2 3 4t
 *   put k=c         5    create 5  version 1     generation 2: 5
 *   delete k        6    tombstone               generation 2: 5 6t
 *
 *   compact at 2    2 stays: it is the newest revision <= 2
 *   compact at 3    removes 2
 *   compact at 4    removes 3; the tombstone at exactly 4 stays, a watch may start there
 *   compact at 5    removes 4t; 5 stays
 *   compact at 6    removes 5; 6t stays
 *   compact at 7    (some other key made 7) removes 6t: k is gone from the index too
 *
 * Invariants:
 *   M1  an empty store is at revision 1; the current revision never goes back          [hazard D07]
 *   M2  a pending row and a reaped row are read alike                                  [D08]
 *   M3  the index rebuilt from the rows equals the live one                            [D09]
 *   M4  answers depend on the logical compact revision alone                           [C06]
 *   M5  rows of a key are removed oldest first, so a crash between batches cannot bring a deleted
 *       key back                                                                       [C02]
 *   M6  a transaction is checked in full before its first change                       [D03]
 */
#ifndef NABATA_MVCC_MVCC_H
#define NABATA_MVCC_MVCC_H

#include "mvcc/request.h"

struct backend;
struct mvcc;

struct mvcc_options {
    uint64_t hash_seed; /* of the index's hash table: random, of this process only [D15] */
    /* Whether a lease is there. NULL: none is, and every put with a lease is refused. */
    bool (*lease_exists)(void *context, int64_t lease);
    void *lease_context;
};

/* Reads the whole KEY table of `b` (borrowed until destroy) and builds the index. NB_CORRUPT when a
 * row is not what mvcc wrote. An unfinished compaction goes on with
 * the next mvcc_compact_step. */
NB_MUST_USE enum nb_status mvcc_create(struct backend *b, const struct mvcc_options *options,
                                       struct mvcc **out);
void mvcc_destroy(struct mvcc *m);

int64_t mvcc_current_revision(const struct mvcc *m); /* 1 for an empty store */
int64_t mvcc_compact_revision(const struct mvcc *m); /* -1 before the first compaction */

/*
 * Requests. The answer is appended to `body` as an encoded response message without its header
 * (field 1); the header's revision is given apart. `body` is untouched when the status is not
 * NB_OK.
 *
 * range    NB_FUTURE_REVISION, NB_COMPACTED
 * put      NB_LEASE_NOT_FOUND, NB_KEY_NOT_FOUND
 * txn      all of these, and then nothing was written
 */
NB_MUST_USE enum nb_status mvcc_range(struct mvcc *m, const struct mvcc_range_request *r,
                                      struct nb_buf *body, int64_t *out_revision);
NB_MUST_USE enum nb_status mvcc_put(struct mvcc *m, const struct mvcc_put_request *r,
                                    struct nb_buf *body, int64_t *out_revision);
void mvcc_delete_range(struct mvcc *m, const struct mvcc_delete_request *r, struct nb_buf *body,
                       int64_t *out_revision);
NB_MUST_USE enum nb_status mvcc_txn(struct mvcc *m, const struct mvcc_txn_request *t,
                                    struct nb_buf *body, int64_t *out_revision);

/* Says which keys the next writes are about, a dozen or so: memory is asked for all of them at
 * once. Changes nothing, and need not be true. */
void mvcc_foresee(const struct mvcc *m, const struct nb_bytes *keys, size_t count);

/* Deletes these keys as one transaction, in the order given; absent ones are passed over. For the
 * revocation of a lease, which deletes its keys sorted. No revision is made when none was there. */
void mvcc_delete_keys(struct mvcc *m, const struct nb_bytes *keys, size_t count,
                      int64_t *out_revision);

/* What the last call of put, delete_range, txn or delete_keys changed, in order of `sub`. */
struct mvcc_change {
    int64_t main, sub;
    bool deleted;
    struct nb_bytes key;
    struct nb_bytes kv;      /* the encoded KeyValue as stored; of a deletion only the key */
    int64_t create_revision; /* of the key: equal to main for a creation; 0 for a deletion */
    int64_t lease;           /* now; 0: none */
    int64_t previous_lease;  /* before; 0: none or the key was absent */
    int64_t previous_main;   /* revision of the value that was replaced; 0: the key was absent */
};

struct mvcc_changes {
    const struct mvcc_change *items; /* borrowed; valid until the next write or `reaped` */
    size_t count;
};

struct mvcc_changes mvcc_changes(const struct mvcc *m);

/*
 * Chunks of a large range at a pinned revision, for RangeStream. A chunk is the body of a
 * RangeResponse; `more` and `count` are in the last one only, and there the caller adds the header,
 * with header_revision. All zero before begin; deinit after it, also when it failed.
 */
struct mvcc_stream {
    struct mvcc_range_request request; /* borrows its key and range_end from the caller */
    int64_t revision;                  /* pinned */
    int64_t header_revision;           /* newest revision at the start */
    int64_t sent;                      /* keys */
    uint32_t chunk_keys;               /* how many the next chunk may hold */
    size_t chunk_bytes;                /* what a chunk should come near to */
    struct nb_buf next;                /* first key of the next chunk; owned */
    bool started, finished;
};

NB_MUST_USE enum nb_status mvcc_stream_begin(struct mvcc *m, const struct mvcc_range_request *r,
                                             size_t chunk_bytes, struct mvcc_stream *s);
/* NB_COMPACTED when the pinned revision was compacted meanwhile. `finished` is set with the last.
 */
NB_MUST_USE enum nb_status mvcc_stream_next(struct mvcc *m, struct mvcc_stream *s,
                                            struct nb_buf *body);
void mvcc_stream_deinit(struct mvcc_stream *s);

/*
 * History, for watches that lag: the changes of whole main revisions from `first` on, in order, at
 * most `change_count_max` of them but at least one main revision if there is one. `next_main` is
 * where to go on. All zero is a valid empty page.
 */
struct mvcc_history_item {
    int64_t main, sub;
    bool deleted;
    struct nb_bytes key, kv; /* borrowed from `bytes`; valid until the page is filled again */
};

struct mvcc_history {
    struct mvcc_history_item *items; /* owned */
    size_t count, capacity;
    int64_t next_main; /* current revision + 1 when all was read */
    struct nb_buf bytes;
};

/* NB_COMPACTED when first < compact revision. */
NB_MUST_USE enum nb_status mvcc_history_read(struct mvcc *m, int64_t first, size_t change_count_max,
                                             struct mvcc_history *page);
void mvcc_history_deinit(struct mvcc_history *page);

/* Appends the encoded KeyValue that `key` had at `revision`, as it is stored, for a prev_kv. False
 * when it had none, or when `revision` is compacted or in the future. */
NB_MUST_USE bool mvcc_value_at(struct mvcc *m, struct nb_bytes key, int64_t revision,
                               struct nb_buf *out);

/* Calls back for each key that holds a lease, in key order: to rebuild the leases' lists. */
void mvcc_leases_visit(struct mvcc *m, void *context,
                       void (*visit)(void *context, int64_t lease, struct nb_bytes key));

/*
 * Compaction: history before `revision` ends at once for all readers. NB_COMPACTED,
 * NB_FUTURE_REVISION; then nothing has happened. What it made superfluous is removed by the steps.
 */
NB_MUST_USE enum nb_status mvcc_compact(struct mvcc *m, int64_t revision);
/* Looks at up to `key_count` keys and removes what they no longer need. True when nothing is left
 * to do; then the removal is in the batch, and durable with it. */
bool mvcc_compact_step(struct mvcc *m, size_t key_count);
bool mvcc_compact_pending(const struct mvcc *m);

/*
 * HashKV [etcd mvcc/hash.go]: crc32c over the history up to `revision` (0: current; below 0: none
 * of it) as the compact revision leaves it. In steps, so that the loop is not held up; writes and
 * removals between two steps do not change the result, a compaction does (NB_COMPACTED if it passes
 * the revision; otherwise the hash starts over).
 *
 * etcd also keeps, in memory, the hashes that it takes at its last ten compactions, and answers
 * from them at exactly those revisions. Not here: a restart would show [M4], and each compaction
 * would read the whole history.
 */
struct mvcc_hash {
    int64_t revision;         /* hashed */
    int64_t compact_revision; /* in force */
    int64_t next_main, next_sub;
    uint64_t removed_rows; /* by compactions, at the start */
    uint32_t sum;
    bool all;       /* Hash, not HashKV */
    bool looking;   /* whether any key is alive at `revision`: the rows are gone through for that */
    bool any_alive; /* so far */
    bool done;
};

/* NB_FUTURE_REVISION, NB_COMPACTED. */
NB_MUST_USE enum nb_status mvcc_hash_begin(struct mvcc *m, int64_t revision, struct mvcc_hash *out);
/* Hash: the checksum of all rows there are at the start, whatever the compaction left. When rows
 * are removed between two steps, it starts over: best wait until mvcc_compact_pending is over. */
void mvcc_hash_begin_all(const struct mvcc *m, struct mvcc_hash *out);
/* Goes through up to `row_count` rows, fewer if they are large. `done` tells the end; then `sum` is
 * the hash. */
NB_MUST_USE enum nb_status mvcc_hash_step(struct mvcc *m, struct mvcc_hash *h, size_t row_count);
/* HashKV all at once. */
NB_MUST_USE enum nb_status mvcc_hash_kv(struct mvcc *m, int64_t revision, struct mvcc_hash *out);

/*
 * Batches. The owner of the backend calls `seal` right before each backend_commit, and `reaped`
 * right after each backend_reap with what that returned (after backend_wait: with how many more
 * backend_committed says), before anything else is asked of the store. After backend_replace the
 * store is destroyed and created anew.
 */
void mvcc_batch_seal(struct mvcc *m);
void mvcc_batch_reaped(struct mvcc *m, size_t batch_count);

struct mvcc_stats {
    uint64_t key_count;    /* alive */
    uint64_t record_count; /* in the index, deleted ones with history too */
    uint64_t put_count, delete_count, txn_count, range_count; /* since creation */
    uint64_t put_bytes;         /* keys and values put since creation */
    uint64_t pending_row_count; /* not reaped yet */
    uint64_t pending_bytes;
    uint64_t index_bytes;       /* memory of the index */
    uint64_t compact_key_count; /* keys looked at by compactions */
    uint64_t compact_row_count; /* rows removed by compactions */
};

struct mvcc_stats mvcc_stats(const struct mvcc *m);

/* Walks all structures and asserts what they promise. For tests and simulation. */
void mvcc_check(struct mvcc *m);

#endif
