/* api/requests: from the door to the answer, whatever the service. */
#include "api/internal.h"

#include <string.h>

struct api *api_of(const struct rpc_call *call)
{
    return api_of_conn(rpc_call_conn(call));
}

uint64_t api_db_size(const struct api *a)
{
    struct replica_status s;
    replica_status(a->config.replica, &s);
    return s.db_allocated_bytes;
}

/* ---- answers ---- */

void api_refuse(struct rpc_call *call, enum nb_status status)
{
    struct api_error e = api_error_of(status);
    rpc_call_finish(call, (enum rpc_status)e.grpc_code, e.text);
}

size_t api_header_encode(struct api *a, uint8_t *to, int64_t revision, bool with_revision)
{
    uint8_t fields[48];
    size_t len = 0;
    if (revision == 0) {
        revision = mvcc_current_revision(machine_mvcc(replica_machine(a->config.replica)));
    }
    const uint64_t values[] = {a->config.cluster_id, a->config.member_id,
                               with_revision ? (uint64_t)revision : 0,
                               replica_term(a->config.replica)};
    for (size_t i = 0; i < NB_ARRAY_LEN(values); i++) {
        if (values[i] != 0) {
            fields[len++] = (uint8_t)((i + 1) << 3 | NB_WIRE_VARINT);
            len += nb_varint_put(fields + len, values[i]);
        }
    }
    to[0] = 1 << 3 | NB_WIRE_BYTES;
    to[1] = (uint8_t)len; /* four keys and four varints are at most 44 bytes */
    memcpy(to + 2, fields, len);
    return len + 2;
}

void api_reply(struct api *a, struct rpc_call *call, int64_t revision, struct nb_bytes body)
{
    uint8_t head[64];
    size_t len = api_header_encode(a, head, revision, true);
    rpc_call_reply(call, nb_bytes_of(head, len), body);
}

/* ---- the door ---- */

static bool is_utf8_text(struct nb_bytes b)
{
    struct nb_buf escaped = {0};
    nb_json_escape(&escaped, b);
    nb_buf_append(&escaped, "", 1);
    bool good = strstr((const char *)escaped.data, "\\ufffd") == NULL;
    nb_buf_deinit(&escaped);
    return good;
}

bool api_count_client(struct api *a, struct rpc_call *call)
{
    struct nb_bytes version = {0};
    if (rpc_call_metadata(call, "client-api-version", &version) && !is_utf8_text(version)) {
        return false;
    }
    api_metrics_client(&a->metrics, rpc_call_method(call)->kind != RPC_UNARY, version);
    return true;
}

enum nb_status api_door(struct api *a, struct rpc_call *call, bool allowed_on_learner)
{
    enum nb_status status = NB_OK;
    struct nb_bytes value;
    struct replica *r = a->config.replica;
    if (a->stopping) {
        status = NB_STOPPED;
    } else if (machine_cluster_version(replica_machine(r))[0] == '\0') {
        status = NB_NOT_CAPABLE;
    } else if (!allowed_on_learner && replica_is_learner(r)) {
        status = NB_LEARNER_REFUSED;
    } else if (!api_count_client(a, call)) {
        status = NB_INVALID_CLIENT_VERSION;
    } else if (rpc_call_metadata(call, "hasleader", &value) &&
               nb_bytes_equal(value, nb_bytes_str("true")) && replica_leader(r) == 0) {
        status = NB_NO_LEADER;
    }
    if (status != NB_OK) {
        api_refuse(call, status);
    }
    return status;
}

/* ---- requests that wait ---- */

struct api_pending *api_pending_take(struct api *a, struct rpc_call *call)
{
    struct api_pending *p = a->free;
    if (p != NULL) {
        a->free = p->next;
        struct nb_buf keep = p->message;
        *p = (struct api_pending){.message = keep};
        nb_buf_clear(&p->message);
    } else {
        p = nb_alloc_zero(1, sizeof *p);
    }
    p->api = a;
    p->holder.call = call;
    if (call != NULL) {
        rpc_call_set_user(call, &p->holder);
    }
    a->pending_count++;
    return p;
}

void api_pending_give(struct api_pending *p)
{
    enum { KEPT_MESSAGE_BYTES = 4096 };
    struct api *a = p->api;
    if (p->message.capacity > KEPT_MESSAGE_BYTES) {
        nb_buf_deinit(&p->message);
    }
    p->next = a->free;
    a->free = p;
    a->pending_count--;
}

void api_on_cancel(struct rpc_call *call, enum rpc_cancel why)
{
    (void)why; /* a proposal goes its way whoever has gone [N12] */
    struct api_holder *h = rpc_call_user(call);
    if (h != NULL) {
        h->call = NULL;
    }
}

static void proposal_done(struct replica_request *request, enum nb_status status,
                          const struct machine_result *result)
{
    struct api_pending *p = (struct api_pending *)request;
    struct api *a = p->api;
    struct rpc_call *call = p->holder.call;
    if (status == NB_OK) {
        status = result->status;
    }
    void (*applied)(struct api *, struct rpc_call *, const struct machine_result *) = p->applied;
    api_pending_give(p);
    if (call == NULL) {
        return;
    }
    rpc_call_set_user(call, NULL);
    if (status != NB_OK) {
        api_refuse(call, status);
    } else if (applied != NULL) {
        applied(a, call, result);
    } else {
        api_reply(a, call, result->revision, result->body);
    }
}

