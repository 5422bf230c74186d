/*
 * raft: consensus on one log, as data in and data out.
 *
 * Everything of the Raft paper and thesis: pre-vote, check-quorum, leader transfer, learners, joint
 * consensus, read index, pipelined appends with flow control, snapshot fallback, a no-op on
 * election, conflict hints by term. There is no I/O, clock, thread or callback in here: events
 * change the core (a message, a tick, a proposal, a read, "persisted", "applied"), and raft_drain()
 * hands out what the world must now do. Same calls, same effects, to the byte.
 *
 * One turn of the caller:
 *
 *     raft_step / raft_tick / raft_propose / raft_read ...   any number of them
 *     raft_drain(r, &fx)                                      then, in any order:
 *         write fx.hard_state and fx.append as ONE durable write; when it (and all before it) is on
 *             disk, call raft_persisted(r, fx.sync)
 *         send fx.messages: at once, or, when marked after_sync, as soon as everything up to
 *             fx.sync is on disk
 *         apply the log up to fx.commit_index, then call raft_applied()
 *         answer fx.reads_ready when applied that far; fail fx.reads_failed
 *
 * What is in `fx` is borrowed until the next call on `r`. Proposals only append to the log; the
 * appends for followers are made in raft_drain, so one drain sends one batch to each follower.
 *
 * Asynchronous persistence: syncs may be many drains behind, but they complete in order. A leader
 * sends before its own sync ends and counts itself only once raft_persisted covers it
 * [thesis 10.2.1].
 *
 * Invariants (numbered; R1-R6 are asserted at the end of every event, in every build):
 *   R1  term, commit index, applied index and the compacted index never decrease
 *   R2  within a term, voted_for changes at most once, from none            [Raft 5.2]
 *   R3  compacted <= applied <= commit <= last index; applied <= durable <= handed out <= last
 *   R4  a leader's log is never cut; nobody cuts at or below commit          [Raft 5.3, 5.4]
 *   R5  for every peer of a leader: match < next <= last + 1
 *   R6  the configuration in force is that of the last conf entry of the log, or of the snapshot
 *       (so it takes effect when appended and is rolled back when cut); at most one is uncommitted
 */
#ifndef NABATA_RAFT_RAFT_H
#define NABATA_RAFT_RAFT_H

#include "base/arena.h"
#include "base/payload.h"
#include "base/status.h"

/* ---- the log ----------------------------------------------------------------------------------
 */

/* Where an entry stands. Index and term travel together, so they cannot be swapped. */
struct raft_entry_id {
    uint64_t index; /* the first entry of a new cluster is 1; 0 means "before the log" */
    uint64_t term;
};

enum raft_entry_kind {
    RAFT_ENTRY_COMMAND, /* for the layers above */
    RAFT_ENTRY_NOOP,    /* a new leader's first entry; no payload */
    RAFT_ENTRY_CONF,    /* a configuration, then the bytes its proposer attached */
    RAFT_ENTRY_KIND_COUNT
};

struct raft_entry {
    struct raft_entry_id id;
    enum raft_entry_kind kind;
    struct nb_payload *payload; /* counted; NULL for a no-op */
};

/* What must be on disk before anything is promised. Ids of members are never 0; voted_for 0 is
 * "nobody". */
struct raft_hard_state {
    uint64_t term;
    uint64_t voted_for;
    uint64_t commit_index; /* a lower bound, saved when something else is saved anyway */
};

/* ---- the configuration ------------------------------------------------------------------------
 */

enum {
    RAFT_MEMBER_COUNT_MAX = 32, /* distinct ids in one configuration */
};

/*
 * Who votes and who listens. Each array is sorted and free of duplicates. While `outgoing_count` is
 * not 0 the configuration is joint: majorities of `voters` and of `outgoing` are both needed.
 * learners_next holds outgoing voters that become learners when the joint phase is left.
 */
struct raft_conf {
    uint64_t voters[RAFT_MEMBER_COUNT_MAX];
    uint64_t outgoing[RAFT_MEMBER_COUNT_MAX];
    uint64_t learners[RAFT_MEMBER_COUNT_MAX];
    uint64_t learners_next[RAFT_MEMBER_COUNT_MAX];
    uint32_t voter_count, outgoing_count, learner_count, learner_next_count;
    bool auto_leave; /* the leader leaves the joint phase by itself once it is committed */
};

