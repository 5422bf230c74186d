#include "sim/cluster.h"

#include "base/wire.h"
#include "mvcc/kv.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_SIZE = 2, VALUE_SIZE = 20, VALUE_SIZE_LARGE = 6000 };

/* ---- requests as bytes ---- */

static struct nb_bytes key_put(uint8_t to[KEY_SIZE], unsigned key)
{
    to[0] = 'k';
    to[1] = (uint8_t)('0' + key);
    return nb_bytes_of(to, KEY_SIZE);
}

/* The number, then padding: some values are large, so that logs and batches are not all alike. */
static struct nb_bytes value_put(uint8_t to[VALUE_SIZE_LARGE], uint64_t value)
{
    memset(to, '.', VALUE_SIZE_LARGE);
    for (size_t i = VALUE_SIZE; i-- > 0; value /= 10) {
        to[i] = (uint8_t)('0' + value % 10);
    }
    return nb_bytes_of(to, to[VALUE_SIZE - 1] == '7' ? VALUE_SIZE_LARGE : VALUE_SIZE);
}

static uint64_t value_get(struct nb_bytes bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < VALUE_SIZE && i < bytes.len; i++) {
        value = value * 10 + (uint64_t)(bytes.data[i] - '0');
    }
    return value;
}

static void put_encode(struct nb_buf *to, unsigned key, uint64_t value, bool prev_kv)
{
    uint8_t key_room[KEY_SIZE], value_room[VALUE_SIZE_LARGE];
    nb_wire_bytes(to, 1, key_put(key_room, key));
    nb_wire_bytes(to, 2, value_put(value_room, value));
    nb_wire_varint_field(to, 4, prev_kv);
}

static void branch_encode(struct nb_buf *to, uint32_t field, unsigned key, uint64_t value)
{
    struct nb_buf put = {0}, op = {0};
    put_encode(&put, key, value, false);
    nb_wire_bytes(&op, 2, nb_buf_bytes(&put)); /* RequestOp.request_put */
    nb_wire_bytes(to, field, nb_buf_bytes(&op));
    nb_buf_deinit(&put);
    nb_buf_deinit(&op);
}

static void swap_encode(struct nb_buf *to, const struct sim_request *r)
{
    struct nb_buf compare = {0};
    uint8_t room[KEY_SIZE];
    nb_wire_bytes(&compare, 3, key_put(room, r->key)); /* EQUAL and VERSION are 0 */
    nb_wire_varint(&compare, 4, (uint64_t)r->expected);
    nb_wire_bytes(to, 1, nb_buf_bytes(&compare));
    branch_encode(to, 2, r->key, r->value);
    branch_encode(to, 3, r->other, r->value);
    nb_buf_deinit(&compare);
}

static enum machine_kind encode(const struct sim_request *r, struct nb_buf *to)
{
    uint8_t room[KEY_SIZE];
    switch (r->kind) {
    case SIM_OP_PUT:
        put_encode(to, r->key, r->value, true);
        return MACHINE_PUT;
    case SIM_OP_DELETE:
        nb_wire_bytes(to, 1, key_put(room, r->key));
        return MACHINE_DELETE_RANGE;
    case SIM_OP_DELETE_ALL:
        nb_wire_bytes(to, 1, nb_bytes_str("k"));
        nb_wire_bytes(to, 2, nb_bytes_str("l"));
        return MACHINE_DELETE_RANGE;
    case SIM_OP_SWAP:
        swap_encode(to, r);
        return MACHINE_TXN;
    case SIM_OP_COMPACT:
        nb_wire_varint(to, 1, (uint64_t)r->revision);
        return MACHINE_COMPACTION;
    case SIM_OP_READ:
    case SIM_OP_KIND_COUNT:
        break;
    }
    nb_unreachable("reads are not proposed");
}

/* ---- answers ---- */

static struct nb_wire_field field_of(struct nb_wire_reader *r)
{
    struct nb_wire_field f = {0};
    enum nb_status status = nb_wire_next(r, &f);
    nb_assert(status == NB_OK);
    return f;
}

static void take_answer(struct sim_op *op, const struct machine_result *result)
{
    op->answer = (struct sim_answer){.status = result->status, .revision = result->revision};
    struct nb_wire_reader r = nb_wire_reader_of(result->body);
    while (nb_wire_more(&r)) {
        struct nb_wire_field f = field_of(&r);
        if (op->what.kind == SIM_OP_PUT && f.number == 2) {
            struct mvcc_kv kv;
            enum nb_status status = mvcc_kv_decode(f.bytes, &kv);
            nb_assert(status == NB_OK);
            op->answer.has_previous = true;
            op->answer.previous_value = value_get(kv.value);
        } else if (op->what.kind == SIM_OP_SWAP && f.number == 2) {
            op->answer.succeeded = f.value != 0;
        } else if (f.number == 2) {
            op->answer.deleted = f.value;
        }
    }
}

static void look(struct sim_op *op, struct machine *machine)
{
    struct mvcc_range_request all = {.key = nb_bytes_str("k"), .range_end = nb_bytes_str("l")};
    struct nb_buf body = {0};
    op->answer.status = mvcc_range(machine_mvcc(machine), &all, &body, &op->answer.revision);
    struct nb_wire_reader r = nb_wire_reader_of(nb_buf_bytes(&body));
    while (nb_wire_more(&r)) {
        struct nb_wire_field f = field_of(&r);
        if (f.number == 2 && f.type == NB_WIRE_BYTES) {
            struct mvcc_kv kv;
            enum nb_status status = mvcc_kv_decode(f.bytes, &kv);
            nb_assert(status == NB_OK && kv.key.len == KEY_SIZE);
            unsigned key = (unsigned)(kv.key.data[1] - '0');
            op->seen[key] = value_get(kv.value);
            op->seen_mod[key] = kv.mod;
        }
    }
    nb_buf_deinit(&body);
}

