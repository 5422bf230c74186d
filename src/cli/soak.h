/*
 * cli/soak: a client that writes all the while, through whatever happens to the servers, and says
 * afterwards whether they kept their word. soak.c writes and watches, soak_verify.c reads back and
 * reports.
 *
 * Invariants:
 *   S1  each key is written once with one value, so a write whose end is unknown may be sent again
 *   S2  an acknowledged key is on record before the next write of the same writer is sent
 */
#ifndef NABATA_CLI_SOAK_H
#define NABATA_CLI_SOAK_H

#include "cli/cli.h"

#include <stdio.h>

enum { SOAK_RIGHT = 0, SOAK_LOST = 1, SOAK_NO_QUORUM = 2 };

/* An endpoint, as its last status told. */
struct soak_node {
    struct soak *soak;
    size_t endpoint;
    bool asked;   /* a question is under way */
    bool serving; /* knows a leader and is no learner */
    bool leader;
    uint64_t missing_count; /* acknowledged keys that it did not show in the end */
    bool unread;            /* could not be read in the end */
};

struct soak_writer;

/* A span without something, in CLOCK_MONOTONIC. */
struct soak_gap {
    uint64_t since_ns;   /* last time that it was there; 0: never yet */
    uint64_t longest_ns; /* so far */
    uint64_t longest_at_ns;
};

struct soak {
    struct cli *cli;
    struct soak_node *nodes; /* owned */
    size_t node_count, turn;
    struct soak_writer *writers; /* owned */
    size_t writer_count, busy_count;
    char prefix[64];
    uint64_t rate, timeout_ns, attempt_timeout_ns, end_ns;
    uint64_t started_ns, stopped_ns;
    uint64_t next_key;    /* keys [0, next_key) have been begun */
    int64_t *revisions;   /* owned; of each acknowledged key, else 0 */
    size_t revision_room; /* of revisions */
    uint64_t acknowledged_count, failed_count, retried_count, retried_twice_count;
    uint64_t lost_count;
    struct soak_gap writing, leading;
    size_t leader; /* the last one that said so, or CLIENT_ANY */
    uint64_t leader_changes;
    char *first_failed; /* owned */
    FILE *record;       /* or NULL */
    bool stopping;
};

/* The key and the value of number `key`, as text. */
const char *soak_key(const struct soak *s, uint64_t key, char text[96]);
const char *soak_value(uint64_t key, char text[32]);
/* `at_ns`: it is there. */
void soak_gap_close(struct soak_gap *gap, uint64_t at_ns);

/* Reads all keys back through each node that serves. False when none could be read. */
NB_MUST_USE bool soak_verify(struct soak *s);
int soak_verdict(const struct soak *s, bool verified);
void soak_report(const struct soak *s, int verdict, bool json, struct nb_buf *out);
void soak_delete(struct soak *s);

#endif
