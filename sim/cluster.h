/*
 * sim/cluster: everything a run consists of, and the calls between its parts.
 *
 * The scheduler (run.c, member.c, network.c, nemesis.c, client.c) makes things happen; the checkers
 * (check.c, model.c) are told of them and touch nothing. A broken rule ends the run.
 */
#ifndef NABATA_SIM_CLUSTER_H
#define NABATA_SIM_CLUSTER_H

#include "replica/replica.h"
#include "sim/events.h"
#include "sim/model.h"
#include "sim/sim.h"
#include "storage/backend_memory.h"
#include "storage/disk_memory.h"

enum {
    SIM_FOUNDER_COUNT_MAX = 5,
    SIM_MEMBER_COUNT_MAX = 8, /* with those that join later */
    SIM_CLIENT_COUNT_MAX = 16,
    SIM_TICK_MS = 100,
    SIM_ELECTION_TICKS = 10,
    SIM_HEARTBEAT_TICKS = 1,
};

#define SIM_US UINT64_C(1000)
#define SIM_MS UINT64_C(1000000)
#define SIM_SECOND UINT64_C(1000000000)
#define SIM_ELECTION_NS ((uint64_t)SIM_TICK_MS * SIM_ELECTION_TICKS * SIM_MS)

struct sim;

/* ---- a member ---- */

struct sim_member {
    struct sim *sim;
    unsigned place; /* 0 .. */
    uint64_t id;
    struct disk *disk;                  /* owned; outlives the process */
    struct disk *wal_disk;              /* `disk`, or owned: the one that lies */
    struct backend_memory_store *store; /* owned; outlives the process */
    uint64_t boot;                      /* rises with every start */
    bool alive;                         /* the process runs */
    bool begun;                         /* has started once */
    bool doomed;                        /* stays down for good */
    bool joins;                         /* was no founder: begins with nothing */
    bool removed;                       /* knows that it was removed, and has ended */
    bool failed;                        /* said that this is the end */
    char last_words[128];               /* and why, the last time */
    uint64_t paused_until_ns;
    unsigned ticks_missed;
    uint64_t clock_offset_ns; /* monotonic clocks begin anywhere */
    struct wal *wal;          /* these are owned, and only there while alive */
    struct wal_recovered recovered;
    struct backend *backend;
    struct machine *machine;
    struct replica *replica;
    bool turn_due, disk_due;
    uint64_t disk_delay_max_ns, disk_stuck_until_ns, backend_stuck_until_ns;
    unsigned received_count; /* snapshots */
};

void sim_member_init(struct sim *s, unsigned place);
void sim_member_deinit(struct sim_member *m);
/* Starts the process; when that fails (an injected failure) it stays down. */
void sim_member_start(struct sim_member *m);
/* Ends the process; with `power` lost too, what was not synced may be gone. */
void sim_member_stop(struct sim_member *m, bool power_lost);
/* Ends it, and plans the next start. */
void sim_member_crash(struct sim_member *m, bool power_lost, uint64_t down_ns);
/* After everything that happened to a member: plans the turn and the disk's next completion. */
void sim_member_settle(struct sim_member *m);
void sim_member_event(struct sim_member *m, struct sim_event *event);
uint64_t sim_member_applied(const struct sim_member *m);
struct sim_member *sim_member_of_id(struct sim *s, uint64_t id);

/* A disk that says "durable" too early, over `below` (borrowed). [T01] */
struct disk *sim_lying_disk_create(struct disk *below);

/* ---- the network ---- */

struct sim_network {
    bool cut[SIM_MEMBER_COUNT_MAX][SIM_MEMBER_COUNT_MAX]; /* [from][to] */
    unsigned lost_per_mille, twice_per_mille;
    uint64_t delay_max_ns;
    uint64_t snapshot_takes_ns; /* 0: drawn for each */
};

void sim_network_send(struct sim_member *from, const struct raft_msg *msg);
void sim_network_deliver(struct sim_member *to, struct sim_event *event);
void sim_network_send_snapshot(struct sim_member *from, uint64_t to, const char *path,
                               const struct raft_msg *announce);
void sim_network_snapshot_arrives(struct sim_member *to, struct sim_event *event);
void sim_network_heal(struct sim *s);

/* ---- clients ---- */

/* One call of a client, from asking to the answer. */
struct sim_op {
    struct replica_request request; /* first: found again by its address */
    struct sim *sim;
    struct sim_request what;
    unsigned client, member;
    uint64_t boot, origin;
    uint64_t floor; /* highest place of the log that any answer had shown when this was asked */
    uint64_t called_ns;
    bool refused; /* at once, without effect */
    bool done;
    enum nb_status status; /* of the call; NB_OK: it has an answer */
    struct sim_answer answer;
    uint64_t answer_index;        /* applied index of the member when it answered */
    uint64_t log_index;           /* where the log has it; 0: nowhere so far */
    struct sim_answer expected;   /* what the model says, once the log has it */
    struct nb_buf payload;        /* owned: the request as sent */
    uint64_t seen[SIM_KEY_COUNT]; /* by a read: values; 0: absent */
    int64_t seen_mod[SIM_KEY_COUNT];
};

