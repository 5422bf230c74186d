/*
 * replica: one member of the group; the only place where raft, storage and machine meet.
 *
 * Written against a world, never against the system: `struct replica_world` gives time and carries
 * messages, `struct wal` (over a disk) and `struct backend` keep what must last. server/ supplies
 * the real ones, tests and the simulator theirs. Everything here runs on one thread.
 *
 * A turn of the caller's loop:
 *
 *     replica_step (messages of peers), replica_propose, replica_read (requests of clients),
 *     replica_disk_ready (writes of the log ended), replica_backend_ready ... any number of them
 *     replica_turn(r), once: sends, writes, applies and answers whatever they made possible
 *
 * Invariants:
 *   P1  a message that promises something leaves only when all that was handed out before it is on
 *       disk [R03]; appends of a leader leave at once [thesis 10.2.1]
 *   P2  entries are applied once, in order, without a gap [R19]; a request is answered after it was
 *       applied here [R24]
 *   P3  every request gets exactly one `done`, with a definite error only if it had no effect [R23]
 *   P4  the backend never holds what the log on disk does not: it is filled by applying, and only
 *       what is committed and durable here is applied
 *   P5  the log is kept until the backend holds its effects durably [S01, W16]
 */
#ifndef NABATA_REPLICA_REPLICA_H
#define NABATA_REPLICA_REPLICA_H

#include "base/histogram.h"
#include "base/log.h"
#include "machine/machine.h"
#include "raft/raft.h"
#include "storage/backend.h"
#include "storage/wal.h"

struct replica;

/* What a replica needs of the world. None may call back into the replica. */
struct replica_world {
    void *user;
    uint64_t (*now_ns)(void *user); /* monotonic */
    /* Sends, or drops: Raft does not mind. The message is borrowed for the call. It may arrive
     * late, out of order, twice or not at all. */
    void (*send)(void *user, const struct raft_msg *msg);
    /* Streams the file at `path` with `announce` behind it (borrowed), then calls
     * replica_snapshot_sent; the file is the replica's and goes away after that. */
    void (*send_snapshot)(void *user, uint64_t to, const char *path,
                          const struct raft_msg *announce);
    /* There is more to do than one turn took: have another soon. */
    void (*wake)(void *user);
    /* Something that ends the process: a failed sync, a full disk, damage. `text` says what, where
     * and what to do. After it the replica acknowledges nothing more. [W05] */
    void (*fatal)(void *user, enum nb_status status, const char *text);

    /* Blocks until a write of the log has ended (disk_wait): while a snapshot is installed, which
     * is rare and has nothing to do meanwhile. */
    void (*wait_disk)(void *user);
    /* Notes durably that a snapshot up to `index` is being installed; 0 removes the note. A restart
     * that finds it knows why the backend is ahead of the log. */
    enum nb_status (*note_install)(void *user, uint64_t index);
    /* Label of a file that backend_copy made (its meta is not wanted). */
    enum nb_status (*inspect_copy)(void *user, const char *path, struct backend_label *out,
                                   struct nb_buf *error);
    /* Removes a copy or a received snapshot that is not wanted any more. It may be gone already. */
    void (*remove_file)(void *user, const char *path);
};

struct replica_config {
    uint64_t cluster_id, member_id;
    uint64_t boot_id; /* fresh entropy; seeds timeouts, read rounds and request ids */
    uint32_t tick_ms; /* real time of one raft tick */
    uint32_t heartbeat_ticks, election_ticks;
    bool pre_vote;
    bool initial_election_tick_advance; /* see replica_peer_up */
    uint64_t request_timeout_ns;        /* of a proposal or read; etcd: 5 s + 2 election timeouts */
    uint64_t snapshot_catchup_entry_count; /* entries kept behind for slow followers */
    size_t snapshot_catchup_bytes_max;     /* ... as long as they take no more than this */
    uint64_t commit_interval_ns;           /* of the backend; 100 ms */
    size_t commit_bytes_max;               /* commit earlier when this much waits */
    size_t request_count_max;              /* proposals and reads under way; more are refused */
    size_t request_bytes_max;              /* one proposal */
    size_t proposal_bytes_max;             /* all proposals under way; more are refused */
    unsigned compaction_batch_limit;       /* keys looked at a step */
    uint64_t compaction_sleep_ns;          /* between steps */
    uint64_t read_retry_ns;      /* a read round without an answer is asked again; 500 ms */
    uint64_t slow_apply_ns;      /* an entry that takes longer is counted and logged; 0: never */
    const char *snapshot_dir;    /* borrowed: where copies for lagging members are made */
    const struct nb_logger *log; /* borrowed */
};

