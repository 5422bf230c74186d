#include "storage/snapshot.h"

#include "base/checksum.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

enum { FLAG_LAST = 1 };

/* --- wire form ------------------------------------------------------------------------------ */

static uint32_t chunk_crc(const uint8_t *head, struct nb_bytes data)
{
    uint32_t crc = nb_crc32c(0, head, 40);
    return data.len == 0 ? crc : nb_crc32c(crc, data.data, data.len);
}

void snapshot_chunk_encode(const struct snapshot_chunk *chunk, struct nb_buf *out)
{
    nb_assert(chunk->data.len <= SNAPSHOT_CHUNK_SIZE_MAX);
    uint8_t head[SNAPSHOT_CHUNK_HEADER_SIZE] = {0};
    nb_put_u64(head, chunk->transfer_id);
    nb_put_u64(head + 8, chunk->offset);
    nb_put_u64(head + 16, chunk->total_len);
    nb_put_u32(head + 24, (uint32_t)chunk->data.len);
    nb_put_u32(head + 28, chunk->last ? FLAG_LAST : 0);
    nb_put_u64(head + 32, chunk->last ? chunk->hash : 0);
    nb_put_u32(head + 40, chunk_crc(head, chunk->data));
    nb_buf_append(out, head, sizeof head);
    nb_buf_append_bytes(out, chunk->data);
}

enum nb_status snapshot_chunk_decode(struct nb_bytes in, struct snapshot_chunk *out)
{
    if (in.len < SNAPSHOT_CHUNK_HEADER_SIZE) {
        return NB_TRUNCATED;
    }
    const uint8_t *h = in.data;
    size_t len = nb_get_u32(h + 24);
    if (len > SNAPSHOT_CHUNK_SIZE_MAX) {
        return NB_TOO_LARGE;
    }
    if (len > in.len - SNAPSHOT_CHUNK_HEADER_SIZE) {
        return NB_TRUNCATED;
    }
    struct nb_bytes data = nb_bytes_of(h + SNAPSHOT_CHUNK_HEADER_SIZE, len);
    if (nb_get_u32(h + 40) != chunk_crc(h, data)) {
        return NB_CORRUPT;
    }
    uint32_t flags = nb_get_u32(h + 28);
    struct snapshot_chunk c = {.transfer_id = nb_get_u64(h),
                               .offset = nb_get_u64(h + 8),
                               .total_len = nb_get_u64(h + 16),
                               .last = flags == FLAG_LAST,
                               .hash = nb_get_u64(h + 32),
                               .data = data};
    bool within = c.offset <= c.total_len && len <= c.total_len - c.offset;
    bool ends = within && c.offset + len == c.total_len;
    if (len != in.len - SNAPSHOT_CHUNK_HEADER_SIZE || flags > FLAG_LAST || c.transfer_id == 0 ||
        !within || c.last != ends || (!c.last && c.hash != 0) || nb_get_u32(h + 44) != 0) {
        return NB_MALFORMED;
    }
    *out = c;
    return NB_OK;
}

/* --- sending -------------------------------------------------------------------------------- */

struct snapshot_sender {
    struct disk *disk; /* borrowed */
    struct disk_file *file;
    char *path; /* owned */
    bool remove_after;
    uint64_t transfer_id, len, offset;
    uint64_t hashed; /* bytes that went into the hash; never goes back */
    bool ended;
    XXH3_state_t *hash;
    struct nb_buf data;
};

enum nb_status snapshot_sender_open(struct disk *disk, const char *path, uint64_t transfer_id,
                                    bool remove_after, struct snapshot_sender **out_sender)
{
    nb_assert(transfer_id != 0);
    struct disk_file *file;
    enum nb_status status = disk_open(disk, path, DISK_READ_ONLY, &file);
    if (status != NB_OK) {
        return status;
    }
    uint64_t len;
    status = disk_size(file, &len);
    if (status != NB_OK) {
        disk_close(file);
        return status;
    }
    struct snapshot_sender *s = nb_alloc_zero(1, sizeof *s);
    s->disk = disk;
    s->file = file;
    s->path = nb_strdup(path);
    s->remove_after = remove_after;
    s->transfer_id = transfer_id;
    s->len = len;
    s->hash = XXH3_createState();
    nb_assert(s->hash != NULL && XXH3_64bits_reset(s->hash) == XXH_OK);
    *out_sender = s;
    return NB_OK;
}

