/*
 * tests/raft/explore: every order of events of a small group.
 *
 * A state is the tuple of the members' states (core, disk, writes under way, messages held back)
 * and the set of messages on the wire. Any message may come next, or never, or twice; any member
 * may time out, crash, or have its oldest write end. States of members and messages are interned,
 * and what an event does to a member is remembered, so the real core runs once for each pair that
 * is different and the rest is arithmetic on small numbers: that is how millions of states fit into
 * seconds.
 *
 * The clock is left out of a member's state: a timeout may strike at any time.
 */
#ifndef NABATA_TESTS_RAFT_EXPLORE_H
#define NABATA_TESTS_RAFT_EXPLORE_H

#include "tests/raft/group.h"

enum { EXPLORE_MEMBER_MAX = 4, EXPLORE_WIRE_MAX = 6, EXPLORE_INDEX_MAX = 6, EXPLORE_TERM_MAX = 6 };

struct explore_options {
    const char *name;
    unsigned voter_count;   /* ids 1.. */
    unsigned spare_count;   /* further members that start with nothing */
    unsigned learner_count; /* the last of the voters above are learners */
    uint64_t term_max, index_max;
    unsigned wire_max, crash_max, duplicate_max, conf_max, read_max, compact_max;
    bool pre_vote;
    bool figure_8;      /* three members begin with the logs {1,2}, {1}, {1,3} of Raft fig. 8, c */
    bool demotion;      /* two members begin with {1}, an uncommitted end of voter 2 */
    uint32_t state_max; /* stop there */
    bool quiet;
    struct group_report *report;
};

struct explore_result {
    uint64_t states, transitions, member_states, messages;
    bool complete; /* nothing was left to look at */
};

struct explore_result explore(const struct explore_options *options);

#endif
