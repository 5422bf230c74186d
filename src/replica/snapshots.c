/* replica/snapshots: copies of the backend for members that lag, and those that we receive.
 * [S01-S10] */
#include "replica/internal.h"

#include <inttypes.h>

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
        struct raft_msg announce = raft_snapshot_msg(r->raft, r->snapshot_peers[i], &r->copy_label);
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

static bool is_to_get_copy(const struct replica *r, uint64_t peer)
{
    for (size_t i = 0; i < r->snapshot_peer_count; i++) {
        if (r->snapshot_peers[i] == peer) {
            return true;
        }
    }
    return false;
}

/* Raft stops waiting by itself when the answer is too late. */
static bool awaits_install(const struct replica *r)
{
    const struct raft_conf *c = raft_conf(r->raft);
    const uint64_t *ids[] = {c->voters, c->outgoing, c->learners};
    uint32_t counts[] = {c->voter_count, c->outgoing_count, c->learner_count};
    for (size_t set = 0; set < NB_ARRAY_LEN(ids); set++) {
        for (uint32_t i = 0; i < counts[set]; i++) {
            struct raft_progress p;
            if (raft_progress_of(r->raft, ids[set][i], &p) && p.state == RAFT_PROGRESS_SNAPSHOT &&
                !is_to_get_copy(r, p.id)) {
                return true;
            }
        }
    }
    return false;
}

uint64_t replica_kept_from(const struct replica *r)
{
    return r->copy_users != 0 || awaits_install(r) ? r->kept_from : UINT64_MAX;
}

