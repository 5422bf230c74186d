#include "mvcc/request.h"

#include "base/wire.h"

#include <string.h>

/*
 * Decoders. Each `merge_` function takes the fields of `b` into a message that may hold some
 * already (Q1). A field is known by number and wire type together, so that a known number of
 * another type falls through to "unknown" (Q3).
 */

#define FIELD(number, type) ((uint64_t)(number) << 3 | (uint64_t)(type))
#define VARINT(number) FIELD(number, NB_WIRE_VARINT)
#define BYTES(number) FIELD(number, NB_WIRE_BYTES)

static uint64_t field_id(const struct nb_wire_field *f)
{
    return FIELD(f->number, f->type);
}

/* Enums travel as 64-bit varints; their low half counts. */
static int32_t enum_of(uint64_t value)
{
    return (int32_t)(uint32_t)value;
}

static void range_field(const struct nb_wire_field *f, struct mvcc_range_request *r)
{
    switch (field_id(f)) {
    case BYTES(1):
        r->key = f->bytes;
        break;
    case BYTES(2):
        r->range_end = f->bytes;
        break;
    case VARINT(3):
        r->limit = (int64_t)f->value;
        break;
    case VARINT(4):
        r->revision = (int64_t)f->value;
        break;
    case VARINT(5):
        r->sort_order = enum_of(f->value);
        break;
    case VARINT(6):
        r->sort_target = enum_of(f->value);
        break;
    case VARINT(7):
        r->serializable = f->value != 0;
        break;
    case VARINT(8):
        r->keys_only = f->value != 0;
        break;
    case VARINT(9):
        r->count_only = f->value != 0;
        break;
    case VARINT(10):
        r->min_mod_revision = (int64_t)f->value;
        break;
    case VARINT(11):
        r->max_mod_revision = (int64_t)f->value;
        break;
    case VARINT(12):
        r->min_create_revision = (int64_t)f->value;
        break;
    case VARINT(13):
        r->max_create_revision = (int64_t)f->value;
        break;
    default:
        break;
    }
}

static enum nb_status merge_range(struct nb_bytes b, struct mvcc_range_request *r)
{
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        range_field(&f, r);
    }
    return NB_OK;
}

static enum nb_status merge_put(struct nb_bytes b, struct mvcc_put_request *r)
{
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        switch (field_id(&f)) {
        case BYTES(1):
            r->key = f.bytes;
            break;
        case BYTES(2):
            r->value = f.bytes;
            break;
        case VARINT(3):
            r->lease = (int64_t)f.value;
            break;
        case VARINT(4):
            r->prev_kv = f.value != 0;
            break;
        case VARINT(5):
            r->ignore_value = f.value != 0;
            break;
        case VARINT(6):
            r->ignore_lease = f.value != 0;
            break;
        default:
            break;
        }
    }
    return NB_OK;
}

static enum nb_status merge_delete(struct nb_bytes b, struct mvcc_delete_request *r)
{
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        switch (field_id(&f)) {
        case BYTES(1):
            r->key = f.bytes;
            break;
        case BYTES(2):
            r->range_end = f.bytes;
            break;
        case VARINT(3):
            r->prev_kv = f.value != 0;
            break;
        default:
            break;
        }
    }
    return NB_OK;
}

static void set_number(struct mvcc_compare *c, enum mvcc_compare_target target, uint64_t value)
{
    c->has_operand = true;
    c->operand_target = (int32_t)target;
    c->number = (int64_t)value;
}

static enum nb_status merge_compare(struct nb_bytes b, struct mvcc_compare *c)
{
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        switch (field_id(&f)) {
        case VARINT(1):
            c->result = enum_of(f.value);
            break;
        case VARINT(2):
            c->target = enum_of(f.value);
            break;
        case BYTES(3):
            c->key = f.bytes;
            break;
        case VARINT(4):
            set_number(c, MVCC_COMPARE_VERSION, f.value);
            break;
        case VARINT(5):
            set_number(c, MVCC_COMPARE_CREATE, f.value);
            break;
        case VARINT(6):
            set_number(c, MVCC_COMPARE_MOD, f.value);
            break;
        case BYTES(7):
            c->has_operand = true;
            c->operand_target = MVCC_COMPARE_VALUE;
            c->value = f.bytes;
            break;
        case VARINT(8):
            set_number(c, MVCC_COMPARE_LEASE, f.value);
            break;
        case BYTES(64):
            c->range_end = f.bytes;
            break;
        default:
            break;
        }
    }
    return NB_OK;
}

