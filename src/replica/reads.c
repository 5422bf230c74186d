/* replica/reads: linearizable reads: one read-index round at a time, shared by all that wait. [Q03]
 */
#include "replica/internal.h"

void replica_reads_init(struct replica_read_list *l)
{
    *l = (struct replica_read_list){0};
    l->last = &l->first;
}

static void list_push(struct replica_read_list *l, struct replica_request *request)
{
    request->next = NULL;
    *l->last = request;
    l->last = &request->next;
    l->count++;
}

/* Puts all of `from` behind what `to` has. */
static void list_append(struct replica_read_list *to, struct replica_read_list *from)
{
    if (from->first == NULL) {
        return;
    }
    *to->last = from->first;
    to->last = from->last;
    to->count += from->count;
    replica_reads_init(from);
}

void replica_reads_finish(struct replica_read_list *l, enum nb_status status)
{
    struct replica_request *request = l->first;
    replica_reads_init(l);
    while (request != NULL) {
        struct replica_request *next = request->next;
        request->done(request, status, NULL);
        request = next;
    }
}

enum nb_status replica_read(struct replica *r, struct replica_request *request)
{
    if (r->failed) {
        return NB_STOPPED;
    }
    if (replica_request_count(r) >= r->config.request_count_max) {
        return NB_TOO_MANY_REQUESTS;
    }
    request->begun_ns = replica_now(r);
    list_push(&r->reads_queued, request);
    return NB_OK;
}

/* One round at a time; what comes meanwhile shares the next one. [Q03] */
void replica_begin_read_round(struct replica *r)
{
    if (r->read_context != 0 || r->reads_queued.first == NULL) {
        return;
    }
    uint64_t context = ++r->read_context_last;
    enum raft_outcome outcome = raft_read(r->raft, context);
    if (outcome == RAFT_NO_LEADER || outcome == RAFT_DROPPED) {
        return; /* tried again each turn; their deadlines run on */
    }
    r->read_context = context;
    r->read_asked_ns = replica_now(r);
    list_append(&r->reads_asked, &r->reads_queued);
}

void replica_requeue_asked(struct replica *r)
{
    list_append(&r->reads_asked, &r->reads_queued);
    r->reads_queued = r->reads_asked;
    if (r->reads_queued.first == NULL) {
        replica_reads_init(&r->reads_queued);
    }
    replica_reads_init(&r->reads_asked);
    r->read_context = 0;
}

void replica_take_reads(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->read_failed_count; i++) {
        if (fx->reads_failed[i] == r->read_context) {
            replica_requeue_asked(r); /* the leader changed: ask the new one [Q09] */
        }
    }
    for (size_t i = 0; i < fx->read_ready_count; i++) {
        if (fx->reads_ready[i].context == r->read_context) {
            /* A later round never has a lower index, so those who still wait for an earlier one
             * lose nothing but a moment by waiting for this one. */
            list_append(&r->reads_indexed, &r->reads_asked);
            r->read_index = fx->reads_ready[i].index;
            r->read_context = 0;
        }
    }
}

void replica_answer_reads(struct replica *r)
{
    if (r->reads_indexed.first != NULL && machine_applied_index(r->machine) >= r->read_index) {
        replica_reads_finish(&r->reads_indexed, NB_OK);
    }
}
