/*
 * raft/internal: what the files of the core share, and what its tests may look at. No other room
 * includes it.
 *
 *   raft.c       life, the table of messages, ticks, drain, check_step
 *   election.c   roles, campaigns, votes, transfer            [Raft 5.2, 5.4.1; thesis 3.10, 9.6]
 *   follower.c   appends, heartbeats and snapshots received   [Raft fig. 2; 7]
 *   leader.c     appends sent, their results, commit          [Raft 5.3, 5.4.2; thesis 10.2]
 *   read.c       read index                                   [thesis 6.4]
 *   members.c    the configuration in force, and its changes  [thesis 4]
 *   log.c conf.c msg.c   the log; configurations as values; the wire
 */
#ifndef NABATA_RAFT_INTERNAL_H
#define NABATA_RAFT_INTERNAL_H

#include "base/random.h"
#include "raft/fault.h"
#include "raft/log.h"
#include "raft/raft.h"

/* Peers have slots in one array; a set of peers is a mask of slots. Besides the members there are
 * those that were just removed, which the leader still tells of it. */
enum { RAFT_PEER_COUNT_MAX = 2 * RAFT_MEMBER_COUNT_MAX };

struct raft_peer {
    uint64_t id;
    uint64_t match, next; /* as leader; of the leader itself match is the durable index */
    enum raft_progress_state state;
    bool probe_sent;           /* PROBE: wait for an answer or a heartbeat's */
    bool wants_snapshot;       /* it said so, and none was begun since */
    uint64_t commit_sent;      /* highest leader_commit in an append */
    uint64_t round_sent;       /* read rounds */
    uint64_t round_acked;      /* of this term */
    uint64_t active_tick;      /* last heard from */
    uint64_t progress_tick;    /* match grew, or the pipeline was empty */
    uint64_t snapshot_expires; /* SNAPSHOT: tick at which to ask again; 0 while it is streamed */
    uint64_t removed_index;    /* not 0: removed by the entry at this index */
    uint64_t removed_expires;  /* tick after which it is told nothing more; 0 until committed */
    uint64_t *inflight;        /* ring of last indexes of appends; owned; NULL until used */
    size_t inflight_head, inflight_count;
};

/* The configurations along the log: record 0 is that of the compacted prefix. */
struct raft_conf_record {
    uint64_t index;
    struct raft_conf conf;
};

/* One outstanding durable write. */
struct raft_sync {
    uint64_t sync;
    uint64_t last_index; /* lowered by every cut, so that a late end cannot mark what came after */
    uint64_t tick;       /* when it was handed out */
};

/* A read that waits. On a leader `round` is the confirmation round, on a follower the batch that
 * was sent; 0 is "none yet". */
struct raft_pending_read {
    uint64_t context;
    uint64_t from; /* 0: local; else the follower that asks */
    uint64_t index;
    uint64_t round;
};

/* What a drain hands out. Two of them: one fills while the other is on loan. */
struct raft_out {
    struct raft_send *sends;
    size_t send_count, send_capacity;
    struct raft_read_ready *ready;
    size_t ready_count, ready_capacity;
    uint64_t *failed;
    size_t failed_count, failed_capacity;
    uint64_t *snapshot_peers;
    size_t snapshot_peer_count, snapshot_peer_capacity;
    struct raft_entry *forward; /* proposals for the leader; payloads held until the loan ends */
    size_t forward_count, forward_capacity;
    size_t forward_bytes; /* bounded as a leader's backlog is */
    bool has_install, removed;
};

/* What check_step compares with. */
struct raft_mark {
    uint64_t term, voted_for, commit_index, applied_index, compacted_index, last_index;
    enum raft_role role;
};

struct raft {
    struct raft_config config;
    struct nb_random random;
    uint64_t now; /* ticks since the start */

    uint64_t term, voted_for;
    struct raft_log log;
    uint64_t commit_index, applied_index;

    enum raft_role role;
    uint64_t leader_id; /* 0 is none */
    uint32_t election_elapsed, election_timeout, heartbeat_elapsed;

    /* persistence */
    struct raft_hard_state handed_hard; /* last handed out */
    uint64_t handed_index;              /* entries up to it were handed out */
    uint64_t durable_index;
    uint64_t sync; /* number of the last handed out */
    struct raft_sync *syncs;
    size_t sync_head, sync_count, sync_capacity;

    /* configuration and peers */
    struct raft_conf_record *confs; /* owned; rising index */
    size_t conf_count, conf_capacity;
    struct raft_peer *peers; /* owned; rising id, at most RAFT_PEER_COUNT_MAX */
    size_t peer_count, peer_capacity;
    uint64_t voters, outgoing, learners; /* masks of slots */

