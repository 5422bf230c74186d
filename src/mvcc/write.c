/*
 * Writes: puts, deletions, transactions. [surface 2.3, 2.4]
 *
 * Each public call is one write transaction: its first change takes revision current + 1, and
 * `current` moves there at its end. Between the two, reads of the newest revision already see the
 * changes, because the index has them.
 */
#include "mvcc/store.h"

#include "base/wire.h"

#include <string.h>

/* Puts bytes in before what was appended since `mark`. */
static void insert(struct nb_buf *b, size_t mark, const uint8_t *bytes, size_t len)
{
    nb_buf_reserve(b, len);
    if (b->len != mark) {
        memmove(b->data + mark + len, b->data + mark, b->len - mark);
    }
    memcpy(b->data + mark, bytes, len);
    b->len += len;
}

void mvcc_message_end(struct nb_buf *b, size_t mark, uint32_t number)
{
    size_t len = b->len - mark;
    uint8_t head[20];
    size_t head_len = nb_varint_put(head, (uint64_t)number << 3 | NB_WIRE_BYTES);
    head_len += nb_varint_put(head + head_len, len);
    insert(b, mark, head, head_len);
}

static void begin(struct mvcc *m)
{
    m->change_count = 0;
    m->writing = true;
}

static int64_t end(struct mvcc *m)
{
    m->writing = false;
    m->current += m->change_count != 0;
    return m->current;
}

static bool lease_is_there(const struct mvcc *m, int64_t lease)
{
    return m->options.lease_exists != NULL &&
           m->options.lease_exists(m->options.lease_context, lease);
}

/* The key's record if it is alive. */
static struct mvcc_record *find_alive(const struct mvcc *m, struct nb_bytes key)
{
    struct mvcc_record *r = mvcc_index_find(&m->index, key);
    return r == NULL || r->dead ? NULL : r;
}

static struct mvcc_kv newest_kv(struct mvcc *m, const struct mvcc_record *r)
{
    struct mvcc_kv kv;
    enum nb_status status = mvcc_kv_decode(mvcc_rows_get(&m->rows, mvcc_record_newest(r)), &kv);
    nb_assert(status == NB_OK);
    return kv;
}

static struct mvcc_version next_version(const struct mvcc *m, bool tombstone)
{
    nb_assert(m->change_count < UINT32_MAX);
    return (struct mvcc_version){
        .main = m->current + 1, .sub = (uint32_t)m->change_count, .tombstone = tombstone};
}

/* Stores the row in `scratch` and adds the change that it is. */
static struct mvcc_change *add_change(struct mvcc *m, struct mvcc_version v, size_t key_len)
{
    struct nb_bytes stored = mvcc_rows_put(&m->rows, v, nb_buf_bytes(&m->scratch));
    m->changes = nb_grow(m->changes, &m->change_capacity, m->change_count + 1, sizeof *m->changes);
    struct mvcc_change *c = &m->changes[m->change_count++];
    *c = (struct mvcc_change){.main = v.main, .sub = v.sub, .deleted = v.tombstone, .kv = stored};
    if (key_len != 0) { /* the first field: its head, then its bytes */
        c->key = nb_bytes_of(stored.data + 1 + nb_varint_size(key_len), key_len);
    }
    return c;
}

static void put_key(struct mvcc *m, struct nb_bytes key, struct nb_bytes value, int64_t lease)
{
    struct mvcc_version v = next_version(m, false);
    struct mvcc_record *r = mvcc_index_find(&m->index, key);
    bool alive = r != NULL && !r->dead;
    int64_t previous_lease = alive && r->leased ? newest_kv(m, r).lease : 0;
    int64_t previous_main = alive ? r->mod : 0;
    if (r != NULL) {
        mvcc_index_renew(&m->index, r, v.main, v.sub, lease != 0);
    } else {
        r = mvcc_index_put(&m->index, key, v.main, v.sub, lease != 0);
    }
    nb_buf_clear(&m->scratch);
    mvcc_kv_encode(&m->scratch, &(struct mvcc_kv){.key = key,
                                                  .value = value,
                                                  .create = r->create,
                                                  .mod = v.main,
                                                  .version = r->version,
                                                  .lease = lease});
    struct mvcc_change *c = add_change(m, v, key.len);
    c->create_revision = r->create;
    c->lease = lease;
    c->previous_lease = previous_lease;
    c->previous_main = previous_main;
    m->stats.put_count++;
    m->stats.put_bytes += key.len + value.len;
}

