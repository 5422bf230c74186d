/* replica/log: what raft wants on disk, and the messages that wait for it. [P1] */
#include "replica/internal.h"

#include <string.h>

/* Messages that wait for a disk that hangs; more are dropped, and Raft asks again. */
enum { HELD_MESSAGE_COUNT_MAX = 65536 };

static void sync_push(struct replica_sync_queue *q, struct replica_sync_point point)
{
    if (q->first != 0 && q->first + q->count == q->capacity) {
        memmove(q->items, q->items + q->first, q->count * sizeof *q->items);
        q->first = 0;
    }
    q->items = nb_grow(q->items, &q->capacity, q->first + q->count + 1, sizeof *q->items);
    q->items[q->first + q->count++] = point;
}

void replica_hold(struct replica *r, const struct raft_msg *msg, uint64_t batch)
{
    if (r->held_first != 0 && r->held_first + r->held_count == r->held_capacity) {
        memmove(r->held, r->held + r->held_first, r->held_count * sizeof *r->held);
        r->held_first = 0;
    }
    if (r->held_count >= HELD_MESSAGE_COUNT_MAX) {
        return; /* a disk that hangs: dropping is what networks do, and Raft asks again */
    }
    r->held =
        nb_grow(r->held, &r->held_capacity, r->held_first + r->held_count + 1, sizeof *r->held);
    r->held[r->held_first + r->held_count++] =
        (struct replica_held_message){.msg = *msg, .batch = batch};
}

/* What the disk now holds lets messages go and counts for the quorum. */
void replica_take_durable(struct replica *r)
{
    uint64_t durable = wal_durable(r->wal);
    uint64_t sync = 0;
    while (r->syncs.count != 0 && r->syncs.items[r->syncs.first].batch <= durable) {
        struct replica_sync_point *point = &r->syncs.items[r->syncs.first];
        sync = point->sync;
        nb_histogram_observe_ns(&r->timings.log_sync, replica_now(r) - point->begun_ns);
        r->syncs.first++;
        r->syncs.count--;
    }
    if (r->syncs.count == 0) {
        r->syncs.first = 0;
    }
    if (sync != 0) {
        raft_persisted(r->raft, sync);
    }
    while (r->held_count != 0 && r->held[r->held_first].batch <= durable) {
        r->world.send(r->world.user, &r->held[r->held_first].msg);
        r->held_first++;
        r->held_count--;
    }
    if (r->held_count == 0) {
        r->held_first = 0;
    }
}

void replica_check_log(struct replica *r)
{
    enum nb_status status = wal_status(r->wal);
    if (status != NB_OK) {
        replica_fail(
            r, status,
            status == NB_NO_SPACE_DISK
                ? "the disk of the log is full: nothing more is acknowledged; make room and restart"
                : "a write of the log failed: nothing more is acknowledged; check the disk and "
                  "restart");
    }
}

void replica_append_to_log(struct replica *r, const struct raft_effects *fx)
{
    if (!fx->has_hard_state && fx->append_count == 0) {
        return;
    }
    struct wal_hard_state hard = {.term = fx->hard_state.term,
                                  .voted_for = fx->hard_state.voted_for,
                                  .commit_index = fx->hard_state.commit_index};
    enum { CHUNK = 256 };
    struct wal_entry entries[CHUNK];
    size_t done = 0;
    uint64_t batch = 0;
    do {
        bool first = done == 0;
        size_t count = fx->append_count - done < CHUNK ? fx->append_count - done : CHUNK;
        for (size_t i = 0; i < count; i++) {
            const struct raft_entry *e = &fx->append[done + i];
            entries[i] = (struct wal_entry){.index = e->id.index,
                                            .term = e->id.term,
                                            .kind = (uint8_t)e->kind,
                                            .payload = e->payload};
            r->timings.log_bytes += e->payload == NULL ? 0 : e->payload->len;
        }
        done += count;
        /* The pieces may lie in several batches: the term comes no later than its first entry
         * [R05]; the commit index in it speaks only of entries that are durable already [R26]. */
        batch = wal_append(r->wal, first && fx->has_hard_state ? &hard : NULL, entries, count);
    } while (done < fx->append_count);
    r->batch_last = batch;
    sync_push(&r->syncs, (struct replica_sync_point){
                             .sync = fx->sync, .batch = batch, .begun_ns = replica_now(r)});
}

/* Handed over once for all that a turn appended; without anything new it costs no look at the
 * clock. */
void replica_flush_log(struct replica *r)
{
    bool fresh = r->batch_last != r->batch_flushed;
    uint64_t begun_ns = fresh ? replica_now(r) : 0;
    wal_flush(r->wal);
    if (fresh) {
        nb_histogram_observe_ns(&r->timings.log_write, replica_now(r) - begun_ns);
        r->batch_flushed = r->batch_last;
    }
}
