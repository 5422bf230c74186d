#include "base/arena.h"

#include <stdalign.h>
#include <string.h>

/* What has grown large gets large blocks: a batch of thousands of rows asks malloc rarely. */
enum { BLOCK_SIZE_BYTES = 4096, LARGE_BLOCK_SIZE_BYTES = 65536 - 64 };

struct nb_arena_block {
    struct nb_arena_block *next;
    size_t size;
    alignas(max_align_t) uint8_t bytes[];
};

static void push_block(struct nb_arena *a, size_t size)
{
    size_t usual = a->total < LARGE_BLOCK_SIZE_BYTES ? BLOCK_SIZE_BYTES : LARGE_BLOCK_SIZE_BYTES;
    size_t capacity = size < usual ? usual : size;
    struct nb_arena_block *block = nb_alloc(sizeof *block + capacity);
    block->next = a->blocks;
    block->size = capacity;
    a->blocks = block;
    a->used = 0;
}

void *nb_arena_alloc(struct nb_arena *a, size_t size)
{
    nb_assert(size <= SIZE_MAX / 4);
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (a->blocks == NULL || a->blocks->size - a->used < size) {
        push_block(a, size);
    }
    void *memory = a->blocks->bytes + a->used;
    a->used += size;
    a->total += size;
    return memory;
}

void *nb_arena_alloc_zero(struct nb_arena *a, size_t count, size_t size)
{
    nb_assert(size == 0 || count <= SIZE_MAX / 4 / size);
    void *memory = nb_arena_alloc(a, count * size);
    memset(memory, 0, count * size);
    return memory;
}

struct nb_bytes nb_arena_copy(struct nb_arena *a, struct nb_bytes bytes)
{
    if (bytes.len == 0) {
        return (struct nb_bytes){0};
    }
    void *copy = nb_arena_alloc(a, bytes.len);
    memcpy(copy, bytes.data, bytes.len);
    return nb_bytes_of(copy, bytes.len);
}

char *nb_arena_str(struct nb_arena *a, struct nb_bytes bytes)
{
    char *text = nb_arena_alloc(a, bytes.len + 1);
    if (bytes.len != 0) {
        memcpy(text, bytes.data, bytes.len);
    }
    text[bytes.len] = '\0';
    return text;
}

void nb_arena_reset(struct nb_arena *a)
{
    struct nb_arena_block *keep = NULL;
    struct nb_arena_block *block = a->blocks;
    while (block != NULL) {
        struct nb_arena_block *next = block->next;
        if (keep == NULL && block->size == BLOCK_SIZE_BYTES) {
            keep = block;
            keep->next = NULL;
        } else {
            nb_free(block);
        }
        block = next;
    }
    *a = (struct nb_arena){.blocks = keep};
}

void nb_arena_deinit(struct nb_arena *a)
{
    nb_arena_reset(a);
    nb_free(a->blocks);
    *a = (struct nb_arena){0};
}
