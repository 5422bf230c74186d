#include "replica/replica.h"

#include "replica/requests.h"

#include <inttypes.h>
#include <string.h>

/* Entries applied in one turn, so that sockets are served in between. */
enum { SYNC_TIMEOUT_ELECTIONS = 3 }; /* a leader whose disk hangs for so long resigns [E12] */
enum { APPLY_COUNT_A_TURN = 4096, DRAINS_A_TURN = 16, HELD_MESSAGE_COUNT_MAX = 65536 };

/* A message that waits for the disk. [P1] */
struct held_message {
    struct raft_msg msg; /* holds no pointers */
    uint64_t batch;      /* of the log: durable when wal_durable() reaches it */
};

/* Which batch of the log carries which of raft's syncs. */
struct sync_point {
    uint64_t sync, batch;
    uint64_t begun_ns;
};

/* Ring of plain structs: pushed at the end, taken at the front. */
struct sync_queue {
    struct sync_point *items; /* owned */
    size_t first, count, capacity;
};

struct read_list {
    struct replica_request *first, **last;
    size_t count;
};

struct replica {
    struct replica_config config;
    struct replica_world world;
    struct wal *wal;         /* borrowed */
    struct backend *backend; /* borrowed */
    struct machine *machine; /* borrowed */
    struct raft *raft;       /* owned */

    struct replica_requests proposals;
    size_t proposal_bytes;
    struct read_list reads_queued;  /* wait for a round to begin */
    struct read_list reads_asked;   /* in the round under way */
    struct read_list reads_indexed; /* wait until read_index is applied */
    uint64_t read_context;          /* of the round under way; 0: none */
    uint64_t read_context_last;     /* never used twice */
    uint64_t read_index;
    uint64_t read_asked_ns;

    /* Proposals that found no leader: tried again when one is there. */
    struct nb_payload **waiting; /* owned, with a reference each */
    size_t waiting_count, waiting_capacity;

    struct held_message *held; /* owned; in order of batch */
    size_t held_first, held_count, held_capacity;
    struct sync_queue syncs;
    uint64_t batch_last; /* newest batch with something of raft's in it */

    uint64_t commit_index;
    uint64_t caught_up_index; /* commit index at the start */
    uint64_t batch_sealed;    /* number of the last backend batch handed over */
    uint64_t batch_sealed_index;
    uint64_t batch_reaped;
    uint64_t sealed_generation, reaped_generation; /* see replica_commit_wanted */
    uint64_t last_commit_ns;
    uint64_t seal_begun_ns;
    uint64_t compact_next_ns;

    uint64_t snapshot_peers[RAFT_MEMBER_COUNT_MAX]; /* that wait for the copy being made */
    size_t snapshot_peer_count;
    bool copying;
    char *copy_path; /* owned; the copy being made or sent; NULL: none */
    size_t copy_users;
    struct raft_snapshot copy_label;
    uint64_t copy_count;

    char *install_path; /* owned: received and verified, until raft asks for it */

    struct replica_timings timings;
    uint64_t leader_seen;
    uint64_t leader_change_count, proposal_failed_count, read_failed_count;
    bool disk_full;
    bool failed; /* the world was told that this is the end */
};

/* ---- small things ---- */

static uint64_t now(const struct replica *r)
{
    return r->world.now_ns(r->world.user);
}

static void fail(struct replica *r, enum nb_status status, const char *text)
{
    if (!r->failed) {
        r->failed = true;
        r->world.fatal(r->world.user, status, text);
    }
}

static void list_init(struct read_list *l)
{
    *l = (struct read_list){0};
    l->last = &l->first;
}

static void list_push(struct read_list *l, struct replica_request *request)
{
    request->next = NULL;
    *l->last = request;
    l->last = &request->next;
    l->count++;
}

/* Puts all of `from` behind what `to` has. */
static void list_append(struct read_list *to, struct read_list *from)
{
    if (from->first == NULL) {
        return;
    }
    *to->last = from->first;
    to->last = from->last;
    to->count += from->count;
    list_init(from);
}

