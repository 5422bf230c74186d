#include "rpc/framing.h"

#include <string.h>

enum { KEEP_BYTES_MAX = 2048 };

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void take(struct nb_bytes *in, size_t len)
{
    *in = nb_bytes_from(*in, len);
}

/* Completes the prefix as far as the input goes, and judges it. */
static enum rpc_read read_prefix(struct rpc_reader *r, struct nb_bytes *in, size_t bytes_max)
{
    size_t len = min_size((size_t)(RPC_PREFIX_SIZE - r->prefix_len), in->len);
    if (len != 0) {
        memcpy(r->prefix + r->prefix_len, in->data, len);
        r->prefix_len = (uint8_t)(r->prefix_len + len);
        take(in, len);
    }
    if (r->prefix_len < RPC_PREFIX_SIZE) {
        return RPC_READ_MORE;
    }
    r->need = (uint32_t)r->prefix[1] << 24 | (uint32_t)r->prefix[2] << 16 |
              (uint32_t)r->prefix[3] << 8 | r->prefix[4];
    if (r->prefix[0] > 1) {
        return RPC_READ_BAD_FLAG;
    }
    if (r->need > bytes_max) {
        return RPC_READ_TOO_LARGE;
    }
    return r->prefix[0] == 1 ? RPC_READ_COMPRESSED : RPC_READ_MESSAGE;
}

enum rpc_read rpc_reader_next(struct rpc_reader *r, struct nb_bytes *in, size_t bytes_max,
                              struct nb_bytes *out_message)
{
    if (r->taken) {
        rpc_reader_reset(r, true);
    }
    if (r->prefix_len < RPC_PREFIX_SIZE) {
        enum rpc_read judged = read_prefix(r, in, bytes_max);
        if (judged != RPC_READ_MESSAGE) {
            return judged;
        }
    }
    if (r->partial.len == 0 && in->len >= r->need) {
        *out_message = nb_bytes_of(in->data, r->need);
        take(in, r->need);
        r->prefix_len = 0;
        return RPC_READ_MESSAGE;
    }
    size_t len = min_size(r->need - r->partial.len, in->len);
    nb_buf_append(&r->partial, in->data, len);
    take(in, len);
    if (r->partial.len < r->need) {
        return RPC_READ_MORE;
    }
    r->taken = true;
    *out_message = nb_buf_bytes(&r->partial);
    return RPC_READ_MESSAGE;
}

bool rpc_reader_is_partial(const struct rpc_reader *r)
{
    return r->prefix_len != 0 && !r->taken;
}

size_t rpc_reader_held_bytes(const struct rpc_reader *r)
{
    return r->partial.len;
}

void rpc_reader_hold(struct rpc_reader *r, struct nb_bytes message)
{
    if (!r->taken) { /* else it lies in `partial` already */
        nb_assert(r->partial.len == 0);
        nb_buf_append_bytes(&r->partial, message);
    }
    r->taken = true;
}

void rpc_reader_reset(struct rpc_reader *r, bool keep)
{
    if (!keep || r->partial.capacity > KEEP_BYTES_MAX) {
        nb_buf_deinit(&r->partial);
    }
    nb_buf_clear(&r->partial);
    r->prefix_len = 0;
    r->taken = false;
    r->need = 0;
}

void rpc_prefix_put(uint8_t to[static RPC_PREFIX_SIZE], size_t len)
{
    nb_assert(len <= UINT32_MAX);
    to[0] = 0;
    to[1] = (uint8_t)(len >> 24);
    to[2] = (uint8_t)(len >> 16);
    to[3] = (uint8_t)(len >> 8);
    to[4] = (uint8_t)len;
}