/* Label of a snapshot. What is in the snapshot is the caller's. */
struct raft_snapshot {
    struct raft_entry_id last; /* last entry it covers; {0, 0} is the start of a new cluster */
    struct raft_conf conf;     /* in force at `last` */
};

bool raft_conf_has_voter(const struct raft_conf *c, uint64_t id);  /* voters or outgoing */
bool raft_conf_has_member(const struct raft_conf *c, uint64_t id); /* any of the four */
bool raft_conf_equal(const struct raft_conf *a, const struct raft_conf *b);
/* Sorted, no duplicates, no id 0, no member both voter and learner, at most the maximum; an empty
 * configuration (of a member that has heard nothing yet) is well formed too. */
NB_MUST_USE bool raft_conf_well_formed(const struct raft_conf *c);

/* Appends the encoding. A conf entry's payload is this, followed by the attached bytes. */
void raft_conf_encode(const struct raft_conf *c, struct nb_buf *to);
/* Decodes the front of `from`; the rest (the attached bytes) goes to out_attached. NB_TRUNCATED,
 * NB_MALFORMED (which includes "not well formed"). */
NB_MUST_USE enum nb_status raft_conf_decode(struct nb_bytes from, struct raft_conf *out,
                                            struct nb_bytes *out_attached);

enum raft_conf_step_kind {
    RAFT_CONF_ADD_VOTER,   /* a new voter, or a learner promoted */
    RAFT_CONF_ADD_LEARNER, /* a new learner, or a voter demoted */
    RAFT_CONF_REMOVE,
    RAFT_CONF_STEP_KIND_COUNT
};

enum raft_conf_mode {
    RAFT_CONF_AUTO,   /* simple when at most one voter changes, else joint with auto leave */
    RAFT_CONF_SIMPLE, /* refused when more than one voter changes */
    RAFT_CONF_JOINT,  /* joint; the leader leaves by itself */
    RAFT_CONF_JOINT_EXPLICIT, /* joint; stays until RAFT_CONF_LEAVE */
    RAFT_CONF_LEAVE,          /* leaves the joint phase; no steps */
    RAFT_CONF_KEEP,           /* the same configuration; only what is attached is new; no steps */
};

struct raft_conf_change {
    enum raft_conf_mode mode;
    struct raft_conf_step {
        enum raft_conf_step_kind kind;
        uint64_t id;
    } steps[RAFT_MEMBER_COUNT_MAX];
    size_t step_count;
};

enum raft_conf_outcome {
    RAFT_CONF_ACCEPTED,
    RAFT_CONF_NOT_LEADER,
    RAFT_CONF_TRANSFERRING,     /* leadership is on its way to another member */
    RAFT_CONF_TERM_UNCOMMITTED, /* nothing of this leader's term is committed yet: try again [M01]
                                 */
    RAFT_CONF_IN_FLIGHT,        /* an earlier change is not committed yet [M02] */
    RAFT_CONF_IN_JOINT,         /* leave the joint phase first */
    RAFT_CONF_NOT_IN_JOINT,     /* nothing to leave */
    RAFT_CONF_NEEDS_JOINT,      /* more than one voter changes in a simple change */
    RAFT_CONF_NO_VOTER_LEFT,    /* [M07] */
    RAFT_CONF_ALREADY,          /* a step would change nothing: added twice */
    RAFT_CONF_NOT_A_MEMBER,     /* a step removes an unknown id */
    RAFT_CONF_TOO_MANY,         /* more than RAFT_MEMBER_COUNT_MAX */
    RAFT_CONF_INVALID,          /* id 0, one id in two steps, no steps */
    RAFT_CONF_OUTCOME_COUNT
};

/* The configuration that `change` makes of `from`; pure. Gives none of the outcomes that depend on
 * a leader's state. */
NB_MUST_USE enum raft_conf_outcome raft_conf_apply(const struct raft_conf *from,
                                                   const struct raft_conf_change *change,
                                                   struct raft_conf *out);