/* The copy says itself what it holds: at least what was committed when it was asked for. [S02] */
static void on_copied(void *context, enum nb_status status, const char *text)
{
    struct replica *r = context;
    r->copying = false;
    nb_histogram_observe_ns(&r->timings.backend_copy, replica_now(r) - r->copy_begun_ns);
    if (status != NB_OK) {
        copy_failed(r, text);
        return;
    }
    struct nb_buf message = {0};
    struct backend_label label;
    status = r->world.inspect_copy(r->world.user, r->copy_path, &label, &message);
    if (status == NB_OK && label.applied_index == 0) {
        nb_buf_append_str(&message, "nothing is applied durably yet");
        status = NB_BUSY;
    }
    if (status == NB_OK && raft_conf_at(r->raft, label.applied_index, &r->copy_label.conf)) {
        r->copy_label.last =
            (struct raft_entry_id){.index = label.applied_index, .term = label.applied_term};
        if (!awaits_install(r) || r->kept_from > label.applied_index) {
            r->kept_from = label.applied_index;
        }
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
    if (is_to_get_copy(r, peer)) {
        return;
    }
    nb_assert(r->snapshot_peer_count < RAFT_MEMBER_COUNT_MAX);
    r->snapshot_peers[r->snapshot_peer_count++] = peer;
}

void replica_want_snapshots(struct replica *r, const struct raft_effects *fx)
{
    for (size_t i = 0; i < fx->snapshot_peer_count; i++) {
        want_snapshot(r, fx->snapshot_peers[i]);
    }
    if (r->snapshot_peer_count == 0 || r->copying || r->copy_path != NULL) {
        return; /* the next copy is made when the present one has been sent */
    }
    r->copying = true;
    r->copy_begun_ns = replica_now(r);
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

/* Does the file hold what was announced? Only such a one comes near the backend. [S02] */
static bool holds_announced(struct replica *r, const char *path, const struct raft_msg *msg)
{
    struct nb_buf message = {0};
    struct backend_label label;
    const struct raft_entry_id *want = &msg->snapshot->last;
    enum nb_status status = r->world.inspect_copy(r->world.user, path, &label, &message);
    bool fits =
        status == NB_OK && label.applied_index == want->index && label.applied_term == want->term;
    if (status == NB_OK && !fits) {
        nb_buf_printf(&message, "it holds index %" PRIu64 " of term %" PRIu64, label.applied_index,
                      label.applied_term);
    }
    if (!fits) {
        nb_buf_append(&message, "", 1);
        nb_log(r->config.log, NB_LOG_ERROR, "replica.snapshot_refused",
               "a received snapshot is not what was announced: it is thrown away",
               NB_KV_U64("index", want->index), NB_KV_U64("term", want->term),
               NB_KV_STR("error", (const char *)message.data), NB_KV_END);
    }
    nb_buf_deinit(&message);
    return fits;
}

void replica_snapshot_received(struct replica *r, const char *path, const struct raft_msg *msg)
{
    if (r->install_path != NULL || !holds_announced(r, path, msg)) {
        r->world.remove_file(r->world.user, path); /* one at a time: the leader will ask again */
        return;
    }
    r->install_path = nb_strdup(path);
    raft_step(r->raft, msg);
}

/* The note, then the backend. NB_NO_SPACE_DISK: the old one is still there, try again. */
static enum nb_status install_backend(struct replica *r, struct nb_buf *message)
{
    const struct raft_snapshot *label = &r->install_label;
    replica_wait_backend(r);
    enum nb_status status = r->world.note_install(r->world.user, label->last.index);
    if (status == NB_OK) {
        status = backend_replace(r->backend, r->install_path, message);
    }
    if (status != NB_OK) {
        return status;
    }
    r->backend_full = false; /* what found no room is gone */
    status = machine_reload(r->machine, message);
    if (status != NB_OK) {
        return status == NB_NO_SPACE_DISK ? NB_IO : status;
    }
    nb_assert(machine_applied_index(r->machine) == label->last.index);
    r->sealed_generation++; /* what waited for an older state is in the new one or gone with it */
    r->reaped_generation = r->sealed_generation;
    r->batch_sealed = r->batch_reaped = backend_committed(r->backend);
    r->batch_sealed_index = label->last.index;
    r->install_batch = wal_mark_snapshot(
        r->wal, (struct wal_mark){.index = label->last.index, .term = label->last.term});
    wal_flush(r->wal);
    return NB_OK;
}

static void install_done(struct replica *r)
{
    const struct raft_snapshot *label = &r->install_label;
    enum nb_status status = r->world.note_install(r->world.user, 0);
    if (status == NB_NO_SPACE_DISK) {
        return; /* the next tick */
    }
    if (status != NB_OK) {
        replica_fail(r, status, "the note of a finished snapshot install could not be removed");
        return;
    }
    nb_free(r->install_path);
    r->install_path = NULL;
    r->install_waiting = false;
    r->commit_index = r->commit_index > label->last.index ? r->commit_index : label->last.index;
    replica_take_durable(r);
    raft_snapshot_installed(r->raft, label);
    nb_log(r->config.log, NB_LOG_INFO, "replica.snapshot_installed", NULL,
           NB_KV_U64("index", label->last.index), NB_KV_U64("term", label->last.term), NB_KV_END);
}

void replica_retry_install(struct replica *r)
{
    if (!r->install_waiting || r->failed) {
        return;
    }
    if (r->install_batch == 0) {
        struct nb_buf message = {0};
        enum nb_status status = install_backend(r, &message);
        if (status != NB_OK && status != NB_NO_SPACE_DISK) {
            nb_buf_append(&message, "", 1);
            replica_fail(r, status,
                         message.len > 1 ? (const char *)message.data : nb_status_text(status));
        }
        nb_buf_deinit(&message);
        if (status != NB_OK) {
            return;
        }
    }
    while (wal_durable(r->wal) < r->install_batch && wal_status(r->wal) == NB_OK &&
           !wal_is_full(r->wal)) {
        r->world.wait_disk(r->world.user);
    }
    replica_check_log(r);
    if (!r->failed && wal_durable(r->wal) >= r->install_batch) {
        install_done(r);
    }
}

/* Order, so that a crash anywhere restarts cleanly [S01, S03]: the world notes that an install is
 * on its way; the backend takes the file; the log gets its mark; the note goes away. A full disk
 * stops it before the second or the third step: the next tick goes on from there. [W13] */
void replica_install(struct replica *r, const struct raft_snapshot *label)
{
    nb_assert(r->install_path != NULL && !r->install_waiting);
    r->install_label = *label;
    r->install_batch = 0;
    r->install_waiting = true;
    replica_retry_install(r);
}

/* Raft did not want the snapshot that was received (it had the entries meanwhile). */
void replica_drop_unwanted_install(struct replica *r)
{
    struct raft_status s;
    raft_status(r->raft, &s);
    if (r->install_path != NULL && !s.installing) {
        r->world.remove_file(r->world.user, r->install_path);
        nb_free(r->install_path);
        r->install_path = NULL;
    }
}