static void list_finish(struct read_list *l, enum nb_status status)
{
    struct replica_request *request = l->first;
    list_init(l);
    while (request != NULL) {
        struct replica_request *next = request->next;
        request->done(request, status, NULL);
        request = next;
    }
}

static void sync_push(struct sync_queue *q, struct sync_point point)
{
    if (q->first != 0 && q->first + q->count == q->capacity) {
        memmove(q->items, q->items + q->first, q->count * sizeof *q->items);
        q->first = 0;
    }
    q->items = nb_grow(q->items, &q->capacity, q->first + q->count + 1, sizeof *q->items);
    q->items[q->first + q->count++] = point;
}

/* ---- proposals ---- */

/* The request under way with this id, which is not under way any more; NULL when there is none. */
static struct replica_request *take_proposal(struct replica *r, uint64_t id)
{
    struct replica_request *request = replica_requests_take(&r->proposals, id);
    if (request != NULL) {
        nb_assert(r->proposal_bytes >= request->bytes);
        r->proposal_bytes -= request->bytes;
    }
    return request;
}

static void park(struct replica *r, struct nb_payload *payload)
{
    r->waiting = nb_grow(r->waiting, &r->waiting_capacity, r->waiting_count + 1, sizeof *r->waiting);
    r->waiting[r->waiting_count++] = nb_payload_acquire(payload);
}

static void offer(struct replica *r, struct nb_payload *payload)
{
    enum raft_outcome outcome = raft_propose(r->raft, &payload, 1, NULL);
    if (outcome == RAFT_NO_LEADER || outcome == RAFT_DROPPED) {
        park(r, payload); /* until a leader is there, or the request times out */
    }
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

/* Without a leader for long, what timed out must not pile up. They lie in the order they came. [Z03] */
static void forget_timed_out(struct replica *r)
{
    size_t gone = 0;
    while (gone < r->waiting_count && !is_awaited(r, r->waiting[gone])) {
        nb_payload_release(r->waiting[gone++]);
    }
    if (gone != 0) {
        r->waiting_count -= gone;
        memmove(r->waiting, r->waiting + gone, r->waiting_count * sizeof *r->waiting);
    }
}

/* Those that found no leader before. Several turns may pass without one: nothing is lost but time. */
static void offer_waiting(struct replica *r)
{
    struct raft_status s;
    if (r->waiting_count == 0) {
        return;
    }
    raft_status(r->raft, &s);
    if (s.leader_id == 0 || s.transfer_target != 0) {
        return;
    }
    struct nb_payload **waiting = r->waiting;
    size_t count = r->waiting_count;
    r->waiting = NULL;
    r->waiting_count = r->waiting_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_awaited(r, waiting[i])) {
            offer(r, waiting[i]);
        }
        nb_payload_release(waiting[i]);
    }
    nb_free(waiting);
}

static size_t request_count(const struct replica *r)
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
    if (request_count(r) >= r->config.request_count_max ||
        r->proposal_bytes > r->config.proposal_bytes_max) {
        return NB_TOO_MANY_REQUESTS;
    }
    struct nb_payload *payload = nb_payload_create(MACHINE_HEADER_SIZE_BYTES + command.len);
    request->begun_ns = now(r);
    request->id = replica_requests_add(&r->proposals, request);
    request->bytes = payload->len;
    r->proposal_bytes += request->bytes;
    struct machine_header header = {
        .kind = (uint8_t)kind, .request_id = request->id, .origin = r->config.member_id};
    machine_header_put(payload->data, &header);
    if (command.len != 0) {
        memcpy(payload->data + MACHINE_HEADER_SIZE_BYTES, command.data, command.len);
    }
    offer(r, payload);
    nb_payload_release(payload);
    return NB_OK;
}

/* ---- reads ---- */

enum nb_status replica_read(struct replica *r, struct replica_request *request)
{
    if (r->failed) {
        return NB_STOPPED;
    }
    if (request_count(r) >= r->config.request_count_max) {
        return NB_TOO_MANY_REQUESTS;
    }
    request->begun_ns = now(r);
    list_push(&r->reads_queued, request);
    return NB_OK;
}