static void on_done(struct replica_request *request, enum nb_status status,
                    const struct machine_result *result)
{
    struct sim_op *op = (struct sim_op *)(void *)request;
    struct sim *s = op->sim;
    struct sim_member *m = &s->members[op->member];
    if (op->done || (s->options.bug == SIM_BUG_ANSWER_LOST && op->client == 0)) {
        if (op->done && s->options.bug == SIM_BUG_NONE) {
            sim_broken(s, "one_answer", "a call was answered twice");
        }
        return;
    }
    op->done = true;
    op->status = status;
    if (status == NB_OK) {
        op->answer_index = sim_member_applied(m);
        if (op->what.kind == SIM_OP_READ) {
            look(op, m->machine);
        } else {
            nb_assert(result != NULL); /* an applied proposal has one */
            take_answer(op, result);
            op->answer.revision -= s->options.bug == SIM_BUG_WRONG_REVISION;
        }
    }
    s->report.unknown_count += status != NB_OK;
    s->report.read_count += status == NB_OK && op->what.kind == SIM_OP_READ;
    s->report.write_count += status == NB_OK && op->what.kind != SIM_OP_READ;
    sim_trace(s, (int)op->member, "client %u is told: %s, revision %lld", op->client,
              nb_status_name(status == NB_OK ? op->answer.status : status),
              (long long)op->answer.revision);
    sim_check_answered(s, op);
    if (s->clients[op->client].op == op) {
        s->clients[op->client].op = NULL;
        sim_plan(s, SIM_EVENT_CLIENT, op->client, SIM_MS + sim_below(s, 30 * SIM_MS));
    }
}

/* ---- calls ---- */

void sim_op_destroy(struct sim_op *op)
{
    nb_buf_deinit(&op->payload);
    nb_free(op);
}

static enum nb_status ask(struct sim_op *op, struct sim_member *m)
{
    if (op->what.kind == SIM_OP_READ) {
        if (m->sim->options.bug == SIM_BUG_STALE_READ) {
            on_done(&op->request, NB_OK, NULL);
            return NB_OK;
        }
        return replica_read(m->replica, &op->request);
    }
    enum machine_kind kind = encode(&op->what, &op->payload);
    enum nb_status status =
        replica_propose(m->replica, kind, nb_buf_bytes(&op->payload), &op->request);
    if (status == NB_OK && m->sim->options.bug == SIM_BUG_EARLY_ANSWER) {
        on_done(&op->request, NB_OK,
                &(struct machine_result){.revision =
                                             mvcc_current_revision(machine_mvcc(m->machine)) + 1});
    }
    return status;
}

struct sim_op *sim_client_call(struct sim *s, unsigned client, unsigned member,
                               const struct sim_request *what)
{
    struct sim_member *m = &s->members[member];
    struct sim_op *op = nb_alloc_zero(1, sizeof *op);
    *op = (struct sim_op){.request = {.done = on_done},
                          .sim = s,
                          .what = *what,
                          .client = client,
                          .member = member,
                          .boot = m->boot,
                          .origin = m->id,
                          .floor = s->check.completed_index,
                          .called_ns = s->now_ns};
    static const char *const names[] = {"put", "delete", "delete all", "txn", "compact", "read"};
    static_assert(NB_ARRAY_LEN(names) == SIM_OP_KIND_COUNT, "a name for each kind");
    sim_trace(s, (int)member, "client %u: %s k%u", client, names[what->kind], what->key);
    s->clients[client].op = op;
    s->report.call_count++;
    enum nb_status status = ask(op, m);
    op->refused = status != NB_OK;
    if (op->refused) {
        op->done = true;
        op->status = status;
        s->clients[client].op = NULL;
        s->report.refused_count++;
        sim_plan(s, SIM_EVENT_CLIENT, client, 20 * SIM_MS);
    }
    sim_check_called(s, op);
    sim_member_settle(m);
    return op;
}

static struct sim_request draw(struct sim *s, struct sim_member *m)
{
    struct sim_request r = {.key = (unsigned)sim_below(s, SIM_KEY_COUNT), .value = ++s->value_last};
    r.other = (unsigned)sim_below(s, SIM_KEY_COUNT);
    uint64_t dice = sim_below(s, 100);
    if (dice < 40) {
        r.kind = SIM_OP_PUT;
    } else if (dice < 48) {
        r.kind = SIM_OP_DELETE;
    } else if (dice < 50) {
        r.kind = SIM_OP_DELETE_ALL;
    } else if (dice < 62) {
        r.kind = SIM_OP_SWAP;
        r.expected = (int64_t)sim_below(s, 4);
    } else if (dice < 65) {
        int64_t revision = mvcc_current_revision(machine_mvcc(m->machine));
        r.kind = SIM_OP_COMPACT;
        r.revision = revision + 2 - (int64_t)sim_below(s, 30);
        r.revision = r.revision < 1 ? 1 : r.revision;
    } else {
        r.kind = SIM_OP_READ;
    }
    return r;
}

void sim_client_event(struct sim *s, unsigned client)
{
    if (s->quiet || s->clients[client].op != NULL) {
        return;
    }
    unsigned member = (unsigned)sim_below(s, s->member_count);
    struct sim_member *m = &s->members[member];
    if (!m->alive || m->paused_until_ns > s->now_ns || (s->healed && !s->core[member])) {
        sim_plan(s, SIM_EVENT_CLIENT, client, 20 * SIM_MS);
        return;
    }
    struct sim_request r = draw(s, m);
    (void)sim_client_call(s, client, member, &r);
}