static void delete_record(struct mvcc *m, struct mvcc_record *r)
{
    struct mvcc_version v = next_version(m, true);
    int64_t previous_lease = r->leased ? newest_kv(m, r).lease : 0;
    int64_t previous_main = r->mod;
    nb_buf_clear(&m->scratch);
    mvcc_kv_encode(&m->scratch, &(struct mvcc_kv){.key = mvcc_record_key(r)});
    mvcc_index_delete(&m->index, r, v.main, v.sub);
    struct mvcc_change *c = add_change(m, v, r->key_len);
    c->previous_lease = previous_lease;
    c->previous_main = previous_main;
    m->stats.delete_count++;
}

/* A put whose checks are done. A key that ignore_value or ignore_lease wants to keep may have been
 * deleted by an earlier operation of the same txn; etcd's process dies of that, here nothing is
 * kept. */
static void execute_put(struct mvcc *m, const struct mvcc_put_request *r, struct nb_buf *body)
{
    struct nb_bytes value = r->value;
    int64_t lease = r->lease;
    const struct mvcc_record *before =
        r->prev_kv || r->ignore_value || r->ignore_lease ? find_alive(m, r->key) : NULL;
    if (before != NULL) {
        struct mvcc_kv kv = newest_kv(m, before);
        value = r->ignore_value ? kv.value : value;
        lease = r->ignore_lease ? kv.lease : lease;
        if (r->prev_kv) {
            nb_wire_bytes(body, 2, mvcc_rows_get(&m->rows, mvcc_record_newest(before)));
        }
    }
    put_key(m, r->key, value, lease);
}

static enum nb_status check_previous(const struct mvcc *m, const struct mvcc_put_request *r)
{
    bool needs = r->ignore_value || r->ignore_lease;
    return needs && find_alive(m, r->key) == NULL ? NB_KEY_NOT_FOUND : NB_OK;
}

static enum nb_status check_lease(const struct mvcc *m, const struct mvcc_put_request *r)
{
    return r->lease != 0 && !lease_is_there(m, r->lease) ? NB_LEASE_NOT_FOUND : NB_OK;
}

enum nb_status mvcc_put(struct mvcc *m, const struct mvcc_put_request *r, struct nb_buf *body,
                        int64_t *out_revision)
{
    m->change_count = 0;
    enum nb_status status = check_lease(m, r);
    if (status == NB_OK) {
        status = check_previous(m, r);
    }
    if (status != NB_OK) {
        return status;
    }
    begin(m);
    execute_put(m, r, body);
    *out_revision = end(m);
    return NB_OK;
}

/* The alive keys of the range, before any of them is deleted. */
static void gather_doomed(struct mvcc *m, const struct mvcc_interval *keys)
{
    m->doomed_count = 0;
    struct mvcc_cursor c = {0};
    struct mvcc_record *r;
    if (keys->single) {
        r = find_alive(m, keys->first);
    } else {
        c = mvcc_tree_seek(&m->index.tree, keys->first);
        r = mvcc_tree_next_live(&c);
    }
    while (r != NULL &&
           (keys->single || keys->open || nb_bytes_compare(mvcc_record_key(r), keys->end) < 0)) {
        m->doomed = nb_grow(m->doomed, &m->doomed_capacity, m->doomed_count + 1, sizeof *m->doomed);
        m->doomed[m->doomed_count++] = r;
        r = keys->single ? NULL : mvcc_tree_next_live(&c);
    }
}

static void execute_delete(struct mvcc *m, const struct mvcc_delete_request *r, struct nb_buf *body)
{
    struct mvcc_interval keys = mvcc_interval_of(r->key, r->range_end);
    gather_doomed(m, &keys);
    nb_wire_varint_field(body, 2, m->doomed_count);
    for (size_t i = 0; r->prev_kv && i < m->doomed_count; i++) {
        nb_wire_bytes(body, 3, mvcc_rows_get(&m->rows, mvcc_record_newest(m->doomed[i])));
    }
    for (size_t i = 0; i < m->doomed_count; i++) {
        delete_record(m, m->doomed[i]);
    }
}

void mvcc_delete_range(struct mvcc *m, const struct mvcc_delete_request *r, struct nb_buf *body,
                       int64_t *out_revision)
{
    begin(m);
    execute_delete(m, r, body);
    *out_revision = end(m);
}