uint64_t snapshot_sender_len(const struct snapshot_sender *s)
{
    return s->len;
}

enum nb_status snapshot_sender_next(struct snapshot_sender *s, size_t len_max,
                                    struct snapshot_chunk *out)
{
    if (s->ended) {
        return NB_CLOSED;
    }
    nb_assert(len_max != 0);
    uint64_t len = s->len - s->offset;
    len = len < len_max ? len : len_max;
    len = len < SNAPSHOT_CHUNK_SIZE_MAX ? len : SNAPSHOT_CHUNK_SIZE_MAX;
    nb_buf_clear(&s->data);
    uint8_t *to = nb_buf_extend(&s->data, (size_t)len);
    enum nb_status status = disk_read(s->file, s->offset, to, (size_t)len);
    if (status != NB_OK) {
        return status;
    }
    if (s->offset + len > s->hashed) {
        size_t skip = (size_t)(s->hashed - s->offset);
        nb_assert(XXH3_64bits_update(s->hash, to + skip, (size_t)len - skip) == XXH_OK);
        s->hashed = s->offset + len;
    }
    *out = (struct snapshot_chunk){.transfer_id = s->transfer_id,
                                   .offset = s->offset,
                                   .total_len = s->len,
                                   .data = nb_buf_bytes(&s->data)};
    s->offset += len;
    s->ended = s->offset == s->len;
    out->last = s->ended;
    out->hash = s->ended ? XXH3_64bits_digest(s->hash) : 0;
    return NB_OK;
}

enum nb_status snapshot_sender_seek(struct snapshot_sender *s, uint64_t offset)
{
    if (offset > s->hashed) {
        return NB_INVALID;
    }
    s->offset = offset;
    s->ended = false;
    return NB_OK;
}

void snapshot_sender_close(struct snapshot_sender *s)
{
    if (s == NULL) {
        return;
    }
    disk_close(s->file);
    if (s->remove_after) {
        enum nb_status ignored = disk_unlink(s->disk, s->path); /* start removes what stays */
        (void)ignored;
    }
    nb_free(s->path);
    (void)XXH3_freeState(s->hash);
    nb_buf_deinit(&s->data);
    nb_free(s);
}

/* --- receiving ------------------------------------------------------------------------------ */

struct snapshot_receiver {
    struct disk *disk; /* borrowed */
    struct disk_file *file;
    char *part, *path; /* owned */
    uint64_t transfer_id, total_len, offset;
    XXH3_state_t *hash;
    struct disk_request install;
    bool installing, installed, failed;
    void (*on_done)(void *context, enum nb_status status, const char *path);
    void *context;
};

enum nb_status snapshot_receiver_open(struct disk *disk, const char *dir, uint64_t transfer_id,
                                      uint64_t total_len, uint64_t len_max,
                                      struct snapshot_receiver **out_receiver)
{
    if (transfer_id == 0) {
        return NB_INVALID;
    }
    if (total_len > len_max) {
        return NB_TOO_LARGE;
    }
    char *part = nb_sprintf("%s/%016" PRIx64 ".part", dir, transfer_id);
    struct disk_file *file;
    enum nb_status status = disk_open(disk, part, DISK_READ_WRITE | DISK_TRUNCATE, &file);
    if (status != NB_OK) {
        nb_free(part);
        return status;
    }
    struct snapshot_receiver *r = nb_alloc_zero(1, sizeof *r);
    r->disk = disk;
    r->file = file;
    r->part = part;
    r->path = nb_sprintf("%s/%016" PRIx64 ".snap", dir, transfer_id);
    r->transfer_id = transfer_id;
    r->total_len = total_len;
    r->hash = XXH3_createState();
    nb_assert(r->hash != NULL && XXH3_64bits_reset(r->hash) == XXH_OK);
    *out_receiver = r;
    return NB_OK;
}

static void on_installed(struct disk_request *request, enum nb_status status)
{
    struct snapshot_receiver *r = request->owner;
    r->installing = false;
    r->installed = status == NB_OK;
    r->failed = status != NB_OK;
    if (r->on_done != NULL) {
        r->on_done(r->context, status, r->path);
    }
}

