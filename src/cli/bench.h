/*
 * cli/bench: load on a cluster, and how it took it. bench.c has the load, bench_report.c the words.
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
    struct histogram latency; /* ns, of what went well */
    uint64_t done;            /* with those that failed */
    uint64_t failed;
    struct bench_error errors[BENCH_ERRORS_MAX]; /* the last one stands for all further kinds */
    size_t error_count;
    uint64_t took_ns;
    uint64_t cpu_user_ns, cpu_system_ns; /* of this process */
    unsigned clients, conns;
    bool interrupted;
};

void bench_error_add(struct bench_result *r, const char *text);
void bench_report_text(const struct bench_result *r, struct nb_buf *out);
void bench_report_json(const struct bench_result *r, struct nb_buf *out);

#endif