struct sim_client {
    struct sim_op *op; /* under way; NULL: thinking */
};

/* Asks on behalf of `client` at `member`. */
struct sim_op *sim_client_call(struct sim *s, unsigned client, unsigned member,
                               const struct sim_request *what);
/* A client has had its pause: it asks something, somewhere. */
void sim_client_event(struct sim *s, unsigned client);
void sim_op_destroy(struct sim_op *op);

/* ---- checkers ---- */

struct sim_logged {
    uint64_t hash;    /* of the entry alone */
    uint64_t running; /* machine's running hash, once some member told it */
    bool running_known;
};

struct sim_vote {
    uint64_t term, candidate;
};

struct sim_seen_hash {
    int64_t revision, compact_revision;
    uint32_t sum;
};

struct sim_check {
    struct sim_logged *log; /* owned: index i at i - 1 */
    size_t log_count, log_capacity;
    struct sim_vote *leaders; /* owned: term and member */
    size_t leader_count, leader_capacity;
    struct sim_member_marks {
        struct sim_vote *votes; /* owned: first one for each term */
        size_t vote_count, vote_capacity;
        uint64_t matched_term, matched_index; /* what its last acknowledgement promised */
        uint64_t term, commit_index;          /* in this boot */
        uint64_t checked_index;               /* applied, and compared */
        int64_t hashed_revision;
    } members[SIM_MEMBER_COUNT_MAX];
    struct sim_seen_hash *hashes; /* owned */
    size_t hash_count, hash_capacity;
    struct sim_op **ops; /* owned, and owns the ops */
    size_t op_count, op_capacity;
    struct sim_op **by_id; /* owned: open addressing by request id */
    size_t by_id_count, by_id_capacity;
    struct sim_op **answered; /* owned: since the last event */
    size_t answered_count, answered_capacity;
    uint64_t completed_index; /* highest that an answer has shown */
    struct sim_model model;
};

void sim_check_init(struct sim_check *c);
void sim_check_deinit(struct sim_check *c);
void sim_check_called(struct sim *s, struct sim_op *op);
void sim_check_answered(struct sim *s, struct sim_op *op);
void sim_check_sent(struct sim_member *m, const struct raft_msg *msg);
void sim_check_started(struct sim_member *m);
/* After everything that happened to a living member. */
void sim_check_member(struct sim_member *m);
/* At the end: members of `core` hold the same, which is the model's. */
void sim_check_end(struct sim *s, const bool *core);
/* Ends the run: `rule` (static) was broken. */
void sim_broken(struct sim *s, const char *rule, const char *format, ...) NB_PRINTF(3, 4);

/* ---- what breaks ---- */

/* Somebody joins, is promoted, leaves or is replaced, if the leader takes it. */
void sim_members_event(struct sim *s);
/* A removed member that knows it ends for good. */
void sim_members_settle(struct sim_member *m);
/* Leaves in `core` who is in the configuration of the leader. */
void sim_members_core(struct sim *s, bool *core);
void sim_members_deinit(struct sim *s);

void sim_nemesis_event(struct sim *s);
/* Picks a majority, heals it, and breaks everything else for good. */
void sim_nemesis_heal_core(struct sim *s, bool *core);

/* ---- the run ---- */

struct sim {
    struct sim_options options;
    struct nb_random random;
    struct sim_events events;
    uint64_t now_ns;
    unsigned founder_count;
    unsigned member_count, client_count; /* members: with those that joined */
    struct sim_change *change;           /* of members, under way; owned */
    bool members_changed;                /* a change was taken on: it may come to pass any time */
    struct sim_member members[SIM_MEMBER_COUNT_MAX];
    struct sim_network network;
    struct sim_client clients[SIM_CLIENT_COUNT_MAX];
    struct sim_check check;
    struct sim_report report;
    uint64_t value_last;                /* every written value is another */
    uint64_t sent[RAFT_MSG_TYPE_COUNT]; /* messages, by type */
    bool quiet;                         /* clients ask nothing new */
    bool healed;                        /* the second phase */
    bool core[SIM_MEMBER_COUNT_MAX];
    /* Of the replicas; tests change them before the members start. */
    uint64_t catchup_entry_count;
};

struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim *s);
/* Does the next event; false when a rule is broken. */
bool sim_step(struct sim *s);
/* Until `ns` have passed, or a rule is broken. */
bool sim_run_for(struct sim *s, uint64_t ns);
void sim_plan(struct sim *s, enum sim_event_kind kind, unsigned member, uint64_t in_ns);
/* One line of the trace; member -1: the world. */
void sim_trace(struct sim *s, int member, const char *format, ...) NB_PRINTF(3, 4);
uint64_t sim_below(struct sim *s, uint64_t bound);
bool sim_chance(struct sim *s, uint64_t per_mille);
/* Place of the leader with the highest term among the living; -1: none. */
int sim_leader(const struct sim *s);

#endif