/* Room for one item more in an array of the arena. The capacity is not kept: it is the next power
 * of two of the count, so growing is due exactly when the count is one (or 0). */
static void *push(struct nb_arena *arena, void *items, size_t count, size_t item_size)
{
    if ((count & (count - 1)) != 0) {
        return items;
    }
    size_t capacity = count == 0 ? 1 : count * 2;
    uint8_t *bigger = nb_arena_alloc(arena, capacity * item_size);
    if (count != 0) {
        memcpy(bigger, items, count * item_size);
    }
    return bigger;
}

static enum nb_status merge_txn(struct nb_bytes b, struct nb_arena *arena, unsigned depth,
                                struct mvcc_txn_request *t);

static bool op_kind_of(const struct nb_wire_field *f, enum mvcc_op_kind *out)
{
    switch (field_id(f)) {
    case BYTES(1):
        *out = MVCC_OP_RANGE;
        return true;
    case BYTES(2):
        *out = MVCC_OP_PUT;
        return true;
    case BYTES(3):
        *out = MVCC_OP_DELETE;
        return true;
    case BYTES(4):
        *out = MVCC_OP_TXN;
        return true;
    default:
        return false;
    }
}

/* One member of the oneof: merged if it is the member already held, else in place of it (Q2). */
static enum nb_status op_member(struct nb_bytes b, struct nb_arena *arena, unsigned depth,
                                enum mvcc_op_kind kind, struct mvcc_op *op)
{
    bool fresh = op->kind != kind;
    op->kind = kind;
    switch (kind) {
    case MVCC_OP_RANGE:
        if (fresh) {
            op->as.range = nb_arena_alloc_zero(arena, 1, sizeof *op->as.range);
        }
        return merge_range(b, op->as.range);
    case MVCC_OP_PUT:
        if (fresh) {
            op->as.put = nb_arena_alloc_zero(arena, 1, sizeof *op->as.put);
        }
        return merge_put(b, op->as.put);
    case MVCC_OP_DELETE:
        if (fresh) {
            op->as.delete = nb_arena_alloc_zero(arena, 1, sizeof *op->as.delete);
        }
        return merge_delete(b, op->as.delete);
    case MVCC_OP_TXN:
        if (fresh) {
            op->as.txn = nb_arena_alloc_zero(arena, 1, sizeof *op->as.txn);
        }
        return merge_txn(b, arena, depth + 1, op->as.txn);
    case MVCC_OP_NONE:
        break;
    }
    nb_unreachable("kind of an operation");
}

static enum nb_status append_op(struct nb_bytes b, struct nb_arena *arena, unsigned depth,
                                struct mvcc_ops *ops)
{
    struct mvcc_op op = {0};
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum mvcc_op_kind kind;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status == NB_OK && op_kind_of(&f, &kind)) {
            status = op_member(f.bytes, arena, depth, kind, &op);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    ops->items = push(arena, ops->items, ops->count, sizeof op);
    ops->items[ops->count++] = op;
    return NB_OK;
}

static enum nb_status append_compare(struct nb_bytes b, struct nb_arena *arena,
                                     struct mvcc_txn_request *t)
{
    struct mvcc_compare c = {0};
    enum nb_status status = merge_compare(b, &c);
    if (status == NB_OK) {
        t->compares = push(arena, t->compares, t->compare_count, sizeof c);
        t->compares[t->compare_count++] = c;
    }
    return status;
}

