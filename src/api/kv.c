/* api/kv: etcdserverpb.KV. [etcd-v3-surface 2.2-2.5] */
#include "api/internal.h"

#include <string.h>

enum { STREAM_CHUNKS_A_TURN = 8 };

/* ---- Range ---- */

/* What a read took since it came, and whether that went well. */
static void count_read(struct api *a, enum api_read read, uint64_t now_ns, uint64_t end_ns,
                       bool good)
{
    uint64_t begun_ns = a->read_begun_ns == 0 ? now_ns : a->read_begun_ns;
    api_metrics_read(&a->metrics, read, good, end_ns - begun_ns);
}

void api_read_failed(struct api *a, const struct rpc_call *call)
{
    const struct rpc_method *method = rpc_call_method(call);
    if (method->on_message == api_range || method->on_message == api_txn) {
        count_read(a, method->on_message == api_range ? API_READ_RANGE : API_READ_TXN, 0,
                   net_now_ns(), false);
    }
}

static void answer_range(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    struct mvcc_range_request r;
    int64_t revision = 0;
    enum nb_status status = mvcc_range_decode(message, &r);
    nb_buf_clear(&a->scratch);
    uint64_t now_ns = net_now_ns();
    if (status == NB_OK) {
        status = mvcc_range(machine_mvcc(replica_machine(a->config.replica)), &r, &a->scratch,
                            &revision);
    }
    uint64_t end_ns = net_now_ns();
    nb_histogram_observe_ns(&a->metrics.range[status == NB_OK], end_ns - now_ns);
    count_read(a, API_READ_RANGE, now_ns, end_ns, status == NB_OK);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    api_reply(a, call, revision, nb_buf_bytes(&a->scratch));
}

