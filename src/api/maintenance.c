/* api/maintenance: etcdserverpb.Maintenance, as far as it exists. [etcd-v3-surface 2.9] */
#include "api/internal.h"
#include "api/reply.h"
#include "rpc.pb-c.h"

#include <inttypes.h>

enum { HASH_ROWS_A_TURN = 4096 };

static const char *const alarm_names[] = {"NONE", "NOSPACE", "CORRUPT"};

static const char *alarm_name(uint32_t alarm)
{
    return alarm < NB_ARRAY_LEN(alarm_names) ? alarm_names[alarm] : "UNKNOWN";
}

/* ---- Status ---- */

void api_status(struct rpc_call *call, struct nb_bytes message)
{
    (void)message; /* StatusRequest has no fields */
    struct api *a = api_of(call);
    if (!api_count_client(a, call)) {
        api_refuse(call, NB_INVALID_CLIENT_VERSION);
        return;
    }
    struct replica *r = a->config.replica;
    struct replica_status s;
    replica_status(r, &s);

    size_t alarm_count;
    const struct machine_alarm_member *alarms = machine_alarms(replica_machine(r), &alarm_count);
    nb_arena_reset(&a->arena);
    char **errors = nb_arena_alloc(&a->arena, (alarm_count + 1) * sizeof *errors);
    size_t error_count = 0;
    if (s.raft.leader_id == 0) {
        errors[error_count++] = nb_arena_str(&a->arena, nb_bytes_str("etcdserver: no leader"));
    }
    for (size_t i = 0; i < alarm_count; i++) {
        struct nb_buf line = {0};
        nb_buf_printf(&line, "memberID:%" PRIu64 " alarm:%s", alarms[i].member_id,
                      alarm_name(alarms[i].alarm));
        errors[error_count++] = nb_arena_str(&a->arena, nb_buf_bytes(&line));
        nb_buf_deinit(&line);
    }

    Etcdserverpb__ResponseHeader header = api_reply_header(a, true);
    Etcdserverpb__DowngradeInfo downgrade;
    Etcdserverpb__StatusResponse out;
    etcdserverpb__downgrade_info__init(&downgrade);
    etcdserverpb__status_response__init(&out);
    out.header = &header;
    out.version = (char[]){API_ETCD_VERSION};
    out.dbsize = (int64_t)s.db_allocated_bytes;
    out.dbsizeinuse = (int64_t)s.db_used_bytes;
    out.dbsizequota = a->config.quota_bytes == UINT64_MAX ? 0 : (int64_t)a->config.quota_bytes;
    out.leader = s.raft.leader_id;
    out.raftindex = s.raft.commit_index;
    out.raftterm = s.raft.term;
    out.raftappliedindex = machine_applied_index(replica_machine(r));
    out.errors = errors;
    out.n_errors = error_count;
    out.islearner = s.is_learner;
    out.storageversion = (char[]){API_STORAGE_VERSION};
    out.downgradeinfo = &downgrade;
    api_reply_message(a, call, &out.base);
}

/* ---- Alarm ---- */

static void answer_alarms(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    Etcdserverpb__AlarmRequest *in =
        etcdserverpb__alarm_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    uint32_t wanted = (uint32_t)in->alarm;
    etcdserverpb__alarm_request__free_unpacked(in, NULL);
    size_t count;
    const struct machine_alarm_member *alarms =
        machine_alarms(replica_machine(a->config.replica), &count);
    nb_buf_clear(&a->scratch);
    for (size_t i = 0; i < count; i++) {
        if (wanted != MACHINE_ALARM_NONE && alarms[i].alarm != wanted) {
            continue;
        }
        size_t len = nb_wire_varint_field_size(1, alarms[i].member_id) +
                     nb_wire_varint_field_size(2, alarms[i].alarm);
        nb_wire_bytes_header(&a->scratch, 2, len);
        nb_wire_varint_field(&a->scratch, 1, alarms[i].member_id);
        nb_wire_varint_field(&a->scratch, 2, alarms[i].alarm);
    }
    api_reply(a, call, 0, nb_buf_bytes(&a->scratch));
}

void api_alarm(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Etcdserverpb__AlarmRequest *in =
        etcdserverpb__alarm_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    bool changes = in->action != ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET;
    etcdserverpb__alarm_request__free_unpacked(in, NULL);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    if (changes) {
        api_propose(a, call, MACHINE_ALARM, message, NULL);
    } else {
        answer_alarms(a, call, message);
    }
}

