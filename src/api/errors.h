/*
 * api/errors: what a client is told for every status. One table, texts exactly as etcd's.
 * [etcd-v3-surface 3.1] Clients find an error by its text first and its code second, so both count.
 */
#ifndef NABATA_API_ERRORS_H
#define NABATA_API_ERRORS_H

#include "base/status.h"

struct api_error {
    int grpc_code; /* 0..16 */
    const char *text;
};

/* The row of a status; statuses that no client should ever see come out as Internal with the
 * status's own short text. Never NULL texts. */
struct api_error api_error_of(enum nb_status status);

#endif
