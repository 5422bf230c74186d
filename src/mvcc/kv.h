/*
 * mvcc/kv: mvccpb.KeyValue as bytes, and the name of a row.
 *
 *   row key    main, 8 bytes big-endian | '_' | sub, 8 bytes big-endian | 't' for a tombstone
 *   row value  KeyValue in proto3: fields in order, those that are 0 or empty left out
 *              (1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease); a
 * tombstone's holds the key only
 *
 * Both are etcd's to the byte: HashKV is taken over them.
 */
#ifndef NABATA_MVCC_KV_H
#define NABATA_MVCC_KV_H

#include "base/bytes.h"
#include "base/status.h"
#include "mvcc/record.h"

enum { MVCC_ROW_KEY_SIZE = 17, MVCC_ROW_KEY_SIZE_MAX = 18 };

struct mvcc_kv {
    struct nb_bytes key, value; /* borrowed */
    int64_t create, mod, version, lease;
};

void mvcc_kv_encode(struct nb_buf *b, const struct mvcc_kv *kv);
/* NB_MALFORMED. */
NB_MUST_USE enum nb_status mvcc_kv_decode(struct nb_bytes b, struct mvcc_kv *out);

/* Writes the name of a row, returns its length. */
size_t mvcc_row_key_put(uint8_t to[MVCC_ROW_KEY_SIZE_MAX], struct mvcc_version v);
/* False when the bytes are no name of a row. */
NB_MUST_USE bool mvcc_row_key_get(struct nb_bytes key, struct mvcc_version *out);

#endif