/* One round at a time; what comes meanwhile shares the next one. [Q03] */
static void begin_read_round(struct replica *r)
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
    r->read_asked_ns = now(r);
    list_append(&r->reads_asked, &r->reads_queued);
}

static void requeue_asked(struct replica *r)
{
    list_append(&r->reads_asked, &r->reads_queued);
    r->reads_queued = r->reads_asked;
    if (r->reads_queued.first == NULL) {
        list_init(&r->reads_queued);
    }
    list_init(&r->reads_asked);
    r->read_context = 0;
}

static void take_reads(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->read_failed_count; i++) {
        if (fx->reads_failed[i] == r->read_context) {
            requeue_asked(r); /* the leader changed: ask the new one [Q09] */
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

static void answer_reads(struct replica *r)
{
    if (r->reads_indexed.first != NULL && machine_applied_index(r->machine) >= r->read_index) {
        list_finish(&r->reads_indexed, NB_OK);
    }
}

/* ---- disk and messages ---- */

static void hold(struct replica *r, const struct raft_msg *msg, uint64_t batch)
{
    if (r->held_first != 0 && r->held_first + r->held_count == r->held_capacity) {
        memmove(r->held, r->held + r->held_first, r->held_count * sizeof *r->held);
        r->held_first = 0;
    }
    if (r->held_count >= HELD_MESSAGE_COUNT_MAX) {
        return; /* a disk that hangs: dropping is what networks do, and Raft asks again */
    }
    r->held = nb_grow(r->held, &r->held_capacity, r->held_first + r->held_count + 1, sizeof *r->held);
    r->held[r->held_first + r->held_count++] = (struct held_message){.msg = *msg, .batch = batch};
}

/* What the disk now holds lets messages go and counts for the quorum. */
static void take_durable(struct replica *r)
{
    uint64_t durable = wal_durable(r->wal);
    uint64_t sync = 0;
    while (r->syncs.count != 0 && r->syncs.items[r->syncs.first].batch <= durable) {
        struct sync_point *point = &r->syncs.items[r->syncs.first];
        sync = point->sync;
        nb_histogram_observe_ns(&r->timings.log_sync, now(r) - point->begun_ns);
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

static void check_log(struct replica *r)
{
    enum nb_status status = wal_status(r->wal);
    if (status != NB_OK) {
        fail(r, status,
             status == NB_NO_SPACE_DISK
                 ? "the disk of the log is full: nothing more is acknowledged; make room and restart"
                 : "a write of the log failed: nothing more is acknowledged; check the disk and "
                   "restart");
    }
}

static void append_to_log(struct replica *r, const struct raft_effects *fx)
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
        /* The pieces may lie in several batches: the term comes no later than its first entry [R05];
         * the commit index in it speaks only of entries that are durable already [R26]. */
        batch = wal_append(r->wal, first && fx->has_hard_state ? &hard : NULL, entries, count);
    } while (done < fx->append_count);
    r->batch_last = batch;
    sync_push(&r->syncs,
              (struct sync_point){.sync = fx->sync, .batch = batch, .begun_ns = now(r)});
}

/* ---- apply ---- */

static void apply_entry(struct replica *r, const struct raft_entry *e)
{
    struct machine_entry entry = {
        .index = e->id.index,
        .term = e->id.term,
        .kind = (enum machine_entry_kind)e->kind,
        .payload = nb_payload_bytes(e->payload),
    };
    struct raft_conf conf;
    if (e->kind == RAFT_ENTRY_CONF) {
        enum nb_status status = raft_conf_decode(entry.payload, &conf, &entry.attached);
        nb_assert(status == NB_OK); /* raft has used it already */
        entry.conf = nb_bytes_of(entry.payload.data, entry.payload.len - entry.attached.len);
    }
    struct replica_request *request = NULL;
    struct machine_header header;
    struct nb_bytes body;
    if (e->kind == RAFT_ENTRY_COMMAND && machine_header_get(entry.payload, &header, &body) == NB_OK &&
        header.origin == r->config.member_id) {
        request = take_proposal(r, header.request_id);
    }
    struct machine_result result;
    machine_apply(r->machine, &entry, request != NULL ? &result : NULL);
    if (request != NULL) {
        request->done(request, NB_OK, &result);
    }
}

/* Applies what is committed, a bounded piece. */
static void apply(struct replica *r)
{
    uint64_t applied = machine_applied_index(r->machine);
    uint64_t end = r->commit_index + 1;
    if (applied + 1 >= end) {
        return;
    }
    if (end - applied - 1 > APPLY_COUNT_A_TURN) {
        end = applied + 1 + APPLY_COUNT_A_TURN;
        r->world.wake(r->world.user);
    }
    size_t count;
    const struct raft_entry *entries = raft_entries(r->raft, applied + 1, end, &count);
    nb_assert(count == end - applied - 1);
    for (size_t i = 0; i < count; i++) {
        apply_entry(r, &entries[i]);
    }
    raft_applied(r->raft, end - 1);
}

/* ---- the backend ---- */

static void seal(struct replica *r)
{
    machine_seal(r->machine);
    struct backend_label label = {.applied_index = machine_applied_index(r->machine),
                                  .applied_term = machine_applied_term(r->machine)};
    r->batch_sealed = backend_commit(r->backend, &label);
    r->batch_sealed_index = label.applied_index;
    r->sealed_generation++;
    r->last_commit_ns = r->seal_begun_ns = now(r);
}

/* One batch under way at a time: the next one gathers what comes meanwhile. */
static void commit_backend(struct replica *r)
{
    if (r->batch_reaped != r->batch_sealed) {
        return;
    }
    bool fresh = machine_applied_index(r->machine) != r->batch_sealed_index ||
                 backend_batch_bytes(r->backend) != 0;
    bool due = now(r) - r->last_commit_ns >= r->config.commit_interval_ns ||
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

/* The log is kept until the backend holds its effects durably [P5], and from the label of a copy on as
 * long as that is made or sent: who receives it must not be too late again [S08]. */
static void release_log(struct replica *r)
{
    uint64_t durable = backend_label(r->backend)->applied_index;
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->copying || durable < s.first_index) {
        return;
    }
    uint64_t to = release_point(r, s.first_index, durable);
    if (r->copy_users != 0 && to > r->copy_label.last.index) {
        to = r->copy_label.last.index;
    }
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
    bool all = committed != r->batch_reaped && committed == r->batch_sealed;
    r->batch_reaped = committed;
    const char *text;
    enum nb_status status = backend_status(r->backend, &text);
    if (status != NB_OK && status != NB_NO_SPACE_DISK) {
        fail(r, status, text);
    } else if (all) {
        r->reaped_generation = r->sealed_generation;
        nb_histogram_observe_ns(&r->timings.backend_commit, now(r) - r->seal_begun_ns);
        release_log(r);
    }
}

void replica_backend_ready(struct replica *r)
{
    (void)backend_reap(r->backend);
    take_committed(r);
}

static void wait_backend(struct replica *r)
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
static void compact_history(struct replica *r)
{
    struct mvcc *m = machine_mvcc(r->machine);
    if (!mvcc_compact_pending(m) || now(r) < r->compact_next_ns) {
        return;
    }
    (void)mvcc_compact_step(m, r->config.compaction_batch_limit);
    r->compact_next_ns = now(r) + r->config.compaction_sleep_ns;
}

void replica_flush(struct replica *r)
{
    if (!r->failed) {
        wait_backend(r);
        seal(r);
        wait_backend(r);
    }
}

/* ---- snapshots: sending ---- */

static void drop_copy(struct replica *r)
{
    if (r->copy_path != NULL && r->copy_users == 0 && !r->copying) {
        r->world.remove_file(r->world.user, r->copy_path);
        nb_free(r->copy_path);
        r->copy_path = NULL;
    }
}

static void send_copy(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.role != RAFT_LEADER) {
        r->snapshot_peer_count = 0; /* deposed meanwhile: its word is worth nothing in this term */
    }
    for (size_t i = 0; i < r->snapshot_peer_count; i++) {
        struct raft_msg announce =
            raft_snapshot_msg(r->raft, r->snapshot_peers[i], &r->copy_label);
        r->copy_users++;
        r->world.send_snapshot(r->world.user, r->snapshot_peers[i], r->copy_path, &announce);
    }
    r->snapshot_peer_count = 0;
}

static void copy_failed(struct replica *r, const char *text)
{
    nb_log(r->config.log, NB_LOG_WARN, "replica.snapshot_failed",
           "a copy of the backend for a lagging member could not be made", NB_KV_STR("error", text),
           NB_KV_END);
    for (size_t i = 0; i < r->snapshot_peer_count; i++) {
        raft_snapshot_sent(r->raft, r->snapshot_peers[i], false);
    }
    r->snapshot_peer_count = 0;
    drop_copy(r);
}

/* The copy says itself what it holds: at least what was committed when it was asked for. [S02] */
static void on_copied(void *context, enum nb_status status, const char *text)
{
    struct replica *r = context;
    r->copying = false;
    if (status != NB_OK) {
        copy_failed(r, text);
        return;
    }
    struct nb_buf message = {0};
    struct backend_label label;
    status = r->world.inspect_copy(r->world.user, r->copy_path, &label, &message);
    if (status == NB_OK &&
        raft_conf_at(r->raft, label.applied_index, &r->copy_label.conf)) {
        r->copy_label.last =
            (struct raft_entry_id){.index = label.applied_index, .term = label.applied_term};
        nb_log(r->config.log, NB_LOG_INFO, "replica.snapshot_made", NULL,
               NB_KV_U64("index", label.applied_index), NB_KV_U64("peers", r->snapshot_peer_count),
               NB_KV_END);
        send_copy(r);
    } else {
        nb_buf_append(&message, "", 1);
        copy_failed(r, (const char *)message.data);
    }
    nb_buf_deinit(&message);
    drop_copy(r);
}

/* A leader that is elected again while a copy is made asks again for the same member. */
static void want_snapshot(struct replica *r, uint64_t peer)
{
    for (size_t i = 0; i < r->snapshot_peer_count; i++) {
        if (r->snapshot_peers[i] == peer) {
            return;
        }
    }
    nb_assert(r->snapshot_peer_count < RAFT_MEMBER_COUNT_MAX);
    r->snapshot_peers[r->snapshot_peer_count++] = peer;
}

static void want_snapshots(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->snapshot_peer_count; i++) {
        want_snapshot(r, fx->snapshot_peers[i]);
    }
    if (r->snapshot_peer_count == 0 || r->copying || r->copy_path != NULL) {
        return; /* the next copy is made when the present one has been sent */
    }
    r->copying = true;
    r->copy_path = nb_sprintf("%s/send-%" PRIx64 "-%" PRIu64 ".tmp", r->config.snapshot_dir,
                              r->config.boot_id, ++r->copy_count);
    backend_copy(r->backend, r->copy_path, on_copied, r);
}

