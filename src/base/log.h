/*
 * base/log: one line an event.
 *
 * A line has a stable name (`raft.leader_elected`), key=value pairs and, for those who wait for
 * etcd's words, a message. Two formats: `json` as etcd's zap writes it, `console` for people. User
 * bytes are escaped. The logger is an argument everywhere; there is no global one.
 *
 *     nb_log(log, NB_LOG_INFO, "raft.leader_elected", "elected leader",
 *            NB_KV_U64("term", term), NB_KV_ID("leader", id), NB_KV_END);
 */
#ifndef NABATA_BASE_LOG_H
#define NABATA_BASE_LOG_H

#include "base/bytes.h"

enum nb_log_level { NB_LOG_DEBUG, NB_LOG_INFO, NB_LOG_WARN, NB_LOG_ERROR, NB_LOG_FATAL };

enum nb_log_format { NB_LOG_JSON, NB_LOG_CONSOLE };

struct nb_logger {
    int fd; /* borrowed; -1 drops everything */
    enum nb_log_level level_min;
    enum nb_log_format format;
    bool color;         /* console only */
    const char *member; /* borrowed; printed by console lines when not NULL */
};

enum nb_kv_type {
    NB_KV_TYPE_END,
    NB_KV_TYPE_STR,
    NB_KV_TYPE_BYTES,
    NB_KV_TYPE_U64,
    NB_KV_TYPE_I64,
    NB_KV_TYPE_ID,
    NB_KV_TYPE_BOOL,
    NB_KV_TYPE_F64
};

struct nb_kv {
    enum nb_kv_type type;
    const char *name;
    union {
        const char *str; /* NULL prints as empty */
        struct nb_bytes bytes;
        uint64_t u64;
        int64_t i64;
        double f64;
    };
};

#define NB_KV_STR(n, v) ((struct nb_kv){.type = NB_KV_TYPE_STR, .name = (n), .str = (v)})
#define NB_KV_BYTES(n, v) ((struct nb_kv){.type = NB_KV_TYPE_BYTES, .name = (n), .bytes = (v)})
#define NB_KV_U64(n, v) ((struct nb_kv){.type = NB_KV_TYPE_U64, .name = (n), .u64 = (v)})
#define NB_KV_I64(n, v) ((struct nb_kv){.type = NB_KV_TYPE_I64, .name = (n), .i64 = (v)})
#define NB_KV_ID(n, v) ((struct nb_kv){.type = NB_KV_TYPE_ID, .name = (n), .u64 = (v)}) /* hex */
#define NB_KV_BOOL(n, v) ((struct nb_kv){.type = NB_KV_TYPE_BOOL, .name = (n), .u64 = (v)})
#define NB_KV_F64(n, v) ((struct nb_kv){.type = NB_KV_TYPE_F64, .name = (n), .f64 = (v)})
#define NB_KV_END ((struct nb_kv){.type = NB_KV_TYPE_END})

/* Writes one line with one write(2). `event` is the stable name, `message` may be NULL.
 * `logger` may be NULL (nothing is written). errno is preserved. */
void nb_log_line(const struct nb_logger *logger, enum nb_log_level level, const char *event,
                 const char *message, const struct nb_kv *pairs);

#define nb_log(logger, level, event, message, ...)                                                 \
    nb_log_line((logger), (level), (event), (message), (const struct nb_kv[]){__VA_ARGS__})

/* Builds the line without writing it; `now_ns` is unix time. For tests and for nb_log_line. */
void nb_log_format_line(const struct nb_logger *logger, enum nb_log_level level, const char *event,
                        const char *message, const struct nb_kv *pairs, int64_t now_ns,
                        struct nb_buf *out);

/* "debug".."fatal" to a level; also "warning", "panic", "dpanic". False if it is none. */
bool nb_log_level_of(const char *name, enum nb_log_level *out);

/* Appends bytes as the inside of a JSON string: quotes, control bytes and invalid UTF-8 escaped. */
void nb_json_escape(struct nb_buf *out, struct nb_bytes bytes);

#endif
