#include "tests/mvcc/model.h"

#include "base/checksum.h"
#include "rpc.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define KEY(text)                                                                                  \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

const struct nb_bytes model_keys[MODEL_KEY_COUNT] = {
    KEY("\0"),   KEY("\0a"),    KEY("a"), KEY("a\0"), KEY("a\0b"), KEY("aa"),
    KEY("aaa"),  KEY("ab"),     KEY("b"), KEY("b/"),  KEY("b/1"),  KEY("b/2"),
    KEY("b/22"), KEY("b/\xff"), KEY("c"), KEY("cc"),  KEY("\xff"), KEY("\xff\xff"),
};

void model_init(struct model *m)
{
    *m = (struct model){.current = 1, .compact = -1};
}

bool model_lease_exists(void *context, int64_t lease)
{
    (void)context;
    return lease >= 1 && lease <= MODEL_LEASE_MAX;
}

static int64_t newest(const struct model *m)
{
    return m->writing != 0 && m->sub != 0 ? m->writing : m->current;
}

/* The key's last row up to a revision, a tombstone too. */
static const struct model_row *last_row(const struct model *m, struct nb_bytes key,
                                        int64_t revision)
{
    const struct model_row *last = NULL;
    for (size_t i = 0; i < m->count && m->rows[i].main <= revision; i++) {
        if (nb_bytes_equal(m->rows[i].key, key)) {
            last = &m->rows[i];
        }
    }
    return last;
}

static const struct model_row *alive_row(const struct model *m, struct nb_bytes key,
                                         int64_t revision)
{
    const struct model_row *row = last_row(m, key, revision);
    return row == NULL || row->tombstone ? NULL : row;
}

static bool in_range(struct nb_bytes key, struct nb_bytes first, struct nb_bytes end)
{
    if (end.len == 0) {
        return nb_bytes_equal(key, first);
    }
    bool open = end.len == 1 && end.data[0] == 0;
    return nb_bytes_compare(key, first) >= 0 && (open || nb_bytes_compare(key, end) < 0);
}

struct found {
    const struct model_row *rows[MODEL_KEY_COUNT];
    size_t count;
};

static struct found find(const struct model *m, struct nb_bytes first, struct nb_bytes end,
                         int64_t revision)
{
    struct found f = {0};
    for (size_t i = 0; i < MODEL_KEY_COUNT; i++) {
        const struct model_row *row = alive_row(m, model_keys[i], revision);
        if (row != NULL && in_range(model_keys[i], first, end)) {
            f.rows[f.count++] = row;
        }
    }
    return f;
}

static ProtobufCBinaryData binary(struct nb_bytes b)
{
    return (ProtobufCBinaryData){.len = b.len, .data = (uint8_t *)(uintptr_t)b.data};
}

static Mvccpb__KeyValue *kv_of(const struct model_row *row)
{
    Mvccpb__KeyValue *kv = nb_alloc(sizeof *kv);
    mvccpb__key_value__init(kv);
    kv->key = binary(row->key);
    if (!row->tombstone) {
        kv->create_revision = row->create;
        kv->mod_revision = row->main;
        kv->version = row->version;
        kv->value = binary(nb_bytes_of(row->value_bytes, row->value_len));
        kv->lease = row->lease;
    }
    return kv;
}

static void pack(const ProtobufCMessage *message, struct nb_buf *out)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    (void)protobuf_c_message_pack(message, nb_buf_extend(out, size));
}

void model_row_encode(const struct model_row *row, struct nb_buf *out)
{
    Mvccpb__KeyValue *kv = kv_of(row);
    pack(&kv->base, out);
    nb_free(kv);
}

/* Responses live on the heap until packed; everything hangs on them. */
static Etcdserverpb__ResponseHeader *header_of(int64_t revision)
{
    Etcdserverpb__ResponseHeader *h = nb_alloc(sizeof *h);
    etcdserverpb__response_header__init(h);
    h->revision = revision;
    return h;
}

