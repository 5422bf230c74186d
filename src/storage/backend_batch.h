/*
 * storage/backend_batch: puts and deletes that wait for their commit, and a label. Inside of
 * storage.
 *
 * Keys and values lie in an arena that goes with the batch, so they stay where they are [B1].
 */
#ifndef NABATA_STORAGE_BACKEND_BATCH_H
#define NABATA_STORAGE_BACKEND_BATCH_H

#include "base/arena.h"
#include "storage/backend.h"

struct backend_change {
    enum backend_table table;
    bool is_delete;
    struct nb_bytes key, value; /* borrowed from the arena */
};

struct backend_batch {
    struct backend_batch *next;
    struct nb_arena arena;
    struct backend_change *changes; /* owned */
    size_t change_count, change_capacity;
    size_t bytes;
    uint64_t number;
    struct backend_label label; /* meta in the arena */
};

enum {
    BACKEND_FORMAT_VERSION = 1,
    BACKEND_IDENT_SIZE = 32, /* "NABATADB", u32 version, u32 0, u64 cluster, u64 member */
    BACKEND_LABEL_SIZE = 16, /* u64 index, u64 term; then meta */
};

NB_MUST_USE struct backend_batch *backend_batch_create(void);
void backend_batch_destroy(struct backend_batch *batch); /* NULL is fine */
NB_MUST_USE uint8_t *backend_batch_add(struct backend_batch *batch, enum backend_table table,
                                       struct nb_bytes key, size_t value_len);
void backend_batch_add_delete(struct backend_batch *batch, enum backend_table table,
                              struct nb_bytes key);
void backend_batch_seal(struct backend_batch *batch, const struct backend_label *label,
                        uint64_t number);

/* What lies in META under these keys. */
extern const struct nb_bytes backend_key_ident, backend_key_label;
void backend_ident_encode(const struct backend_ident *ident, uint8_t *to);
/* NB_CORRUPT, NB_VERSION, NB_FOREIGN (when `want` has ids that are not 0 and differ). The sentence
 * in out_message begins with `where`. */
NB_MUST_USE enum nb_status backend_ident_check(struct nb_bytes stored,
                                               const struct backend_ident *want, const char *where,
                                               struct backend_ident *out_ident,
                                               struct nb_buf *out_message);
void backend_label_encode(const struct backend_label *label, struct nb_buf *out);
/* meta is borrowed from `stored`. False when it is none. */
NB_MUST_USE bool backend_label_decode(struct nb_bytes stored, struct backend_label *out);

#endif
