/*
 * cli/bench: load on a cluster, and how it took it. bench.c has the load, bench_report.c the words,
 * bench_hold.c the connections that do nothing.
 */
#ifndef NABATA_CLI_BENCH_H
#define NABATA_CLI_BENCH_H

#include "cli/histogram.h"

enum { BENCH_ERRORS_MAX = 8 };

struct bench_error {
    char text[160];
    uint64_t count;
};

struct bench_result {
    const char *kind;         /* "put", "range", "txn" */
    struct histogram latency; /* ns, of what went well; with a rate from when it was due */
    struct histogram late;    /* ns from due to sent, with a rate */
    uint64_t done;            /* with those that failed */
    uint64_t failed;
    struct bench_error errors[BENCH_ERRORS_MAX]; /* the last one stands for all further kinds */
    size_t error_count;
    uint64_t took_ns;
    uint64_t cpu_user_ns, cpu_system_ns; /* of this process */
    unsigned clients, conns;
    bool interrupted;
};

/* `count` requests failed with these words. */
void bench_error_add(struct bench_result *r, const char *text, uint64_t count);
void bench_report_text(const struct bench_result *r, struct nb_buf *out);
void bench_report_json(const struct bench_result *r, struct nb_buf *out);

#endif