static bool filtered(const struct mvcc_range_request *r, const struct model_row *row)
{
    return (r->min_mod_revision != 0 && row->main < r->min_mod_revision) ||
           (r->max_mod_revision != 0 && row->main > r->max_mod_revision) ||
           (r->min_create_revision != 0 && row->create < r->min_create_revision) ||
           (r->max_create_revision != 0 && row->create > r->max_create_revision);
}

static bool less(const struct mvcc_range_request *r, const struct model_row *a,
                 const struct model_row *b)
{
    switch (r->sort_target) {
    case MVCC_BY_VERSION:
        return a->version < b->version;
    case MVCC_BY_CREATE:
        return a->create < b->create;
    case MVCC_BY_MOD:
        return a->main < b->main;
    case MVCC_BY_VALUE:
        return nb_bytes_compare(nb_bytes_of(a->value_bytes, a->value_len),
                                nb_bytes_of(b->value_bytes, b->value_len)) < 0;
    default:
        return nb_bytes_compare(a->key, b->key) < 0;
    }
}

/* Insertion sort: stable. */
static void sort(const struct mvcc_range_request *r, struct found *f)
{
    for (size_t i = 1; i < f->count; i++) {
        for (size_t k = i; k != 0 && less(r, f->rows[k], f->rows[k - 1]); k--) {
            const struct model_row *swap = f->rows[k];
            f->rows[k] = f->rows[k - 1];
            f->rows[k - 1] = swap;
        }
    }
    for (size_t i = 0; r->sort_order == MVCC_SORT_DESCEND && i < f->count / 2; i++) {
        const struct model_row *swap = f->rows[i];
        f->rows[i] = f->rows[f->count - 1 - i];
        f->rows[f->count - 1 - i] = swap;
    }
}

static void cut_and_sort(const struct mvcc_range_request *r, struct found *f)
{
    struct found kept = {0};
    bool filters = r->min_mod_revision != 0 || r->max_mod_revision != 0 ||
                   r->min_create_revision != 0 || r->max_create_revision != 0;
    for (size_t i = 0; i < f->count; i++) {
        /* the quirk: order NONE is cut to limit + 1 before it is sorted */
        bool early = r->sort_order == MVCC_SORT_NONE && !filters && r->limit > 0 &&
                     r->limit < INT64_MAX && kept.count >= (size_t)r->limit + 1;
        if (!early && !filtered(r, f->rows[i])) {
            kept.rows[kept.count++] = f->rows[i];
        }
    }
    sort(r, &kept);
    *f = kept;
}

static enum nb_status range_response(struct model *m, const struct mvcc_range_request *r,
                                     Etcdserverpb__RangeResponse *out)
{
    int64_t revision = r->revision <= 0 ? newest(m) : r->revision;
    if (revision > newest(m)) {
        return NB_FUTURE_REVISION;
    }
    if (revision < m->compact) {
        return NB_COMPACTED;
    }
    etcdserverpb__range_response__init(out);
    struct found f = find(m, r->key, r->range_end, revision);
    out->count = (int64_t)f.count;
    if (r->count_only) {
        return NB_OK;
    }
    cut_and_sort(r, &f);
    out->kvs = nb_alloc(sizeof(Mvccpb__KeyValue *) * (f.count + 1));
    while (out->n_kvs < f.count && (r->limit <= 0 || out->n_kvs < (size_t)r->limit)) {
        Mvccpb__KeyValue *kv = kv_of(f.rows[out->n_kvs]);
        if (r->keys_only) {
            kv->value = (ProtobufCBinaryData){0};
            kv->lease = r->sort_target == MVCC_BY_VALUE ? kv->lease : 0;
        }
        out->kvs[out->n_kvs++] = kv;
    }
    out->more = f.count > out->n_kvs;
    return NB_OK;
}

static void free_kvs(Mvccpb__KeyValue **kvs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nb_free(kvs[i]);
    }
    nb_free(kvs);
}

