#include "storage/backend_memory.h"

#include "storage/backend_batch.h"

#include <string.h>

enum { IMAGE_SIZE_MAX = 1 << 30, PAGE_SIZE = 4096 };

static const char image_magic[8] = {'N', 'A', 'B', 'A', 'T', 'A', 'M', 'M'};

struct pair {
    struct nb_buf key, value;
};

/* Sorted by key. */
struct table {
    struct pair *pairs; /* owned */
    size_t count, capacity;
};

struct backend_memory_store {
    struct table tables[BACKEND_TABLE_COUNT];
};

struct memory {
    struct backend base;
    struct backend_memory_store *store; /* borrowed; what is in the file */
    struct backend_memory_store view;   /* owned; as of the last reap */
    struct disk *disk;                  /* borrowed; may be NULL */
    struct backend_ident ident;
    struct backend_label label;
    struct nb_buf label_bytes;
    struct backend_batch *open, *queued, **queued_last, *done, **done_last;
    uint64_t next_number, committed, index_last;
    size_t pending_bytes;
    enum nb_status status, fail_status;
    unsigned fail_count, cursors;
    char *copy_path; /* owned; of the copy that waits */
    void (*copy_on_done)(void *context, enum nb_status status, const char *text);
    void *copy_context;
    bool copy_done;
    enum nb_status copy_status;
};

struct backend_cursor {
    struct backend *backend; /* first: see backend.c */
    const struct table *table;
    struct nb_buf to;
    size_t at;
};

static struct memory *memory_of(struct backend *b)
{
    return (struct memory *)(void *)b;
}

static const struct memory *memory_of_const(const struct backend *b)
{
    return (const struct memory *)(const void *)b;
}

/* --- tables --------------------------------------------------------------------------------- */

