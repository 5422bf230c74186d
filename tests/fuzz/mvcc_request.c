/*
 * The decoders of mvcc/request: total over any bytes; and over bytes that all implementations of
 * protobuf read alike, equal to what protobuf-c makes of them [N13]. The first byte chooses the
 * message.
 */
#include "base/wire.h"
#include "mvcc/request.h"
#include "rpc.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH_MAX = 20 };

/* What a field number means in a message: nothing, a number, bytes, or a message of its own. */
enum meaning { UNKNOWN, NUMBER, BYTES, RANGE, PUT, DELETE, COMPARE, OP, TXN, COMPACTION };

static enum meaning meaning_of(enum meaning message, uint32_t number)
{
    switch (message) {
    case RANGE:
        return number <= 2 ? BYTES : number <= 13 ? NUMBER : UNKNOWN;
    case PUT:
        return number <= 2 ? BYTES : number <= 6 ? NUMBER : UNKNOWN;
    case DELETE:
        return number <= 2 ? BYTES : number == 3 ? NUMBER : UNKNOWN;
    case COMPARE:
        return number == 3 || number == 7 || number == 64 ? BYTES : number <= 8 ? NUMBER : UNKNOWN;
    case OP:
        return number == 1   ? RANGE
               : number == 2 ? PUT
               : number == 3 ? DELETE
               : number == 4 ? TXN
                             : UNKNOWN;
    case TXN:
        return number == 1 ? COMPARE : number <= 3 ? OP : UNKNOWN;
    case COMPACTION:
        return number <= 2 ? NUMBER : UNKNOWN;
    case UNKNOWN:
    case NUMBER:
    case BYTES:
        break;
    }
    return UNKNOWN;
}

/* A varint no longer than it must be; protobuf-c takes long ones only for values. */
static bool short_varint(const uint8_t **at, uint64_t value)
{
    size_t len = 1;
    while (((*at)[len - 1] & 0x80) != 0) {
        len++;
    }
    *at += len;
    return len == nb_varint_size(value);
}

/* Whether Go's protobuf and protobuf-c agree on these bytes. They differ in: known fields with
 * another wire type (unknown; refused), a member of a oneof given twice (merged; replaced), long
 * varints. */
static bool plain(struct nb_bytes b, enum meaning message, unsigned depth)
{
    struct nb_wire_reader r = nb_wire_reader_of(b);
    unsigned members_seen = 0;
    while (depth < DEPTH_MAX && nb_wire_more(&r)) {
        struct nb_wire_field f;
        const uint8_t *at = r.at;
        if (nb_wire_next(&r, &f) != NB_OK ||
            !short_varint(&at, (uint64_t)f.number << 3 | (uint64_t)f.type) ||
            (f.type == NB_WIRE_BYTES && !short_varint(&at, f.bytes.len))) {
            return false;
        }
        enum meaning field = meaning_of(message, f.number);
        if (field != UNKNOWN && f.type != (field == NUMBER ? NB_WIRE_VARINT : NB_WIRE_BYTES)) {
            return false;
        }
        if (message == OP && field != UNKNOWN) {
            if ((members_seen & 1u << f.number) != 0) {
                return false;
            }
            members_seen |= 1u << f.number;
        }
        if (field >= RANGE && !plain(f.bytes, field, depth + 1)) {
            return false;
        }
    }
    return depth < DEPTH_MAX;
}

static void same_bytes(struct nb_bytes ours, ProtobufCBinaryData theirs)
{
    nb_assert(nb_bytes_equal(ours, nb_bytes_of(theirs.data, theirs.len)));
}

static void same_range(const struct mvcc_range_request *a, const Etcdserverpb__RangeRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    nb_assert(a->limit == b->limit);
    nb_assert(a->revision == b->revision);
    nb_assert(a->sort_order == (int32_t)b->sort_order);
    nb_assert(a->sort_target == (int32_t)b->sort_target);
    nb_assert(a->serializable == b->serializable);
    nb_assert(a->keys_only == b->keys_only);
    nb_assert(a->count_only == b->count_only);
    nb_assert(a->min_mod_revision == b->min_mod_revision);
    nb_assert(a->max_mod_revision == b->max_mod_revision);
    nb_assert(a->min_create_revision == b->min_create_revision);
    nb_assert(a->max_create_revision == b->max_create_revision);
}

static void same_put(const struct mvcc_put_request *a, const Etcdserverpb__PutRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->value, b->value);
    nb_assert(a->lease == b->lease);
    nb_assert(a->prev_kv == b->prev_kv);
    nb_assert(a->ignore_value == b->ignore_value);
    nb_assert(a->ignore_lease == b->ignore_lease);
}

static void same_delete(const struct mvcc_delete_request *a,
                        const Etcdserverpb__DeleteRangeRequest *b)
{
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    nb_assert(a->prev_kv == b->prev_kv);
}

