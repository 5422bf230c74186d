/*
 * tests/raft/group: a whole group of raft cores under a seeded, unkind world.
 *
 * Messages travel as bytes through the codec and are dropped, delayed, reordered and duplicated;
 * disks take their time, and a crash loses what was not on them; members are cut off, stopped,
 * started, added, removed, demoted, promoted. After every event the checkers below look at all that
 * changed; they know nothing of how the core works inside.
 *
 * A run is a function of its seed. When a checker fails, the last events are printed and the
 * process aborts (in a fault run: it ends with GROUP_EXIT_CAUGHT).
 */
#ifndef NABATA_TESTS_RAFT_GROUP_H
#define NABATA_TESTS_RAFT_GROUP_H

#include "base/random.h"
#include "raft/raft.h"

enum {
    GROUP_MEMBER_MAX = 12,
    GROUP_INDEX_MAX = 3000,
    GROUP_TERM_MAX = 3000,
    GROUP_EXIT_CAUGHT = 77,
};

/* Filled while a run goes on; in a fault run it lives in memory shared with the parent. */
struct group_report {
    uint64_t events, commits, elections, reads, conf_changes, snapshots, crashes, transfers;
    uint64_t late_leaders;  /* elected when a newer term had committed what they lack */
    uint64_t late_requests; /* for votes, about a log that a snapshot has replaced meanwhile */
    char caught_by[160];    /* empty while nothing is wrong */
};

struct group_options {
    uint64_t seed;
    unsigned member_count;  /* voters at the start, 1 to 7 */
    unsigned learner_count; /* learners at the start */
    unsigned event_count;   /* events of the safety phase */
    unsigned stray_count;   /* packets that at any time are on their way for very long */
    bool conf_changes;
    bool crashes;
    bool lossy; /* drop, duplicate, partition */
    bool slow_disks;
    bool pre_vote, check_quorum;
    bool small_limits; /* tiny appends and windows */
    bool liveness;     /* end with the liveness phase */
    bool quiet;        /* a fault run: no trace, exit instead of abort */
    struct group_report *report;
};

/* Draws options from a seed, so that one number names a whole run. */
struct group_options group_options_draw(uint64_t seed, unsigned event_count,
                                        struct group_report *report);
/* Runs to the end or does not return. */
void group_run(const struct group_options *options);

#endif