void replica_snapshot_sent(struct replica *r, uint64_t to, bool ok)
{
    nb_assert(r->copy_users != 0);
    r->copy_users--;
    raft_snapshot_sent(r->raft, to, ok);
    drop_copy(r);
}

/* ---- snapshots: receiving ---- */

void replica_snapshot_received(struct replica *r, const char *path, const struct raft_msg *msg)
{
    if (r->install_path != NULL) {
        r->world.remove_file(r->world.user, path); /* one at a time: the leader will ask again */
        return;
    }
    r->install_path = nb_strdup(path);
    raft_step(r->raft, msg);
}

/* Order, so that a crash anywhere restarts cleanly [S01, S03]: the world notes that an install is on
 * its way; the backend takes the file; the log gets its mark; the note goes away. */
static void install(struct replica *r, const struct raft_snapshot *label)
{
    struct nb_buf message = {0};
    nb_assert(r->install_path != NULL);
    wait_backend(r);
    enum nb_status status = r->world.note_install(r->world.user, label->last.index);
    if (status == NB_OK) {
        status = backend_replace(r->backend, r->install_path, &message);
    }
    if (status == NB_OK) {
        status = machine_reload(r->machine, &message);
    }
    if (status != NB_OK) {
        nb_buf_append(&message, "", 1);
        fail(r, status, message.len > 1 ? (const char *)message.data : nb_status_text(status));
        nb_buf_deinit(&message);
        return;
    }
    nb_buf_deinit(&message);
    nb_assert(machine_applied_index(r->machine) == label->last.index);
    r->sealed_generation++; /* what waited for an older state is in the new one or gone with it */
    r->reaped_generation = r->sealed_generation;
    uint64_t batch = wal_mark_snapshot(
        r->wal, (struct wal_mark){.index = label->last.index, .term = label->last.term});
    wal_flush(r->wal);
    while (wal_durable(r->wal) < batch && wal_status(r->wal) == NB_OK) {
        r->world.wait_disk(r->world.user);
    }
    check_log(r);
    if (r->failed) {
        return;
    }
    status = r->world.note_install(r->world.user, 0);
    if (status != NB_OK) {
        fail(r, status, "the note of a finished snapshot install could not be removed");
        return;
    }
    nb_free(r->install_path);
    r->install_path = NULL;
    r->batch_sealed = r->batch_reaped = backend_committed(r->backend);
    r->batch_sealed_index = label->last.index;
    r->commit_index = r->commit_index > label->last.index ? r->commit_index : label->last.index;
    take_durable(r);
    raft_snapshot_installed(r->raft, label);
    nb_log(r->config.log, NB_LOG_INFO, "replica.snapshot_installed", NULL,
           NB_KV_U64("index", label->last.index), NB_KV_U64("term", label->last.term), NB_KV_END);
}

