/*
 * mvcc/rows: the rows of history, wherever they are: in the backend, or still in a batch.
 *
 * The backend shows only what it has committed and what was reaped; the batch keeps the memory of
 * its values until then. This room remembers which rows those are, in order of revision, so that
 * both are read as one [hazard D08]. Since revisions only grow and batches are reaped in order,
 * every pending row is behind every row of the backend.
 */
#ifndef NABATA_MVCC_ROWS_H
#define NABATA_MVCC_ROWS_H

#include "mvcc/kv.h"
#include "mvcc/places.h"

struct backend;

struct mvcc_pending_row {
    struct mvcc_version version;
    struct nb_bytes value; /* in the memory of the batch */
};

struct mvcc_rows {
    struct backend *backend;          /* borrowed */
    struct mvcc_pending_row *pending; /* owned; in order of revision, from `first` on */
    size_t first, count, capacity;    /* rows are pending[first .. count) */
    size_t *sealed; /* owned; how many rows each sealed batch brought, oldest first */
    size_t sealed_count, sealed_capacity;
    size_t sealed_rows;     /* sum of sealed[] */
    uint64_t pending_bytes; /* values of the pending rows */
    struct mvcc_places places;
};

void mvcc_rows_init(struct mvcc_rows *rows, struct backend *backend);
void mvcc_rows_deinit(struct mvcc_rows *rows);

/* A new row, behind all others. Gives its value where it will lie until it is reaped. */
struct nb_bytes mvcc_rows_put(struct mvcc_rows *rows, struct mvcc_version v, struct nb_bytes value);
/* Removes a row from the backend, with the batch. */
void mvcc_rows_drop(struct mvcc_rows *rows, struct mvcc_version v);

/* The value of a row that must be there; valid until the next batch is reaped. */
struct nb_bytes mvcc_rows_get(struct mvcc_rows *rows, struct mvcc_version v);

/* Says which rows are wanted next, a dozen or so: memory is asked for all of them at once. */
void mvcc_rows_foresee(const struct mvcc_rows *rows, const struct mvcc_version *versions,
                       size_t count);

/* Visits rows from (main, sub) on in order, until the visitor says false. NB_CORRUPT. */
typedef bool mvcc_row_visit(void *context, const struct mvcc_version *v, struct nb_bytes value);
NB_MUST_USE enum nb_status mvcc_rows_scan(struct mvcc_rows *rows, int64_t main, uint32_t sub,
                                          mvcc_row_visit *visit, void *context);

void mvcc_rows_seal(struct mvcc_rows *rows);
void mvcc_rows_reaped(struct mvcc_rows *rows, size_t batch_count);

/* Small numbers kept beside the rows. */
enum mvcc_mark { MVCC_MARK_CURRENT, MVCC_MARK_COMPACT, MVCC_MARK_REMOVED, MVCC_MARK_COUNT };
void mvcc_rows_mark(struct mvcc_rows *rows, enum mvcc_mark mark, int64_t value);
/* `absent` when it was never set. */
NB_MUST_USE enum nb_status mvcc_rows_marked(struct mvcc_rows *rows, enum mvcc_mark mark,
                                            int64_t absent, int64_t *out);

#endif