/* ---- Hash, HashKV ---- */

struct hash_job {
    struct api_job job;
    struct mvcc_hash hash;
    uint64_t begun_ns;
};

static enum api_step hash_step(struct api_job *job)
{
    struct hash_job *h = (struct hash_job *)job;
    struct api *a = job->api;
    if (job->holder.call == NULL) {
        return API_STEP_DONE;
    }
    struct mvcc *m = machine_mvcc(replica_machine(a->config.replica));
    if (h->hash.all && mvcc_compact_pending(m)) {
        return API_STEP_BLOCKED; /* the rows are going: it would start over again and again */
    }
    enum nb_status status = mvcc_hash_step(m, &h->hash, HASH_ROWS_A_TURN);
    if (status != NB_OK) {
        api_refuse(job->holder.call, status);
        return API_STEP_DONE;
    }
    if (!h->hash.done) {
        return API_STEP_MORE;
    }
    nb_histogram_observe_ns(h->hash.all ? &a->metrics.hash : &a->metrics.hash_rev,
                            net_now_ns() - h->begun_ns);
    nb_buf_clear(&a->scratch);
    nb_wire_varint_field(&a->scratch, 2, h->hash.sum);
    if (!h->hash.all) {
        nb_wire_varint_field(&a->scratch, 3, (uint64_t)h->hash.compact_revision);
        nb_wire_varint_field(&a->scratch, 4, (uint64_t)h->hash.revision);
    }
    api_reply(a, job->holder.call, 0, nb_buf_bytes(&a->scratch));
    return API_STEP_DONE;
}

static void begin_hash(struct api *a, struct rpc_call *call, const struct mvcc_hash *hash)
{
    struct hash_job *h = nb_alloc_zero(1, sizeof *h);
    h->job.step = hash_step;
    h->begun_ns = net_now_ns();
    h->hash = *hash;
    api_job_add(a, call, &h->job);
}

void api_hash(struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    struct api *a = api_of(call);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    struct mvcc_hash hash;
    mvcc_hash_begin_all(machine_mvcc(replica_machine(a->config.replica)), &hash);
    begin_hash(a, call, &hash);
}

void api_hash_kv(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Etcdserverpb__HashKVRequest *in =
        etcdserverpb__hash_kvrequest__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    int64_t revision = in->revision;
    etcdserverpb__hash_kvrequest__free_unpacked(in, NULL);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    struct mvcc_hash hash;
    enum nb_status status =
        mvcc_hash_begin(machine_mvcc(replica_machine(a->config.replica)), revision, &hash);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    begin_hash(a, call, &hash);
}

/* ---- MoveLeader ---- */

struct transfer_job {
    struct api_job job;
    uint64_t target;
    uint64_t deadline_ns;
};

static enum api_step transfer_step(struct api_job *job)
{
    struct transfer_job *t = (struct transfer_job *)job;
    struct api *a = job->api;
    if (job->holder.call == NULL) {
        return API_STEP_DONE;
    }
    uint64_t leader = replica_leader(a->config.replica);
    if (leader == t->target) {
        rpc_call_reply(job->holder.call, (struct nb_bytes){0}, (struct nb_bytes){0});
        return API_STEP_DONE;
    }
    if (net_loop_now_ns(a->config.loop) > t->deadline_ns) {
        api_refuse(job->holder.call, NB_TRANSFER_TIMEOUT);
        return API_STEP_DONE;
    }
    return API_STEP_BLOCKED; /* the tick gives the loop turns enough */
}

void api_move_leader(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Etcdserverpb__MoveLeaderRequest *in =
        etcdserverpb__move_leader_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    uint64_t target = in->targetid;
    etcdserverpb__move_leader_request__free_unpacked(in, NULL);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    enum nb_status status = replica_transfer(a->config.replica, target);
    if (status != NB_OK) {
        api_refuse(call, status);
        return;
    }
    struct transfer_job *t = nb_alloc_zero(1, sizeof *t);
    t->job.step = transfer_step;
    t->target = target;
    t->deadline_ns = net_loop_now_ns(a->config.loop) + a->config.request_timeout_ns;
    api_job_add(a, call, &t->job);
}