/* ---- messages ---------------------------------------------------------------------------------
 */

enum raft_msg_type {
    RAFT_MSG_APPEND,
    RAFT_MSG_APPEND_RESULT,
    RAFT_MSG_HEARTBEAT,
    RAFT_MSG_HEARTBEAT_RESULT,
    RAFT_MSG_PRE_VOTE,
    RAFT_MSG_PRE_VOTE_RESULT,
    RAFT_MSG_VOTE,
    RAFT_MSG_VOTE_RESULT,
    RAFT_MSG_SNAPSHOT,
    RAFT_MSG_TIMEOUT_NOW,
    RAFT_MSG_READ,
    RAFT_MSG_READ_RESULT,
    RAFT_MSG_PROPOSE,
    RAFT_MSG_REMOVED,
    RAFT_MSG_TYPE_COUNT
};

const char *raft_msg_type_name(enum raft_msg_type type);

/* Leader to follower: entries (perhaps none) that come right after `prev`. */
struct raft_append {
    struct raft_entry_id prev;
    uint64_t leader_commit;
    uint64_t read_round; /* not 0: also asks "am I still the leader?", as a heartbeat does */
    const struct raft_entry *entries;
    size_t entry_count;
};

struct raft_append_result {
    bool accepted;
    bool wants_snapshot;    /* refused: the sender holds no configuration, and the log has none of
                               the first members: only a snapshot says who they are */
    uint64_t matched_index; /* accepted: the follower's log equals the leader's up to here and is
                               durable up to here */
    uint64_t refused_index; /* refused: prev.index of the request */
    struct raft_entry_id hint; /* refused: where the logs may meet: the follower's last entry at or
                                  before prev whose term is not above prev.term */
};

struct raft_heartbeat {
    uint64_t commit_index; /* never above what the follower is known to hold */
    uint64_t read_round;
    bool full; /* the leader takes no proposals: its disk has no room */
};

struct raft_heartbeat_result {
    uint64_t read_round; /* echo */
    uint64_t
        received_index; /* matched with this leader, perhaps not durable: for flow control only */
};

/* Also for pre-votes, whose `term` is the one the sender would campaign in. */
struct raft_vote {
    struct raft_entry_id last;
    bool
        transfer; /* the old leader asked for this election: a live leader is no reason to refuse */
};

struct raft_vote_result {
    bool granted;
};

struct raft_read_request {
    uint64_t context; /* the follower's own number for a batch of reads */
};

struct raft_read_result {
    uint64_t context;
    uint64_t index;
};

struct raft_propose {
    const struct raft_entry *entries; /* kind and payload; ids are {0, 0} */
    size_t entry_count;
};

/* A leader tells a sender that is no member. Believed when the receiver knows it was a member. */
struct raft_removed {
    uint64_t commit_index;
};

struct raft_msg {
    enum raft_msg_type type;
    uint64_t from, to, term;
    union {
        struct raft_append append;
        struct raft_append_result append_result;
        struct raft_heartbeat heartbeat;
        struct raft_heartbeat_result heartbeat_result;
        struct raft_vote vote;               /* VOTE and PRE_VOTE */
        struct raft_vote_result vote_result; /* VOTE_RESULT and PRE_VOTE_RESULT */
        const struct raft_snapshot *snapshot;
        struct raft_read_request read;
        struct raft_read_result read_result;
        struct raft_propose propose;
        struct raft_removed removed;
    };
};

/* Appends the encoding, little-endian, without a length in front. */
void raft_msg_encode(const struct raft_msg *m, struct nb_buf *to);
/* Bytes raft_msg_encode would append. */
size_t raft_msg_encoded_size(const struct raft_msg *m);
/*
 * Decodes one whole message. Arrays come from `arena`; each payload is created with one reference
 * that is the message's: give it to raft_msg_release when the message has been stepped. On a
 * failure (NB_TRUNCATED, NB_MALFORMED) nothing is left to release. What comes out is fit for
 * raft_step: entries follow `prev` without gaps, terms rise and do not exceed the message's,
 * configurations are well formed, ids are not 0.
 */
