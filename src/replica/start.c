/* replica/start: from what log and backend hold to a running core, and the end. */
#include "replica/internal.h"

#include <inttypes.h>

/* A leader whose disk hangs for so many election timeouts resigns. [E12] */
enum { SYNC_TIMEOUT_ELECTIONS = 3 };

/* Term of the entry at `index`, from the recovered log. */
static bool recovered_term(const struct wal_recovered *log, uint64_t index, uint64_t *out)
{
    if (log->mark.index == index && index != 0) {
        *out = log->mark.term;
        return true;
    }
    if (log->entry_count == 0 || index < log->entries[0].index ||
        index - log->entries[0].index >= log->entry_count) {
        return false;
    }
    *out = log->entries[index - log->entries[0].index].term;
    return true;
}

/*
 * Where raft's log begins: as far back as the log on disk reaches (for slow followers), but not
 * before the configuration that the machine knows, nor where the term is not known.
 */
static bool choose_base(const struct wal_recovered *log, const struct machine *m,
                        struct raft_entry_id *out)
{
    uint64_t applied = machine_applied_index(m);
    *out = (struct raft_entry_id){.index = applied, .term = machine_applied_term(m)};
    if (log->entry_count == 0) {
        return true;
    }
    uint64_t first = log->entries[0].index;
    if (first > applied + 1) {
        return false; /* a gap */
    }
    uint64_t base = first - 1 > machine_conf_index(m) ? first - 1 : machine_conf_index(m);
    uint64_t term = 0;
    if (base != 0 && base < applied && !recovered_term(log, base, &term)) {
        base = first;
        if (!recovered_term(log, base, &term)) {
            return true;
        }
    }
    if (base < applied) {
        *out = (struct raft_entry_id){.index = base, .term = term};
    }
    return true;
}

/* The configuration of a cluster that has never changed it: all members of the beginning vote. */
static void conf_of_members(const struct machine_members *members, struct raft_conf *out)
{
    *out = (struct raft_conf){0};
    for (size_t i = 0; i < members->count; i++) {
        if (members->items[i].is_learner) {
            out->learners[out->learner_count++] = members->items[i].id;
        } else {
            out->voters[out->voter_count++] = members->items[i].id;
        }
    }
}

static enum nb_status start_conf(const struct machine *m, struct raft_conf *out)
{
    struct nb_bytes attached;
    if (machine_conf(m).len == 0) {
        conf_of_members(machine_members(m), out);
        return NB_OK;
    }
    return raft_conf_decode(machine_conf(m), out, &attached);
}

static enum nb_status start_raft(struct replica *r, const struct wal_recovered *log,
                                 struct nb_buf *error)
{
    struct raft_config config;
    struct raft_start start = {0};
    raft_config_defaults(&config);
    config.id = r->config.member_id;
    config.seed = r->config.boot_id;
    config.election_timeout_ticks = r->config.election_ticks;
    config.heartbeat_ticks = r->config.heartbeat_ticks;
    config.pre_vote = r->config.pre_vote;
    config.sync_timeout_ticks = SYNC_TIMEOUT_ELECTIONS * r->config.election_ticks;
    uint64_t applied = machine_applied_index(r->machine);
    if (!choose_base(log, r->machine, &start.snapshot.last) ||
        start_conf(r->machine, &start.snapshot.conf) != NB_OK) {
        nb_buf_printf(error,
                      "the log on disk begins at index %" PRIu64 " but the backend is at %" PRIu64
                      ": entries between them are missing",
                      log->entry_count == 0 ? 0 : log->entries[0].index, applied);
        return NB_CORRUPT;
    }
    size_t skip = 0;
    while (skip < log->entry_count && log->entries[skip].index <= start.snapshot.last.index) {
        skip++;
    }
    start.entry_count = log->entry_count - skip;
    struct raft_entry *entries = nb_alloc_zero(start.entry_count + 1, sizeof *entries);
    for (size_t i = 0; i < start.entry_count; i++) {
        const struct wal_entry *e = &log->entries[skip + i];
        entries[i] = (struct raft_entry){.id = {.index = e->index, .term = e->term},
                                         .kind = (enum raft_entry_kind)e->kind,
                                         .payload = e->payload};
    }
    start.entries = entries;
    start.applied_index = applied;
    start.hard = (struct raft_hard_state){.term = log->hard_state.term,
                                          .voted_for = log->hard_state.voted_for,
                                          .commit_index = log->hard_state.commit_index};
    /* What the backend holds was committed, whether the last hard state says so yet or not. */
    if (start.hard.commit_index < applied) {
        start.hard.commit_index = applied;
    }
    if (start.hard.term < machine_applied_term(r->machine)) {
        start.hard.term = machine_applied_term(r->machine);
        start.hard.voted_for = 0;
    }
    enum nb_status status = raft_create(&config, &start, &r->raft);
    if (status != NB_OK) {
        nb_buf_printf(error,
                      "the log contradicts itself: commit index %" PRIu64 ", applied %" PRIu64
                      ", last entry %" PRIu64,
                      start.hard.commit_index, applied,
                      start.snapshot.last.index + start.entry_count);
    }
    r->caught_up_index = r->commit_index = start.hard.commit_index;
    nb_free(entries);
    return status;
}

