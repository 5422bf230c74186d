#include "api/errors.h"

enum {
    CANCELED = 1,
    UNKNOWN = 2,
    INVALID_ARGUMENT = 3,
    NOT_FOUND = 5,
    RESOURCE_EXHAUSTED = 8,
    FAILED_PRECONDITION = 9,
    OUT_OF_RANGE = 11,
    UNIMPLEMENTED = 12,
    INTERNAL = 13,
    UNAVAILABLE = 14,
    DATA_LOSS = 15,
};

/* clang-format off */
static const struct api_error errors[NB_STATUS_COUNT] = {
    [NB_EMPTY_KEY]              = {INVALID_ARGUMENT,    "etcdserver: key is not provided"},
    [NB_KEY_NOT_FOUND]          = {INVALID_ARGUMENT,    "etcdserver: key not found"},
    [NB_VALUE_PROVIDED]         = {INVALID_ARGUMENT,    "etcdserver: value is provided"},
    [NB_LEASE_PROVIDED]         = {INVALID_ARGUMENT,    "etcdserver: lease is provided"},
    [NB_TOO_MANY_OPS]           = {INVALID_ARGUMENT,    "etcdserver: too many operations in txn request"},
    [NB_DUPLICATE_KEY]          = {INVALID_ARGUMENT,    "etcdserver: duplicate key given in txn request"},
    [NB_INVALID_CLIENT_VERSION] = {INVALID_ARGUMENT,    "etcdserver: invalid client api version"},
    [NB_INVALID_SORT]           = {INVALID_ARGUMENT,    "etcdserver: invalid sort option"},
    [NB_TOO_LARGE]              = {INVALID_ARGUMENT,    "etcdserver: request is too large"},
    [NB_MEMBER_BAD_URLS]        = {INVALID_ARGUMENT,    "etcdserver: given member URLs are invalid"},
    [NB_COMPACTED]              = {OUT_OF_RANGE,        "etcdserver: mvcc: required revision has been compacted"},
    [NB_FUTURE_REVISION]        = {OUT_OF_RANGE,        "etcdserver: mvcc: required revision is a future revision"},
    [NB_NO_SPACE]               = {RESOURCE_EXHAUSTED,  "etcdserver: mvcc: database space exceeded"},
    /* etcd's constant says ResourceExhausted, its wire says Unknown; clients see the wire. */
    [NB_TOO_MANY_REQUESTS]      = {UNKNOWN,             "etcdserver: too many requests"},
    [NB_LEASE_NOT_FOUND]        = {NOT_FOUND,           "etcdserver: requested lease not found"},
    [NB_MEMBER_NOT_FOUND]       = {NOT_FOUND,           "etcdserver: member not found"},
    [NB_MEMBER_EXISTS]          = {FAILED_PRECONDITION, "etcdserver: member ID already exist"},
    [NB_PEER_URL_EXISTS]        = {FAILED_PRECONDITION, "etcdserver: Peer URLs already exists"},
    [NB_NOT_ENOUGH_STARTED]     = {UNKNOWN,             "etcdserver: re-configuration failed due to not enough started members"},
    [NB_NOT_LEARNER]            = {FAILED_PRECONDITION, "etcdserver: can only promote a learner member"},
    [NB_LEARNER_NOT_READY]      = {FAILED_PRECONDITION, "etcdserver: can only promote a learner member which is in sync with leader"},
    [NB_TOO_MANY_LEARNERS]      = {FAILED_PRECONDITION, "etcdserver: too many learner members in cluster"},
    [NB_NOT_LEADER]             = {FAILED_PRECONDITION, "etcdserver: not leader"},
    [NB_NOT_CAPABLE]            = {FAILED_PRECONDITION, "etcdserver: not capable"},
    [NB_LEARNER_REFUSED]        = {FAILED_PRECONDITION, "etcdserver: rpc not supported for learner"},
    [NB_BAD_TRANSFEREE]         = {FAILED_PRECONDITION, "etcdserver: bad leader transferee"},
    [NB_TRANSFER_TIMEOUT]       = {UNKNOWN,             "etcdserver: request timed out, leader transfer took too long"},
    [NB_NO_LEADER]              = {UNAVAILABLE,         "etcdserver: no leader"},
    [NB_LEADER_CHANGED]         = {UNAVAILABLE,         "etcdserver: leader changed"},
    [NB_STOPPED]                = {UNAVAILABLE,         "etcdserver: server stopped"},
    [NB_TIMEOUT]                = {UNAVAILABLE,         "etcdserver: request timed out"},
    [NB_TIMEOUT_LEADER_FAIL]    = {UNAVAILABLE,         "etcdserver: request timed out, possibly due to previous leader failure"},
    [NB_TIMEOUT_CONNECTION]     = {UNAVAILABLE,         "etcdserver: request timed out, possibly due to connection lost"},
    [NB_UNHEALTHY]              = {UNAVAILABLE,         "etcdserver: unhealthy cluster"},
    [NB_CORRUPT_CLUSTER]        = {DATA_LOSS,           "etcdserver: corrupt cluster"},
    [NB_PROPOSAL_DROPPED]       = {UNKNOWN,             "raft proposal dropped"},
    [NB_STREAM_SORT]            = {UNIMPLEMENTED,       "RangeStream does not support custom sort orders"},
    [NB_STREAM_FILTER]          = {UNIMPLEMENTED,       "RangeStream does not support revision filters"},
    [NB_WATCH_CANCELED]         = {CANCELED,            "etcdserver: watch canceled"},
    [NB_MALFORMED]              = {INTERNAL,            "grpc: error unmarshalling request: malformed message"},
    [NB_TOO_DEEP]               = {INTERNAL,            "grpc: error unmarshalling request: nested too deeply"},
};
/* clang-format on */

struct api_error api_error_of(enum nb_status status)
{
    nb_assert((unsigned)status < NB_STATUS_COUNT);
    struct api_error e = errors[status];
    if (e.text == NULL) {
        e = (struct api_error){.grpc_code = INTERNAL, .text = nb_status_text(status)};
    }
    return e;
}
