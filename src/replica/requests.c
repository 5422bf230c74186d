#include "replica/requests.h"

void replica_requests_deinit(struct replica_requests *q)
{
    nb_free(q->ring);
    *q = (struct replica_requests){0};
}

static struct replica_request **slot(const struct replica_requests *q, uint64_t id)
{
    return &q->ring[id & (q->capacity - 1)];
}

static void grow(struct replica_requests *q)
{
    struct replica_requests bigger = *q;
    bigger.capacity = q->capacity == 0 ? 64 : q->capacity * 2;
    bigger.ring = nb_alloc_zero(bigger.capacity, sizeof(struct replica_request *));
    for (uint64_t id = q->oldest_id; id != q->next_id; id++) {
        *slot(&bigger, id) = *slot(q, id);
    }
    nb_free(q->ring);
    *q = bigger;
}

/* Moves the oldest end over slots that are done. */
static void trim(struct replica_requests *q)
{
    while (q->oldest_id != q->next_id && *slot(q, q->oldest_id) == NULL) {
        q->oldest_id++;
    }
}

uint64_t replica_requests_add(struct replica_requests *q, struct replica_request *request)
{
    if (q->count == 0) {
        q->oldest_id = q->next_id;
    }
    if (q->next_id - q->oldest_id == q->capacity) {
        grow(q);
    }
    uint64_t id = q->next_id++;
    *slot(q, id) = request;
    q->count++;
    return id;
}

struct replica_request *replica_requests_take(struct replica_requests *q, uint64_t id)
{
    if (id - q->oldest_id >= q->next_id - q->oldest_id) {
        return NULL; /* of an earlier life of this member, or timed out */
    }
    struct replica_request *request = *slot(q, id);
    if (request != NULL) {
        *slot(q, id) = NULL;
        q->count--;
        trim(q);
    }
    return request;
}

struct replica_request *replica_requests_at(const struct replica_requests *q, uint64_t id)
{
    return id - q->oldest_id < q->next_id - q->oldest_id ? *slot(q, id) : NULL;
}

bool replica_requests_holds(const struct replica_requests *q, uint64_t id)
{
    return replica_requests_at(q, id) != NULL;
}

struct replica_request *replica_requests_oldest(struct replica_requests *q)
{
    trim(q);
    return q->oldest_id == q->next_id ? NULL : *slot(q, q->oldest_id);
}
