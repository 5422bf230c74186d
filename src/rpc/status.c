#include "rpc/rpc.h"

static const char *const names[RPC_STATUS_COUNT] = {
    [RPC_OK] = "OK",
    [RPC_CANCELED] = "Canceled",
    [RPC_UNKNOWN] = "Unknown",
    [RPC_INVALID_ARGUMENT] = "InvalidArgument",
    [RPC_DEADLINE_EXCEEDED] = "DeadlineExceeded",
    [RPC_NOT_FOUND] = "NotFound",
    [RPC_ALREADY_EXISTS] = "AlreadyExists",
    [RPC_PERMISSION_DENIED] = "PermissionDenied",
    [RPC_RESOURCE_EXHAUSTED] = "ResourceExhausted",
    [RPC_FAILED_PRECONDITION] = "FailedPrecondition",
    [RPC_ABORTED] = "Aborted",
    [RPC_OUT_OF_RANGE] = "OutOfRange",
    [RPC_UNIMPLEMENTED] = "Unimplemented",
    [RPC_INTERNAL] = "Internal",
    [RPC_UNAVAILABLE] = "Unavailable",
    [RPC_DATA_LOSS] = "DataLoss",
    [RPC_UNAUTHENTICATED] = "Unauthenticated",
};

const char *rpc_status_name(enum rpc_status status)
{
    return (unsigned)status < RPC_STATUS_COUNT ? names[status] : names[RPC_UNKNOWN];
}
