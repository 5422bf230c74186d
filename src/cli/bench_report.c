#include "cli/bench.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BAR_COLUMNS = 40, ROWS = 10 };

void bench_error_add(struct bench_result *r, const char *text, uint64_t count)
{
    if (count == 0) {
        return;
    }
    r->failed += count;
    for (size_t i = 0; i < r->error_count; i++) {
        if (strncmp(r->errors[i].text, text, sizeof r->errors[i].text - 1) == 0) {
            r->errors[i].count += count;
            return;
        }
    }
    if (r->error_count == BENCH_ERRORS_MAX) {
        struct bench_error *last = &r->errors[BENCH_ERRORS_MAX - 1];
        (void)snprintf(last->text, sizeof last->text, "other errors");
        last->count += count;
        return;
    }
    struct bench_error *fresh = &r->errors[r->error_count++];
    (void)snprintf(fresh->text, sizeof fresh->text, "%s", text);
    fresh->count = count;
}

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double per_second(const struct bench_result *r)
{
    return r->took_ns == 0 ? 0 : (double)(r->done - r->failed) * 1e9 / (double)r->took_ns;
}

/* Ten rows of equal width from the least to the 99.9th percentile, and one for the rest. */
static void bars(const struct histogram *h, struct nb_buf *out)
{
    uint64_t high = histogram_at(h, 99900);
    uint64_t step = high > h->min ? (high - h->min + ROWS - 1) / ROWS : 1;
    uint64_t counts[ROWS + 1], most = 1;
    for (size_t i = 0; i <= ROWS; i++) {
        uint64_t first = i == 0 ? 0 : h->min + i * step;
        counts[i] = histogram_between(h, first, i == ROWS ? UINT64_MAX : h->min + (i + 1) * step);
        most = counts[i] > most ? counts[i] : most;
    }
    for (size_t i = 0; i <= ROWS; i++) {
        char label[32];
        uint64_t end = i == ROWS ? h->max : h->min + (i + 1) * step;
        (void)snprintf(label, sizeof label, "%.3f", ms(end));
        nb_buf_printf(out, "  %10s ms [%9" PRIu64 "] ", label, counts[i]);
        for (uint64_t column = 0; column < counts[i] * BAR_COLUMNS / most; column++) {
            nb_buf_append_str(out, "#");
        }
        nb_buf_append_str(out, "\n");
    }
}

void bench_report_text(const struct bench_result *r, struct nb_buf *out)
{
    double seconds = (double)r->took_ns / 1e9;
    double cpu = (double)(r->cpu_user_ns + r->cpu_system_ns) / 1e9;
    nb_buf_printf(out, "%s: %" PRIu64 " requests in %.3f s by %u clients over %u connections%s\n\n",
                  r->kind, r->done, seconds, r->clients, r->conns,
                  r->interrupted ? " (interrupted)" : "");
    nb_buf_printf(out, "  per second  %12.1f\n", per_second(r));
    nb_buf_printf(out, "  failed      %12" PRIu64 "\n", r->failed);
    nb_buf_printf(out, "  client CPU  %12.2f s (%.0f%% of one core)\n", cpu,
                  seconds > 0 ? cpu * 100 / seconds : 0);
    if (r->latency.count > 0) {
        static const struct {
            const char *name;
            uint32_t per_100k;
        } points[] = {{"p50", 50000}, {"p90", 90000}, {"p99", 99000}, {"p99.9", 99900}};
        nb_buf_append_str(out, "\nLatency\n");
        nb_buf_printf(out, "  %-10s  %12.3f ms\n", "mean", ms(histogram_mean(&r->latency)));
        for (size_t i = 0; i < NB_ARRAY_LEN(points); i++) {
            nb_buf_printf(out, "  %-10s  %12.3f ms\n", points[i].name,
                          ms(histogram_at(&r->latency, points[i].per_100k)));
        }
        nb_buf_printf(out, "  %-10s  %12.3f ms\n", "max", ms(r->latency.max));
        if (r->late.count > 0) {
            nb_buf_printf(out, "  sent late by %.3f ms (p50), %.3f ms (p99)\n",
                          ms(histogram_at(&r->late, 50000)), ms(histogram_at(&r->late, 99000)));
        }
        nb_buf_append_str(out, "\n");
        bars(&r->latency, out);
    }
    if (r->error_count > 0) {
        nb_buf_append_str(out, "\nErrors\n");
    }
    for (size_t i = 0; i < r->error_count; i++) {
        nb_buf_printf(out, "  %9" PRIu64 "  %s\n", r->errors[i].count, r->errors[i].text);
    }
}

void bench_report_json(const struct bench_result *r, struct nb_buf *out)
{
    nb_buf_printf(out,
                  "{\"kind\":\"%s\",\"requests\":%" PRIu64 ",\"failed\":%" PRIu64
                  ",\"seconds\":%.6f,\"per_second\":%.1f,\"clients\":%u,\"conns\":%u,"
                  "\"interrupted\":%s,",
                  r->kind, r->done, r->failed, (double)r->took_ns / 1e9, per_second(r), r->clients,
                  r->conns, r->interrupted ? "true" : "false");
    const struct histogram *h = &r->latency;
    nb_buf_printf(out,
                  "\"latency_ms\":{\"min\":%.6f,\"mean\":%.6f,\"p50\":%.6f,\"p90\":%.6f,"
                  "\"p99\":%.6f,\"p99.9\":%.6f,\"max\":%.6f},",
                  ms(h->min), ms(histogram_mean(h)), ms(histogram_at(h, 50000)),
                  ms(histogram_at(h, 90000)), ms(histogram_at(h, 99000)),
                  ms(histogram_at(h, 99900)), ms(h->max));
    nb_buf_printf(out, "\"late_ms\":{\"p50\":%.6f,\"p99\":%.6f,\"max\":%.6f},",
                  ms(histogram_at(&r->late, 50000)), ms(histogram_at(&r->late, 99000)),
                  ms(r->late.max));
    nb_buf_printf(out, "\"client_cpu_seconds\":{\"user\":%.6f,\"system\":%.6f},\"errors\":{",
                  (double)r->cpu_user_ns / 1e9, (double)r->cpu_system_ns / 1e9);
    for (size_t i = 0; i < r->error_count; i++) {
        nb_buf_append_str(out, i > 0 ? ",\"" : "\"");
        nb_json_escape(out, nb_bytes_str(r->errors[i].text));
        nb_buf_printf(out, "\":%" PRIu64, r->errors[i].count);
    }
    nb_buf_append_str(out, "}}\n");
}
