/*
 * base/status: the one error type of nabata, for failures of the world.
 *
 * Zero is success. Bugs are nb_assert; outcomes (not leader, key absent) are plain results of the
 * function that has them, unless a client sees them, in which case they stand here too, because one
 * table in api/ turns a status into what the client is told.
 */
#ifndef NABATA_BASE_STATUS_H
#define NABATA_BASE_STATUS_H

#include "base/check.h"

/* NAME, short text for log lines. The texts that clients see are in api/errors.c. */
#define NB_STATUS_TABLE(X)                                                                         \
    X(OK, "ok")                                                                                    \
    /* the world below */                                                                          \
    X(IO, "input/output error")                                                                    \
    X(NO_SPACE_DISK, "no space left on device")                                                    \
    X(NOT_FOUND, "not found")                                                                      \
    X(EXISTS, "already exists")                                                                    \
    X(ACCESS, "permission denied by the operating system")                                         \
    X(LOCKED, "locked by another process")                                                         \
    X(CORRUPT, "damaged")                                                                          \
    X(TRUNCATED, "ends too early")                                                                 \
    X(MALFORMED, "malformed")                                                                      \
    X(VERSION, "written by another format version")                                                \
    X(FOREIGN, "belongs to another cluster or member")                                             \
    X(TOO_LARGE, "too large")                                                                      \
    X(TOO_DEEP, "nested too deeply")                                                               \
    X(UNSUPPORTED, "not supported")                                                                \
    X(INVALID, "invalid argument")                                                                 \
    X(CLOSED, "closed")                                                                            \
    X(CANCELED, "canceled")                                                                        \
    X(BUSY, "busy")                                                                                \
    /* seen by clients */                                                                          \
    X(EMPTY_KEY, "key is not provided")                                                            \
    X(KEY_NOT_FOUND, "key not found")                                                              \
    X(VALUE_PROVIDED, "value is provided")                                                         \
    X(LEASE_PROVIDED, "lease is provided")                                                         \
    X(TOO_MANY_OPS, "too many operations in txn request")                                          \
    X(DUPLICATE_KEY, "duplicate key given in txn request")                                         \
    X(INVALID_CLIENT_VERSION, "invalid client api version")                                        \
    X(INVALID_SORT, "invalid sort option")                                                         \
    X(COMPACTED, "required revision has been compacted")                                           \
    X(FUTURE_REVISION, "required revision is a future revision")                                   \
    X(NO_SPACE, "database space exceeded")                                                         \
    X(TOO_MANY_REQUESTS, "too many requests")                                                      \
    X(LEASE_NOT_FOUND, "requested lease not found")                                                \
    X(MEMBER_NOT_FOUND, "member not found")                                                        \
    X(MEMBER_EXISTS, "member id already exists")                                                   \
    X(PEER_URL_EXISTS, "peer URLs already exist")                                                  \
    X(MEMBER_BAD_URLS, "given member URLs are invalid")                                            \
    X(NOT_ENOUGH_STARTED, "not enough started members")                                            \
    X(NOT_LEARNER, "can only promote a learner")                                                   \
    X(LEARNER_NOT_READY, "learner is not in sync with leader")                                     \
    X(TOO_MANY_LEARNERS, "too many learners")                                                      \
    X(NOT_LEADER, "not leader")                                                                    \
    X(NOT_CAPABLE, "not capable")                                                                  \
    X(LEARNER_REFUSED, "rpc not supported for learner")                                            \
    X(BAD_TRANSFEREE, "bad leader transferee")                                                     \
    X(TRANSFER_TIMEOUT, "leader transfer took too long")                                           \
    X(NO_LEADER, "no leader")                                                                      \
    X(LEADER_CHANGED, "leader changed")                                                            \
    X(STOPPED, "server stopped")                                                                   \
    X(TIMEOUT, "request timed out")                                                                \
    X(TIMEOUT_LEADER_FAIL, "request timed out, possibly due to previous leader failure")           \
    X(TIMEOUT_CONNECTION, "request timed out, possibly due to connection lost")                    \
    X(UNHEALTHY, "unhealthy cluster")                                                              \
    X(CORRUPT_CLUSTER, "corrupt cluster")                                                          \
    X(PROPOSAL_DROPPED, "raft proposal dropped")                                                   \
    X(STREAM_SORT, "RangeStream does not support custom sort orders")                              \
    X(STREAM_FILTER, "RangeStream does not support revision filters")                              \
    X(WATCH_CANCELED, "watch canceled")

enum nb_status {
#define X(name, text) NB_##name,
    NB_STATUS_TABLE(X)
#undef X
        NB_STATUS_COUNT
};

/* Short text of a status, for log lines and one-line errors. Never NULL. */
const char *nb_status_text(enum nb_status status);

/* "NB_CORRUPT" and the like, for tests and traces. Never NULL. */
const char *nb_status_name(enum nb_status status);

/* The status that stands for an errno of a file or socket call. 0 gives NB_OK. */
enum nb_status nb_status_of_errno(int error_number);

#endif
