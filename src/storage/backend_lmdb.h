/*
 * storage/backend_lmdb: the backend on LMDB, with fully synchronous commits on a thread of its own.
 */
#ifndef NABATA_STORAGE_BACKEND_LMDB_H
#define NABATA_STORAGE_BACKEND_LMDB_H

#include "storage/backend.h"

struct backend_lmdb_options {
    uint64_t map_size; /* bytes the file may grow to; address space, not memory. 0: 64 GiB */
    bool read_only;    /* for tools: no thread, no commit, takes any ident when that is zeros */
    bool no_sync;      /* --unsafe-no-fsync */
};

/* Opens or makes the file `<dir>/data.mdb`; `dir` exists. NB_FOREIGN when it is another member's or
 * cluster's, NB_VERSION when a newer nabata wrote it; `out_message` says what, where, what to do.
 */
NB_MUST_USE enum nb_status backend_lmdb_open(const char *dir, const struct backend_ident *ident,
                                             const struct backend_lmdb_options *options,
                                             struct backend **out_backend,
                                             struct nb_buf *out_message);

/* Makes the file `path` (of backend_copy, open nowhere) that belongs to `from` one of `to`,
 * durably; member 0 in `from` takes any of that cluster. */
NB_MUST_USE enum nb_status backend_lmdb_adopt(const char *path, const struct backend_ident *from,
                                              const struct backend_ident *to,
                                              struct nb_buf *out_message);

/* Reads ident and label of a file without a lock, as written by backend_copy. `out_meta` gets the
 * label's meta (appended). */
NB_MUST_USE enum nb_status backend_lmdb_inspect(const char *path, struct backend_ident *out_ident,
                                                struct backend_label *out_label,
                                                struct nb_buf *out_meta,
                                                struct nb_buf *out_message);

#endif