/* Raft did not want the snapshot that was received (it had the entries meanwhile). */
static void drop_unwanted_install(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->install_path != NULL && !s.installing) {
        r->world.remove_file(r->world.user, r->install_path);
        nb_free(r->install_path);
        r->install_path = NULL;
    }
}

/* ---- the turn ---- */

static void send_messages(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->message_count; i++) {
        const struct raft_send *send = &fx->messages[i];
        if (!send->after_sync || (r->held_count == 0 && wal_durable(r->wal) >= r->batch_last)) {
            r->world.send(r->world.user, &send->msg);
        } else {
            hold(r, &send->msg, r->batch_last);
        }
    }
}

static void take_effects(struct replica *r, const struct raft_effects *fx)
{
    append_to_log(r, fx); /* into memory: what waits for it must know its batch */
    send_messages(r, fx);
    wal_flush(r->wal);
    check_log(r); /* it may fail at once, with no completion to come */
    if (fx->commit_index > r->commit_index) {
        r->commit_index = fx->commit_index;
    }
    take_reads(r, fx);
    for (size_t i = 0; i < fx->dropped_count; i++) {
        park(r, fx->dropped[i].payload);
    }
    want_snapshots(r, fx);
    if (fx->removed) {
        fail(r, NB_MEMBER_NOT_FOUND, "this member was removed from the cluster");
    }
    if (fx->has_install && !r->failed) {
        struct raft_snapshot label = fx->install; /* fx ends with the next call on raft */
        install(r, &label);
    }
    drop_unwanted_install(r);
}

