/* api/health: grpc.health.v1. Like other unary calls it is refused on a learner. */
#include "api/internal.h"
#include "health.pb-c.h"

enum serving_status { SERVING = 1, NOT_SERVING = 2, SERVICE_UNKNOWN = 3 };

/* The service that is asked about; only "", the whole server, is known. False: refused already. */
static bool read_request(struct rpc_call *call, struct nb_bytes message, bool *out_whole_server)
{
    struct api *a = api_of(call);
    Grpc__Health__V1__HealthCheckRequest *in =
        grpc__health__v1__health_check_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return false;
    }
    *out_whole_server = in->service[0] == '\0';
    grpc__health__v1__health_check_request__free_unpacked(in, NULL);
    if (replica_is_learner(a->config.replica)) {
        api_refuse(call, NB_LEARNER_REFUSED);
        return false;
    }
    return true;
}

static struct nb_bytes encode(struct api *a, enum serving_status status)
{
    nb_buf_clear(&a->scratch);
    nb_wire_varint_field(&a->scratch, 1, (uint64_t)status);
    return nb_buf_bytes(&a->scratch);
}

void api_health_check(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    bool whole_server;
    if (!read_request(call, message, &whole_server)) {
        return;
    }
    if (!whole_server) {
        rpc_call_finish(call, RPC_NOT_FOUND, "unknown service");
        return;
    }
    rpc_call_reply(call, encode(a, a->serving ? SERVING : NOT_SERVING), (struct nb_bytes){0});
}

/* Watch: the status now, and again whenever it changes, until the client goes. */
struct health_job {
    struct api_job job;
    bool whole_server;
    int last; /* sent; 0: nothing yet */
};

static enum api_step health_step(struct api_job *job)
{
    struct health_job *h = (struct health_job *)job;
    struct api *a = job->api;
    if (job->holder.call == NULL) {
        return API_STEP_DONE;
    }
    enum serving_status now = !h->whole_server ? SERVICE_UNKNOWN
                              : a->serving     ? SERVING
                                               : NOT_SERVING;
    if ((int)now != h->last) {
        h->last = (int)now;
        rpc_call_send(job->holder.call, encode(a, now), (struct nb_bytes){0});
    }
    if (a->stopping) {
        api_refuse(job->holder.call, NB_STOPPED);
        return API_STEP_DONE;
    }
    return API_STEP_BLOCKED;
}

void api_health_watch(struct rpc_call *call, struct nb_bytes message)
{
    bool whole_server;
    if (!read_request(call, message, &whole_server)) {
        return;
    }
    struct health_job *h = nb_alloc_zero(1, sizeof *h);
    h->job.step = health_step;
    h->whole_server = whole_server;
    api_job_add(api_of(call), call, &h->job);
}
