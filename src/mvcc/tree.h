/*
 * mvcc/tree: the index's records in order of their keys: a B+tree that counts.
 *
 * Records lie in leaves, with a bit each for "alive"; an inner node knows how many alive records
 * are below each child. So a count of a range, and the place of a page in it, cost a descent and
 * not a walk. Dead records (their newest version is a tombstone) stay until compaction removes
 * them.
 *
 * Inner nodes point at the smallest record below each child instead of holding keys of their own.
 *
 * Invariants, asserted by mvcc_tree_check():
 *   B1  keys rise strictly through the leaves
 *   B2  min[i] of an inner node is the smallest record below child i
 *   B3  live[i] is the number of alive records below child i
 *   B4  no node but the root is empty; neighbours of one parent are joined when a removal leaves
 * them with half a node together
 */
#ifndef NABATA_MVCC_TREE_H
#define NABATA_MVCC_TREE_H

#include "mvcc/record.h"

struct mvcc_node;
struct mvcc_leaf;

struct mvcc_tree {
    void *root;      /* owned; a leaf when height is 0 */
    unsigned height; /* of inner nodes above the leaves */
    uint64_t count, live;
    uint64_t bytes; /* of the nodes */
};

/* A place between records. Any change of the tree but mvcc_tree_set_live makes it invalid. */
struct mvcc_cursor {
    struct mvcc_leaf *leaf;
    unsigned slot;
};

void mvcc_tree_init(struct mvcc_tree *t);
void mvcc_tree_deinit(struct mvcc_tree *t); /* the records are the caller's */

/* Asks memory early for what inserting these keys will touch: descends for all of them side by
 * side, so that their waits overlap. At most MVCC_TREE_FORESEEN_MAX keys. Changes nothing. */
enum { MVCC_TREE_FORESEEN_MAX = 16 };
void mvcc_tree_foresee(const struct mvcc_tree *t, const struct nb_bytes *keys, size_t count);

/* The key must be absent. The record counts as alive unless it is dead. */
void mvcc_tree_insert(struct mvcc_tree *t, struct mvcc_record *r);
/* The record must be there. */
void mvcc_tree_remove(struct mvcc_tree *t, const struct mvcc_record *r);
void mvcc_tree_set_live(struct mvcc_tree *t, const struct mvcc_record *r, bool live);
/* Fills an empty tree with records in strict order of their keys. */
void mvcc_tree_build(struct mvcc_tree *t, struct mvcc_record *const *records, size_t count);

/* How many alive records have a smaller key. */
uint64_t mvcc_tree_rank(const struct mvcc_tree *t, struct nb_bytes key);

/* Before the first record whose key is not smaller. */
struct mvcc_cursor mvcc_tree_seek(const struct mvcc_tree *t, struct nb_bytes key);
/* The record behind the cursor, which moves past it; NULL at the end. */
struct mvcc_record *mvcc_tree_next(struct mvcc_cursor *c);
/* The same, past dead ones, without touching them. */
struct mvcc_record *mvcc_tree_next_live(struct mvcc_cursor *c);

void mvcc_tree_check(const struct mvcc_tree *t);

#endif