static void watch_leader(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.leader_id != r->leader_seen) {
        r->leader_seen = s.leader_id;
        if (s.leader_id != 0) {
            r->leader_change_count++;
            nb_log(r->config.log, NB_LOG_INFO, "raft.leader_elected", NULL,
                   NB_KV_ID("member", r->config.member_id), NB_KV_U64("term", s.term),
                   NB_KV_ID("leader", s.leader_id),
                   NB_KV_BOOL("self", s.leader_id == r->config.member_id), NB_KV_END);
        } else {
            nb_log(r->config.log, NB_LOG_WARN, "raft.leader_lost", NULL,
                   NB_KV_ID("member", r->config.member_id), NB_KV_U64("term", s.term), NB_KV_END);
        }
    }
}

void replica_turn(struct replica *r)
{
    if (r->failed) {
        return;
    }
    take_durable(r);
    offer_waiting(r);
    begin_read_round(r);
    for (unsigned i = 0; i < DRAINS_A_TURN && raft_has_effects(r->raft) && !r->failed; i++) {
        struct raft_effects fx;
        raft_drain(r->raft, &fx);
        take_effects(r, &fx);
        if (!r->failed) {
            take_durable(r);
            apply(r);
            answer_reads(r);
            begin_read_round(r);
        }
    }
    if (r->failed) {
        return;
    }
    apply(r);
    answer_reads(r);
    if (raft_has_effects(r->raft)) {
        r->world.wake(r->world.user);
    }
    watch_leader(r);
    commit_backend(r);
}