enum nb_status model_range(struct model *m, const struct mvcc_range_request *r, struct nb_buf *body)
{
    Etcdserverpb__RangeResponse response;
    enum nb_status status = range_response(m, r, &response);
    if (status == NB_OK) {
        pack(&response.base, body);
        free_kvs(response.kvs, response.n_kvs);
    }
    return status;
}

static void begin(struct model *m)
{
    m->writing = m->current + 1;
    m->sub = 0;
}

static void end(struct model *m)
{
    m->current = newest(m);
    m->writing = 0;
}

static struct model_row *append(struct model *m, struct nb_bytes key)
{
    nb_assert(m->count < MODEL_ROWS_MAX);
    struct model_row *row = &m->rows[m->count++];
    *row = (struct model_row){.main = m->writing, .sub = m->sub++};
    for (size_t i = 0; i < MODEL_KEY_COUNT; i++) {
        if (nb_bytes_equal(model_keys[i], key)) {
            row->key = model_keys[i];
        }
    }
    nb_assert(row->key.len != 0);
    return row;
}

static enum nb_status check_previous(const struct model *m, const struct mvcc_put_request *r)
{
    bool needs = r->ignore_value || r->ignore_lease;
    return needs && alive_row(m, r->key, newest(m)) == NULL ? NB_KEY_NOT_FOUND : NB_OK;
}

static enum nb_status check_lease(const struct mvcc_put_request *r)
{
    return r->lease != 0 && !model_lease_exists(NULL, r->lease) ? NB_LEASE_NOT_FOUND : NB_OK;
}

static void put_response(struct model *m, const struct mvcc_put_request *r,
                         Etcdserverpb__PutResponse *out)
{
    etcdserverpb__put_response__init(out);
    const struct model_row *before = alive_row(m, r->key, newest(m));
    struct model_row *row = append(m, r->key);
    row->create = before == NULL ? row->main : before->create;
    row->version = before == NULL ? 1 : before->version + 1;
    row->lease = r->lease;
    row->value_len = r->value.len;
    if (r->value.len != 0) {
        memcpy(row->value_bytes, r->value.data, r->value.len);
    }
    if (before != NULL && r->ignore_value) {
        memcpy(row->value_bytes, before->value_bytes, sizeof row->value_bytes);
        row->value_len = before->value_len;
    }
    if (before != NULL && r->ignore_lease) {
        row->lease = before->lease;
    }
    out->prev_kv = before != NULL && r->prev_kv ? kv_of(before) : NULL;
}

enum nb_status model_put(struct model *m, const struct mvcc_put_request *r, struct nb_buf *body)
{
    enum nb_status status = check_lease(r);
    if (status == NB_OK) {
        status = check_previous(m, r);
    }
    if (status != NB_OK) {
        return status;
    }
    Etcdserverpb__PutResponse response;
    begin(m);
    put_response(m, r, &response);
    end(m);
    pack(&response.base, body);
    nb_free(response.prev_kv);
    return NB_OK;
}

static void delete_response(struct model *m, const struct mvcc_delete_request *r,
                            Etcdserverpb__DeleteRangeResponse *out)
{
    etcdserverpb__delete_range_response__init(out);
    struct found f = find(m, r->key, r->range_end, newest(m));
    out->deleted = (int64_t)f.count;
    out->prev_kvs = nb_alloc(sizeof(Mvccpb__KeyValue *) * (f.count + 1));
    for (size_t i = 0; r->prev_kv && i < f.count; i++) {
        out->prev_kvs[out->n_prev_kvs++] = kv_of(f.rows[i]);
    }
    for (size_t i = 0; i < f.count; i++) {
        append(m, f.rows[i]->key)->tombstone = true;
    }
}

void model_delete(struct model *m, const struct mvcc_delete_request *r, struct nb_buf *body)
{
    Etcdserverpb__DeleteRangeResponse response;
    begin(m);
    delete_response(m, r, &response);
    end(m);
    pack(&response.base, body);
    free_kvs(response.prev_kvs, response.n_prev_kvs);
}

