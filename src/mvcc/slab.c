#include "mvcc/slab.h"

#include <string.h>

enum { CHUNK_SIZE_BYTES = 128 * 1024 - 32 }; /* with malloc's own words just under 128 KiB */

struct mvcc_slab_chunk {
    struct mvcc_slab_chunk *next;
    uint8_t bytes[CHUNK_SIZE_BYTES];
};

static size_t class_of(size_t size)
{
    return (size + 7) / 8;
}

void *mvcc_slab_alloc(struct mvcc_slab *s, size_t size)
{
    nb_assert(size != 0);
    if (size > MVCC_SLAB_SIZE_MAX) {
        s->bytes += size;
        return nb_alloc(size);
    }
    void **list = &s->free_lists[class_of(size)];
    void *memory = *list;
    if (memory != NULL) {
        memcpy(list, memory, sizeof *list); /* a free thing holds the address of the next */
        return memory;
    }
    size_t rounded = class_of(size) * 8;
    if (s->chunks == NULL || CHUNK_SIZE_BYTES - s->used < rounded) {
        struct mvcc_slab_chunk *chunk = nb_alloc(sizeof *chunk);
        chunk->next = s->chunks;
        s->chunks = chunk;
        s->used = 0;
        s->bytes += sizeof *chunk;
    }
    memory = s->chunks->bytes + s->used;
    s->used += rounded;
    return memory;
}

void mvcc_slab_free(struct mvcc_slab *s, void *memory, size_t size)
{
    if (size > MVCC_SLAB_SIZE_MAX) {
        s->bytes -= size;
        nb_free(memory);
        return;
    }
    void **list = &s->free_lists[class_of(size)];
    memcpy(memory, list, sizeof *list);
    *list = memory;
}

void mvcc_slab_deinit(struct mvcc_slab *s)
{
    struct mvcc_slab_chunk *chunk = s->chunks;
    while (chunk != NULL) {
        struct mvcc_slab_chunk *next = chunk->next;
        nb_free(chunk);
        chunk = next;
    }
    *s = (struct mvcc_slab){0};
}
