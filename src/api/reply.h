/*
 * api/reply: answers that are made with protobuf-c: everything off the hot path.
 */
#ifndef NABATA_API_REPLY_H
#define NABATA_API_REPLY_H

#include "api/internal.h"
#include "rpc.pb-c.h"

/* The header of this member now. Cluster calls leave the revision 0. [2.1] */
Etcdserverpb__ResponseHeader api_reply_header(struct api *a, bool with_revision);

/* Packs, sends and finishes with OK. */
void api_reply_message(struct api *a, struct rpc_call *call, const ProtobufCMessage *message);

#endif
