/*
 * mvcc/table: a hash table of the index's records by key, for point look-ups.
 *
 * Open addressing with linear probing. A slot is the record's address with 16 bits of the hash
 * above it, so that a look-up touches one line of the table and the record it wants. The hash is
 * SipHash-1-3 with a random key: crafted keys do not gather [hazard D15]. A table that is full
 * moves into a larger one a few slots with each change: no change pays for all of it.
 *
 * The order of the slots is seen by nobody.
 *
 * Invariants, asserted by mvcc_table_check():
 *   T1  every record is in exactly one slot, of `now` or of `old`
 *   T2  at least a quarter of the slots of `now` are empty
 */
#ifndef NABATA_MVCC_TABLE_H
#define NABATA_MVCC_TABLE_H

#include "mvcc/record.h"

struct mvcc_slots {
    uint64_t *slots; /* owned */
    uint64_t mask;   /* slot count - 1 */
    uint64_t used;   /* slots not empty: records and marks of removed ones */
};

struct mvcc_table {
    uint64_t key[2];
    uint64_t count; /* records */
    struct mvcc_slots now;
    struct mvcc_slots old; /* being emptied; slots NULL when no move is on */
    uint64_t moved;        /* slots of `old` before this one are done */
};

void mvcc_table_init(struct mvcc_table *t, uint64_t seed);
void mvcc_table_deinit(struct mvcc_table *t);

uint64_t mvcc_table_hash(const struct mvcc_table *t, struct nb_bytes key);

/* NULL when absent. `hash` is mvcc_table_hash of the key. */
struct mvcc_record *mvcc_table_find(const struct mvcc_table *t, uint64_t hash, struct nb_bytes key);
/*
 * Look-ups wait for memory: for the slot, then for the record. Who knows the keys of several ahead
 * asks for all the slots, then for all the records, and then looks them up: so the waits overlap.
 * Both change nothing.
 */
void mvcc_table_fetch_slot(const struct mvcc_table *t, uint64_t hash);
/* The record that the slot says it may be, which is asked for too; NULL when there is none. Its key
 * was not compared. */
struct mvcc_record *mvcc_table_fetch_record(const struct mvcc_table *t, uint64_t hash);
/* The key must be absent. */
void mvcc_table_insert(struct mvcc_table *t, uint64_t hash, struct mvcc_record *r);
/* The record must be there. */
void mvcc_table_remove(struct mvcc_table *t, uint64_t hash, const struct mvcc_record *r);

/* Goes on with a move, a few slots: as long as one is on, look-ups may have to look twice. */
void mvcc_table_tidy(struct mvcc_table *t);

/* A record and the hash of its key. */
struct mvcc_hashed {
    uint64_t hash;
    struct mvcc_record *record;
};

/* Loading a store puts millions of records in with nobody waiting: then a full table is made anew,
 * at once, from hashes that the loader has kept, with no need to look at the keys. `all` are the
 * records there are. */
bool mvcc_table_full(const struct mvcc_table *t);
void mvcc_table_widen(struct mvcc_table *t, const struct mvcc_hashed *all, size_t count);

uint64_t mvcc_table_bytes(const struct mvcc_table *t);
void mvcc_table_check(const struct mvcc_table *t);

#endif