static void same_compare(const struct mvcc_compare *a, const Etcdserverpb__Compare *b)
{
    static const int targets[] = {
        [ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION] = MVCC_COMPARE_VERSION,
        [ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION] = MVCC_COMPARE_CREATE,
        [ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION] = MVCC_COMPARE_MOD,
        [ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE] = MVCC_COMPARE_VALUE,
        [ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE] = MVCC_COMPARE_LEASE,
    };
    nb_assert(a->result == (int32_t)b->result);
    nb_assert(a->target == (int32_t)b->target);
    same_bytes(a->key, b->key);
    same_bytes(a->range_end, b->range_end);
    bool given = b->target_union_case != ETCDSERVERPB__COMPARE__TARGET_UNION__NOT_SET;
    nb_assert(a->has_operand == given);
    if (given) {
        nb_assert(a->operand_target == targets[b->target_union_case]);
    }
    if (given && a->operand_target == MVCC_COMPARE_VALUE) {
        same_bytes(a->value, b->value);
    } else if (given) {
        nb_assert(a->number == b->version); /* all numbers of the union are int64 */
    }
}

static void same_txn(const struct mvcc_txn_request *a, const Etcdserverpb__TxnRequest *b);

static void same_ops(const struct mvcc_ops *a, Etcdserverpb__RequestOp **b, size_t count)
{
    nb_assert(a->count == count);
    for (size_t i = 0; i < count; i++) {
        nb_assert((int)a->items[i].kind == (int)b[i]->request_case);
        switch (a->items[i].kind) {
        case MVCC_OP_NONE:
            break;
        case MVCC_OP_RANGE:
            same_range(a->items[i].as.range, b[i]->request_range);
            break;
        case MVCC_OP_PUT:
            same_put(a->items[i].as.put, b[i]->request_put);
            break;
        case MVCC_OP_DELETE:
            same_delete(a->items[i].as.delete, b[i]->request_delete_range);
            break;
        case MVCC_OP_TXN:
            same_txn(a->items[i].as.txn, b[i]->request_txn);
            break;
        }
    }
}

static void same_txn(const struct mvcc_txn_request *a, const Etcdserverpb__TxnRequest *b)
{
    nb_assert(a->compare_count == b->n_compare);
    for (size_t i = 0; i < b->n_compare; i++) {
        same_compare(&a->compares[i], b->compare[i]);
    }
    same_ops(&a->success, b->success, b->n_success);
    same_ops(&a->failure, b->failure, b->n_failure);
}

static void one_txn(struct nb_bytes b)
{
    struct nb_arena arena = {0};
    struct nb_arena scratch = {0};
    struct mvcc_txn_request t;
    enum nb_status status = mvcc_txn_decode(b, &arena, &t);
    if (plain(b, TXN, 0)) {
        Etcdserverpb__TxnRequest *theirs = etcdserverpb__txn_request__unpack(NULL, b.len, b.data);
        nb_assert(status == NB_OK && theirs != NULL);
        same_txn(&t, theirs);
        etcdserverpb__txn_request__free_unpacked(theirs, NULL);
    }
    if (status == NB_OK) {
        if (mvcc_txn_check(&t, MVCC_TXN_OPS_DEFAULT, &scratch) == NB_OK) {
            nb_assert(mvcc_txn_has_put(&t) == (mvcc_txn_quota_cost(&t) != 0));
        }
        nb_assert(!mvcc_txn_is_serializable(&t) || mvcc_txn_is_readonly(&t));
    }
    nb_arena_deinit(&arena);
    nb_arena_deinit(&scratch);
}

static void one_range(struct nb_bytes b)
{
    struct mvcc_range_request r;
    enum nb_status status = mvcc_range_decode(b, &r);
    if (plain(b, RANGE, 0)) {
        Etcdserverpb__RangeRequest *theirs =
            etcdserverpb__range_request__unpack(NULL, b.len, b.data);
        nb_assert(status == NB_OK && theirs != NULL);
        same_range(&r, theirs);
        etcdserverpb__range_request__free_unpacked(theirs, NULL);
    }
}

static void one_put(struct nb_bytes b)
{
    struct mvcc_put_request r;
    enum nb_status status = mvcc_put_decode(b, &r);
    if (plain(b, PUT, 0)) {
        Etcdserverpb__PutRequest *theirs = etcdserverpb__put_request__unpack(NULL, b.len, b.data);
        nb_assert(status == NB_OK && theirs != NULL);
        same_put(&r, theirs);
        etcdserverpb__put_request__free_unpacked(theirs, NULL);
    }
}

static void one_delete(struct nb_bytes b)
{
    struct mvcc_delete_request r;
    enum nb_status status = mvcc_delete_decode(b, &r);
    if (plain(b, DELETE, 0)) {
        Etcdserverpb__DeleteRangeRequest *theirs =
            etcdserverpb__delete_range_request__unpack(NULL, b.len, b.data);
        nb_assert(status == NB_OK && theirs != NULL);
        same_delete(&r, theirs);
        etcdserverpb__delete_range_request__free_unpacked(theirs, NULL);
    }
}

static void one_compaction(struct nb_bytes b)
{
    struct mvcc_compaction_request r;
    enum nb_status status = mvcc_compaction_decode(b, &r);
    if (plain(b, COMPACTION, 0)) {
        Etcdserverpb__CompactionRequest *theirs =
            etcdserverpb__compaction_request__unpack(NULL, b.len, b.data);
        nb_assert(status == NB_OK && theirs != NULL);
        nb_assert(r.revision == theirs->revision && r.physical == theirs->physical);
        etcdserverpb__compaction_request__free_unpacked(theirs, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const messages[])(struct nb_bytes) = {one_txn, one_range, one_put, one_delete,
                                                        one_compaction};
    if (size != 0) {
        messages[data[0] % NB_ARRAY_LEN(messages)](nb_bytes_of(data + 1, size - 1));
    }
    return 0;
}
