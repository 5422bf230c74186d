/* api/cluster: etcdserverpb.Cluster, as far as it exists. [etcd-v3-surface 2.8] */
#include "api/internal.h"
#include "api/reply.h"

static void answer_members(struct api *a, struct rpc_call *call, struct nb_bytes message)
{
    (void)message;
    const struct machine_members *members = machine_members(replica_machine(a->config.replica));
    uint8_t head[64];
    size_t head_len = api_header_encode(a, head, 0, false);
    nb_buf_clear(&a->scratch);
    struct nb_buf one = {0};
    for (size_t i = 0; i < members->count; i++) {
        nb_buf_clear(&one);
        machine_member_encode(&members->items[i], &one);
        nb_wire_bytes(&a->scratch, 2, nb_buf_bytes(&one));
    }
    nb_buf_deinit(&one);
    rpc_call_reply(call, nb_bytes_of(head, head_len), nb_buf_bytes(&a->scratch));
}

void api_member_list(struct rpc_call *call, struct nb_bytes message)
{
    struct api *a = api_of(call);
    Etcdserverpb__MemberListRequest *in =
        etcdserverpb__member_list_request__unpack(NULL, message.len, message.data);
    if (in == NULL) {
        api_refuse(call, NB_MALFORMED);
        return;
    }
    bool linearizable = in->linearizable;
    etcdserverpb__member_list_request__free_unpacked(in, NULL);
    if (api_door(a, call, false) != NB_OK) {
        return;
    }
    if (linearizable) {
        api_read_then(a, call, message, answer_members);
    } else {
        answer_members(a, call, message);
    }
}
