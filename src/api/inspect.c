/*
 * api/inspect: nabatapb.Inspect: one node's place in the group, and its log of operations. Both
 * answer from this node alone and never wait, so that a node that lost the group can still be
 * looked at.
 */
#include "api/internal.h"
#include "nabata.pb-c.h"

enum { LOG_ENTRIES_A_MESSAGE = 512, LOG_KEYS_AN_ENTRY = 256 };

void api_node(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Nabatapb__NodeRequest *in = nabatapb__node_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    uint64_t hash_index = in->hash_index;
    nabatapb__node_request__free_unpacked(in, NULL);
    struct replica *r = a->config.replica;
    struct machine *m = replica_machine(r);
    struct replica_status s;
    replica_status(r, &s);
    uint64_t applied = machine_applied_index(m);
    if (hash_index == 0) {
        hash_index = applied;
    }
    uint64_t log_hash = 0;
    bool known = machine_log_hash(m, hash_index, &log_hash);
    const char *role = s.is_learner ? "learner" : raft_role_name(s.raft.role);
    struct nb_buf *out = &a->scratch;
    nb_buf_clear(out);
    nb_wire_varint_field(out, 1, a->config.cluster_id);
    nb_wire_varint_field(out, 2, a->config.member_id);
    nb_wire_bytes_field(out, 3, nb_bytes_str(a->config.name));
    nb_wire_bytes_field(out, 4, nb_bytes_str(role));
    nb_wire_varint_field(out, 5, s.raft.leader_id);
    nb_wire_varint_field(out, 6, s.raft.term);
    nb_wire_varint_field(out, 7, s.raft.first_index);
    nb_wire_varint_field(out, 8, s.raft.last.index);
    nb_wire_varint_field(out, 9, s.raft.commit_index);
    nb_wire_varint_field(out, 10, applied);
    nb_wire_varint_field(out, 11, (uint64_t)mvcc_current_revision(machine_mvcc(m)));
    nb_wire_varint_field(out, 12, hash_index);
    nb_wire_varint_field(out, 13, log_hash);
    nb_wire_varint_field(out, 14, known);
    nb_wire_varint_field(out, 15, (uint64_t)mvcc_compact_revision(machine_mvcc(m)));
    nb_wire_varint_field(out, 16, s.raft.last.term);
    rpc_call_reply(call, nb_buf_bytes(out), (struct nb_bytes){0});
}

/* ---- Log ---- */

struct log_job {
    struct api_job job;
    uint64_t next, end; /* indexes still to send: [next, end) */
};

static void append_interval(struct nb_buf *out, struct nb_bytes key, struct nb_bytes range_end)
{
    nb_wire_bytes(out, 4, key);
    if (range_end.len != 0) {
        nb_wire_bytes(out, 4, range_end);
    }
}

static void append_ops(struct nb_buf *out, const struct mvcc_ops *ops, size_t *budget)
{
    for (size_t i = 0; i < ops->count && *budget != 0; i++) {
        const struct mvcc_op *op = &ops->items[i];
        switch (op->kind) {
        case MVCC_OP_PUT:
            append_interval(out, op->as.put->key, (struct nb_bytes){0});
            (*budget)--;
            break;
        case MVCC_OP_DELETE:
            append_interval(out, op->as.delete->key, op->as.delete->range_end);
            (*budget)--;
            break;
        case MVCC_OP_NONE:
        case MVCC_OP_RANGE:
        case MVCC_OP_TXN: /* the keys of nested ones are left out: the entry's hash has them */
            break;
        }
    }
}

static void append_keys(struct api *a, struct nb_buf *out, unsigned kind, struct nb_bytes request)
{
    size_t budget = LOG_KEYS_AN_ENTRY;
    if (kind == MACHINE_PUT) {
        struct mvcc_put_request put;
        if (mvcc_put_decode(request, &put) == NB_OK) {
            append_interval(out, put.key, (struct nb_bytes){0});
        }
    } else if (kind == MACHINE_DELETE_RANGE) {
        struct mvcc_delete_request delete;
        if (mvcc_delete_decode(request, &delete) == NB_OK) {
            append_interval(out, delete.key, delete.range_end);
        }
    } else if (kind == MACHINE_TXN) {
        struct mvcc_txn_request txn;
        nb_arena_reset(&a->arena);
        if (mvcc_txn_decode(request, &a->arena, &txn) == NB_OK) {
            append_ops(out, &txn.success, &budget);
            append_ops(out, &txn.failure, &budget);
        }
    }
}

