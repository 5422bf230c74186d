/*
 * replica/internal: the struct behind `struct replica`, and what its files call of each other. Each
 * file has one noun: proposals, reads, log, apply, members, commit (of the backend), snapshots,
 * start; replica.c has the turn and time.
 */
#ifndef NABATA_REPLICA_INTERNAL_H
#define NABATA_REPLICA_INTERNAL_H

#include "replica/replica.h"
#include "replica/requests.h"

/* A message that waits for the disk. [P1] */
struct replica_held_message {
    struct raft_msg msg; /* holds no pointers */
    uint64_t batch;      /* of the log: durable when wal_durable() reaches it */
};

/* Which batch of the log carries which of raft's syncs. */
struct replica_sync_point {
    uint64_t sync, batch;
    uint64_t begun_ns;
};

/* Ring of plain structs: pushed at the end, taken at the front. */
struct replica_sync_queue {
    struct replica_sync_point *items; /* owned */
    size_t first, count, capacity;
};

struct replica_read_list {
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
    struct replica_read_list reads_queued;  /* wait for a round to begin */
    struct replica_read_list reads_asked;   /* in the round under way */
    struct replica_read_list reads_indexed; /* wait until read_index is applied */
    uint64_t read_context;                  /* of the round under way; 0: none */
    uint64_t read_context_last;             /* never used twice */
    uint64_t read_index;
    uint64_t read_asked_ns;

    uint64_t offered_term, offered_leader; /* whom all under way was offered to; 0: nobody */
    uint64_t offer_again_ns; /* when all is offered again, as some was thrown away; 0: not */
    bool peer_seen;          /* see replica_peer_up */
    /* Proposals that found no leader: tried again when one is there. */
    struct nb_payload **waiting; /* owned, with a reference each */
    size_t waiting_count, waiting_capacity;

    struct replica_held_message *held; /* owned; in order of batch */
    size_t held_first, held_count, held_capacity;
    struct replica_sync_queue syncs;
    uint64_t batch_last;    /* newest batch with something of raft's in it */
    uint64_t batch_flushed; /* newest one that was handed to the disk with wal_flush */

    uint64_t commit_index;
    uint64_t caught_up_index; /* commit index at the start */
    uint64_t batch_sealed;    /* number of the last backend batch handed over */
    uint64_t batch_sealed_index;
    uint64_t batch_reaped;
    uint64_t sealed_generation, reaped_generation; /* see replica_commit_wanted */
    uint64_t last_commit_ns;
    uint64_t seal_begun_ns;
    uint64_t compact_next_ns, compact_begun_ns; /* begun 0: no removal under way */
    uint64_t copy_begun_ns;
    uint64_t ticked_ns; /* as the leader; 0: not yet */

    uint64_t snapshot_peers[RAFT_MEMBER_COUNT_MAX]; /* that wait for the copy being made */
    size_t snapshot_peer_count;
    bool copying;
    char *copy_path; /* owned; the copy being made or sent; NULL: none */
    size_t copy_users;
    struct raft_snapshot copy_label;
    uint64_t kept_from; /* least index of a copy that somebody is yet to install */
    uint64_t copy_count;

    char *install_path; /* owned: received and verified, until raft asks for it */
    /* An install that found the disk full; a tick goes on with it. [W13] */
    bool install_waiting;
    struct raft_snapshot install_label;
    uint64_t install_batch; /* of the log, with its mark; 0: the backend is the old one */

    struct replica_request *change; /* of members, under way; NULL: none */
    struct raft_entry_id change_id;
    bool change_early; /* done when it is durable: a second voter that is yet to start */
    bool change_applied, change_lost; /* its entry came to pass, or another in its place */
    bool told_removed;

    struct replica_timings timings;
    uint64_t handed[RAFT_MEMBER_COUNT_MAX]; /* that were asked to lead instead of this one */
    size_t handed_count;                    /* 0: nobody, this one stays */
    uint32_t handed_ticks;                  /* since the last of them */
    uint64_t leader_seen;
    uint64_t leader_change_count, proposal_failed_count, read_failed_count;
    bool disk_full;    /* of the log or the backend */
    bool backend_full; /* its last commit found no room */
    bool failed;       /* the world was told that this is the end */
};

/* -- replica.c -- */

uint64_t replica_now(const struct replica *r);
void replica_fail(struct replica *r, enum nb_status status, const char *text);
bool replica_is_choked(const struct replica *r);
/* -- reads.c -- */

void replica_reads_init(struct replica_read_list *l);
void replica_reads_finish(struct replica_read_list *l, enum nb_status status);
/* -- proposals.c -- */

/* The request under way with this id, which is not under way any more; NULL when there is none. */
struct replica_request *replica_take_proposal(struct replica *r, uint64_t id);
void replica_park(struct replica *r, struct nb_payload *payload);
/* Those that found no leader before. Several turns may pass without one: nothing is lost but time.
 */
void replica_offer_waiting(struct replica *r);
/* Without a leader for long, what timed out must not pile up. They lie in the order they came.
 * [Z03] */
void replica_forget_timed_out(struct replica *r);
size_t replica_request_count(const struct replica *r);
/* -- reads.c -- */

/* One round at a time; what comes meanwhile shares the next one. [Q03] */
void replica_begin_read_round(struct replica *r);
void replica_requeue_asked(struct replica *r);
void replica_take_reads(struct replica *r, const struct raft_effects *fx);
void replica_answer_reads(struct replica *r);
/* -- log.c -- */

void replica_hold(struct replica *r, const struct raft_msg *msg, uint64_t batch);
/* What the disk now holds lets messages go and counts for the quorum. */
void replica_take_durable(struct replica *r);
void replica_check_log(struct replica *r);
void replica_append_to_log(struct replica *r, const struct raft_effects *fx);
void replica_flush_log(struct replica *r);
/* -- apply.c -- */

/* Applies what is committed, a bounded piece. */
void replica_apply(struct replica *r);
/* A proposal whose time is over; it is still among those under way. */
void replica_count_timeout(struct replica *r, const struct replica_request *request,
                           uint64_t now_ns);
/* -- members.c -- */

/* A CONF entry was applied. */
void replica_conf_applied(struct replica *r, struct raft_entry_id id);
/* Ends the change under way when it can be said how. */
void replica_finish_change(struct replica *r);
void replica_expire_change(struct replica *r, uint64_t now_ns, enum nb_status status);
/* -- commit.c -- */

/* One batch under way at a time: the next one gathers what comes meanwhile. */
void replica_commit_backend(struct replica *r);
void replica_wait_backend(struct replica *r);
/* Superfluous history goes in small steps with pauses, so that it starves nobody. [C08] */
void replica_compact_history(struct replica *r);
/* -- snapshots.c -- */

void replica_want_snapshots(struct replica *r, const struct raft_effects *fx);
/* Entries behind this index may be needed by who is yet to install a copy; UINT64_MAX: nobody is.
 * [S08] */
uint64_t replica_kept_from(const struct replica *r);
/* Order, so that a crash anywhere restarts cleanly [S01, S03]: the world notes that an install is
 * on its way; the backend takes the file; the log gets its mark; the note goes away. */
void replica_install(struct replica *r, const struct raft_snapshot *label);
/* Goes on with an install that found the disk full. */
void replica_retry_install(struct replica *r);
/* Raft did not want the snapshot that was received (it had the entries meanwhile). */
void replica_drop_unwanted_install(struct replica *r);

#endif