/*
 * A request under way, embedded in the caller's own record. The replica holds it from a successful
 * replica_propose or replica_read until `done`, which may free it. `result` is NULL unless a
 * proposal was applied; it is borrowed for the call. `done` may be called from within a turn, so it
 * must not call the replica but for its observers: what it wants to ask next, it asks after the
 * turn.
 *
 * What the status says of a proposal: NB_OK it was applied, and `result` is its outcome; anything
 * else (a timeout, NB_STOPPED) is "unknown": it may have an effect, now or later [R23].
 */
struct replica_request {
    void (*done)(struct replica_request *request, enum nb_status status,
                 const struct machine_result *result);
    uint64_t id;                  /* the replica's */
    uint64_t begun_ns;            /* the replica's */
    size_t bytes;                 /* the replica's: of the payload of a proposal */
    struct nb_payload *payload;   /* the replica's: of a proposal, to be offered again */
    struct replica_request *next; /* the replica's */
};

/*
 * Starts from what the log and the backend hold. `machine` is restored from `backend`; `recovered`
 * is what wal_open gave (borrowed). NB_CORRUPT with words in `error` when they contradict each
 * other: a commit index beyond the log [R26], a gap between backend and log.
 */
struct replica_parts {
    struct wal *wal;                       /* borrowed, as all of these */
    const struct wal_recovered *recovered; /* only for the call */
    struct backend *backend;
    struct machine *machine;
    uint64_t install_noted; /* what note_install left behind; 0: nothing */
};

NB_MUST_USE enum nb_status replica_create(const struct replica_config *config,
                                          const struct replica_world *world,
                                          const struct replica_parts *parts, struct replica **out,
                                          struct nb_buf *error);
/* Every request under way is done with NB_STOPPED. Commits nothing: call replica_flush before. */
void replica_destroy(struct replica *r);

/* -- events -- */

void replica_tick(struct replica *r); /* every tick_ms */
void replica_step(struct replica *r, const struct raft_msg *msg);
/* A connection to this peer is there. The first one after the start lets most of the first election
 * timeout pass at once: whoever leads would be heard within the rest of it. [E13] */
void replica_peer_up(struct replica *r, uint64_t id);
void replica_peer_lost(struct replica *r, uint64_t id);        /* its connection ended */
void replica_peer_unreachable(struct replica *r, uint64_t id); /* a message to it was dropped */
void replica_snapshot_sent(struct replica *r, uint64_t to, bool ok);
/* The whole content of the snapshot announced by `msg` is in the file at `path`, verified and
 * synced; the replica takes the file over (moves or removes it). */
void replica_snapshot_received(struct replica *r, const char *path, const struct raft_msg *msg);
void replica_disk_ready(struct replica *r);    /* the disk's completion descriptor is readable */
void replica_backend_ready(struct replica *r); /* the backend's */
void replica_turn(struct replica *r);

/* -- requests -- */

/*
 * Proposes a command. On NB_OK the request is under way; anything else is a refusal without effect
 * (NB_TOO_LARGE, NB_TOO_MANY_REQUESTS, NB_NO_SPACE, NB_STOPPED) and `done` will not be called.
 * Without a leader the proposal waits for one until the request times out; to each new leader, and
 * to the same one after what was on its way to it may be lost, all that is under way is offered
 * again, and the machine applies it once. [R22]
 */
NB_MUST_USE enum nb_status replica_propose(struct replica *r, enum machine_kind kind,
                                           struct nb_bytes command,
                                           struct replica_request *request);
/* Linearizable read: `done(NB_OK)` comes when the machine here holds everything acknowledged
 * anywhere before this call; the caller then reads the machine. Reads of one turn share a round
 * [Q03]. */
NB_MUST_USE enum nb_status replica_read(struct replica *r, struct replica_request *request);

enum nb_status replica_transfer(struct replica *r, uint64_t target);
/*
 * Hands leadership to another voter, if this is a leader and there is one: to the most caught-up of
 * those heard from lately. One that has not taken over within a quarter of an election timeout may
 * be cut off: then the next one is asked, each once. True when one was asked; leadership is still
 * here, and nobody is left to ask, when replica_hands_over says false. [E08, K10]
 */
bool replica_hand_over(struct replica *r);
bool replica_hands_over(const struct replica *r);

/* -- members -- */

/*
 * Leader only: the members are `target` (borrowed for the call; the whole set: ids, peer URLs,
 * learner marks, and the names and client URLs of new ones) from now on. What the set differs in
 * decides how: one voter or any learners in one step, more voters through a joint phase that is
 * left by itself, URLs alone without touching who votes [M11]. One change at a time [M02].
 *
 * NB_OK: under way. `done(NB_OK)` comes when the final configuration is in force, committed and
 * applied here and not joint; `done(NB_LEADER_CHANGED)` when another leader's entry took the place
 * of this one: no effect; a timeout says "unknown", as for proposals. Only when the one voter there
 * is takes in a second one that is no learner yet, it comes when the change is durable here: nobody
 * can lead without it from then on, and nothing commits before the new one is there.
 *
 * Refusals without effect: NB_NOT_LEADER; NB_BUSY (another change is under way or not applied here
 * yet, leadership is on its way elsewhere, or nothing of this term is committed yet [M01]);
 * NB_INVALID (no voter left [M07], too many members, an id that was removed before [M08], a member
 * without id or twice, nothing that changes); NB_STOPPED.
 */
