/* api/health: grpc.health.v1. Like other unary calls it is refused on a learner. */
#include "api/internal.h"
#include "health.pb-c.h"

void api_health_check(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Grpc__Health__V1__HealthCheckRequest *in =
        grpc__health__v1__health_check_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    bool whole_server = in->service[0] == '\0';
    grpc__health__v1__health_check_request__free_unpacked(in, NULL);
    if (replica_is_learner(a->config.replica)) {
        api_refuse(call, NB_LEARNER_REFUSED);
        return;
    }
    if (!whole_server) {
        rpc_call_finish(call, RPC_NOT_FOUND, "unknown service");
        return;
    }
    nb_buf_clear(&a->scratch);
    nb_wire_varint_field(&a->scratch, 1,
                         a->serving ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
                                    : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING);
    rpc_call_reply(call, nb_buf_bytes(&a->scratch), (struct nb_bytes){0});
}
