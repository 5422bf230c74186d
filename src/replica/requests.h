/*
 * replica/requests: proposals under way, found again by their request id when their entry is
 * applied.
 *
 * Ids are drawn in order and all requests have the same time to live, so a ring serves as map and
 * as queue of deadlines: request `id` lies at its distance from the oldest.
 *
 * Invariant Q1: ids in the ring are consecutive; a slot whose request is done is NULL.
 */
#ifndef NABATA_REPLICA_REQUESTS_H
#define NABATA_REPLICA_REQUESTS_H

#include "base/bytes.h"

struct replica_request;

/* All zero but for next_id is a valid empty ring. */
struct replica_requests {
    struct replica_request **ring; /* owned array; capacity is a power of two */
    size_t capacity;
    uint64_t oldest_id, next_id; /* [oldest_id, next_id) are in the ring */
    size_t count;                /* not NULL */
};

void replica_requests_deinit(struct replica_requests *q);

/* Gives the request the next id. The caller bounds the count. */
uint64_t replica_requests_add(struct replica_requests *q, struct replica_request *request);
/* Takes it out; NULL when it is not (or no longer) there. */
struct replica_request *replica_requests_take(struct replica_requests *q, uint64_t id);
/* NULL when it is not there. */
struct replica_request *replica_requests_at(const struct replica_requests *q, uint64_t id);
bool replica_requests_holds(const struct replica_requests *q, uint64_t id);
/* The oldest that is still there; NULL when empty. */
struct replica_request *replica_requests_oldest(struct replica_requests *q);

#endif
