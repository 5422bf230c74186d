#include "api/reply.h"

Etcdserverpb__ResponseHeader api_reply_header(struct api *a, bool with_revision)
{
    Etcdserverpb__ResponseHeader h = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    h.cluster_id = a->config.cluster_id;
    h.member_id = a->config.member_id;
    h.raft_term = replica_term(a->config.replica);
    if (with_revision) {
        h.revision = mvcc_current_revision(machine_mvcc(replica_machine(a->config.replica)));
    }
    return h;
}

void api_reply_message(struct api *a, struct rpc_call *call, const ProtobufCMessage *message)
{
    nb_buf_clear(&a->scratch);
    size_t len = protobuf_c_message_get_packed_size(message);
    uint8_t *room = nb_buf_extend(&a->scratch, len);
    size_t packed = protobuf_c_message_pack(message, room);
    nb_assert(packed == len);
    rpc_call_reply(call, nb_buf_bytes(&a->scratch), (struct nb_bytes){0});
}
