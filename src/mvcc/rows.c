#include "mvcc/rows.h"

#include "storage/backend.h"

#include <string.h>

void mvcc_rows_init(struct mvcc_rows *rows, struct backend *backend)
{
    *rows = (struct mvcc_rows){.backend = backend};
}

void mvcc_rows_deinit(struct mvcc_rows *rows)
{
    nb_free(rows->pending);
    nb_free(rows->sealed);
    mvcc_places_deinit(&rows->places);
    *rows = (struct mvcc_rows){0};
}

static bool before(const struct mvcc_version *a, const struct mvcc_version *b)
{
    return a->main < b->main || (a->main == b->main && a->sub < b->sub);
}

struct nb_bytes mvcc_rows_put(struct mvcc_rows *rows, struct mvcc_version v, struct nb_bytes value)
{
    nb_assert(rows->first == rows->count || before(&rows->pending[rows->count - 1].version, &v));
    uint8_t name[MVCC_ROW_KEY_SIZE_MAX];
    size_t name_len = mvcc_row_key_put(name, v);
    struct nb_bytes stored =
        backend_batch_put(rows->backend, BACKEND_KEY, nb_bytes_of(name, name_len), value);
    rows->pending = nb_grow(rows->pending, &rows->capacity, rows->count + 1, sizeof *rows->pending);
    rows->pending[rows->count++] = (struct mvcc_pending_row){.version = v, .value = stored};
    rows->pending_bytes += stored.len;
    return stored;
}

void mvcc_rows_drop(struct mvcc_rows *rows, struct mvcc_version v)
{
    uint8_t name[MVCC_ROW_KEY_SIZE_MAX];
    size_t name_len = mvcc_row_key_put(name, v);
    backend_batch_delete(rows->backend, BACKEND_KEY, nb_bytes_of(name, name_len));
}

