/* replica/commit: the machine's batches into the backend, and the log let go behind them. [P5] */
#include "replica/internal.h"

static void seal(struct replica *r)
{
    machine_seal(r->machine);
    struct backend_label label = {.applied_index = machine_applied_index(r->machine),
                                  .applied_term = machine_applied_term(r->machine)};
    r->batch_sealed = backend_commit(r->backend, &label);
    r->batch_sealed_index = label.applied_index;
    r->sealed_generation++;
    r->last_commit_ns = r->seal_begun_ns = replica_now(r);
}

/* One batch under way at a time: the next one gathers what comes meanwhile. */
void replica_commit_backend(struct replica *r)
{
    if (r->batch_reaped != r->batch_sealed) {
        return;
    }
    bool fresh = machine_applied_index(r->machine) != r->batch_sealed_index ||
                 backend_batch_bytes(r->backend) != 0;
    bool due = replica_now(r) - r->last_commit_ns >= r->config.commit_interval_ns ||
               backend_batch_bytes(r->backend) >= r->config.commit_bytes_max;
    if (fresh && due) {
        seal(r);
    }
}

/* How far the log may be forgotten: behind the backend, and behind what slow followers are granted,
 * in entries and in bytes. */
static uint64_t release_point(const struct replica *r, uint64_t first, uint64_t durable)
{
    size_t count;
    const struct raft_entry *entries = raft_entries(r->raft, first, durable + 1, &count);
    size_t kept = 0, kept_bytes = 0;
    while (kept < count && kept < r->config.snapshot_catchup_entry_count &&
           kept_bytes <= r->config.snapshot_catchup_bytes_max) {
        const struct nb_payload *payload = entries[count - 1 - kept].payload;
        kept_bytes += sizeof *entries + (payload == NULL ? 0 : payload->len);
        kept++;
    }
    return first + (count - kept) - 1; /* first - 1: nothing to forget */
}

/* The log is kept until the backend holds its effects durably [P5], and from the label of a copy on
 * until it is made, sent and installed there: who receives it must not be too late again [S08]. */
static void release_log(struct replica *r)
{
    uint64_t durable = backend_label(r->backend)->applied_index;
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->copying || r->install_waiting || durable < s.first_index) {
        return;
    }
    uint64_t to = release_point(r, s.first_index, durable);
    uint64_t kept_from = replica_kept_from(r);
    to = to > kept_from ? kept_from : to;
    if (to >= s.first_index) {
        raft_compact(r->raft, to);
        wal_release(r->wal, to);
    }
}

/* What the backend has committed is now read from there, and the log before it may go. */
static void take_committed(struct replica *r)
{
    uint64_t committed = backend_committed(r->backend);
    machine_reaped(r->machine, committed - r->batch_reaped);
    r->backend_full = r->backend_full && committed == r->batch_reaped;
    bool all = committed != r->batch_reaped && committed == r->batch_sealed;
    r->batch_reaped = committed;
    const char *text;
    enum nb_status status = backend_status(r->backend, &text);
    if (status == NB_NO_SPACE_DISK) {
        r->backend_full = true; /* until a commit goes through: ticks try it again */
    } else if (status != NB_OK) {
        replica_fail(r, status, text);
    } else if (all) {
        r->reaped_generation = r->sealed_generation;
        nb_histogram_observe_ns(&r->timings.backend_commit, replica_now(r) - r->seal_begun_ns);
        release_log(r);
    }
}

void replica_backend_ready(struct replica *r)
{
    (void)backend_reap(r->backend);
    take_committed(r);
}

void replica_wait_backend(struct replica *r)
{
    backend_wait(r->backend);
    take_committed(r);
}

uint64_t replica_commit_wanted(struct replica *r)
{
    bool all_sealed = machine_applied_index(r->machine) == r->batch_sealed_index &&
                      backend_batch_bytes(r->backend) == 0;
    return all_sealed ? r->sealed_generation : r->sealed_generation + 1;
}

bool replica_commit_done(const struct replica *r, uint64_t wanted)
{
    return r->reaped_generation >= wanted;
}

/* Superfluous history goes in small steps with pauses, so that it starves nobody. [C08] */
void replica_compact_history(struct replica *r)
{
    struct mvcc *m = machine_mvcc(r->machine);
    uint64_t begun_ns = replica_now(r);
    if (!mvcc_compact_pending(m) || begun_ns < r->compact_next_ns) {
        return;
    }
    r->compact_begun_ns = r->compact_begun_ns == 0 ? begun_ns : r->compact_begun_ns;
    bool whole = mvcc_compact_step(m, r->config.compaction_batch_limit);
    uint64_t now_ns = replica_now(r);
    struct replica_timings *t = &r->timings;
    nb_histogram_observe(&t->compaction_pause_ms, (double)(now_ns - begun_ns) / 1e6);
    if (whole) {
        nb_histogram_observe(&t->compaction_ms, (double)(now_ns - r->compact_begun_ns) / 1e6);
        t->compaction_end_ns = now_ns;
        r->compact_begun_ns = 0;
    }
    r->compact_next_ns = now_ns + r->config.compaction_sleep_ns;
}

void replica_flush(struct replica *r)
{
    if (!r->failed) {
        replica_wait_backend(r);
        seal(r);
        replica_wait_backend(r);
    }
}
