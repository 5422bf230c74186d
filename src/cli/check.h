/*
 * cli/check: does a cluster do what it promises? Writes values, reads every one back through every
 * live node, and compares the nodes' logs and data. check.c has the work, check_report.c the words.
 */
#ifndef NABATA_CLI_CHECK_H
#define NABATA_CLI_CHECK_H

#include "cli/cli.h"
#include "nabata.pb-c.h"

enum { CHECK_RIGHT = 0, CHECK_WRONG = 1, CHECK_NO_QUORUM = 2 };

/* What is known of one endpoint. */
struct check_node {
    const char *endpoint;                 /* borrowed */
    char *down;                           /* owned; why it does not answer, NULL when it is live */
    Etcdserverpb__StatusResponse *status; /* owned */
    Nabatapb__NodeResponse *node;         /* owned; NULL: no such service */
    Etcdserverpb__HashKVResponse *hash;   /* owned */
    char *name;                           /* owned; from the list of members, or NULL */
    uint64_t read_count, wrong_count, unread_count;
};

enum check_same { CHECK_UNKNOWN, CHECK_SAME, CHECK_DIFFERENT };

struct check {
    struct cli *cli;
    struct check_node *nodes; /* owned */
    size_t node_count, live_count;
    uint64_t key_count, written_count;
    size_t value_size;
    char prefix[64];
    int64_t revision;      /* the highest a write was told */
    uint64_t common_index; /* up to which logs were compared; 0: not */
    enum check_same log, data;
    char *write_error; /* owned; why writing was given up */
    char *first_wrong; /* owned; the first wrong or unread value */
    uint64_t took_ns;
};

/* Verdict from all that was found: the exit code. */
int check_verdict(const struct check *c);
/* The table and the sentences, or with `json` one object. */
void check_report(const struct check *c, bool json, bool color, struct nb_buf *out);

#endif
