/*
 * mvcc/store: what the files of this room share: the store itself and its leaves.
 *
 *   mvcc.c     life, batches, numbers      read.c     ranges, streams, history
 *   write.c    puts, deletions, txns       compact.c  compaction      hash.c  hashes
 */
#ifndef NABATA_MVCC_STORE_H
#define NABATA_MVCC_STORE_H

#include "mvcc/index.h"
#include "mvcc/kv.h"
#include "mvcc/mvcc.h"
#include "mvcc/rows.h"

struct mvcc {
    struct mvcc_options options;
    struct mvcc_index index;
    struct mvcc_rows rows;
    int64_t current, compact; /* revisions */

    /* The write transaction under way, or the last one. */
    struct mvcc_change *changes; /* owned */
    size_t change_count, change_capacity;
    bool writing;
    struct nb_buf scratch;       /* a KeyValue being encoded */
    struct mvcc_record **doomed; /* owned; what one delete_range is about to delete */
    size_t doomed_count, doomed_capacity;
    struct nb_buf decisions; /* a byte for each txn on the path, in order */

    /* The removal of what compaction made superfluous. */
    bool removing;
    bool remove_begun;         /* `remove_next` is set */
    struct nb_buf remove_next; /* key to go on with */
    struct mvcc_dropped dropped;

    struct mvcc_stats stats; /* the running ones of it */
};

/* The newest revision as reads see it now: within a write transaction that has changed something,
 * the one being made. */
static inline int64_t mvcc_newest(const struct mvcc *m)
{
    return m->current + (m->writing && m->change_count != 0);
}

/* A range against the present state; the body of its response is appended. */
NB_MUST_USE enum nb_status mvcc_read_range(struct mvcc *m, const struct mvcc_range_request *r,
                                           struct nb_buf *body);

/* Begins a submessage; the mark is for its end. */
static inline size_t mvcc_message_begin(const struct nb_buf *b)
{
    return b->len;
}
/* What was appended since `mark` becomes field `number`. */
void mvcc_message_end(struct nb_buf *b, size_t mark, uint32_t number);

/* Whether the row is what compaction at `revision` keeps of its key: its last version up to it, and
 * no tombstone before it. The row's value is asked for the key. */
bool mvcc_row_kept(const struct mvcc *m, const struct mvcc_version *v, struct nb_bytes key,
                   int64_t revision);

#endif
