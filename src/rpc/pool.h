/*
 * rpc/pool: memory for nghttp2, which allocates about a dozen small things a call.
 *
 * Freed blocks of up to 1 KiB wait in a list of their size class, up to a bound for all of them, so
 * a steady load reaches malloc no more. Also counts what is in use, for tests of bounds.
 *
 * Invariants:
 *   P1  idle_bytes <= idle_bytes_max
 */
#ifndef NABATA_RPC_POOL_H
#define NABATA_RPC_POOL_H

#include "base/bytes.h"

#include <nghttp2/nghttp2.h>

enum { RPC_POOL_GRAIN = 32, RPC_POOL_CLASS_COUNT = 33 };

struct rpc_pool_block;

struct rpc_pool {
    struct rpc_pool_block *free_blocks[RPC_POOL_CLASS_COUNT];
    size_t idle_bytes, idle_bytes_max;
    size_t used_bytes; /* given out, with our headers */
    nghttp2_mem mem;   /* what nghttp2 is given; points back here, so the pool must not move */
};

void rpc_pool_init(struct rpc_pool *p, size_t idle_bytes_max);
void rpc_pool_drain(struct rpc_pool *p);  /* what is idle goes back to malloc */
void rpc_pool_deinit(struct rpc_pool *p); /* everything must have been given back */

#endif