void mvcc_delete_keys(struct mvcc *m, const struct nb_bytes *keys, size_t count,
                      int64_t *out_revision)
{
    begin(m);
    for (size_t i = 0; i < count; i++) {
        struct mvcc_record *r = find_alive(m, keys[i]);
        if (r != NULL) {
            delete_record(m, r);
        }
    }
    *out_revision = end(m);
}

/* Compares. */

static int order_of_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* One key against a compare. `r` is NULL for "no such key", whose numbers are all 0. */
static bool compare_holds(struct mvcc *m, const struct mvcc_compare *c, const struct mvcc_record *r)
{
    bool agree = c->has_operand && c->operand_target == c->target;
    int64_t operand = agree ? c->number : 0;
    int order = 0;
    switch (c->target) {
    case MVCC_COMPARE_VERSION:
        order = order_of_numbers(r == NULL ? 0 : r->version, operand);
        break;
    case MVCC_COMPARE_CREATE:
        order = order_of_numbers(r == NULL ? 0 : r->create, operand);
        break;
    case MVCC_COMPARE_MOD:
        order = order_of_numbers(r == NULL ? 0 : r->mod, operand);
        break;
    case MVCC_COMPARE_LEASE:
        order = order_of_numbers(r == NULL || !r->leased ? 0 : newest_kv(m, r).lease, operand);
        break;
    case MVCC_COMPARE_VALUE:
        nb_assert(r != NULL);
        order = nb_bytes_compare(newest_kv(m, r).value, agree ? c->value : (struct nb_bytes){0});
        break;
    default:
        break; /* a target of the future compares equal */
    }
    switch (c->result) {
    case MVCC_EQUAL:
        return order == 0;
    case MVCC_NOT_EQUAL:
        return order != 0;
    case MVCC_GREATER:
        return order > 0;
    case MVCC_LESS:
        return order < 0;
    default:
        return true;
    }
}

static bool compare_range_holds(struct mvcc *m, const struct mvcc_compare *c)
{
    struct mvcc_interval keys = mvcc_interval_of(c->key, c->range_end);
    if (keys.single) {
        const struct mvcc_record *r = find_alive(m, c->key);
        return (r != NULL || c->target != MVCC_COMPARE_VALUE) && compare_holds(m, c, r);
    }
    struct mvcc_cursor cursor = mvcc_tree_seek(&m->index.tree, keys.first);
    const struct mvcc_record *r = mvcc_tree_next_live(&cursor);
    bool any = false;
    while (r != NULL && (keys.open || nb_bytes_compare(mvcc_record_key(r), keys.end) < 0)) {
        any = true;
        if (!compare_holds(m, c, r)) {
            return false;
        }
        r = mvcc_tree_next_live(&cursor);
    }
    return any || (c->target != MVCC_COMPARE_VALUE && compare_holds(m, c, NULL));
}

/* Transactions. The functions below call themselves through nested txns, whose depth the decoder
 * has bounded. `decisions` has a byte for each txn on the chosen path in the order they are met, so
 * that checking and executing follow the same path whatever the execution has changed. */

static const struct mvcc_ops *branch(const struct mvcc_txn_request *t, bool succeeded)
{
    return succeeded ? &t->success : &t->failure;
}

static void decide(struct mvcc *m, const struct mvcc_txn_request *t)
{
    uint8_t succeeded = 1;
    for (size_t i = 0; succeeded != 0 && i < t->compare_count; i++) {
        succeeded = compare_range_holds(m, &t->compares[i]);
    }
    nb_buf_append(&m->decisions, &succeeded, 1);
    const struct mvcc_ops *ops = branch(t, succeeded);
    for (size_t i = 0; i < ops->count; i++) {
        if (ops->items[i].kind == MVCC_OP_TXN) {
            decide(m, ops->items[i].as.txn);
        }
    }
}

/* Inside a txn only 0 means the newest revision. */
static enum nb_status check_range_revision(const struct mvcc *m, const struct mvcc_range_request *r)
{
    if (r->revision == 0) {
        return NB_OK;
    }
    if (r->revision > m->current) {
        return NB_FUTURE_REVISION;
    }
    return r->revision < m->compact ? NB_COMPACTED : NB_OK;
}

