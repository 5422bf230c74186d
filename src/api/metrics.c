/* api/metrics: the counting. The page is metrics_page.c. */
#include "api/metrics.h"

#include "net/net.h"

#include <string.h>

/* In seconds, as grpc-ecosystem's. */
const double api_handling_bounds[API_HANDLING_BUCKET_COUNT] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                                               0.5,   1,    2.5,   5,    10};

void api_metrics_init(struct api_metrics *m, const struct rpc_method *methods, size_t count,
                      bool extensive)
{
    nb_assert(count <= API_METHOD_COUNT_MAX);
    *m = (struct api_metrics){.method_count = count, .extensive = extensive};
    for (size_t i = 0; i < count; i++) {
        nb_assert(methods[i].tag == i);
        m->methods[i].method = &methods[i];
    }
    nb_histogram_init(&m->hash, 0.01, 2, 15);
    nb_histogram_init(&m->hash_rev, 0.01, 2, 15);
    for (size_t good = 0; good < 2; good++) {
        nb_histogram_init(&m->range[good], 0.0001, 2, 20);
        for (size_t i = 0; i < API_READ_COUNT; i++) {
            nb_histogram_init(&m->requests[i][good], 0.001, 2, 14);
        }
    }
}

void api_metrics_start(struct api_metrics *m, const struct rpc_method *method)
{
    if (method == NULL) {
        return; /* a method that does not exist has no series */
    }
    m->methods[method->tag].started++;
}

static void observe_call(struct api_method_metrics *m, uint64_t begun_ns)
{
    uint64_t now_ns = net_now_ns();
    double seconds = now_ns < begun_ns ? 0 : (double)(now_ns - begun_ns) / 1e9;
    size_t i = 0;
    while (i < API_HANDLING_BUCKET_COUNT && seconds > api_handling_bounds[i]) {
        i++;
    }
    if (i < API_HANDLING_BUCKET_COUNT) {
        m->took[i]++;
    }
    m->took_count++;
    m->took_s += seconds;
}

void api_metrics_end(struct api_metrics *m, const struct rpc_method *method, enum rpc_status status,
                     uint64_t begun_ns)
{
    if (method == NULL || (unsigned)status >= RPC_STATUS_COUNT) {
        return;
    }
    m->methods[method->tag].handled[status]++;
    if (m->extensive) {
        observe_call(&m->methods[method->tag], begun_ns);
    }
}

void api_metrics_message(struct api_metrics *m, const struct rpc_method *method, bool sent)
{
    if (sent) {
        m->methods[method->tag].sent++;
    } else {
        m->methods[method->tag].received++;
    }
}

static bool is_version(const struct api_client_version *v, struct nb_bytes text)
{
    return strlen(v->text) == text.len && memcmp(v->text, text.data, text.len) == 0;
}

/* The row of a version; the last one is for all that find no room. */
static size_t version_row(struct api_metrics *m, struct nb_bytes text)
{
    if (text.len > API_CLIENT_VERSION_SIZE_MAX || memchr(text.data, 0, text.len) != NULL) {
        text = nb_bytes_str("other");
    }
    size_t i = 0;
    while (i < m->version_count && !is_version(&m->versions[i], text)) {
        i++;
    }
    if (i < m->version_count) {
        return i;
    }
    if (i + 1 >= API_CLIENT_VERSION_COUNT_MAX) {
        text = nb_bytes_str("other");
        i = API_CLIENT_VERSION_COUNT_MAX - 1;
    }
    memcpy(m->versions[i].text, text.data, text.len);
    m->versions[i].text[text.len] = '\0';
    m->version_count = i + 1;
    return i;
}

void api_metrics_client(struct api_metrics *m, bool stream, struct nb_bytes version)
{
    version = version.len == 0 ? nb_bytes_str("unknown") : version;
    if (m->version_count == 0 || !is_version(&m->versions[m->version_last], version)) {
        m->version_last = version_row(m, version);
    }
    struct api_client_version *v = &m->versions[m->version_last];
    if (stream) {
        v->stream++;
    } else {
        v->unary++;
    }
}

void api_metrics_check(struct api_metrics *m, enum api_probe probe, unsigned check, bool good)
{
    nb_assert(check < API_CHECK_COUNT_MAX);
    struct api_check_metrics *c = &m->checks[probe][check];
    if (good) {
        c->good++;
    } else {
        c->bad++;
    }
    c->last_good = good;
}

void api_metrics_read(struct api_metrics *m, enum api_read read, bool good, uint64_t took_ns)
{
    nb_histogram_observe_ns(&m->requests[read][good], took_ns);
}
