#include "storage/backend_batch.h"

#include <inttypes.h>
#include <string.h>

const struct nb_bytes backend_key_ident = {.data = (const uint8_t *)"\0ident", .len = 6};
const struct nb_bytes backend_key_label = {.data = (const uint8_t *)"\0label", .len = 6};

struct backend_batch *backend_batch_create(void)
{
    return nb_alloc_zero(1, sizeof(struct backend_batch));
}

void backend_batch_destroy(struct backend_batch *batch)
{
    if (batch != NULL) {
        nb_arena_deinit(&batch->arena);
        nb_free(batch->changes);
        nb_free(batch);
    }
}

static struct backend_change *change_add(struct backend_batch *batch, enum backend_table table,
                                         struct nb_bytes key)
{
    batch->changes = nb_grow(batch->changes, &batch->change_capacity, batch->change_count + 1,
                             sizeof *batch->changes);
    struct backend_change *c = &batch->changes[batch->change_count++];
    *c = (struct backend_change){.table = table, .key = nb_arena_copy(&batch->arena, key)};
    batch->bytes += key.len;
    return c;
}

uint8_t *backend_batch_add(struct backend_batch *batch, enum backend_table table,
                           struct nb_bytes key, size_t value_len)
{
    struct backend_change *c = change_add(batch, table, key);
    uint8_t *value = nb_arena_alloc(&batch->arena, value_len == 0 ? 1 : value_len);
    c->value = nb_bytes_of(value, value_len);
    batch->bytes += value_len;
    return value;
}

void backend_batch_add_delete(struct backend_batch *batch, enum backend_table table,
                              struct nb_bytes key)
{
    change_add(batch, table, key)->is_delete = true;
}

void backend_batch_seal(struct backend_batch *batch, const struct backend_label *label,
                        uint64_t number)
{
    batch->number = number;
    batch->label = *label;
    batch->label.meta = nb_arena_copy(&batch->arena, label->meta);
}

static const char ident_magic[8] = {'N', 'A', 'B', 'A', 'T', 'A', 'D', 'B'};

void backend_ident_encode(const struct backend_ident *ident, uint8_t *to)
{
    memcpy(to, ident_magic, sizeof ident_magic);
    nb_put_u32(to + 8, BACKEND_FORMAT_VERSION);
    nb_put_u32(to + 12, 0);
    nb_put_u64(to + 16, ident->cluster_id);
    nb_put_u64(to + 24, ident->member_id);
}

enum nb_status backend_ident_check(struct nb_bytes stored, const struct backend_ident *want,
                                   const char *where, struct backend_ident *out_ident,
                                   struct nb_buf *out_message)
{
    if (stored.len < 12 || memcmp(stored.data, ident_magic, sizeof ident_magic) != 0) {
        nb_buf_printf(out_message, "%s is not a database of nabata, or is damaged", where);
        return NB_CORRUPT;
    }
    uint32_t version = nb_get_u32(stored.data + 8);
    if (version != BACKEND_FORMAT_VERSION || stored.len != BACKEND_IDENT_SIZE) {
        nb_buf_printf(out_message,
                      "%s was written by a newer nabata (format %" PRIu32
                      ", this one knows %d): use that version or a newer one",
                      where, version, BACKEND_FORMAT_VERSION);
        return NB_VERSION;
    }
    struct backend_ident found = {.cluster_id = nb_get_u64(stored.data + 16),
                                  .member_id = nb_get_u64(stored.data + 24)};
    if ((want->cluster_id != 0 && want->cluster_id != found.cluster_id) ||
        (want->member_id != 0 && want->member_id != found.member_id)) {
        nb_buf_printf(out_message,
                      "%s belongs to cluster %" PRIx64 " member %" PRIx64
                      ", not to cluster %" PRIx64 " member %" PRIx64
                      ": start with the data directory of this member",
                      where, found.cluster_id, found.member_id, want->cluster_id, want->member_id);
        return NB_FOREIGN;
    }
    *out_ident = found;
    return NB_OK;
}

void backend_label_encode(const struct backend_label *label, struct nb_buf *out)
{
    uint8_t head[BACKEND_LABEL_SIZE];
    nb_put_u64(head, label->applied_index);
    nb_put_u64(head + 8, label->applied_term);
    nb_buf_append(out, head, sizeof head);
    nb_buf_append_bytes(out, label->meta);
}

bool backend_label_decode(struct nb_bytes stored, struct backend_label *out)
{
    if (stored.len < BACKEND_LABEL_SIZE ||
        stored.len > (size_t)BACKEND_LABEL_SIZE + BACKEND_META_SIZE_MAX) {
        return false;
    }
    *out = (struct backend_label){
        .applied_index = nb_get_u64(stored.data),
        .applied_term = nb_get_u64(stored.data + 8),
        .meta = nb_bytes_from(stored, BACKEND_LABEL_SIZE),
    };
    return true;
}