NB_MUST_USE enum nb_status raft_msg_decode(struct nb_bytes from, struct raft_msg *out,
                                           struct nb_arena *arena);
/* Drops the payload references of a decoded message. */
void raft_msg_release(struct raft_msg *m);

/* ---- the core ---------------------------------------------------------------------------------
 */

struct raft; /* opaque; src/raft/internal.h for its tests */

enum raft_role {
    RAFT_FOLLOWER, /* learners and members that are in no configuration too */
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
    RAFT_ROLE_COUNT
};

const char *raft_role_name(enum raft_role role);

struct raft_config {
    uint64_t id;   /* own; not 0 */
    uint64_t seed; /* fresh entropy at every start: timeouts and read numbers hang on it */
    uint32_t election_timeout_ticks; /* a follower waits [1, 2) times this; > heartbeat_ticks */
    uint32_t heartbeat_ticks;        /* > 0 */
    uint32_t sync_timeout_ticks; /* a leader whose oldest write is not on disk after this resigns
                                    and nobody campaigns in that state [E12]; 0 is never */
    bool pre_vote;
    bool check_quorum; /* a leader that hears no majority for one election timeout resigns; with it,
                          and with pre_vote, members that hear a leader refuse to vote */
    bool forward_proposals;        /* followers send proposals to the leader; else DROPPED */
    size_t append_bytes_max;       /* payload bytes in one append; one entry always goes */
    size_t append_entry_count_max; /* entries in one append */
    size_t inflight_count_max;     /* appends in flight to one follower */
    size_t inflight_bytes_max;     /* payload bytes in flight to one follower */
    size_t uncommitted_bytes_max;  /* payload bytes a leader takes on ahead of commit */
    size_t read_count_max;         /* reads waiting */
};

/* Fills in what suits a cluster in one place: 10/1 ticks, everything on, 1 MiB appends. */
void raft_config_defaults(struct raft_config *config);

/* What a member starts from; all zero is a member that has heard nothing. */
struct raft_start {
    struct raft_hard_state hard;
    struct raft_snapshot snapshot; /* the log begins after it. A new cluster's first configuration
                                      is given as the conf of {0, 0}, the same on all members */
    const struct raft_entry *entries; /* durable; borrowed, payloads are acquired */
    size_t entry_count;
    uint64_t applied_index; /* of the state machine: in [snapshot, commit]; 0 is "snapshot" */
};

/*
 * NB_OK and a core (a follower), NB_INVALID for a configuration that makes no sense, NB_CORRUPT
 * when what is started from contradicts itself (commit or applied beyond the log, a gap, a term
 * that falls or exceeds the current one, a conf entry that does not decode) [R26].
 */
NB_MUST_USE enum nb_status raft_create(const struct raft_config *config,
                                       const struct raft_start *start, struct raft **out);
void raft_destroy(struct raft *r); /* NULL is fine */

/* -- events -- */

/* Time is a count of ticks. After a pause, deliver waiting messages before the missed ticks, and no
 * more ticks in one turn than the heartbeat interval [E09]. */
void raft_tick(struct raft *r);

/* `m` is borrowed for the call; it came from the member m->from of the same cluster, meant for
 * this boot of ours [M09 is the caller's]. Messages whose `to` is another member are ignored. Any
 * message that decodes is fit for this; one that no correct member could have sent (a second leader
 * of a term, a change of what is committed) ends the process by an assertion. */
void raft_step(struct raft *r, const struct raft_msg *m);

enum raft_outcome {
    RAFT_ACCEPTED,  /* in the leader's log; committed or not will show */
    RAFT_FORWARDED, /* will be sent to the leader; what becomes of it is unknown [R23] */
    RAFT_NO_LEADER, /* refused, no effect */
    RAFT_DROPPED,   /* refused, no effect: backlog full, leadership on its way, leader leaving */
};

/* Proposes `count` commands; payloads are acquired. All or none. When accepted, out_first (may be
 * NULL) is the place of the first; the others follow it. */