void api_range(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_range_request r;
    enum nb_status status = mvcc_range_decode(message, &r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    if (api_door(a, call, r.serializable) != NB_OK) {
        return;
    }
    status = mvcc_range_check(&r);
    if (status != NB_OK) {
        api_refuse(call, status);
    } else if (r.serializable) {
        answer_range(a, call, message);
    } else {
        api_read_then(a, call, message, answer_range);
    }
}

/* ---- RangeStream ---- */

struct stream_job {
    struct api_job job;
    struct mvcc_stream stream;
    struct nb_buf message; /* what stream.request borrows from */
};

static void stream_release(struct api_job *job)
{
    struct stream_job *s = (struct stream_job *)job;
    mvcc_stream_deinit(&s->stream);
    nb_buf_deinit(&s->message);
}

/* One RangeStreamResponse { range_response = 1 }. The last chunk brings the header. */
static void stream_send(struct api *a, struct stream_job *s)
{
    uint8_t head[64];
    size_t head_len = 0;
    if (s->stream.finished) {
        head_len = api_header_encode(a, head, s->stream.header_revision, true);
    }
    struct nb_buf prefix = {0};
    nb_wire_bytes_header(&prefix, 1, head_len + a->scratch.len);
    nb_buf_append(&prefix, head, head_len);
    rpc_call_send(s->job.holder.call, nb_buf_bytes(&prefix), nb_buf_bytes(&a->scratch));
    nb_buf_deinit(&prefix);
}

static enum api_step stream_step(struct api_job *job)
{
    struct stream_job *s = (struct stream_job *)job;
    struct api *a = job->api;
    for (unsigned i = 0; i < STREAM_CHUNKS_A_TURN; i++) {
        if (job->holder.call == NULL) {
            return API_STEP_DONE;
        }
        if (rpc_call_pending_bytes(job->holder.call) > a->config.request_bytes_max) {
            return API_STEP_BLOCKED; /* until the client has read some of it */
        }
        nb_buf_clear(&a->scratch);
        enum nb_status status = mvcc_stream_next(machine_mvcc(replica_machine(a->config.replica)),
                                                 &s->stream, &a->scratch);
        if (status != NB_OK) {
            api_refuse(job->holder.call, status);
            return API_STEP_DONE;
        }
        stream_send(a, s);
        if (s->stream.finished) {
            rpc_call_finish(job->holder.call, RPC_OK, NULL);
            return API_STEP_DONE;
        }
    }
    return API_STEP_MORE;
}

static void begin_stream(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    struct stream_job *s = nb_alloc_zero(1, sizeof *s);
    s->job.step = stream_step;
    s->job.release = stream_release;
    nb_buf_append_bytes(&s->message, message);
    struct mvcc_range_request r;
    enum nb_status status = mvcc_range_decode(nb_buf_bytes(&s->message), &r);
    if (status == NB_OK) {
        status = mvcc_stream_begin(machine_mvcc(replica_machine(a->config.replica)), &r,
                                   a->config.request_bytes_max, &s->stream);
    }
    if (status != NB_OK) {
        stream_release(&s->job);
        nb_free(s);
        api_refuse(call, status);
        return;
    }
    api_job_add(a, call, &s->job);
}

void api_range_stream(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_range_request r;
    enum nb_status status = mvcc_range_decode(message, &r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    status = mvcc_stream_check(&r);
    if (status != NB_OK) {
        api_refuse(call, status);
    } else if (r.serializable) {
        begin_stream(a, call, message);
    } else {
        api_read_then(a, call, message, begin_stream);
    }
}

/* ---- writes ---- */

/* The quota stands at the door, where a member's own disk may be looked at; what the log has taken
 * is applied everywhere [D05]. The first refusal raises the alarm through the log. */
static bool has_space(struct api *a, struct rpc_call *call, uint64_t cost)
{
    if (machine_alarm_on(replica_machine(a->config.replica), MACHINE_ALARM_NOSPACE) ||
        replica_disk_is_full(a->config.replica)) {
        api_refuse(call, NB_NO_SPACE);
        return false;
    }
    if (a->config.quota_bytes == UINT64_MAX || api_db_size(a) + cost < a->config.quota_bytes) {
        return true;
    }
    api_raise_nospace(a);
    api_refuse(call, NB_NO_SPACE);
    return false;
}

void api_put(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_put_request r;
    enum nb_status status = mvcc_put_decode(message, &r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    if (api_door(a, call, false) != NB_OK || !has_space(a, call, mvcc_put_quota_cost(&r))) {
        return;
    }
    status = mvcc_put_check(&r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    api_propose(a, call, MACHINE_PUT, message, NULL);
}

void api_delete_range(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_delete_request r;
    enum nb_status status = mvcc_delete_decode(message, &r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    status = mvcc_delete_check(&r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    api_propose(a, call, MACHINE_DELETE_RANGE, message, NULL);
}

static void answer_txn(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    struct mvcc_txn_request t;
    int64_t revision = 0;
    nb_arena_reset(&a->arena);
    nb_buf_clear(&a->scratch);
    uint64_t now_ns = net_now_ns();
    enum nb_status status = mvcc_txn_decode(message, &a->arena, &t);
    if (status == NB_OK) {
        status =
            mvcc_txn(machine_mvcc(replica_machine(a->config.replica)), &t, &a->scratch, &revision);
    }
    count_read(a, API_READ_TXN, now_ns, net_now_ns(), status == NB_OK);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    api_reply(a, call, revision, nb_buf_bytes(&a->scratch));
}

void api_txn(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_txn_request t;
    nb_arena_reset(&a->arena);
    enum nb_status status = mvcc_txn_decode(message, &a->arena, &t);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    uint64_t cost = mvcc_txn_quota_cost(&t);
    if (api_door(a, call, false) != NB_OK || (cost != 0 && !has_space(a, call, cost))) {
        return;
    }
    status = mvcc_txn_check(&t, a->config.txn_ops_max, &a->arena);
    if (status != NB_OK) {
        api_refuse(call, status);
    } else if (!mvcc_txn_is_readonly(&t)) {
        api_propose(a, call, MACHINE_TXN, message, NULL);
    } else if (mvcc_txn_is_serializable(&t)) {
        answer_txn(a, call, message);
    } else {
        api_read_then(a, call, message, answer_txn);
    }
}

/* ---- Compact ---- */

/* A physical compaction is answered when what it removed is gone from the backend for good. */
struct compact_job {
    struct api_job job;
    uint64_t commit_wanted; /* 0 until the removal is complete */
};

static enum api_step compact_step(struct api_job *job)
{
    struct compact_job *c = (struct compact_job *)job;
    struct api *a = job->api;
    if (job->holder.call == NULL) {
        return API_STEP_DONE;
    }
    struct replica *r = a->config.replica;
    if (c->commit_wanted == 0) {
        if (mvcc_compact_pending(machine_mvcc(replica_machine(r)))) {
            return API_STEP_BLOCKED;
        }
        c->commit_wanted = replica_commit_wanted(r);
    }
    if (!replica_commit_done(r, c->commit_wanted)) {
        return API_STEP_BLOCKED;
    }
    api_reply(a, job->holder.call, 0, (struct nb_bytes){0});
    return API_STEP_DONE;
}

static void wait_for_removal(struct api *a, struct rpc_call *call,
                             const struct machine_result *result)
{
    (void)result;
    struct compact_job *c = nb_alloc_zero(1, sizeof *c);
    c->job.step = compact_step;
    api_job_add(a, call, &c->job);
}

void api_compact(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    struct mvcc_compaction_request r;
    enum nb_status status = mvcc_compaction_decode(message, &r);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    api_propose(a, call, MACHINE_COMPACTION, message, r.physical ? wait_for_removal : NULL);
}
