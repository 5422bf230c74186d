/*
 * cli/histogram: how often which value came, at a fixed cost: 64 buckets to each power of two, so
 * that a percentile is off by less than 1.6 %. Values below 128 are exact.
 *
 *     value 1000 = 0b1111101000: its top seven bits 0b1111101 = 125, shifted by 3: bucket 3 * 64 +
 * 125
 */
#ifndef NABATA_CLI_HISTOGRAM_H
#define NABATA_CLI_HISTOGRAM_H

#include "base/bytes.h"

enum { HISTOGRAM_BUCKETS = 58 * 64 + 64 };

/* All zero is a valid empty histogram. */
struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count, sum, max, min; /* min is 0 when count is */
};

void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The least bucket bound that `per_100k` of 100,000 values do not pass (50,000: the median), but
 * not more than max; 0 when empty. */
uint64_t histogram_at(const struct histogram *h, uint32_t per_100k);
uint64_t histogram_mean(const struct histogram *h);
/* Values in [first, end). A bucket counts by its lowest value. */
uint64_t histogram_between(const struct histogram *h, uint64_t first, uint64_t end);

size_t histogram_bucket(uint64_t value);
uint64_t histogram_bucket_first(size_t bucket); /* the lowest value of a bucket */

#endif
