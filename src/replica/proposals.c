/* replica/proposals: what clients want in the log: numbered, offered to raft, kept until a leader
 * is there. */
#include "replica/internal.h"

#include <string.h>

/* The request under way with this id, which is not under way any more; NULL when there is none. */
struct replica_request *replica_take_proposal(struct replica *r, uint64_t id)
{
    struct replica_request *request = replica_requests_take(&r->proposals, id);
    if (request != NULL) {
        nb_assert(r->proposal_bytes >= request->bytes);
        r->proposal_bytes -= request->bytes;
        nb_payload_release(request->payload);
        request->payload = NULL;
    }
    return request;
}

void replica_park(struct replica *r, struct nb_payload *payload)
{
    r->waiting =
        nb_grow(r->waiting, &r->waiting_capacity, r->waiting_count + 1, sizeof *r->waiting);
    r->waiting[r->waiting_count++] = nb_payload_acquire(payload);
}

/* False: not now. There is no leader, it has no room, or leadership is on its way elsewhere. */
static bool offer(struct replica *r, struct nb_payload *payload)
{
    enum raft_outcome outcome = raft_propose(r->raft, &payload, 1, NULL);
    return outcome == RAFT_ACCEPTED || outcome == RAFT_FORWARDED;
}

/* One whose client was told "timed out" must not enter the log long after. */
static bool is_awaited(const struct replica *r, const struct nb_payload *payload)
{
    struct machine_header h;
    struct nb_bytes request;
    enum nb_status status = machine_header_get(nb_payload_bytes(payload), &h, &request);
    nb_assert(status == NB_OK);
    return replica_requests_holds(&r->proposals, h.request_id);
}

/* The first `count` wait no more. */
static void unpark(struct replica *r, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        nb_payload_release(r->waiting[i]);
    }
    if (count != 0) {
        r->waiting_count -= count;
        memmove(r->waiting, r->waiting + count, r->waiting_count * sizeof *r->waiting);
    }
}

/* Without a leader for long, what timed out must not pile up. They lie in the order they came.
 * [Z03] */
void replica_forget_timed_out(struct replica *r)
{
    size_t gone = 0;
    while (gone < r->waiting_count && !is_awaited(r, r->waiting[gone])) {
        gone++;
    }
    unpark(r, gone);
}

/* A new leader may never have heard of what the one before it was told, and only it can know what
 * of that is in the log: it gets all, and the machine sorts out what came twice. [R22] */
static void offer_all(struct replica *r)
{
    unpark(r, r->waiting_count);
    struct replica_requests *q = &r->proposals;
    for (uint64_t id = q->oldest_id; id != q->next_id; id++) {
        struct replica_request *request = replica_requests_at(q, id);
        if (request != NULL && (r->waiting_count != 0 || !offer(r, request->payload))) {
            replica_park(r, request->payload);
        }
    }
}

/* Whether all that is under way was offered to the leader of now. */
static bool is_offered(const struct replica *r, const struct raft_status *s)
{
    return s->leader_id == r->offered_leader && s->term == r->offered_term;
}

/* Those that found no leader before, and all when there is a new one. Several turns may pass
 * without: nothing is lost but time. */
void replica_offer_waiting(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.leader_id == 0 || s.transfer_target != 0) {
        return;
    }
    if (!is_offered(r, &s)) {
        r->offered_leader = s.leader_id;
        r->offered_term = s.term;
        offer_all(r);
        return;
    }
    size_t done = 0;
    while (done < r->waiting_count &&
           (!is_awaited(r, r->waiting[done]) || offer(r, r->waiting[done]))) {
        done++;
    }
    unpark(r, done);
}

size_t replica_waiting_count(const struct replica *r)
{
    return r->waiting_count;
}

size_t replica_request_count(const struct replica *r)
{
    return r->proposals.count + r->reads_queued.count + r->reads_asked.count +
           r->reads_indexed.count;
}

enum nb_status replica_propose(struct replica *r, enum machine_kind kind, struct nb_bytes command,
                               struct replica_request *request)
{
    if (r->failed) {
        return NB_STOPPED;
    }
    if (command.len > r->config.request_bytes_max) {
        return NB_TOO_LARGE;
    }
    if (replica_request_count(r) >= r->config.request_count_max ||
        r->proposal_bytes > r->config.proposal_bytes_max) {
        return NB_TOO_MANY_REQUESTS;
    }
    if (replica_is_choked(r)) {
        return NB_NO_SPACE;
    }
    struct nb_payload *payload = nb_payload_create(MACHINE_HEADER_SIZE_BYTES + command.len);
    request->begun_ns = replica_now(r);
    request->id = replica_requests_add(&r->proposals, request);
    request->bytes = payload->len;
    r->proposal_bytes += request->bytes;
    request->payload = payload;
    struct machine_header header = {
        .kind = (uint8_t)kind, .request_id = request->id, .origin = r->config.member_id};
    machine_header_put(payload->data, &header);
    if (command.len != 0) {
        memcpy(payload->data + MACHINE_HEADER_SIZE_BYTES, command.data, command.len);
    }
    /* Behind those that wait, which the next turn offers: the log has the ids in their order, but
     * for what is offered again. One that overtakes many makes the machine take these for seen. */
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->waiting_count != 0 || !is_offered(r, &s) || !offer(r, payload)) {
        replica_park(r, payload);
    }
    return NB_OK;
}
