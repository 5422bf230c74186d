/*
 * cli/txn_parse: the text of a transaction, as etcdctl reads it: comparisons, an empty line,
 * operations for success, an empty line, operations for failure, an empty line (or the end).
 *
 *     mod("key1") > "0"
 *
 *     put key1 "overwrote-key1"
 *
 *     get key1 --prefix
 */
#ifndef NABATA_CLI_TXN_PARSE_H
#define NABATA_CLI_TXN_PARSE_H

#include "base/arena.h"
#include "rpc.pb-c.h"

/* One line each; all that the messages point to is in the arena. False: `error` says why. */
NB_MUST_USE bool txn_parse_compare(struct nb_arena *arena, const char *line,
                                   Etcdserverpb__Compare *out, struct nb_buf *error);
NB_MUST_USE bool txn_parse_op(struct nb_arena *arena, const char *line,
                              Etcdserverpb__RequestOp *out, struct nb_buf *error);

/* Splits a line at blanks; "..." with Go's escapes and '...' keep theirs. False: an open quote. */
NB_MUST_USE bool txn_parse_words(struct nb_arena *arena, const char *line, char ***out_words,
                                 size_t *out_count);

enum txn_part { TXN_COMPARES, TXN_SUCCESS, TXN_FAILURE, TXN_PART_COUNT };

/* Takes line after line; all zero but for the arena is a valid beginning. */
struct txn_parse {
    struct nb_arena *arena; /* borrowed */
    enum txn_part part;     /* which one is being read; TXN_PART_COUNT: complete */
    Etcdserverpb__Compare **compares;
    size_t compare_count, compare_capacity;
    Etcdserverpb__RequestOp **ops[TXN_PART_COUNT]; /* of success and failure */
    size_t op_counts[TXN_PART_COUNT], op_capacities[TXN_PART_COUNT];
};

void txn_parse_deinit(struct txn_parse *p);
/* A line without its end; an empty one ends a part. */
NB_MUST_USE bool txn_parse_line(struct txn_parse *p, const char *line, struct nb_buf *error);
/* The request; borrows from `p`. */
void txn_parse_request(const struct txn_parse *p, Etcdserverpb__TxnRequest *out);

#endif
