#include "rpc/conn.h"

#include <string.h>

enum { POOL_IDLE_BYTES_MAX = 8 << 20 };

static uint64_t path_hash(struct nb_bytes path)
{
    uint64_t hash = path.len * UINT64_C(0x9e3779b97f4a7c15);
    size_t i = 0;
    for (; path.len - i >= 8; i += 8) {
        hash = (hash ^ nb_get_u64(path.data + i)) * UINT64_C(0x9fb21c651e98df25);
        hash ^= hash >> 32;
    }
    for (; i < path.len; i++) {
        hash = (hash ^ path.data[i]) * UINT64_C(0x100000001b3);
    }
    return hash ^ (hash >> 29);
}

const struct rpc_method *rpc_server_lookup(const struct rpc_server *s, struct nb_bytes path)
{
    uint64_t hash = path_hash(path);
    for (size_t i = hash & (s->slot_count - 1);; i = (i + 1) & (s->slot_count - 1)) {
        const struct rpc_method_slot *slot = &s->slots[i];
        if (slot->method == NULL) {
            return NULL;
        }
        if (slot->hash == hash && slot->path_len == path.len &&
            memcmp(slot->method->path, path.data, path.len) == 0) {
            return slot->method;
        }
    }
}

static void index_methods(struct rpc_server *s)
{
    s->slot_count = 16;
    while (s->slot_count < s->config.method_count * 2) {
        s->slot_count *= 2;
    }
    s->slots = nb_alloc_zero(s->slot_count, sizeof *s->slots);
    for (size_t m = 0; m < s->config.method_count; m++) {
        const struct rpc_method *method = &s->config.methods[m];
        nb_assert(method->on_message != NULL && method->path[0] == '/');
        struct nb_bytes path = nb_bytes_str(method->path);
        uint64_t hash = path_hash(path);
        size_t i = hash & (s->slot_count - 1);
        while (s->slots[i].method != NULL) {
            i = (i + 1) & (s->slot_count - 1);
        }
        s->slots[i] = (struct rpc_method_slot){hash, method, (uint32_t)path.len};
    }
}

#define SECOND UINT64_C(1000000000)

/* clang-format off */
static void fill_limits(struct rpc_limits *l)
{
#define DEFAULT(field, value) l->field = l->field != 0 ? l->field : (value)
    DEFAULT(message_bytes_max, 1572864 + 524288);
    DEFAULT(streams_max, UINT32_MAX);
    DEFAULT(calls_max, 16384);
    DEFAULT(unfinished_bytes_max, (size_t)64 << 20);
    DEFAULT(output_bytes_max, (size_t)256 << 20);
    DEFAULT(send_high_bytes, (size_t)256 << 10);
    DEFAULT(header_bytes_max, (size_t)64 << 10);
    DEFAULT(stream_window_bytes, 1 << 20);
    DEFAULT(connection_window_bytes, 16 << 20);
    DEFAULT(preface_timeout_ns, 10 * SECOND);
    DEFAULT(body_timeout_ns, 60 * SECOND);
    DEFAULT(http_idle_timeout_ns, 120 * SECOND);
    DEFAULT(keepalive_min_ns, 5 * SECOND);
    DEFAULT(keepalive_interval_ns, 7200 * SECOND);
    DEFAULT(keepalive_timeout_ns, 20 * SECOND);
    DEFAULT(http_body_bytes_max, (size_t)4 << 20);
#undef DEFAULT
}
/* clang-format on */

struct rpc_server *rpc_server_create(const struct rpc_server_config *config)
{
    struct rpc_server *s = nb_alloc_zero(1, sizeof *s);
    s->config = *config;
    s->limits = config->limits;
    fill_limits(&s->limits);
    nb_assert(s->config.on_output != NULL);
    nb_assert(s->limits.stream_window_bytes <= INT32_MAX);
    nb_assert(s->limits.connection_window_bytes <= INT32_MAX);
    index_methods(s);
    rpc_pool_init(&s->pool, POOL_IDLE_BYTES_MAX);
    rpc_h2_setup(s);
    return s;
}

void rpc_server_drain(struct rpc_server *s)
{
    while (s->free_calls != NULL) {
        struct rpc_call *call = s->free_calls;
        s->free_calls = call->next;
        rpc_reader_reset(&call->reader, false);
        nb_buf_deinit(&call->out);
        nb_buf_deinit(&call->meta);
        nb_buf_deinit(&call->note);
        nb_free(call);
    }
    s->free_call_count = 0;
    rpc_pool_drain(&s->pool);
}

void rpc_server_destroy(struct rpc_server *s)
{
    nb_assert(s->conn_count == 0);
    rpc_server_drain(s);
    nghttp2_session_callbacks_del(s->callbacks);
    nghttp2_option_del(s->option);
    rpc_pool_deinit(&s->pool);
    nb_free(s->slots);
    nb_free(s);
}