static const char *entry_kind_name(const struct raft_entry *e, const struct machine_header *h,
                                   bool decoded)
{
    if (e->kind == RAFT_ENTRY_NOOP) {
        return "noop";
    }
    if (e->kind == RAFT_ENTRY_CONF) {
        return "conf";
    }
    return decoded ? machine_kind_name(h->kind) : "unknown";
}

static void append_entry(struct api *a, struct nb_buf *out, const struct raft_entry *e,
                         uint64_t commit_index)
{
    struct machine_header h = {0};
    struct nb_bytes request = {0};
    struct nb_bytes payload = nb_payload_bytes(e->payload);
    bool decoded =
        e->kind == RAFT_ENTRY_COMMAND && machine_header_get(payload, &h, &request) == NB_OK;
    nb_wire_varint_field(out, 1, e->id.index);
    nb_wire_varint_field(out, 2, e->id.term);
    nb_wire_bytes_field(out, 3, nb_bytes_str(entry_kind_name(e, &h, decoded)));
    if (decoded) {
        append_keys(a, out, h.kind, request);
    }
    nb_wire_varint_field(out, 5, payload.len);
    nb_wire_varint_field(
        out, 6,
        machine_entry_hash(e->id.index, e->id.term, (enum machine_entry_kind)e->kind, payload));
    nb_wire_varint_field(out, 7, e->id.index <= commit_index);
}

static enum api_step log_step(struct api_job *job)
{
    struct log_job *l = (struct log_job *)job;
    struct api *a = job->api;
    struct rpc_call *call = job->holder.call;
    if (call == NULL) {
        return API_STEP_DONE;
    }
    if (rpc_call_pending_bytes(call) > a->config.request_bytes_max) {
        return API_STEP_BLOCKED;
    }
    struct raft *raft = replica_raft(a->config.replica);
    struct raft_status s;
    raft_status(raft, &s);
    if (l->next < s.first_index) {
        l->next = s.first_index; /* compacted meanwhile */
    }
    uint64_t end = l->next + LOG_ENTRIES_A_MESSAGE;
    end = end > l->end ? l->end : end;
    size_t count = 0;
    const struct raft_entry *entries =
        l->next < end ? raft_entries(raft, l->next, end, &count) : NULL;
    struct nb_buf one = {0};
    nb_buf_clear(&a->scratch);
    for (size_t i = 0; i < count; i++) {
        nb_buf_clear(&one);
        append_entry(a, &one, &entries[i], s.commit_index);
        nb_wire_bytes(&a->scratch, 1, nb_buf_bytes(&one));
    }
    nb_buf_deinit(&one);
    l->next += count;
    if (count != 0) {
        rpc_call_send(call, nb_buf_bytes(&a->scratch), (struct nb_bytes){0});
    }
    if (count == 0 || l->next >= l->end) {
        rpc_call_finish(call, RPC_OK, NULL);
        return API_STEP_DONE;
    }
    return API_STEP_MORE;
}

void api_log(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Nabatapb__LogRequest *in = nabatapb__log_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    struct raft_status s;
    raft_status(replica_raft(a->config.replica), &s);
    struct log_job *l = nb_alloc_zero(1, sizeof *l);
    l->job.step = log_step;
    l->next = in->first_index < s.first_index ? s.first_index : in->first_index;
    l->end = s.last.index + 1;
    if (in->limit != 0 && l->next < l->end && in->limit < l->end - l->next) {
        l->end = l->next + in->limit;
    }
    nabatapb__log_request__free_unpacked(in, NULL);
    api_job_add(a, call, &l->job);
}