static int64_t number_of(const struct mvcc_compare *c, const struct model_row *row)
{
    if (row == NULL) {
        return 0;
    }
    return c->target == MVCC_COMPARE_VERSION  ? row->version
           : c->target == MVCC_COMPARE_CREATE ? row->create
           : c->target == MVCC_COMPARE_MOD    ? row->main
           : c->target == MVCC_COMPARE_LEASE  ? row->lease
                                              : 0;
}

static bool one_compare(const struct mvcc_compare *c, const struct model_row *row)
{
    bool agree = c->has_operand && c->target == c->operand_target;
    int order;
    if (c->target == MVCC_COMPARE_VALUE) {
        order = nb_bytes_compare(nb_bytes_of(row->value_bytes, row->value_len),
                                 agree ? c->value : (struct nb_bytes){0});
    } else {
        int64_t number = number_of(c, row);
        int64_t operand = agree ? c->number : 0;
        order = number < operand ? -1 : number > operand;
    }
    return c->result == MVCC_EQUAL       ? order == 0
           : c->result == MVCC_NOT_EQUAL ? order != 0
           : c->result == MVCC_GREATER   ? order > 0
           : c->result == MVCC_LESS      ? order < 0
                                         : true;
}

static bool compares_hold(const struct model *m, const struct mvcc_txn_request *t)
{
    for (size_t i = 0; i < t->compare_count; i++) {
        const struct mvcc_compare *c = &t->compares[i];
        struct found f = find(m, c->key, c->range_end, m->current);
        for (size_t k = 0; k < f.count; k++) {
            if (!one_compare(c, f.rows[k])) {
                return false;
            }
        }
        if (f.count == 0 && (c->target == MVCC_COMPARE_VALUE || !one_compare(c, NULL))) {
            return false;
        }
    }
    return true;
}

/* Before anything is executed, m->current is the state before the whole txn; and compares look at
 * that also while it is executed. */