NB_MUST_USE enum nb_status replica_change_members(struct replica *r,
                                                  const struct machine_members *target,
                                                  struct replica_request *request);

/* A change could begin now: leader, nothing under way, the configuration in force is applied. */
bool replica_can_change_members(const struct replica *r);

struct replica_progress {
    uint64_t match_index; /* what the member holds durably; of the leader itself too */
    bool active;          /* heard from within an election timeout; the leader itself: always */
    bool snapshot;        /* a snapshot is being sent to it */
    bool learner;
};

/* False when not leader, or `id` is in no configuration. */
NB_MUST_USE bool replica_progress(const struct replica *r, uint64_t id,
                                  struct replica_progress *out);

/* This member's own removal is applied here and no configuration holds it any more, or a leader
 * said that it was removed [E05]. Once true it stays so: the world lets it end, soon. */
bool replica_is_removed(const struct replica *r);

/*
 * Everybody there may be something to say to: the members as applied, and those of a configuration
 * in the log that is not applied yet; without the new ones' answers it never would be. `out` is
 * filled (deinit it before, and after use).
 */
void replica_known_members(const struct replica *r, struct machine_members *out);
/* Changes whenever replica_known_members may say something else. */
uint64_t replica_members_version(const struct replica *r);

/* -- the end -- */

/* Commits to the backend what is applied, and waits for it. For an orderly stop. */
void replica_flush(struct replica *r);

/* -- observers -- */

struct replica_status {
    struct raft_status raft;
    bool is_learner;
    uint64_t backend_index; /* applied and durable in the backend */
    uint64_t pending_count; /* requests under way */
    uint64_t leader_change_count;
    uint64_t proposal_failed_count;
    uint64_t read_failed_count;
    uint64_t db_allocated_bytes, db_used_bytes; /* of the backend's file */
    uint64_t stalled_ns; /* how long the oldest write of the log has been waiting; 0: none */
    bool installing;     /* a received snapshot takes the backend's place */
};

void replica_status(const struct replica *r, struct replica_status *out);

struct replica_timings {
    struct nb_histogram log_sync;            /* from append to durable */
    struct nb_histogram log_write;           /* handing what a turn appended to the disk */
    struct nb_histogram backend_commit;      /* from seal to committed */
    struct nb_histogram backend_copy;        /* a copy for lagging members */
    struct nb_histogram compaction_pause_ms; /* one step of a removal, which holds up all else */
    struct nb_histogram compaction_ms;       /* a removal, from its first step to its last */
    /* By machine_kind (0: none that is known) and success (0: failed, 1: good): applying an entry
     * and answering its client, and a proposal of this member from begin to answer. */
    struct replica_kind_timings {
        struct nb_histogram apply[2], request[2];
    } kinds[MACHINE_KIND_END];
    uint64_t log_bytes;            /* payload bytes appended */
    uint64_t slow_apply_count;     /* longer than slow_apply_ns */
    uint64_t slow_read_count;      /* rounds that were asked again after read_retry_ns */
    uint64_t late_heartbeat_count; /* of a leader: ticks twice a heartbeat apart, times members */
    uint64_t compaction_end_ns;    /* of the last removal, on the world's clock; 0: none yet */
};

/* Valid until the replica is destroyed; the numbers move on. */
const struct replica_timings *replica_timings(const struct replica *r);
struct machine *replica_machine(struct replica *r);
struct raft *replica_raft(struct replica *r);
struct backend *replica_backend(struct replica *r);
bool replica_is_learner(const struct replica *r);
uint64_t replica_leader(const struct replica *r); /* 0: none known */
/* Proposals that wait for a leader. */
size_t replica_waiting_count(const struct replica *r);
uint64_t replica_term(const struct replica *r);
/* The disk here or the leader's has no room: what is proposed now would wait for it, so refuse it
 * before: a definite answer, since nobody has heard of it. [W13] */
bool replica_disk_is_full(const struct replica *r);
/* A number for "all that is applied so far", and whether the backend holds that much durably. */
uint64_t replica_commit_wanted(struct replica *r);
bool replica_commit_done(const struct replica *r, uint64_t wanted);
/* True once everything this member knew to be committed when it started is applied [Q10]. */
bool replica_caught_up(const struct replica *r);

#endif