NB_MUST_USE enum raft_outcome raft_propose(struct raft *r, struct nb_payload *const *payloads,
                                           size_t count, struct raft_entry_id *out_first);

/* Proposes a change of configuration; leader only. `attached` is copied behind the encoded
 * configuration. out_id (may be NULL) is the entry's place. The entry that leaves a joint phase by
 * itself has nothing attached. */
NB_MUST_USE enum raft_conf_outcome raft_propose_conf(struct raft *r,
                                                     const struct raft_conf_change *change,
                                                     struct nb_bytes attached,
                                                     struct raft_entry_id *out_id);

/*
 * Asks for an index at or above everything acknowledged before this call. The answer is one of
 * fx.reads_ready and fx.reads_failed, with the same `context` (the caller's number, any value). On
 * a follower the reads of one drain travel to the leader as one. NO_LEADER and DROPPED: no answer
 * will come. There is no time limit in here but a change of leader: deadlines are the caller's.
 */
NB_MUST_USE enum raft_outcome raft_read(struct raft *r, uint64_t context);

/* Everything handed out in drains whose `sync` is at most this one is on disk. */
void raft_persisted(struct raft *r, uint64_t sync);

/* The state machine has applied up to `index`: not below the last call, not above fx.commit_index.
 */
void raft_applied(struct raft *r, uint64_t index);

/* Forgets entries up to `index` (not above applied; at or below what is forgotten already does
 * nothing). Followers that still need them will ask for a snapshot. */
void raft_compact(struct raft *r, uint64_t index);

enum raft_transfer_outcome {
    RAFT_TRANSFER_STARTED, /* also when it was under way to the same target */
    RAFT_TRANSFER_NOT_LEADER,
    RAFT_TRANSFER_BAD_TARGET, /* not a voter, or the leader itself */
};

/* Hands leadership to `target` once it holds the whole log. Proposals are DROPPED meanwhile; it is
 * given up after one election timeout [E08]. Success shows as another leader. */
NB_MUST_USE enum raft_transfer_outcome raft_transfer(struct raft *r, uint64_t target);

/* A peer can be reached, right after the start: most of the first election timeout is let pass.
 * Nothing happens when a leader is known. */
void raft_hurry_election(struct raft *r);

/* The connection to `id` ended, or `id` restarted. Flow control starts over; if it was the leader,
 * it is forgotten and the election timer is cut to a few random ticks. Liveness only. */
void raft_peer_lost(struct raft *r, uint64_t id);

/* A message to `id` was thrown away. */
void raft_peer_unreachable(struct raft *r, uint64_t id);

/* The stream asked for by fx.snapshot_peers ended. After `ok` the follower's answer is awaited for
 * two election timeouts, then it is asked for again [S07]. */
void raft_snapshot_sent(struct raft *r, uint64_t id, bool ok);

/*
 * The snapshot of fx.install has replaced state and log, durably: the log on disk now is empty and
 * begins after label->last. Entries of writes still under way belong to the log that is gone and
 * must not land in the new one; their hard states must, and raft_persisted for them is still due.
 * Between fx.has_install and this call nothing is to be applied; the label is that of fx.install.
 */
void raft_snapshot_installed(struct raft *r, const struct raft_snapshot *label);

/* Campaigns at once (with a pre-vote when configured). False when it may not: not a voter, leader
 * already, a snapshot is being installed, or the disk hangs. */
bool raft_campaign(struct raft *r);

/* Whether this member has room for more. A leader without refuses what others forward, and its
 * heartbeats say so: see raft_status.leader_full. [W13] */
void raft_set_full(struct raft *r, bool full);

/* A leader steps down (hung disk, shutdown); others do nothing. */
void raft_resign(struct raft *r);

/* -- effects -- */

struct raft_send {
    struct raft_msg msg;
    bool after_sync; /* such a message holds no pointers and may be kept by value */
};

struct raft_read_ready {
    uint64_t context;
    uint64_t index; /* answer when this is applied */
};

struct raft_effects {
    /* Make durable, as one write; hard state behind the entries if it must be two. */
    bool has_hard_state;
    struct raft_hard_state hard_state;
    const struct raft_entry *append; /* replaces everything in the log from its first index on */
    size_t append_count;
    uint64_t sync; /* number of the last drain that had something to make durable (rises by one with
                      each); 0 before the first */