void api_propose(struct api *a, struct rpc_call *call, enum machine_kind kind,
                 struct nb_bytes message,
                 void (*applied)(struct api *a, struct rpc_call *call,
                                 const struct machine_result *result))
{
    struct api_pending *p = api_pending_take(a, call);
    p->request.done = proposal_done;
    p->applied = applied;
    enum nb_status status = replica_propose(a->config.replica, kind, message, &p->request);
    if (status != NB_OK) {
        api_pending_give(p);
        rpc_call_set_user(call, NULL);
        api_refuse(call, status);
    }
}

static void read_done(struct replica_request *request, enum nb_status status,
                      const struct machine_result *result)
{
    (void)result;
    struct api_pending *p = (struct api_pending *)request;
    struct rpc_call *call = p->holder.call;
    if (call != NULL) {
        rpc_call_set_user(call, NULL);
        p->api->read_begun_ns = request->begun_ns;
        if (status == NB_OK) {
            p->resume(p->api, call, nb_buf_bytes(&p->message));
        } else {
            api_read_failed(p->api, call);
            api_refuse(call, status);
        }
        p->api->read_begun_ns = 0;
    }
    api_pending_give(p);
}

void api_read_then(struct api *a, struct rpc_call *call, struct nb_bytes message,
                   void (*resume)(struct api *a, struct rpc_call *call, struct nb_bytes message))
{
    struct api_pending *p = api_pending_take(a, call);
    p->request.done = read_done;
    p->resume = resume;
    nb_buf_append_bytes(&p->message, message);
    enum nb_status status = replica_read(a->config.replica, &p->request);
    if (status != NB_OK) {
        api_pending_give(p);
        rpc_call_set_user(call, NULL);
        api_refuse(call, status);
    }
}

/* ---- the NOSPACE alarm ---- */

static void alarm_done(struct replica_request *request, enum nb_status status,
                       const struct machine_result *result)
{
    (void)status; /* not logged: the next refusal at the door proposes it again */
    (void)result;
    struct api_pending *p = (struct api_pending *)request;
    p->api->nospace_proposed = false;
    api_pending_give(p);
}

void api_raise_nospace(struct api *a)
{
    if (a->nospace_proposed) {
        return;
    }
    struct nb_buf alarm = {0};
    nb_wire_varint_field(&alarm, 1, 1); /* ACTIVATE */
    nb_wire_varint_field(&alarm, 2, a->config.member_id);
    nb_wire_varint_field(&alarm, 3, MACHINE_ALARM_NOSPACE);
    struct api_pending *p = api_pending_take(a, NULL);
    p->request.done = alarm_done;
    a->nospace_proposed = true;
    enum nb_status status =
        replica_propose(a->config.replica, MACHINE_ALARM, nb_buf_bytes(&alarm), &p->request);
    if (status != NB_OK) {
        alarm_done(&p->request, status, NULL);
    } else {
        nb_log(a->config.log, NB_LOG_WARN, "api.quota_exceeded",
               "the space quota is used up: raising the NOSPACE alarm; compact and disarm it, or "
               "raise --quota-backend-bytes",
               NB_KV_U64("db_size", api_db_size(a)), NB_KV_U64("quota", a->config.quota_bytes),
               NB_KV_END);
    }
    nb_buf_deinit(&alarm);
}

/* ---- long answers ---- */

void api_job_add(struct api *a, struct rpc_call *call, struct api_job *job)
{
    job->api = a;
    job->holder.call = call;
    rpc_call_set_user(call, &job->holder);
    job->next = a->jobs;
    a->jobs = job;
    api_wake(a);
}

static void release_job(struct api_job *job)
{
    if (job->release != NULL) {
        job->release(job);
    }
    nb_free(job);
}

/* Behind the last one of the list. */
static void append_jobs(struct api_job **list, struct api_job *jobs)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    *list = jobs;
}

void api_jobs_step(struct api *a)
{
    /* Off the list while they run, so that a job that is added meanwhile is not lost. */
    struct api_job *jobs = a->jobs, *stay = NULL;
    struct api_job **end = &stay;
    size_t worked = 0;
    a->jobs = NULL;
    while (jobs != NULL && worked < API_JOBS_A_TURN) {
        struct api_job *job = jobs;
        jobs = job->next;
        enum api_step step = job->step(job);
        worked += step == API_STEP_MORE ? 1 : 0;
        if (step == API_STEP_DONE) {
            release_job(job);
        } else {
            job->next = NULL;
            *end = job;
            end = &job->next;
        }
    }
    if (worked != 0 || jobs != NULL || a->jobs != NULL) {
        api_wake(a);
    }
    append_jobs(&jobs, stay); /* whose turn it was come last in the next one */
    append_jobs(&a->jobs, jobs);
}

void api_jobs_drop(struct api *a)
{
    while (a->jobs != NULL) {
        struct api_job *job = a->jobs;
        a->jobs = job->next;
        release_job(job);
    }
}
