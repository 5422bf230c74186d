#include "cli/histogram.h"

enum { SUB_BITS = 6, SUB_COUNT = 1 << SUB_BITS };

size_t histogram_bucket(uint64_t value)
{
    unsigned top = value == 0 ? 0 : 63 - (unsigned)__builtin_clzll(value);
    unsigned shift = top > SUB_BITS ? top - SUB_BITS : 0;
    return (size_t)shift * SUB_COUNT + (size_t)(value >> shift);
}

uint64_t histogram_bucket_first(size_t bucket)
{
    nb_assert(bucket < HISTOGRAM_BUCKETS);
    unsigned shift = bucket < 2 * SUB_COUNT ? 0 : (unsigned)(bucket / SUB_COUNT) - 1;
    return (uint64_t)(bucket - (size_t)shift * SUB_COUNT) << shift;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    h->counts[histogram_bucket(value)]++;
    h->min = h->count == 0 || value < h->min ? value : h->min;
    h->max = value > h->max ? value : h->max;
    h->count++;
    h->sum += value;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    if (from->count == 0) {
        return;
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        to->counts[i] += from->counts[i];
    }
    to->min = to->count == 0 || from->min < to->min ? from->min : to->min;
    to->max = from->max > to->max ? from->max : to->max;
    to->count += from->count;
    to->sum += from->sum;
}

uint64_t histogram_at(const struct histogram *h, uint32_t per_100k)
{
    nb_assert(per_100k <= 100000);
    if (h->count == 0) {
        return 0;
    }
    uint64_t rank = (h->count * per_100k + 99999) / 100000;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        seen += h->counts[i];
        if (seen >= rank && seen > 0) {
            uint64_t last = histogram_bucket_first(i + 1) - 1;
            return last < h->max ? last : h->max;
        }
    }
    return h->max;
}

uint64_t histogram_mean(const struct histogram *h)
{
    return h->count == 0 ? 0 : h->sum / h->count;
}

uint64_t histogram_between(const struct histogram *h, uint64_t first, uint64_t end)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t value = histogram_bucket_first(i);
        sum += value >= first && value < end ? h->counts[i] : 0;
    }
    return sum;
}