/*
 * A crash may have come between the steps of an install: with the backend from the snapshot, the
 * log from before it, and a note that says so. Then the log gets its mark now, as it would have
 * then, and `log` becomes what a start after that would have recovered. [S03]
 */
static enum nb_status finish_install(struct replica *r, uint64_t noted, struct wal_recovered *log,
                                     struct nb_buf *error)
{
    uint64_t applied = machine_applied_index(r->machine), term = 0;
    if (applied >= log->next_index && applied != 0 && noted != applied) {
        nb_buf_printf(error,
                      "the log on disk ends at index %" PRIu64 " but the backend is at %" PRIu64
                      ": acknowledged entries are missing",
                      log->next_index - 1, applied);
        return NB_CORRUPT;
    }
    if (noted == 0) {
        return NB_OK;
    }
    if (noted == applied) {
        struct wal_mark mark = {.index = applied, .term = machine_applied_term(r->machine)};
        if (log->mark.index < applied) {
            uint64_t batch = wal_mark_snapshot(r->wal, mark);
            wal_flush(r->wal);
            while (wal_durable(r->wal) < batch && wal_status(r->wal) == NB_OK) {
                r->world.wait_disk(r->world.user);
            }
            if (wal_status(r->wal) != NB_OK) {
                nb_buf_append_str(error, "the log could not be marked with the installed snapshot");
                return wal_status(r->wal);
            }
        }
        if (!recovered_term(log, applied, &term) || term != mark.term) {
            log->entries = NULL; /* of a deposed leader: the snapshot replaces them */
            log->entry_count = 0;
        }
    }
    enum nb_status status = r->world.note_install(r->world.user, 0);
    if (status != NB_OK) {
        nb_buf_append_str(error, "the note of a snapshot install could not be removed");
    }
    return status;
}

/* Buckets as etcd's. [etcd-v3-surface 6.3] */
static void init_timings(struct replica_timings *t)
{
    nb_histogram_init(&t->log_sync, 0.001, 2, 14);
    nb_histogram_init(&t->log_write, 0.001, 2, 14);
    nb_histogram_init(&t->backend_commit, 0.001, 2, 14);
    nb_histogram_init(&t->backend_copy, 0.01, 2, 17);
    nb_histogram_init(&t->compaction_pause_ms, 1, 2, 13);
    nb_histogram_init(&t->compaction_ms, 100, 2, 14);
    for (size_t kind = 0; kind < MACHINE_KIND_END; kind++) {
        for (size_t good = 0; good < 2; good++) {
            nb_histogram_init(&t->kinds[kind].apply[good], 0.0001, 2, 20);
            nb_histogram_init(&t->kinds[kind].request[good], 0.001, 2, 14);
        }
    }
}

enum nb_status replica_create(const struct replica_config *config,
                              const struct replica_world *world, const struct replica_parts *parts,
                              struct replica **out, struct nb_buf *error)
{
    struct replica *r = nb_alloc_zero(1, sizeof *r);
    r->config = *config;
    r->world = *world;
    r->wal = parts->wal;
    r->backend = parts->backend;
    r->machine = parts->machine;
    /* Never an id of an earlier boot: those entries may still be in the log. [R22] */
    r->proposals.next_id = r->proposals.oldest_id = config->boot_id;
    replica_reads_init(&r->reads_queued);
    replica_reads_init(&r->reads_asked);
    replica_reads_init(&r->reads_indexed);
    init_timings(&r->timings);
    r->batch_sealed = r->batch_reaped = backend_committed(parts->backend);
    r->batch_sealed_index = backend_label(parts->backend)->applied_index;
    struct wal_recovered behind = *parts->recovered;
    enum nb_status status = finish_install(r, parts->install_noted, &behind, error);
    if (status == NB_OK) {
        status = start_raft(r, &behind, error);
    }
    if (status != NB_OK) {
        replica_destroy(r);
        return status;
    }
    *out = r;
    return NB_OK;
}

void replica_destroy(struct replica *r)
{
    if (r == NULL) {
        return;
    }
    struct replica_request *request;
    while ((request = replica_requests_oldest(&r->proposals)) != NULL) {
        (void)replica_take_proposal(r, request->id);
        request->done(request, NB_STOPPED, NULL);
    }
    if (r->change != NULL) {
        r->change->done(r->change, NB_STOPPED, NULL);
    }
    replica_reads_finish(&r->reads_queued, NB_STOPPED);
    replica_reads_finish(&r->reads_asked, NB_STOPPED);
    replica_reads_finish(&r->reads_indexed, NB_STOPPED);
    for (size_t i = 0; i < r->waiting_count; i++) {
        nb_payload_release(r->waiting[i]);
    }
    nb_free(r->waiting);
    replica_requests_deinit(&r->proposals);
    nb_free(r->held);
    nb_free(r->syncs.items);
    nb_free(r->copy_path);
    nb_free(r->install_path);
    raft_destroy(r->raft);
    nb_free(r);
}