static enum nb_status check_txn(const struct mvcc *m, const struct mvcc_txn_request *t,
                                size_t *decision)
{
    const struct mvcc_ops *ops = branch(t, m->decisions.data[(*decision)++]);
    for (size_t i = 0; i < ops->count; i++) {
        const struct mvcc_op *op = &ops->items[i];
        enum nb_status status = NB_OK;
        switch (op->kind) {
        case MVCC_OP_RANGE:
            status = check_range_revision(m, op->as.range);
            break;
        case MVCC_OP_PUT:
            status = check_previous(m, op->as.put);
            if (status == NB_OK) {
                status = check_lease(m, op->as.put);
            }
            break;
        case MVCC_OP_TXN:
            status = check_txn(m, op->as.txn, decision);
            break;
        case MVCC_OP_DELETE:
        case MVCC_OP_NONE:
            break;
        }
        if (status != NB_OK) {
            return status;
        }
    }
    return NB_OK;
}

static void put_header(struct nb_buf *body, int64_t revision)
{
    size_t mark = mvcc_message_begin(body);
    nb_wire_varint_field(body, 3, (uint64_t)revision);
    mvcc_message_end(body, mark, 1);
}

/* A response's header comes first but is known last; it is small, so the rest moves behind it. */
static void put_header_before(struct nb_buf *body, size_t mark, int64_t revision)
{
    uint8_t head[16] = {1 << 3 | NB_WIRE_BYTES, 0, 3 << 3 | NB_WIRE_VARINT};
    size_t varint_len = nb_varint_put(head + 3, (uint64_t)revision);
    head[1] = (uint8_t)(1 + varint_len);
    insert(body, mark, head, 3 + varint_len);
}

static void execute_txn(struct mvcc *m, const struct mvcc_txn_request *t, size_t *decision,
                        struct nb_buf *body);

/* One ResponseOp: the member of its oneof has the number of the request's. */
static void execute_op(struct mvcc *m, const struct mvcc_op *op, size_t *decision,
                       struct nb_buf *body)
{
    size_t mark = mvcc_message_begin(body);
    switch (op->kind) {
    case MVCC_OP_NONE:
        return; /* refused at the door */
    case MVCC_OP_RANGE: {
        put_header(body, mvcc_newest(m));
        enum nb_status status = mvcc_read_range(m, op->as.range, body);
        nb_assert(status == NB_OK); /* checked before the first change [M6] */
        mvcc_message_end(body, mark, 1);
        return;
    }
    case MVCC_OP_PUT:
        execute_put(m, op->as.put, body);
        put_header_before(body, mark, mvcc_newest(m));
        mvcc_message_end(body, mark, 2);
        return;
    case MVCC_OP_DELETE:
        execute_delete(m, op->as.delete, body);
        put_header_before(body, mark, mvcc_newest(m));
        mvcc_message_end(body, mark, 3);
        return;
    case MVCC_OP_TXN:
        nb_wire_bytes(body, 1, (struct nb_bytes){0}); /* a header, empty, as in etcd */
        execute_txn(m, op->as.txn, decision, body);
        mvcc_message_end(body, mark, 4);
        return;
    }
}

static void execute_txn(struct mvcc *m, const struct mvcc_txn_request *t, size_t *decision,
                        struct nb_buf *body)
{
    bool succeeded = m->decisions.data[(*decision)++];
    const struct mvcc_ops *ops = branch(t, succeeded);
    nb_wire_varint_field(body, 2, succeeded);
    for (size_t i = 0; i < ops->count; i++) {
        size_t mark = mvcc_message_begin(body);
        execute_op(m, &ops->items[i], decision, body);
        mvcc_message_end(body, mark, 3);
    }
}

enum nb_status mvcc_txn(struct mvcc *m, const struct mvcc_txn_request *t, struct nb_buf *body,
                        int64_t *out_revision)
{
    m->change_count = 0;
    m->stats.txn_count++;
    nb_buf_clear(&m->decisions);
    decide(m, t);
    size_t decision = 0;
    enum nb_status status = check_txn(m, t, &decision);
    if (status != NB_OK) {
        return status;
    }
    begin(m);
    decision = 0;
    execute_txn(m, t, &decision, body);
    nb_assert(decision == m->decisions.len);
    *out_revision = end(m);
    return NB_OK;
}

struct mvcc_changes mvcc_changes(const struct mvcc *m)
{
    return (struct mvcc_changes){.items = m->changes, .count = m->change_count};
}
