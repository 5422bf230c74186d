/*
 * storage/wal_read: reads a log back and decides where it ends. Inside of storage; see wal.h for
 * the rules of torn and damaged.
 */
#ifndef NABATA_STORAGE_WAL_READ_H
#define NABATA_STORAGE_WAL_READ_H

#include "storage/wal_format.h"

/* One file of the log, as found. */
struct wal_found {
    char *name, *path; /* owned */
    uint64_t sequence, first_index_named;
    struct wal_segment_header header; /* when header_ok */
    bool header_ok;
    bool live;           /* some of its batches count; else it was superseded */
    uint64_t size;       /* bytes */
    uint64_t index_last; /* highest index of an entry in it */
};

/* State of the log between two batches. */
struct wal_state {
    struct wal_hard_state hard_state;
    struct wal_mark mark;
    uint64_t next_index;
};

/* A batch near the end, kept because it may have to be written again. */
struct wal_kept {
    uint64_t sequence; /* 0: none */
    struct wal_state before;
    struct nb_buf records;
    uint32_t record_count;
    uint64_t index_last;
};

struct wal_reading {
    struct wal_found *found; /* owned; rising sequence */
    size_t found_count, found_capacity;
    uint64_t next_batch; /* the first that is not there */
    uint64_t durable;    /* highest batch known to have been durable */
    struct wal_state state;
    struct wal_kept kept[2];         /* by sequence modulo 2 */
    struct wal_recovered *recovered; /* borrowed; filled */
};

/* `ident` of zeros takes the log's own and stores it there. `visitor` may be NULL. */
NB_MUST_USE enum nb_status wal_reading_run(struct wal_reading *r, struct disk *disk,
                                           const char *dir, struct wal_ident *ident,
                                           const struct wal_visitor *visitor,
                                           struct wal_recovered *recovered,
                                           struct nb_buf *out_message);
void wal_reading_deinit(struct wal_reading *r);

#endif
