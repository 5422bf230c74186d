#include "storage/backend.h"

#include <string.h>

struct nb_bytes backend_batch_put(struct backend *b, enum backend_table table, struct nb_bytes key,
                                  struct nb_bytes value)
{
    uint8_t *to = backend_batch_reserve(b, table, key, value.len);
    if (value.len != 0) {
        memcpy(to, value.data, value.len);
    }
    return nb_bytes_of(to, value.len);
}

uint8_t *backend_batch_reserve(struct backend *b, enum backend_table table, struct nb_bytes key,
                               size_t value_len)
{
    nb_assert(key.len != 0 && key.len <= BACKEND_KEY_SIZE_MAX && table < BACKEND_TABLE_COUNT);
    return b->ops->batch_reserve(b, table, key, value_len);
}

void backend_batch_delete(struct backend *b, enum backend_table table, struct nb_bytes key)
{
    nb_assert(key.len != 0 && key.len <= BACKEND_KEY_SIZE_MAX && table < BACKEND_TABLE_COUNT);
    b->ops->batch_delete(b, table, key);
}

size_t backend_batch_bytes(const struct backend *b)
{
    return b->ops->batch_bytes(b);
}

uint64_t backend_commit(struct backend *b, const struct backend_label *label)
{
    nb_assert(label->meta.len <= BACKEND_META_SIZE_MAX);
    return b->ops->commit(b, label);
}

int backend_completion_fd(struct backend *b)
{
    return b->ops->completion_fd(b);
}

size_t backend_reap(struct backend *b)
{
    return b->ops->reap(b);
}

void backend_wait(struct backend *b)
{
    b->ops->wait(b);
}

uint64_t backend_committed(const struct backend *b)
{
    return b->ops->committed(b);
}

size_t backend_pending_bytes(const struct backend *b)
{
    return b->ops->pending_bytes(b);
}

enum nb_status backend_status(const struct backend *b, const char **out_text)
{
    return b->ops->status(b, out_text);
}

void backend_retry(struct backend *b)
{
    b->ops->retry(b);
}

const struct backend_label *backend_label(const struct backend *b)
{
    return b->ops->label(b);
}

bool backend_get(struct backend *b, enum backend_table table, struct nb_bytes key,
                 struct nb_bytes *out_value)
{
    return b->ops->get(b, table, key, out_value);
}

struct backend_cursor *backend_cursor_open(struct backend *b, enum backend_table table,
                                           struct nb_bytes from, struct nb_bytes to)
{
    return b->ops->cursor_open(b, table, from, to);
}

struct cursor_head {
    struct backend *backend;
};

static const struct backend_ops *ops_of(const struct backend_cursor *c)
{
    return ((const struct cursor_head *)(const void *)c)->backend->ops;
}

bool backend_cursor_next(struct backend_cursor *c, struct nb_bytes *out_key,
                         struct nb_bytes *out_value)
{
    return ops_of(c)->cursor_next(c, out_key, out_value);
}

void backend_cursor_close(struct backend_cursor *c)
{
    if (c != NULL) {
        ops_of(c)->cursor_close(c);
    }
}

void backend_sizes(struct backend *b, struct backend_sizes *out_sizes)
{
    b->ops->sizes(b, out_sizes);
}

void backend_copy(struct backend *b, const char *path,
                  void (*on_done)(void *context, enum nb_status status, const char *text),
                  void *context)
{
    b->ops->copy(b, path, on_done, context);
}

enum nb_status backend_replace(struct backend *b, const char *path, struct nb_buf *out_message)
{
    return b->ops->replace(b, path, out_message);
}

void backend_close(struct backend *b)
{
    if (b != NULL) {
        b->ops->close(b);
    }
}
