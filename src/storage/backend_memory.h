/*
 * storage/backend_memory: the backend in memory, for tests and the simulator. No threads: a commit
 * waits until backend_memory_step() or backend_wait() does it, so the caller decides when.
 *
 * A struct backend_memory_store stands for the file: it outlives the backend, so closing one
 * without stepping and opening another on the same store is a crash and a restart. Copies are files
 * of the given disk.
 */
#ifndef NABATA_STORAGE_BACKEND_MEMORY_H
#define NABATA_STORAGE_BACKEND_MEMORY_H

#include "storage/backend.h"
#include "storage/disk.h"

struct backend_memory_store;

NB_MUST_USE struct backend_memory_store *backend_memory_store_create(void);
void backend_memory_store_destroy(struct backend_memory_store *store);

/* `store` and `disk` are borrowed; `disk` may be NULL when copies are not used. */
NB_MUST_USE enum nb_status backend_memory_open(struct backend_memory_store *store,
                                               struct disk *disk, const struct backend_ident *ident,
                                               struct backend **out_backend,
                                               struct nb_buf *out_message);

/* Does the commits handed over, up to `batches_max`, and the copy if one waits; backend_reap then
 * takes them in. Returns how many commits were done. */
size_t backend_memory_step(struct backend *b, size_t batches_max);
/* The next `count` steps fail with this status. */
void backend_memory_fail(struct backend *b, enum nb_status status, unsigned count);
/* Closes without doing anything that waits: a crash. */
void backend_memory_crash(struct backend *b);

#endif
