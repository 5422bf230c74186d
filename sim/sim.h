/*
 * sim: whole replicas in a simulated world: one clock, one network, disks and backends in memory,
 * clients that write down what they saw, checkers that know what must hold.
 *
 * Everything of a run follows from its options: the same seed gives the same trace, to the byte
 * [Z10]. No thread, no real clock, no file of the real system.
 *
 *   events      what happens next: a heap ordered by time, equal times in random order [T02]
 *   cluster.h   all parts of a run and the calls between them:
 *     member    one replica with its disk and backend; start, crash, turn
 *     network   messages between members: encoded, late, lost, doubled, out of order, cut off
 *     client    operations, and the history of what was asked and answered
 *     nemesis   who breaks what, and when
 *     members   who joins, is promoted, leaves, is replaced, and when
 *     check     the rules; they look on and touch nothing
 *   model       the store as it should be, written to be too plain to be wrong
 *   main        the program `simulate`
 *
 * A run has two phases. In the first anything may break. In the second a core of a majority is
 * healed, all else stays broken for good; then there must be a leader, a fresh write and an answer
 * to every call within bounds.
 */
#ifndef NABATA_SIM_SIM_H
#define NABATA_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Bugs that a run can plant into the simulated world, to show that the checkers bite [T01]. */
#define SIM_BUG_TABLE(X)                                                                           \
    X(LYING_DISK, "a write of the log is reported durable before it is")                           \
    X(BATCH_LOST, "the last entry of the log is gone after a restart")                             \
    X(VOTE_LOST, "the vote is forgotten by a restart")                                             \
    X(PROPOSE_TWICE, "a forwarded proposal is applied twice: its copy lost its id")                \
    X(STALE_READ, "a read is answered without asking the leader")                                  \
    X(EARLY_ANSWER, "a write is answered when it is proposed")                                     \
    X(WRONG_REVISION, "a write is answered with the revision before its own")                      \
    X(BYTES_CHANGED, "a value changes on its way to one member")                                   \
    X(ANSWER_LOST, "an answer never reaches its client")                                           \
    X(DEAF, "after healing no member hears another")                                               \
    X(DISK_EMPTIED, "a member comes back with its identity and an empty disk")

enum sim_bug {
    SIM_BUG_NONE,
#define X(name, text) SIM_BUG_##name,
    SIM_BUG_TABLE(X)
#undef X
        SIM_BUG_COUNT
};

struct sim_options {
    uint64_t seed;
    unsigned member_count; /* 1, 3 or 5 */
    unsigned client_count;
    uint64_t step_count; /* events of the first phase */
    bool faults;
    bool membership; /* members come and go; five at the start at most, eight in all */
    enum sim_bug bug;
    FILE *trace; /* NULL: none */
};

struct sim_report {
    uint64_t trace_hash;
    uint64_t step_count, end_ns;
    uint64_t call_count, write_count, read_count, unknown_count, refused_count;
    uint64_t message_count, lost_count, election_count, crash_count, kill_count, restart_count;
    uint64_t change_count, joined_count, removed_count; /* of members */
    uint64_t snapshot_count, install_count, fatal_count, entry_count, compaction_count;
    uint64_t duplicate_count; /* entries that brought a request again */
    const char *rule;         /* that was broken; NULL: none */
    char text[256];
};

/* Runs both phases. False when a rule was broken. */
bool sim_run(const struct sim_options *options, struct sim_report *out);

/* What a seed alone decides: number of members and clients. */
void sim_options_of_seed(uint64_t seed, struct sim_options *out);

#endif
