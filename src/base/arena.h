/*
 * base/arena: memory that goes all at once.
 *
 * Everything a request needs comes from its arena and leaves with it. Blocks are kept for the next
 * request by nb_arena_reset, so a steady load allocates nothing.
 */
#ifndef NABATA_BASE_ARENA_H
#define NABATA_BASE_ARENA_H

#include "base/bytes.h"

struct nb_arena_block;

/* All zero is a valid empty arena. */
struct nb_arena {
    struct nb_arena_block *blocks; /* owned; the newest first */
    size_t used;                   /* bytes taken in the newest block */
    size_t total;                  /* bytes handed out since the last reset */
};

/* Aligned for any type; valid until the arena is reset or deinited. */
NB_MUST_USE void *nb_arena_alloc(struct nb_arena *a, size_t size);
NB_MUST_USE void *nb_arena_alloc_zero(struct nb_arena *a, size_t count, size_t size);
NB_MUST_USE struct nb_bytes nb_arena_copy(struct nb_arena *a, struct nb_bytes bytes);
/* A C string of the bytes; bytes that are 0 stay in it. */
NB_MUST_USE char *nb_arena_str(struct nb_arena *a, struct nb_bytes bytes);
/* Forgets all; keeps one block of ordinary size. */
void nb_arena_reset(struct nb_arena *a);
void nb_arena_deinit(struct nb_arena *a);

#endif
