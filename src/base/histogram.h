/*
 * base/histogram: counts of durations in buckets that grow by a factor, as Prometheus wants them.
 */
#ifndef NABATA_BASE_HISTOGRAM_H
#define NABATA_BASE_HISTOGRAM_H

#include "base/bytes.h"

enum { NB_HISTOGRAM_BUCKET_COUNT_MAX = 24 };

struct nb_histogram {
    double start_s, factor; /* bucket i holds what is at most start_s * factor^i (seconds, but for
                               those filled by nb_histogram_observe) */
    uint32_t bucket_count;
    uint64_t buckets[NB_HISTOGRAM_BUCKET_COUNT_MAX]; /* not cumulative */
    uint64_t count;
    double sum_s;
};

void nb_histogram_init(struct nb_histogram *h, double start_s, double factor,
                       uint32_t bucket_count);
void nb_histogram_observe_ns(struct nb_histogram *h, uint64_t ns);
/* In the histogram's own unit, for the few that are not in seconds. */
void nb_histogram_observe(struct nb_histogram *h, double value);
/* Appends its series: NAME_bucket{labels,le="..."}, _sum, _count. `labels` is "" or `a="b"`. */
void nb_histogram_write(const struct nb_histogram *h, const char *name, const char *labels,
                        struct nb_buf *out);

#endif