/* Calls itself through nested txns, at most MVCC_TXN_DEPTH_MAX deep. */
static enum nb_status merge_txn(struct nb_bytes b, struct nb_arena *arena, unsigned depth,
                                struct mvcc_txn_request *t)
{
    if (depth > MVCC_TXN_DEPTH_MAX) {
        return NB_TOO_DEEP;
    }
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        switch (field_id(&f)) {
        case BYTES(1):
            status = append_compare(f.bytes, arena, t);
            break;
        case BYTES(2):
            status = append_op(f.bytes, arena, depth, &t->success);
            break;
        case BYTES(3):
            status = append_op(f.bytes, arena, depth, &t->failure);
            break;
        default:
            break;
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return NB_OK;
}

enum nb_status mvcc_range_decode(struct nb_bytes b, struct mvcc_range_request *out)
{
    struct mvcc_range_request r = {0};
    enum nb_status status = merge_range(b, &r);
    if (status == NB_OK) {
        *out = r;
    }
    return status;
}

enum nb_status mvcc_put_decode(struct nb_bytes b, struct mvcc_put_request *out)
{
    struct mvcc_put_request r = {0};
    enum nb_status status = merge_put(b, &r);
    if (status == NB_OK) {
        *out = r;
    }
    return status;
}

enum nb_status mvcc_delete_decode(struct nb_bytes b, struct mvcc_delete_request *out)
{
    struct mvcc_delete_request r = {0};
    enum nb_status status = merge_delete(b, &r);
    if (status == NB_OK) {
        *out = r;
    }
    return status;
}

enum nb_status mvcc_compaction_decode(struct nb_bytes b, struct mvcc_compaction_request *out)
{
    struct mvcc_compaction_request r = {0};
    struct nb_wire_reader reader = nb_wire_reader_of(b);
    while (nb_wire_more(&reader)) {
        struct nb_wire_field f;
        enum nb_status status = nb_wire_next(&reader, &f);
        if (status != NB_OK) {
            return status;
        }
        if (field_id(&f) == VARINT(1)) {
            r.revision = (int64_t)f.value;
        } else if (field_id(&f) == VARINT(2)) {
            r.physical = f.value != 0;
        }
    }
    *out = r;
    return NB_OK;
}

enum nb_status mvcc_txn_decode(struct nb_bytes b, struct nb_arena *arena,
                               struct mvcc_txn_request *out)
{
    struct mvcc_txn_request t = {0};
    enum nb_status status = merge_txn(b, arena, 1, &t);
    if (status == NB_OK) {
        *out = t;
    }
    return status;
}

bool mvcc_txn_is_readonly(const struct mvcc_txn_request *t)
{
    const struct mvcc_ops *branches[] = {&t->success, &t->failure};
    for (size_t b = 0; b < NB_ARRAY_LEN(branches); b++) {
        for (size_t i = 0; i < branches[b]->count; i++) {
            if (branches[b]->items[i].kind != MVCC_OP_RANGE) {
                return false;
            }
        }
    }
    return true;
}

bool mvcc_txn_is_serializable(const struct mvcc_txn_request *t)
{
    const struct mvcc_ops *branches[] = {&t->success, &t->failure};
    for (size_t b = 0; b < NB_ARRAY_LEN(branches); b++) {
        for (size_t i = 0; i < branches[b]->count; i++) {
            const struct mvcc_op *op = &branches[b]->items[i];
            if (op->kind != MVCC_OP_RANGE || !op->as.range->serializable) {
                return false;
            }
        }
    }
    return true;
}

uint64_t mvcc_put_quota_cost(const struct mvcc_put_request *r)
{
    return MVCC_QUOTA_COST_BASE + (uint64_t)r->key.len + r->value.len;
}

/* These two call themselves through nested txns, whose depth the decoder has bounded. */
static uint64_t ops_cost(const struct mvcc_ops *ops)
{
    uint64_t cost = 0;
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_PUT) {
            cost += mvcc_put_quota_cost(ops->items[i].as.put);
        } else if (ops->items[i].kind == MVCC_OP_TXN) {
            cost += mvcc_txn_quota_cost(ops->items[i].as.txn);
        }
    }
    return cost;
}

uint64_t mvcc_txn_quota_cost(const struct mvcc_txn_request *t)
{
    uint64_t success = ops_cost(&t->success);
    uint64_t failure = ops_cost(&t->failure);
    return success > failure ? success : failure;
}

static bool ops_have_put(const struct mvcc_ops *ops)
{
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_PUT ||
            (ops->items[i].kind == MVCC_OP_TXN && mvcc_txn_has_put(ops->items[i].as.txn))) {
            return true;
        }
    }
    return false;
}

bool mvcc_txn_has_put(const struct mvcc_txn_request *t)
{
    return ops_have_put(&t->success) || ops_have_put(&t->failure);
}

struct mvcc_interval mvcc_interval_of(struct nb_bytes key, struct nb_bytes range_end)
{
    return (struct mvcc_interval){
        .first = key,
        .end = range_end,
        .single = range_end.len == 0,
        .open = range_end.len == 1 && range_end.data[0] == 0,
    };
}

bool mvcc_interval_holds(const struct mvcc_interval *i, struct nb_bytes key)
{
    if (i->single) {
        return nb_bytes_equal(i->first, key);
    }
    return nb_bytes_compare(i->first, key) <= 0 && (i->open || nb_bytes_compare(key, i->end) < 0);
}
