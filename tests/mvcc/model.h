/*
 * tests/mvcc/model: the store once more, too plain to be wrong: a flat array of every row there
 * ever was.
 *
 * Nothing is ever removed from it; every answer is found by walking all rows, and is encoded by
 * protobuf-c from our .proto files, so that neither the index nor the codec of mvcc is used twice.
 */
#ifndef NABATA_TESTS_MVCC_MODEL_H
#define NABATA_TESTS_MVCC_MODEL_H

#include "mvcc/mvcc.h"

enum { MODEL_KEY_COUNT = 18, MODEL_ROWS_MAX = 20000, MODEL_LEASE_MAX = 3 };

/* All keys there are, sorted. */
extern const struct nb_bytes model_keys[MODEL_KEY_COUNT];

struct model_row {
    int64_t main, sub;
    bool tombstone;
    struct nb_bytes key;
    uint8_t value_bytes[8];
    size_t value_len;
    int64_t create, version, lease;
};

struct model {
    struct model_row rows[MODEL_ROWS_MAX];
    size_t count;
    int64_t current, compact;
    int64_t writing; /* revision being made, or 0 */
    int64_t sub;
};

void model_init(struct model *m);

/* As the functions of mvcc.h. */
enum nb_status model_range(struct model *m, const struct mvcc_range_request *r,
                           struct nb_buf *body);
enum nb_status model_put(struct model *m, const struct mvcc_put_request *r, struct nb_buf *body);
void model_delete(struct model *m, const struct mvcc_delete_request *r, struct nb_buf *body);
enum nb_status model_txn(struct model *m, const struct mvcc_txn_request *t, struct nb_buf *body);
enum nb_status model_compact(struct model *m, int64_t revision);
uint32_t model_hash(const struct model *m, int64_t revision);

/* Whether the row is still there once compaction is done. */
bool model_row_stays(const struct model *m, const struct model_row *row);
/* Its stored value. */
void model_row_encode(const struct model_row *row, struct nb_buf *out);
bool model_lease_exists(void *context, int64_t lease);

#endif
