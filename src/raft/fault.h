/*
 * raft/fault: bugs that a test build can switch on, one at a time, to show that the checkers bite.
 *
 * In an ordinary build RAFT_FAULT(x) is the constant false and nothing of this remains. The tests
 * compile the core once more with RAFT_PLANTED_FAULTS defined, and choose by raft_planted_fault
 * [hazard T01].
 */
#ifndef NABATA_RAFT_FAULT_H
#define NABATA_RAFT_FAULT_H

/* NAME, what it breaks. */
#define RAFT_FAULT_TABLE(X)                                                                        \
    X(COMMIT_OLD_TERM, "R01 an entry of an older term commits by counting copies")                 \
    X(VOTE_TWICE, "R13 a second vote in one term")                                                 \
    X(VOTE_SHORT_LOG, "5.4.1 votes for a candidate with a shorter log")                            \
    X(VOTE_BEFORE_SYNC, "R03 a vote leaves before it is on disk")                                  \
    X(VOTE_REQUEST_BEFORE_SYNC, "R03 a vote request leaves before log and vote are on disk")       \
    X(ACK_BEFORE_SYNC, "R03 an append is acknowledged before it is on disk")                       \
    X(SELF_VOTE_EARLY, "R03 the own vote counts before it is on disk")                             \
    X(SELF_ACK_EARLY, "R04 the leader counts itself before its own sync")                          \
    X(COMMIT_BEYOND_VOUCHED, "R07 a follower commits up to its last entry")                        \
    X(HEARTBEAT_COMMIT_UNBOUNDED, "R07 a heartbeat carries a commit beyond match")                 \
    X(CUT_ALWAYS, "R09 an append cuts whatever lies behind it")                                    \
    X(PREV_TERM_UNCHECKED, "5.3 an append is taken without comparing the previous term")           \
    X(CONFLICT_KEPT, "5.3 an entry in conflict is kept")                                           \
    X(MATCH_LOWERED, "R08 a late answer lowers match")                                             \
    X(ACK_WHOLE_LOG, "R07 an append is answered with the last index instead of what it vouches")   \
    X(VOTES_OF_ANY_TERM, "R12 votes of an older term are counted")                                 \
    X(HALF_IS_MAJORITY, "a half counts as a majority")                                             \
    X(VOTE_FORGOTTEN, "R02 stepping down within a term forgets the vote")                          \
    X(READ_UNCONFIRMED, "Q01 a read is answered without a round")                                  \
    X(READ_BEFORE_NOOP, "Q02 a read is answered before the first commit of the term")              \
    X(READ_ANY_ROUND, "Q03 an old answer confirms a new read")                                     \
    X(CONF_NOT_ROLLED_BACK, "M03 a cut configuration stays in force")                              \
    X(CONF_TWO_IN_FLIGHT, "M02 a second change while one is uncommitted")                          \
    X(CONF_BEFORE_NOOP, "M01 a change before the first commit of the term")                        \
    X(JOINT_NEW_ONLY, "joint consensus asks the new majority only")                                \
    X(REMOVED_LEADER_COUNTS, "M12 a leader that removed itself counts its own copy")               \
    X(LEARNER_COUNTS, "Q06 learners count as voters")                                              \
    X(OLD_SNAPSHOT_TAKEN, "S06 a late, old snapshot is installed")                                 \
    X(TERM_LOWERED, "R06 a snapshot moves the term back")                                          \
    X(SYNC_MARKS_NEW, "R17 a late completion marks what replaced the entry as durable")            \
    X(SNAPSHOT_TERM_UNCHECKED, "R10 a snapshot label of another term counts as a match")           \
    X(TRANSFER_FOREVER, "E08 a transfer is never given up")                                        \
    X(NO_STICKINESS, "E01 a rejoining member deposes a healthy leader")                            \
    X(QUORUM_UNCHECKED, "E04 a leader without a quorum stays")                                     \
    X(PROBE_ONCE, "a lost probe is never sent again")                                              \
    X(LOW_TERM_IGNORED, "E02 a message of a low term is not answered")                             \
    X(SNAPSHOT_AWAITED_FOREVER, "S07 a lost snapshot is never sent again")                         \
    X(EMPTY_TAKES_ENTRIES, "a member that knows no configuration takes entries")                   \
    X(SNAPSHOT_WISH_IGNORED, "a member that asks for a snapshot gets entries again")               \
    X(HIGH_TERM_ANSWER_IGNORED, "R15 an answer of a higher term changes nothing")                  \
    X(ACKS_OF_ANY_TERM, "R16 an answer to what an earlier leadership sent is counted")             \
    X(CUT_NOT_HANDED, "R18 what takes the place of a cut entry is not handed to the disk")         \
    X(MATCH_UNBOUNDED, "R25 a follower is believed to hold more than the leader")                  \
    X(READ_OLD_CONF, "Q07 a read is judged by the configuration before the newest")                \
    X(READ_BY_LEASE, "Q08 a leader that was heard lately answers reads without asking")

enum raft_fault {
    RAFT_FAULT_NONE,
#define X(name, text) RAFT_FAULT_##name,
    RAFT_FAULT_TABLE(X)
#undef X
        RAFT_FAULT_COUNT
};

#ifdef RAFT_PLANTED_FAULTS
extern enum raft_fault raft_planted_fault; /* defined by the test */
#define RAFT_FAULT(name) (raft_planted_fault == RAFT_FAULT_##name)
#else
#define RAFT_FAULT(name) (false)
#endif

#endif