static enum nb_status check_txn(const struct model *m, const struct mvcc_txn_request *t)
{
    const struct mvcc_ops *ops = compares_hold(m, t) ? &t->success : &t->failure;
    for (size_t i = 0; i < ops->count; i++) {
        const struct mvcc_op *op = &ops->items[i];
        enum nb_status status = NB_OK;
        if (op->kind == MVCC_OP_RANGE && op->as.range->revision != 0) {
            status = op->as.range->revision > m->current   ? NB_FUTURE_REVISION
                     : op->as.range->revision < m->compact ? NB_COMPACTED
                                                           : NB_OK;
        } else if (op->kind == MVCC_OP_PUT) {
            status = check_previous(m, op->as.put);
            status = status == NB_OK ? check_lease(op->as.put) : status;
        } else if (op->kind == MVCC_OP_TXN) {
            status = check_txn(m, op->as.txn);
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return NB_OK;
}

static Etcdserverpb__TxnResponse *txn_response(struct model *m, const struct mvcc_txn_request *t);

static Etcdserverpb__ResponseOp *op_response(struct model *m, const struct mvcc_op *op)
{
    Etcdserverpb__ResponseOp *out = nb_alloc(sizeof *out);
    etcdserverpb__response_op__init(out);
    if (op->kind == MVCC_OP_RANGE) {
        out->response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
        out->response_range = nb_alloc(sizeof *out->response_range);
        nb_assert(range_response(m, op->as.range, out->response_range) == NB_OK);
        out->response_range->header = header_of(newest(m));
    } else if (op->kind == MVCC_OP_PUT) {
        out->response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT;
        out->response_put = nb_alloc(sizeof *out->response_put);
        put_response(m, op->as.put, out->response_put);
        out->response_put->header = header_of(newest(m));
    } else if (op->kind == MVCC_OP_DELETE) {
        out->response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE;
        out->response_delete_range = nb_alloc(sizeof *out->response_delete_range);
        delete_response(m, op->as.delete, out->response_delete_range);
        out->response_delete_range->header = header_of(newest(m));
    } else if (op->kind == MVCC_OP_TXN) {
        out->response_case = ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN;
        out->response_txn = txn_response(m, op->as.txn);
        out->response_txn->header = header_of(0);
    }
    return out;
}

static Etcdserverpb__TxnResponse *txn_response(struct model *m, const struct mvcc_txn_request *t)
{
    Etcdserverpb__TxnResponse *out = nb_alloc(sizeof *out);
    etcdserverpb__txn_response__init(out);
    out->succeeded = compares_hold(m, t);
    const struct mvcc_ops *ops = out->succeeded ? &t->success : &t->failure;
    out->responses = nb_alloc(sizeof(Etcdserverpb__ResponseOp *) * (ops->count + 1));
    for (size_t i = 0; i < ops->count; i++) {
        out->responses[out->n_responses++] = op_response(m, &ops->items[i]);
    }
    return out;
}

static void free_txn(Etcdserverpb__TxnResponse *t)
{
    for (size_t i = 0; i < t->n_responses; i++) {
        Etcdserverpb__ResponseOp *op = t->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            free_kvs(op->response_range->kvs, op->response_range->n_kvs);
            nb_free(op->response_range->header);
            nb_free(op->response_range);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT) {
            nb_free(op->response_put->prev_kv);
            nb_free(op->response_put->header);
            nb_free(op->response_put);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE) {
            free_kvs(op->response_delete_range->prev_kvs, op->response_delete_range->n_prev_kvs);
            nb_free(op->response_delete_range->header);
            nb_free(op->response_delete_range);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN) {
            free_txn(op->response_txn);
        }
        nb_free(op);
    }
    nb_free(t->responses);
    nb_free(t->header);
    nb_free(t);
}

enum nb_status model_txn(struct model *m, const struct mvcc_txn_request *t, struct nb_buf *body)
{
    enum nb_status status = check_txn(m, t);
    if (status != NB_OK) {
        return status;
    }
    begin(m);
    Etcdserverpb__TxnResponse *response = txn_response(m, t);
    end(m);
    pack(&response->base, body);
    free_txn(response);
    return NB_OK;
}

enum nb_status model_compact(struct model *m, int64_t revision)
{
    if (revision <= m->compact) {
        return NB_COMPACTED;
    }
    if (revision > m->current) {
        return NB_FUTURE_REVISION;
    }
    m->compact = revision;
    return NB_OK;
}

bool model_row_stays(const struct model *m, const struct model_row *row)
{
    return row->main > m->compact || (row == last_row(m, row->key, m->compact) &&
                                      (!row->tombstone || row->main == m->compact));
}

/* etcd's definition, row by row, over what is there when compaction is done. [surface 2.10] */
uint32_t model_hash(const struct model *m, int64_t revision)
{
    bool any_kept = false;
    for (size_t i = 0; i < MODEL_KEY_COUNT; i++) {
        any_kept |= alive_row(m, model_keys[i], revision) != NULL;
    }
    uint32_t sum = nb_crc32c_portable(0, "key", 3);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_row *row = &m->rows[i];
        bool kept = alive_row(m, row->key, revision) == row;
        if (!model_row_stays(m, row) || row->main > revision ||
            (row->main <= m->compact && any_kept && !kept) ||
            (row->main == m->compact && row->tombstone)) {
            continue;
        }
        uint8_t name[18];
        nb_put_u64_be(name, (uint64_t)row->main);
        name[8] = '_';
        nb_put_u64_be(name + 9, (uint64_t)row->sub);
        name[17] = 't';
        struct nb_buf value = {0};
        model_row_encode(row, &value);
        sum = nb_crc32c_portable(sum, name, row->tombstone ? 18 : 17);
        sum = nb_crc32c_portable(sum, value.data, value.len);
        nb_buf_deinit(&value);
    }
    return sum;
}