/* The first pending row at or behind (main, sub). */
static size_t pending_from(const struct mvcc_rows *rows, int64_t main, uint32_t sub)
{
    const struct mvcc_version v = {.main = main, .sub = sub};
    size_t low = rows->first;
    size_t high = rows->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (before(&rows->pending[middle].version, &v)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool may_be_pending(const struct mvcc_rows *rows, struct mvcc_version v)
{
    return rows->first != rows->count && !before(&v, &rows->pending[rows->first].version);
}

void mvcc_rows_foresee(const struct mvcc_rows *rows, const struct mvcc_version *versions,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mvcc_places_fetch_slot(&rows->places, versions[i]);
    }
    for (size_t i = 0; i < count; i++) {
        mvcc_places_fetch_value(&rows->places, versions[i]);
    }
}

struct nb_bytes mvcc_rows_get(struct mvcc_rows *rows, struct mvcc_version v)
{
    struct nb_bytes value;
    if (may_be_pending(rows, v)) {
        size_t at = pending_from(rows, v.main, v.sub);
        if (at != rows->count && !before(&v, &rows->pending[at].version)) {
            return rows->pending[at].value;
        }
    }
    if (mvcc_places_get(&rows->places, v, &value)) {
        return value;
    }
    uint8_t name[MVCC_ROW_KEY_SIZE_MAX];
    size_t name_len = mvcc_row_key_put(name, v);
    bool found = backend_get(rows->backend, BACKEND_KEY, nb_bytes_of(name, name_len), &value);
    nb_assert(found);
    mvcc_places_put(&rows->places, v, value);
    return value;
}

/* The backend's part. `out_more` is false when the visitor wants no more. */
static enum nb_status scan_backend(struct mvcc_rows *rows, int64_t main, uint32_t sub,
                                   mvcc_row_visit *visit, void *context, bool *out_more)
{
    uint8_t from[MVCC_ROW_KEY_SIZE_MAX];
    (void)mvcc_row_key_put(from, (struct mvcc_version){.main = main, .sub = sub});
    struct backend_cursor *c = backend_cursor_open(
        rows->backend, BACKEND_KEY, nb_bytes_of(from, MVCC_ROW_KEY_SIZE), (struct nb_bytes){0});
    struct nb_bytes name;
    struct nb_bytes value;
    enum nb_status status = NB_OK;
    bool more = true;
    while (more && status == NB_OK && backend_cursor_next(c, &name, &value)) {
        struct mvcc_version v;
        if (mvcc_row_key_get(name, &v)) {
            more = visit(context, &v, value);
        } else {
            status = NB_CORRUPT;
        }
    }
    backend_cursor_close(c);
    *out_more = more;
    return status;
}

enum nb_status mvcc_rows_scan(struct mvcc_rows *rows, int64_t main, uint32_t sub,
                              mvcc_row_visit *visit, void *context)
{
    bool more = true;
    struct mvcc_version v = {.main = main, .sub = sub};
    if (rows->first == rows->count || before(&v, &rows->pending[rows->first].version)) {
        enum nb_status status = scan_backend(rows, main, sub, visit, context, &more);
        if (status != NB_OK) {
            return status;
        }
    }
    for (size_t i = pending_from(rows, main, sub); more && i < rows->count; i++) {
        more = visit(context, &rows->pending[i].version, rows->pending[i].value);
    }
    return NB_OK;
}

void mvcc_rows_seal(struct mvcc_rows *rows)
{
    size_t fresh = rows->count - rows->first - rows->sealed_rows;
    rows->sealed =
        nb_grow(rows->sealed, &rows->sealed_capacity, rows->sealed_count + 1, sizeof *rows->sealed);
    rows->sealed[rows->sealed_count++] = fresh;
    rows->sealed_rows += fresh;
}

void mvcc_rows_reaped(struct mvcc_rows *rows, size_t batch_count)
{
    nb_assert(batch_count <= rows->sealed_count);
    mvcc_places_forget(&rows->places);
    for (size_t b = 0; b < batch_count; b++) {
        for (size_t i = 0; i < rows->sealed[b]; i++) {
            rows->pending_bytes -= rows->pending[rows->first + i].value.len;
        }
        rows->first += rows->sealed[b];
        rows->sealed_rows -= rows->sealed[b];
    }
    if (batch_count == 0) {
        return;
    }
    rows->sealed_count -= batch_count;
    memmove(rows->sealed, rows->sealed + batch_count, rows->sealed_count * sizeof *rows->sealed);
    /* The rest moves to the front once it is the smaller part. */
    size_t left = rows->count - rows->first;
    if (left <= rows->first) {
        if (left != 0) {
            memmove(rows->pending, rows->pending + rows->first, left * sizeof *rows->pending);
        }
        rows->first = 0;
        rows->count = left;
    }
}

static const char *const mark_names[MVCC_MARK_COUNT] = {
    [MVCC_MARK_CURRENT] = "mvcc/current",
    [MVCC_MARK_COMPACT] = "mvcc/compact",
    [MVCC_MARK_REMOVED] = "mvcc/removed",
};

void mvcc_rows_mark(struct mvcc_rows *rows, enum mvcc_mark mark, int64_t value)
{
    uint8_t bytes[8];
    nb_put_u64(bytes, (uint64_t)value);
    (void)backend_batch_put(rows->backend, BACKEND_META, nb_bytes_str(mark_names[mark]),
                            nb_bytes_of(bytes, sizeof bytes));
}

enum nb_status mvcc_rows_marked(struct mvcc_rows *rows, enum mvcc_mark mark, int64_t absent,
                                int64_t *out)
{
    struct nb_bytes value;
    if (!backend_get(rows->backend, BACKEND_META, nb_bytes_str(mark_names[mark]), &value)) {
        *out = absent;
        return NB_OK;
    }
    if (value.len != 8) {
        return NB_CORRUPT;
    }
    *out = (int64_t)nb_get_u64(value.data);
    return NB_OK;
}