void replica_disk_ready(struct replica *r)
{
    check_log(r);
}

/* ---- time ---- */

static enum nb_status timeout_status(const struct replica *r)
{
    return replica_leader(r) == 0 ? NB_TIMEOUT_LEADER_FAIL : NB_TIMEOUT;
}

static void expire_reads(struct replica *r, struct read_list *l, uint64_t now_ns)
{
    while (l->first != NULL && now_ns - l->first->begun_ns > r->config.request_timeout_ns) {
        struct replica_request *request = l->first;
        l->first = request->next;
        l->count--;
        if (l->first == NULL) {
            l->last = &l->first;
        }
        r->read_failed_count++;
        request->done(request, replica_leader(r) == 0 ? NB_NO_LEADER : NB_TIMEOUT, NULL);
    }
}

static void expire(struct replica *r)
{
    uint64_t now_ns = now(r);
    struct replica_request *request;
    while ((request = replica_requests_oldest(&r->proposals)) != NULL &&
           now_ns - request->begun_ns > r->config.request_timeout_ns) {
        (void)take_proposal(r, request->id);
        r->proposal_failed_count++;
        request->done(request, timeout_status(r), NULL); /* "unknown": it may still commit [R23] */
    }
    forget_timed_out(r);
    expire_reads(r, &r->reads_queued, now_ns);
    expire_reads(r, &r->reads_asked, now_ns);
    expire_reads(r, &r->reads_indexed, now_ns);
    /* A round lost on its way to the leader would block the next ones. [Q09] */
    if (r->read_context != 0 && now_ns - r->read_asked_ns > r->config.read_retry_ns) {
        requeue_asked(r);
    }
}

/* Says once that the log's disk is full, and once that it is no more. [W13] */
static void watch_space(struct replica *r)
{
    bool full = wal_is_full(r->wal);
    if (full == r->disk_full) {
        return;
    }
    r->disk_full = full;
    if (full) {
        nb_log(r->config.log, NB_LOG_ERROR, "wal.disk_full",
               "the disk of the log is full: writes are refused until there is room again; reads go "
               "on, nothing acknowledged is lost",
               NB_KV_ID("member", r->config.member_id), NB_KV_END);
    } else {
        nb_log(r->config.log, NB_LOG_INFO, "wal.disk_has_room", NULL,
               NB_KV_ID("member", r->config.member_id), NB_KV_END);
    }
}

bool replica_disk_is_full(const struct replica *r)
{
    return r->disk_full;
}

void replica_tick(struct replica *r)
{
    if (r->failed) {
        return;
    }
    watch_space(r);
    raft_tick(r->raft);
    expire(r);
    compact_history(r);
    if (r->syncs.count == 0 || r->disk_full) {
        wal_mark_durable(r->wal);
    }
    check_log(r);
    if (backend_status(r->backend, NULL) == NB_NO_SPACE_DISK) {
        backend_retry(r->backend);
    }
}

void replica_step(struct replica *r, const struct raft_msg *msg)
{
    if (!r->failed) {
        raft_step(r->raft, msg);
    }
}

void replica_peer_lost(struct replica *r, uint64_t id)
{
    raft_peer_lost(r->raft, id);
}

void replica_peer_unreachable(struct replica *r, uint64_t id)
{
    raft_peer_unreachable(r->raft, id);
}

enum nb_status replica_transfer(struct replica *r, uint64_t target)
{
    switch (raft_transfer(r->raft, target)) {
    case RAFT_TRANSFER_STARTED:
        return NB_OK;
    case RAFT_TRANSFER_NOT_LEADER:
        return NB_NOT_LEADER;
    case RAFT_TRANSFER_BAD_TARGET:
        return NB_BAD_TRANSFEREE;
    }
    nb_unreachable("no such outcome");
}

