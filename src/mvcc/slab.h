/*
 * mvcc/slab: memory for many small things that live long.
 *
 * Sizes are rounded up to 8 bytes; each size up to SLAB_SIZE_MAX has its own free list over chunks
 * that are given back only at the end. Nothing is stored beside the things, so the caller tells the
 * size again when it frees. Larger ones go to the heap.
 */
#ifndef NABATA_MVCC_SLAB_H
#define NABATA_MVCC_SLAB_H

#include "base/bytes.h"

enum { MVCC_SLAB_SIZE_MAX = 512, MVCC_SLAB_CLASS_COUNT = MVCC_SLAB_SIZE_MAX / 8 + 1 };

struct mvcc_slab_chunk;

/* All zero is a valid empty slab. */
struct mvcc_slab {
    void *free_lists[MVCC_SLAB_CLASS_COUNT];
    struct mvcc_slab_chunk *chunks; /* owned; the newest first */
    size_t used;                    /* bytes taken in the newest chunk */
    uint64_t bytes;                 /* taken from the system, for chunks and large things */
};

NB_MUST_USE void *mvcc_slab_alloc(struct mvcc_slab *s, size_t size);
void mvcc_slab_free(struct mvcc_slab *s, void *memory, size_t size);
/* Gives the chunks back. Large things must have been freed before. */
void mvcc_slab_deinit(struct mvcc_slab *s);

#endif