/* The first place whose key is not below `key`. */
static size_t place(const struct table *t, struct nb_bytes key)
{
    size_t low = 0;
    size_t high = t->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (nb_bytes_compare(nb_buf_bytes(&t->pairs[mid].key), key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static bool holds(const struct table *t, size_t at, struct nb_bytes key)
{
    return at < t->count && nb_bytes_equal(nb_buf_bytes(&t->pairs[at].key), key);
}

static void table_put(struct table *t, struct nb_bytes key, struct nb_bytes value)
{
    size_t at = place(t, key);
    if (!holds(t, at, key)) {
        t->pairs = nb_grow(t->pairs, &t->capacity, t->count + 1, sizeof *t->pairs);
        memmove(t->pairs + at + 1, t->pairs + at, (t->count - at) * sizeof *t->pairs);
        t->pairs[at] = (struct pair){0};
        nb_buf_append_bytes(&t->pairs[at].key, key);
        t->count++;
    }
    nb_buf_clear(&t->pairs[at].value);
    nb_buf_append_bytes(&t->pairs[at].value, value);
}

static void table_delete(struct table *t, struct nb_bytes key)
{
    size_t at = place(t, key);
    if (holds(t, at, key)) {
        nb_buf_deinit(&t->pairs[at].key);
        nb_buf_deinit(&t->pairs[at].value);
        t->count--;
        memmove(t->pairs + at, t->pairs + at + 1, (t->count - at) * sizeof *t->pairs);
    }
}

static void store_clear(struct backend_memory_store *s)
{
    for (size_t i = 0; i < BACKEND_TABLE_COUNT; i++) {
        struct table *t = &s->tables[i];
        for (size_t k = 0; k < t->count; k++) {
            nb_buf_deinit(&t->pairs[k].key);
            nb_buf_deinit(&t->pairs[k].value);
        }
        nb_free(t->pairs);
        *t = (struct table){0};
    }
}

static void store_copy(struct backend_memory_store *to, const struct backend_memory_store *from)
{
    store_clear(to);
    for (size_t i = 0; i < BACKEND_TABLE_COUNT; i++) {
        for (size_t k = 0; k < from->tables[i].count; k++) {
            const struct pair *p = &from->tables[i].pairs[k];
            table_put(&to->tables[i], nb_buf_bytes(&p->key), nb_buf_bytes(&p->value));
        }
    }
}

static void store_apply(struct backend_memory_store *s, const struct backend_batch *batch)
{
    for (size_t i = 0; i < batch->change_count; i++) {
        const struct backend_change *c = &batch->changes[i];
        if (c->is_delete) {
            table_delete(&s->tables[c->table], c->key);
        } else {
            table_put(&s->tables[c->table], c->key, c->value);
        }
    }
    struct nb_buf label = {0};
    backend_label_encode(&batch->label, &label);
    table_put(&s->tables[BACKEND_META], backend_key_label, nb_buf_bytes(&label));
    nb_buf_deinit(&label);
}

static bool store_get(const struct backend_memory_store *s, enum backend_table table,
                      struct nb_bytes key, struct nb_bytes *out_value)
{
    const struct table *t = &s->tables[table];
    size_t at = place(t, key);
    if (!holds(t, at, key)) {
        return false;
    }
    *out_value = nb_buf_bytes(&t->pairs[at].value);
    return true;
}

struct backend_memory_store *backend_memory_store_create(void)
{
    return nb_alloc_zero(1, sizeof(struct backend_memory_store));
}

void backend_memory_store_destroy(struct backend_memory_store *store)
{
    if (store != NULL) {
        store_clear(store);
        nb_free(store);
    }
}

/* --- images: magic, then (u32 table, u32 key length, u32 value length, key, value)* --------- */

static void image_encode(const struct backend_memory_store *s, struct nb_buf *out)
{
    nb_buf_append(out, image_magic, sizeof image_magic);
    for (size_t i = 0; i < BACKEND_TABLE_COUNT; i++) {
        for (size_t k = 0; k < s->tables[i].count; k++) {
            const struct pair *p = &s->tables[i].pairs[k];
            uint8_t head[12];
            nb_put_u32(head, (uint32_t)i);
            nb_put_u32(head + 4, (uint32_t)p->key.len);
            nb_put_u32(head + 8, (uint32_t)p->value.len);
            nb_buf_append(out, head, sizeof head);
            nb_buf_append_bytes(out, nb_buf_bytes(&p->key));
            nb_buf_append_bytes(out, nb_buf_bytes(&p->value));
        }
    }
}

static bool image_decode(struct nb_bytes in, struct backend_memory_store *out)
{
    if (in.len < sizeof image_magic || memcmp(in.data, image_magic, sizeof image_magic) != 0) {
        return false;
    }
    in = nb_bytes_from(in, sizeof image_magic);
    while (in.len != 0) {
        if (in.len < 12) {
            return false;
        }
        uint32_t table = nb_get_u32(in.data);
        size_t key_len = nb_get_u32(in.data + 4);
        size_t value_len = nb_get_u32(in.data + 8);
        in = nb_bytes_from(in, 12);
        if (table >= BACKEND_TABLE_COUNT || key_len > in.len || value_len > in.len - key_len) {
            return false;
        }
        table_put(&out->tables[table], nb_bytes_of(in.data, key_len),
                  nb_bytes_of(in.data + key_len, value_len));
        in = nb_bytes_from(in, key_len + value_len);
    }
    return true;
}

/* --- the interface -------------------------------------------------------------------------- */

static uint8_t *memory_batch_reserve(struct backend *b, enum backend_table table,
                                     struct nb_bytes key, size_t value_len)
{
    return backend_batch_add(memory_of(b)->open, table, key, value_len);
}

static void memory_batch_delete(struct backend *b, enum backend_table table, struct nb_bytes key)
{
    backend_batch_add_delete(memory_of(b)->open, table, key);
}

static size_t memory_batch_bytes(const struct backend *b)
{
    return memory_of_const(b)->open->bytes;
}

static uint64_t memory_commit(struct backend *b, const struct backend_label *label)
{
    struct memory *m = memory_of(b);
    nb_assert(label->applied_index >= m->index_last);
    m->index_last = label->applied_index;
    struct backend_batch *batch = m->open;
    uint64_t number = m->next_number++;
    backend_batch_seal(batch, label, number);
    m->pending_bytes += batch->bytes;
    m->open = backend_batch_create();
    *m->queued_last = batch;
    m->queued_last = &batch->next;
    return number;
}

static void step_copy(struct memory *m)
{
    if (m->copy_path == NULL || m->copy_done) {
        return;
    }
    struct nb_buf image = {0};
    image_encode(m->store, &image);
    const char *slash = strrchr(m->copy_path, '/');
    char *dir = nb_strdup(slash == NULL ? "." : m->copy_path);
    if (slash != NULL) {
        dir[slash - m->copy_path] = '\0';
    }
    m->copy_status = m->disk == NULL
                         ? NB_UNSUPPORTED
                         : disk_write_file(m->disk, dir, m->copy_path, nb_buf_bytes(&image));
    m->copy_done = true;
    nb_free(dir);
    nb_buf_deinit(&image);
}

size_t backend_memory_step(struct backend *b, size_t batches_max)
{
    struct memory *m = memory_of(b);
    size_t count = 0;
    while (m->queued != NULL && count < batches_max && m->status == NB_OK) {
        if (m->fail_count != 0) {
            m->fail_count--;
            m->status = m->fail_status;
            break;
        }
        struct backend_batch *batch = m->queued;
        m->queued = batch->next;
        if (m->queued == NULL) {
            m->queued_last = &m->queued;
        }
        batch->next = NULL;
        store_apply(m->store, batch);
        *m->done_last = batch;
        m->done_last = &batch->next;
        count++;
    }
    step_copy(m);
    return count;
}

void backend_memory_fail(struct backend *b, enum nb_status status, unsigned count)
{
    memory_of(b)->fail_status = status;
    memory_of(b)->fail_count = count;
}

static void memory_retry(struct backend *b)
{
    struct memory *m = memory_of(b);
    if (m->status == NB_NO_SPACE_DISK) {
        m->status = NB_OK;
    }
}

static int memory_completion_fd(struct backend *b)
{
    (void)b;
    return -1;
}

static void view_load_label(struct memory *m)
{
    struct nb_bytes stored;
    nb_buf_clear(&m->label_bytes);
    m->label = (struct backend_label){0};
    if (store_get(&m->view, BACKEND_META, backend_key_label, &stored)) {
        nb_buf_append_bytes(&m->label_bytes, stored);
        nb_assert(backend_label_decode(nb_buf_bytes(&m->label_bytes), &m->label));
    }
}

static void reap_copy(struct memory *m)
{
    if (m->copy_done) {
        m->copy_done = false;
        nb_free(m->copy_path);
        m->copy_path = NULL;
        m->copy_on_done(m->copy_context, m->copy_status, nb_status_text(m->copy_status));
    }
}

static size_t memory_reap(struct backend *b)
{
    struct memory *m = memory_of(b);
    struct backend_batch *batch = m->done;
    m->done = NULL;
    m->done_last = &m->done;
    size_t count = 0;
    nb_assert(batch == NULL || m->cursors == 0);
    while (batch != NULL) {
        struct backend_batch *next = batch->next;
        store_apply(&m->view, batch);
        m->committed = batch->number;
        m->pending_bytes -= batch->bytes;
        backend_batch_destroy(batch);
        batch = next;
        count++;
    }
    if (count != 0) {
        view_load_label(m);
    }
    reap_copy(m);
    return count;
}

static void memory_wait(struct backend *b)
{
    (void)backend_memory_step(b, SIZE_MAX);
    (void)memory_reap(b);
}

static uint64_t memory_committed(const struct backend *b)
{
    return memory_of_const(b)->committed;
}

static size_t memory_pending_bytes(const struct backend *b)
{
    return memory_of_const(b)->pending_bytes;
}

static enum nb_status memory_status(const struct backend *b, const char **out_text)
{
    if (out_text != NULL) {
        *out_text = nb_status_text(memory_of_const(b)->status);
    }
    return memory_of_const(b)->status;
}

static const struct backend_label *memory_label(const struct backend *b)
{
    return &memory_of_const(b)->label;
}

static bool memory_get(struct backend *b, enum backend_table table, struct nb_bytes key,
                       struct nb_bytes *out_value)
{
    return store_get(&memory_of(b)->view, table, key, out_value);
}

static struct backend_cursor *memory_cursor_open(struct backend *b, enum backend_table table,
                                                 struct nb_bytes from, struct nb_bytes to)
{
    struct memory *m = memory_of(b);
    struct backend_cursor *c = nb_alloc_zero(1, sizeof *c);
    c->backend = b;
    c->table = &m->view.tables[table];
    c->at = place(c->table, from);
    nb_buf_append_bytes(&c->to, to);
    m->cursors++;
    return c;
}

static bool memory_cursor_next(struct backend_cursor *c, struct nb_bytes *out_key,
                               struct nb_bytes *out_value)
{
    if (c->at >= c->table->count) {
        return false;
    }
    const struct pair *p = &c->table->pairs[c->at];
    if (c->to.len != 0 && nb_bytes_compare(nb_buf_bytes(&p->key), nb_buf_bytes(&c->to)) >= 0) {
        c->at = c->table->count;
        return false;
    }
    c->at++;
    *out_key = nb_buf_bytes(&p->key);
    *out_value = nb_buf_bytes(&p->value);
    return true;
}

static void memory_cursor_close(struct backend_cursor *c)
{
    memory_of(c->backend)->cursors--;
    nb_buf_deinit(&c->to);
    nb_free(c);
}

static void memory_sizes(struct backend *b, struct backend_sizes *out_sizes)
{
    const struct memory *m = memory_of(b);
    uint64_t bytes = PAGE_SIZE;
    for (size_t i = 0; i < BACKEND_TABLE_COUNT; i++) {
        for (size_t k = 0; k < m->view.tables[i].count; k++) {
            bytes += m->view.tables[i].pairs[k].key.len + m->view.tables[i].pairs[k].value.len;
        }
    }
    bytes = (bytes + PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
    *out_sizes =
        (struct backend_sizes){.allocated = bytes, .in_use = bytes, .page_size = PAGE_SIZE};
}

static void memory_copy(struct backend *b, const char *path,
                        void (*on_done)(void *context, enum nb_status status, const char *text),
                        void *context)
{
    struct memory *m = memory_of(b);
    if (m->copy_path != NULL) {
        on_done(context, NB_BUSY, "another copy is under way");
        return;
    }
    m->copy_path = nb_strdup(path);
    m->copy_on_done = on_done;
    m->copy_context = context;
}

static void free_list(struct backend_batch *b)
{
    while (b != NULL) {
        struct backend_batch *next = b->next;
        backend_batch_destroy(b);
        b = next;
    }
}

static void drop_batches(struct memory *m)
{
    free_list(m->queued);
    free_list(m->done);
    backend_batch_destroy(m->open);
    m->open = NULL;
    m->queued = NULL;
    m->queued_last = &m->queued;
    m->done = NULL;
    m->done_last = &m->done;
    m->pending_bytes = 0;
}

static void put_ident(struct memory *m)
{
    uint8_t bytes[BACKEND_IDENT_SIZE];
    backend_ident_encode(&m->ident, bytes);
    table_put(&m->store->tables[BACKEND_META], backend_key_ident, nb_bytes_of(bytes, sizeof bytes));
}

static enum nb_status memory_replace(struct backend *b, const char *path,
                                     struct nb_buf *out_message)
{
    struct memory *m = memory_of(b);
    nb_assert(m->cursors == 0 && m->copy_path == NULL && m->disk != NULL);
    struct nb_buf image = {0};
    struct backend_memory_store received = {0};
    enum nb_status status = disk_read_file(m->disk, path, IMAGE_SIZE_MAX, &image);
    if (status == NB_OK) {
        struct nb_bytes stored;
        const struct backend_ident want = {.cluster_id = m->ident.cluster_id};
        struct backend_ident found;
        if (!image_decode(nb_buf_bytes(&image), &received) ||
            !store_get(&received, BACKEND_META, backend_key_ident, &stored)) {
            status = NB_CORRUPT;
            nb_buf_printf(out_message, "%s is not a database", path);
        } else {
            status = backend_ident_check(stored, &want, path, &found, out_message);
        }
    } else {
        nb_buf_printf(out_message, "cannot read %s: %s", path, nb_status_text(status));
    }
    if (status == NB_OK) {
        drop_batches(m);
        m->open = backend_batch_create();
        m->committed = m->next_number - 1;
        m->status = NB_OK;
        store_copy(m->store, &received);
        put_ident(m);
        store_copy(&m->view, m->store);
        view_load_label(m);
        m->index_last = m->label.applied_index;
        status = disk_unlink(m->disk, path);
    }
    store_clear(&received);
    nb_buf_deinit(&image);
    return status;
}

void backend_memory_crash(struct backend *b)
{
    struct memory *m = memory_of(b);
    drop_batches(m);
    store_clear(&m->view);
    nb_buf_deinit(&m->label_bytes);
    nb_free(m->copy_path);
    nb_free(m);
}

static void memory_close(struct backend *b)
{
    (void)backend_memory_step(b, SIZE_MAX);
    backend_memory_crash(b);
}

static const struct backend_ops memory_ops = {
    .batch_reserve = memory_batch_reserve,
    .batch_delete = memory_batch_delete,
    .batch_bytes = memory_batch_bytes,
    .commit = memory_commit,
    .retry = memory_retry,
    .completion_fd = memory_completion_fd,
    .reap = memory_reap,
    .wait = memory_wait,
    .committed = memory_committed,
    .pending_bytes = memory_pending_bytes,
    .status = memory_status,
    .label = memory_label,
    .get = memory_get,
    .cursor_open = memory_cursor_open,
    .cursor_next = memory_cursor_next,
    .cursor_close = memory_cursor_close,
    .sizes = memory_sizes,
    .copy = memory_copy,
    .replace = memory_replace,
    .close = memory_close,
};

enum nb_status backend_memory_open(struct backend_memory_store *store, struct disk *disk,
                                   const struct backend_ident *ident, struct backend **out_backend,
                                   struct nb_buf *out_message)
{
    struct nb_bytes stored;
    struct backend_ident found = *ident;
    if (store_get(store, BACKEND_META, backend_key_ident, &stored)) {
        enum nb_status status =
            backend_ident_check(stored, ident, "the store in memory", &found, out_message);
        if (status != NB_OK) {
            return status;
        }
    }
    struct memory *m = nb_alloc_zero(1, sizeof *m);
    m->base.ops = &memory_ops;
    m->store = store;
    m->disk = disk;
    m->ident = found;
    m->next_number = 1;
    m->open = backend_batch_create();
    m->queued_last = &m->queued;
    m->done_last = &m->done;
    put_ident(m);
    store_copy(&m->view, store);
    view_load_label(m);
    m->index_last = m->label.applied_index;
    *out_backend = &m->base;
    return NB_OK;
}