bool replica_hand_over(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (s.role != RAFT_LEADER) {
        return false;
    }
    const struct raft_conf *conf = raft_conf(r->raft);
    uint64_t best = 0, best_match = 0;
    for (uint32_t i = 0; i < conf->voter_count; i++) {
        struct raft_progress p;
        if (conf->voters[i] != s.id && raft_progress_of(r->raft, conf->voters[i], &p) &&
            p.recently_active && (best == 0 || p.match_index > best_match)) {
            best = conf->voters[i];
            best_match = p.match_index;
        }
    }
    return best != 0 && raft_transfer(r->raft, best) == RAFT_TRANSFER_STARTED;
}

/* ---- life ---- */

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
 * Where raft's log begins: as far back as the log on disk reaches (for slow followers), but not before
 * the configuration that the machine knows, nor where the term is not known.
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
                      "the log on disk begins at index %" PRIu64
                      " but the backend is at %" PRIu64 ": entries between them are missing",
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
 * A crash may have come between the steps of an install: with the backend from the snapshot, the log
 * from before it, and a note that says so. Then the log gets its mark now, as it would have then, and
 * `log` becomes what a start after that would have recovered. [S03]
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

enum nb_status replica_create(const struct replica_config *config,
                              const struct replica_world *world,
                              const struct replica_parts *parts, struct replica **out,
                              struct nb_buf *error)
{
    struct replica *r = nb_alloc_zero(1, sizeof *r);
    r->config = *config;
    r->world = *world;
    r->wal = parts->wal;
    r->backend = parts->backend;
    r->machine = parts->machine;
    /* Never an id of an earlier boot: those entries may still be in the log. [R22] */
    r->proposals.next_id = r->proposals.oldest_id = config->boot_id;
    list_init(&r->reads_queued);
    list_init(&r->reads_asked);
    list_init(&r->reads_indexed);
    nb_histogram_init(&r->timings.log_sync, 0.001, 2, 14);
    nb_histogram_init(&r->timings.backend_commit, 0.001, 2, 14);
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
        (void)take_proposal(r, request->id);
        request->done(request, NB_STOPPED, NULL);
    }
    list_finish(&r->reads_queued, NB_STOPPED);
    list_finish(&r->reads_asked, NB_STOPPED);
    list_finish(&r->reads_indexed, NB_STOPPED);
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

/* ---- observers ---- */

void replica_status(const struct replica *r, struct replica_status *out)
{
    *out = (struct replica_status){0};
    raft_status(r->raft, &out->raft);
    out->is_learner = replica_is_learner(r);
    out->backend_index = backend_label(r->backend)->applied_index;
    out->pending_count = r->proposals.count;
    struct backend_sizes sizes;
    backend_sizes(r->backend, &sizes);
    out->db_allocated_bytes = sizes.allocated;
    out->db_used_bytes = sizes.in_use;
    out->leader_change_count = r->leader_change_count;
    out->proposal_failed_count = r->proposal_failed_count;
    out->read_failed_count = r->read_failed_count;
    if (r->syncs.count != 0) {
        out->stalled_ns = now(r) - r->syncs.items[r->syncs.first].begun_ns;
    }
}

void replica_timings(const struct replica *r, struct replica_timings *out)
{
    *out = r->timings;
}

struct machine *replica_machine(struct replica *r)
{
    return r->machine;
}

struct raft *replica_raft(struct replica *r)
{
    return r->raft;
}

struct backend *replica_backend(struct replica *r)
{
    return r->backend;
}

bool replica_is_learner(const struct replica *r)
{
    const struct raft_conf *conf = raft_conf(r->raft);
    return raft_conf_has_member(conf, r->config.member_id) &&
           !raft_conf_has_voter(conf, r->config.member_id);
}

uint64_t replica_leader(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return s.leader_id;
}

uint64_t replica_term(const struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    return s.term;
}

bool replica_caught_up(const struct replica *r)
{
    return machine_applied_index(r->machine) >= r->caught_up_index;
}