static enum nb_status install(struct snapshot_receiver *r, uint64_t hash)
{
    if (XXH3_64bits_digest(r->hash) != hash) {
        r->failed = true;
        return NB_CORRUPT;
    }
    r->installing = true;
    r->install = (struct disk_request){.kind = DISK_INSTALL,
                                       .file = r->file,
                                       .path = r->part,
                                       .to = r->path,
                                       .on_done = on_installed,
                                       .owner = r};
    disk_submit(r->disk, &r->install);
    return NB_OK;
}

enum nb_status snapshot_receiver_take(struct snapshot_receiver *r,
                                      const struct snapshot_chunk *chunk)
{
    if (chunk->transfer_id != r->transfer_id || chunk->total_len != r->total_len) {
        return NB_FOREIGN;
    }
    if (r->failed || r->installing || r->installed) {
        return r->failed ? NB_CLOSED : NB_EXISTS;
    }
    uint64_t end = chunk->offset + chunk->data.len;
    if (chunk->offset > r->offset || end < chunk->offset || end > r->total_len ||
        chunk->data.len > SNAPSHOT_CHUNK_SIZE_MAX || chunk->last != (end == r->total_len)) {
        return NB_INVALID;
    }
    if (end <= r->offset && !chunk->last) {
        return NB_EXISTS;
    }
    size_t skip = (size_t)(r->offset - chunk->offset);
    struct nb_bytes fresh = nb_bytes_from(chunk->data, skip);
    enum nb_status status = disk_write(r->file, r->offset, fresh.data, fresh.len);
    if (status != NB_OK) {
        r->failed = true; /* W05: what the cache holds now is anybody's guess */
        return status;
    }
    if (fresh.len != 0) {
        nb_assert(XXH3_64bits_update(r->hash, fresh.data, fresh.len) == XXH_OK);
    }
    r->offset = end;
    return chunk->last ? install(r, chunk->hash) : NB_OK;
}

uint64_t snapshot_receiver_offset(const struct snapshot_receiver *r)
{
    return r->offset;
}

void snapshot_receiver_on_done(struct snapshot_receiver *r,
                               void (*on_done)(void *context, enum nb_status status,
                                               const char *path),
                               void *context)
{
    r->on_done = on_done;
    r->context = context;
}

void snapshot_receiver_close(struct snapshot_receiver *r)
{
    if (r == NULL) {
        return;
    }
    r->on_done = NULL;
    while (r->installing) {
        disk_wait(r->disk);
    }
    disk_close(r->file);
    /* Absent when it was taken away; what cannot be removed now is removed at start. */
    enum nb_status ignored = disk_unlink(r->disk, r->installed ? r->path : r->part);
    (void)ignored;
    nb_free(r->part);
    nb_free(r->path);
    (void)XXH3_freeState(r->hash);
    nb_free(r);
}

/* --- leftovers ------------------------------------------------------------------------------ */

struct leftovers {
    char **names;
    size_t count, capacity;
};

static void note_leftover(void *context, const char *name)
{
    struct leftovers *l = context;
    const char *dot = strrchr(name, '.');
    if (dot == NULL ||
        (strcmp(dot, ".part") != 0 && strcmp(dot, ".snap") != 0 && strcmp(dot, ".tmp") != 0)) {
        return;
    }
    l->names = nb_grow(l->names, &l->capacity, l->count + 1, sizeof *l->names);
    l->names[l->count++] = nb_strdup(name);
}

enum nb_status snapshot_clean_up(struct disk *disk, const char *dir, size_t *out_count)
{
    struct leftovers l = {0};
    enum nb_status status = disk_list(disk, dir, note_leftover, &l);
    for (size_t i = 0; i < l.count; i++) {
        char *path = nb_sprintf("%s/%s", dir, l.names[i]);
        if (status == NB_OK) {
            status = disk_unlink(disk, path);
        }
        nb_free(path);
        nb_free(l.names[i]);
    }
    nb_free(l.names);
    if (status == NB_OK && l.count != 0) {
        status = disk_sync_dir(disk, dir);
    }
    if (status == NB_OK && out_count != NULL) {
        *out_count = l.count;
    }
    return status;
}