    const struct raft_send *messages;
    size_t message_count;

    uint64_t commit_index; /* committed, and in the local log's durable part: apply up to here */

    const struct raft_read_ready *reads_ready;
    size_t read_ready_count;
    const uint64_t *reads_failed; /* contexts: the leader changed, ask again */
    size_t read_failed_count;

    const uint64_t *snapshot_peers; /* members that need a snapshot now: stream one, taken at or
                                       above first_index - 1, with raft_snapshot_msg, then report */
    size_t snapshot_peer_count;

    bool has_install; /* swap in the snapshot with this label, then raft_snapshot_installed */
    struct raft_snapshot install;

    const struct raft_entry *dropped; /* FORWARDED proposals that found no leader: never sent */
    size_t dropped_count;

    bool removed; /* a leader said that this member was removed from the cluster [E05] */
};

/* Hands over what the world must now do; valid until the next call on `r`. */
void raft_drain(struct raft *r, struct raft_effects *out);

/* False when a drain would have nothing in it. */
bool raft_has_effects(const struct raft *r);

/* The message that goes with a snapshot stream to `to`; `label` is borrowed by the message. The
 * receiver steps it when the content has arrived whole. */
struct raft_msg raft_snapshot_msg(const struct raft *r, uint64_t to,
                                  const struct raft_snapshot *label);

/* -- observers -- */

struct raft_status {
    uint64_t id;
    enum raft_role role;
    uint64_t term, voted_for;
    uint64_t leader_id; /* 0 when unknown */
    uint64_t commit_index, applied_index;
    uint64_t first_index; /* of the log in memory; last_index + 1 when it is empty */
    struct raft_entry_id last;
    uint64_t durable_index;   /* entries up to it are on disk */
    uint64_t conf_index;      /* of the configuration in force */
    uint64_t transfer_target; /* 0 when none */
    bool installing;          /* between fx.install and raft_snapshot_installed */
    bool term_committed;      /* a leader that has committed an entry of its term */
    bool leader_full; /* a follower: its leader said at its last heartbeat that it has no room */
};

void raft_status(const struct raft *r, struct raft_status *out);

enum raft_progress_state {
    RAFT_PROGRESS_PROBE,     /* one append at a time, until the logs meet */
    RAFT_PROGRESS_REPLICATE, /* a pipeline of appends */
    RAFT_PROGRESS_SNAPSHOT,  /* nothing, until the snapshot has arrived */
};

struct raft_progress {
    uint64_t id;
    uint64_t match_index, next_index;
    enum raft_progress_state state;
    bool recently_active;  /* heard from within an election timeout */
    uint64_t silent_ticks; /* since it was heard from; the leader itself: 0 */
    bool learner;
};

/* False when not leader, or no such peer. The leader itself: match is its durable index. */
NB_MUST_USE bool raft_progress_of(const struct raft *r, uint64_t id, struct raft_progress *out);

/* The configuration in force (borrowed until the next event). */
const struct raft_conf *raft_conf(const struct raft *r);
/* The configuration of the log prefix that ends at `index`: the one for the label of a snapshot at
 * `index`. False when `index` is compacted or beyond the log. */
NB_MUST_USE bool raft_conf_at(const struct raft *r, uint64_t index, struct raft_conf *out);

/* The entries [first, end) as one array, borrowed until the next event. NULL and 0 when any of them
 * is compacted or not there, or when the range is empty. */
const struct raft_entry *raft_entries(const struct raft *r, uint64_t first, uint64_t end,
                                      size_t *out_count);

enum raft_term_at {
    RAFT_TERM_KNOWN,     /* index 0 has term 0 */
    RAFT_TERM_COMPACTED, /* never counts as a match [R10] */
    RAFT_TERM_MISSING,   /* beyond the log */
};

/* The term of the entry at `index`; the last compacted entry's is known. */
NB_MUST_USE enum raft_term_at raft_term_at(const struct raft *r, uint64_t index,
                                           uint64_t *out_term);

#endif
