/*
 * storage/datadir: the folder a member lives in, its lock and its name plate.
 *
 *   <path>/LOCK             one process at a time          [W17]
 *   <path>/member/identity  magic, format version, cluster id, member id, CRC32C; written once
 *   <path>/member/wal, member/db, member/snap
 * Folders have mode 0700. Names that are not ours (lost+found) are left alone.  [K15]
 *
 * Every failure appends one sentence to out_message: what, where, what to do.
 */
#ifndef NABATA_STORAGE_DATADIR_H
#define NABATA_STORAGE_DATADIR_H

#include "base/bytes.h"
#include "base/status.h"
#include "storage/disk.h"

enum { DATADIR_FORMAT_VERSION = 1 };

struct datadir_ident {
    uint64_t cluster_id, member_id;
};

struct datadir {
    struct disk *disk;                     /* borrowed */
    struct disk_file *lock;                /* owned */
    char *path, *member, *wal, *db, *snap; /* owned */
    bool has_ident;
    struct datadir_ident ident; /* when has_ident */
};

/* Makes what is missing, takes the lock, reads the identity if there is one, removes leftovers in
 * snap/. NB_LOCKED, NB_ACCESS (not writable), NB_VERSION (a newer nabata was here: nothing was
 * changed [K18]), NB_CORRUPT (identity damaged, or missing beside a log), NB_IO. */
NB_MUST_USE enum nb_status datadir_open(struct disk *disk, const char *path,
                                        struct datadir *out_datadir, struct nb_buf *out_message);
/* Writes the identity of a fresh member, atomically. It must have none yet, or one of no cluster
 * (cluster id 0), as pods have until they have found theirs: that may be written again. */
NB_MUST_USE enum nb_status datadir_ident_write(struct datadir *d, const struct datadir_ident *ident,
                                               struct nb_buf *out_message);
/* NB_FOREIGN with a message when the folder is another cluster's (or, if member_id is not 0,
 * another member's). */
NB_MUST_USE enum nb_status datadir_ident_check(const struct datadir *d, uint64_t cluster_id,
                                               uint64_t member_id, struct nb_buf *out_message);
/* Gives the lock back. */
void datadir_close(struct datadir *d);

#endif
