#include "mvcc/kv.h"

#include "base/wire.h"

void mvcc_kv_encode(struct nb_buf *b, const struct mvcc_kv *kv)
{
    /* Room for all at once: six fields of at most 11 bytes beside the two byte strings. */
    nb_buf_reserve(b, kv->key.len + kv->value.len + 6 * (size_t)11);
    nb_wire_bytes_field(b, 1, kv->key);
    nb_wire_varint_field(b, 2, (uint64_t)kv->create);
    nb_wire_varint_field(b, 3, (uint64_t)kv->mod);
    nb_wire_varint_field(b, 4, (uint64_t)kv->version);
    nb_wire_bytes_field(b, 5, kv->value);
    nb_wire_varint_field(b, 6, (uint64_t)kv->lease);
}

enum nb_status mvcc_kv_decode(struct nb_bytes b, struct mvcc_kv *out)
{
    struct mvcc_kv kv = {0};
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        switch (f.number << 3 | (uint32_t)f.type) {
        case 1 << 3 | NB_WIRE_BYTES:
            kv.key = f.bytes;
            break;
        case 2 << 3 | NB_WIRE_VARINT:
            kv.create = (int64_t)f.value;
            break;
        case 3 << 3 | NB_WIRE_VARINT:
            kv.mod = (int64_t)f.value;
            break;
        case 4 << 3 | NB_WIRE_VARINT:
            kv.version = (int64_t)f.value;
            break;
        case 5 << 3 | NB_WIRE_BYTES:
            kv.value = f.bytes;
            break;
        case 6 << 3 | NB_WIRE_VARINT:
            kv.lease = (int64_t)f.value;
            break;
        default:
            break;
        }
    }
    *out = kv;
    return NB_OK;
}

size_t mvcc_row_key_put(uint8_t to[MVCC_ROW_KEY_SIZE_MAX], struct mvcc_version v)
{
    nb_put_u64_be(to, (uint64_t)v.main);
    to[8] = '_';
    nb_put_u64_be(to + 9, v.sub);
    to[17] = 't';
    return v.tombstone ? MVCC_ROW_KEY_SIZE_MAX : MVCC_ROW_KEY_SIZE;
}

bool mvcc_row_key_get(struct nb_bytes key, struct mvcc_version *out)
{
    if (key.len != MVCC_ROW_KEY_SIZE &&
        (key.len != MVCC_ROW_KEY_SIZE_MAX || key.data[MVCC_ROW_KEY_SIZE] != 't')) {
        return false;
    }
    uint64_t main = nb_get_u64_be(key.data);
    uint64_t sub = nb_get_u64_be(key.data + 9);
    if (key.data[8] != '_' || main > INT64_MAX || sub > UINT32_MAX) {
        return false;
    }
    *out = (struct mvcc_version){
        .main = (int64_t)main, .sub = (uint32_t)sub, .tombstone = key.len == MVCC_ROW_KEY_SIZE_MAX};
    return true;
}
