/*
 * mvcc/record: what the index knows of one key.
 *
 * The newest version lies in the record itself, so that a look-up touches one place; older ones are
 * in an array, oldest first, which most keys do not have between two compactions. The key's bytes
 * follow the record. Both come from a slab.
 *
 * Invariants, asserted by mvcc_index_check():
 *   K1  revisions rise strictly through older[] and on to the newest
 *   K2  a dead record's newest version is a tombstone; create and version are 0 then
 *   K3  older is NULL or holds at least one version
 */
#ifndef NABATA_MVCC_RECORD_H
#define NABATA_MVCC_RECORD_H

#include "base/bytes.h"

/* A place in history. */
struct mvcc_version {
    int64_t main;
    uint32_t sub;
    bool tombstone;
};

struct mvcc_older {
    uint32_t count, capacity;
    struct mvcc_version versions[]; /* oldest first */
};

struct mvcc_record {
    int64_t create, mod; /* revisions (main) of the newest version */
    int64_t version;     /* changes of the key since it was created */
    struct mvcc_older *older;
    uint32_t mod_sub;
    uint32_t key_len : 30;
    uint32_t dead : 1;   /* the newest version is a tombstone */
    uint32_t leased : 1; /* the newest version has a lease */
    uint8_t key[];
};

static_assert(sizeof(struct mvcc_record) == 40, "a record is 40 bytes before its key");

static inline struct nb_bytes mvcc_record_key(const struct mvcc_record *r)
{
    return nb_bytes_of(r->key, r->key_len);
}

static inline struct mvcc_version mvcc_record_newest(const struct mvcc_record *r)
{
    return (struct mvcc_version){.main = r->mod, .sub = r->mod_sub, .tombstone = r->dead};
}

/* The last version with main <= revision, a tombstone too. False when there is none. */
bool mvcc_record_last(const struct mvcc_record *r, int64_t revision, struct mvcc_version *out);

/* The same, but false for a tombstone: the version that a read at `revision` sees. */
bool mvcc_record_at(const struct mvcc_record *r, int64_t revision, struct mvcc_version *out);

#endif
