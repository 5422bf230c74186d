#include "rpc/pool.h"

#include <stdlib.h>
#include <string.h>

/* Before each block; keeps malloc's alignment. */
struct rpc_pool_block {
    size_t size;                 /* whole, with this header */
    struct rpc_pool_block *next; /* in a list of free ones */
};

static_assert(sizeof(struct rpc_pool_block) == 16, "keeps blocks aligned");

static size_t class_of(size_t whole)
{
    return (whole + RPC_POOL_GRAIN - 1) / RPC_POOL_GRAIN;
}

static void *pool_malloc(size_t size, void *user)
{
    struct rpc_pool *p = user;
    nb_assert(size <= SIZE_MAX / 4);
    size_t whole = size + sizeof(struct rpc_pool_block);
    size_t class = class_of(whole);
    struct rpc_pool_block *block;
    if (class < RPC_POOL_CLASS_COUNT) {
        whole = class * RPC_POOL_GRAIN;
        block = p->free_blocks[class];
        if (block != NULL) {
            p->free_blocks[class] = block->next;
            p->idle_bytes -= whole;
            p->used_bytes += whole;
            return block + 1;
        }
    }
    block = nb_alloc(whole);
    block->size = whole;
    p->used_bytes += whole;
    return block + 1;
}

static void pool_free(void *memory, void *user)
{
    struct rpc_pool *p = user;
    if (memory == NULL) {
        return;
    }
    struct rpc_pool_block *block = (struct rpc_pool_block *)memory - 1;
    size_t class = class_of(block->size);
    p->used_bytes -= block->size;
    if (class < RPC_POOL_CLASS_COUNT && p->idle_bytes + block->size <= p->idle_bytes_max) {
        block->next = p->free_blocks[class];
        p->free_blocks[class] = block;
        p->idle_bytes += block->size;
        return;
    }
    nb_free(block);
}

static void *pool_calloc(size_t count, size_t size, void *user)
{
    nb_assert(size == 0 || count <= SIZE_MAX / 4 / size);
    void *memory = pool_malloc(count * size, user);
    memset(memory, 0, count * size);
    return memory;
}

static void *pool_realloc(void *memory, size_t size, void *user)
{
    if (memory == NULL) {
        return pool_malloc(size, user);
    }
    size_t old = ((struct rpc_pool_block *)memory - 1)->size - sizeof(struct rpc_pool_block);
    if (size <= old) {
        return memory;
    }
    void *bigger = pool_malloc(size, user);
    memcpy(bigger, memory, old);
    pool_free(memory, user);
    return bigger;
}

void rpc_pool_init(struct rpc_pool *p, size_t idle_bytes_max)
{
    *p = (struct rpc_pool){.idle_bytes_max = idle_bytes_max};
    p->mem = (nghttp2_mem){p, pool_malloc, pool_free, pool_calloc, pool_realloc};
}

void rpc_pool_drain(struct rpc_pool *p)
{
    for (size_t i = 0; i < RPC_POOL_CLASS_COUNT; i++) {
        while (p->free_blocks[i] != NULL) {
            struct rpc_pool_block *block = p->free_blocks[i];
            p->free_blocks[i] = block->next;
            nb_free(block);
        }
    }
    p->idle_bytes = 0;
}

void rpc_pool_deinit(struct rpc_pool *p)
{
    nb_assert(p->used_bytes == 0);
    rpc_pool_drain(p);
}
