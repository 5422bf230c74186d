#include "base/histogram.h"

#include <inttypes.h>

void nb_histogram_init(struct nb_histogram *h, double start_s, double factor, uint32_t bucket_count)
{
    nb_assert(bucket_count <= NB_HISTOGRAM_BUCKET_COUNT_MAX);
    *h = (struct nb_histogram){.start_s = start_s, .factor = factor, .bucket_count = bucket_count};
}

void nb_histogram_observe_ns(struct nb_histogram *h, uint64_t ns)
{
    nb_histogram_observe(h, (double)ns / 1e9);
}

void nb_histogram_observe(struct nb_histogram *h, double value)
{
    double bound = h->start_s;
    uint32_t i = 0;
    while (i < h->bucket_count && value > bound) {
        bound *= h->factor;
        i++;
    }
    if (i < h->bucket_count) {
        h->buckets[i]++;
    }
    h->count++;
    h->sum_s += value;
}

void nb_histogram_write(const struct nb_histogram *h, const char *name, const char *labels,
                        struct nb_buf *out)
{
    const char *comma = labels[0] == '\0' ? "" : ",";
    double bound = h->start_s;
    uint64_t cumulative = 0;
    for (uint32_t i = 0; i < h->bucket_count; i++) {
        cumulative += h->buckets[i];
        /* As Go writes it, since the text is a label: six digits are enough for all but those. */
        nb_buf_printf(out,
                      bound < 1e6 ? "%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n"
                                  : "%s_bucket{%s%sle=\"%.6e\"} %" PRIu64 "\n",
                      name, labels, comma, bound, cumulative);
        bound *= h->factor;
    }
    nb_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma, h->count);
    const char *open = labels[0] == '\0' ? "" : "{", *close = labels[0] == '\0' ? "" : "}";
    nb_buf_printf(out, "%s_sum%s%s%s %.9g\n", name, open, labels, close, h->sum_s);
    nb_buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close, h->count);
}