    /* candidate */
    uint64_t granted, rejected; /* masks */
    uint64_t vote_sync;         /* the sync that makes the own vote durable; 0 before it is known */
    bool self_voted;
    bool transfer_campaign; /* the running campaign was ordered by the old leader */
    bool full, leader_full; /* see raft_set_full */

    /* leader */
    bool term_committed;
    bool leaving; /* committed its own removal: steps down in this drain */
    uint64_t transfer_target;
    uint32_t transfer_elapsed;
    bool transfer_sent;

    /* follower */
    uint64_t received_index; /* matched with the leader of this term */
    bool installing;         /* fx.install is out */
    struct raft_snapshot install;

    /* reads */
    struct raft_pending_read *reads;
    size_t read_head, read_count, read_capacity;
    uint64_t read_round; /* leader: last round; follower: last batch */

    struct raft_out outs[2];
    unsigned filling; /* which of the two */
    bool dirty;       /* something happened since the last drain */
};

static inline uint64_t raft_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t raft_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline struct raft_out *raft_out(struct raft *r)
{
    return &r->outs[r->filling];
}

/* raft.c */
/* Queues a message; from and term are filled in (term only when it is 0). */
void raft_send_now(struct raft *r, struct raft_msg m);
void raft_send_after_sync(struct raft *r, struct raft_msg m);
void raft_check_log(const struct raft *r); /* whole structures; slow, for tests */

/* election.c */
void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader_id);
void raft_election_reset_timer(struct raft *r);
bool raft_election_may_campaign(const struct raft *r);
void raft_election_campaign(struct raft *r, bool pre_vote, bool transfer);
void raft_election_on_vote(struct raft *r, const struct raft_msg *m);
void raft_election_on_vote_result(struct raft *r, const struct raft_msg *m);
void raft_election_on_timeout_now(struct raft *r, const struct raft_msg *m);
void raft_election_on_removed(struct raft *r, const struct raft_msg *m);
void raft_election_persisted(struct raft *r);
bool raft_election_hears_leader(const struct raft *r);
bool raft_election_disk_hangs(const struct raft *r);

/* follower.c */
void raft_follower_on_append(struct raft *r, const struct raft_msg *m);
void raft_follower_on_heartbeat(struct raft *r, const struct raft_msg *m);
void raft_follower_on_snapshot(struct raft *r, const struct raft_msg *m);
void raft_follower_commit_to(struct raft *r, uint64_t index);

/* leader.c */
void raft_leader_append(struct raft *r, enum raft_entry_kind kind, struct nb_payload *payload);
void raft_leader_begin(struct raft *r);
void raft_leader_tick(struct raft *r);
void raft_leader_on_append_result(struct raft *r, const struct raft_msg *m);
void raft_leader_on_heartbeat_result(struct raft *r, const struct raft_msg *m);
void raft_leader_on_propose(struct raft *r, const struct raft_msg *m);
void raft_leader_maybe_commit(struct raft *r);
void raft_leader_maybe_transfer(struct raft *r);
void raft_leader_flush(struct raft *r);
void raft_leader_probe(struct raft *r, struct raft_peer *p);
bool raft_leader_active(const struct raft *r, const struct raft_peer *p);

/* read.c */
void raft_read_fail_all(struct raft *r);
void raft_read_tick(struct raft *r); /* follower: asks again */
void raft_read_flush(struct raft *r);
uint64_t
raft_read_asked(const struct raft *r); /* leader: the newest round that is waited for, or 0 */
void raft_read_confirm(struct raft *r);
void raft_read_on_request(struct raft *r, const struct raft_msg *m);
void raft_read_on_result(struct raft *r, const struct raft_msg *m);

/* members.c */
/* `e`, a conf entry, was appended. */
void raft_members_appended(struct raft *r, const struct raft_entry *e);
void raft_members_cut(struct raft *r, uint64_t first);
void raft_members_compact(struct raft *r, uint64_t index);
void raft_members_reset(struct raft *r, uint64_t index, const struct raft_conf *conf);
/* The leader's duties when commit has moved. */
void raft_members_committed(struct raft *r);
const struct raft_conf_record *raft_members_in_force(const struct raft *r);
struct raft_peer *raft_members_peer(struct raft *r, uint64_t id); /* NULL when unknown */
/* Whether the slots in `mask` are a majority of each set of voters. */
bool raft_members_quorum(const struct raft *r, uint64_t mask);
/* Whether they are so many that the others cannot be a majority. */
bool raft_members_blocked(const struct raft *r, uint64_t rejected);

static inline uint64_t raft_slot_bit(const struct raft *r, const struct raft_peer *p)
{
    return UINT64_C(1) << (unsigned)(p - r->peers);
}

#endif
