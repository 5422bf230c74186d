/*
 * api/http: what answers HTTP/1.1: version, health, probes, metrics. [etcd-v3-surface 4.2]
 */
#include "api/internal.h"

#include <string.h>

#define JSON "application/json"
#define TEXT "text/plain; charset=utf-8"
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"

static bool is(struct nb_bytes b, const char *text)
{
    return nb_bytes_equal(b, nb_bytes_str(text));
}

static bool begins(struct nb_bytes b, const char *text)
{
    size_t len = strlen(text);
    return b.len >= len && len != 0 && memcmp(b.data, text, len) == 0;
}

static void reply_text(struct rpc_http *http, unsigned status, const char *type, const char *text)
{
    rpc_http_reply(http, status, type, status == 405 ? "Allow: GET\r\n" NOSNIFF : NOSNIFF,
                   nb_bytes_str(text));
}

/* ---- probes ---- */

enum check {
    CHECK_SERIALIZABLE,
    CHECK_LINEARIZABLE,
    CHECK_CORRUPTION,
    CHECK_NON_LEARNER,
    CHECK_COUNT
};

static const char *const check_names[CHECK_COUNT] = {
    [CHECK_SERIALIZABLE] = "serializable_read",
    [CHECK_LINEARIZABLE] = "linearizable_read",
    [CHECK_CORRUPTION] = "data_corruption",
    [CHECK_NON_LEARNER] = "non_learner",
};

static_assert((int)CHECK_COUNT <= (int)API_CHECK_COUNT_MAX, "each check has its counters");

const char *api_check_name(unsigned check)
{
    return check < CHECK_COUNT ? check_names[check] : "unknown";
}

/* Beside the checks in the set: it is asked for as /readyz. */
static const unsigned probe_is_readyz = 1u << 7;

static const unsigned livez_checks = 1u << CHECK_SERIALIZABLE;
static const unsigned readyz_checks = ((1u << CHECK_COUNT) - 1) | 1u << 7;

static bool wants_verbose(struct nb_bytes query)
{
    struct nb_buf value = {0};
    bool found = rpc_query_get(query, "verbose", 0, &value);
    nb_buf_deinit(&value);
    return found;
}

static bool excluded(struct nb_bytes query, const char *name)
{
    struct nb_buf value = {0};
    bool found = false;
    for (size_t nth = 0; !found && rpc_query_get(query, "exclude", nth, &value); nth++) {
        found = is(nb_buf_bytes(&value), name);
        nb_buf_clear(&value);
    }
    nb_buf_deinit(&value);
    return found;
}

/* NULL: good; else why not. `read` is how the linearizable read ended, NB_OK if none was asked. */
static const char *check_failure(struct api *a, enum check c, enum nb_status read)
{
    struct replica *r = a->config.replica;
    switch (c) {
    case CHECK_SERIALIZABLE:
        return replica_caught_up(r) ? NULL : "the log is still being replayed";
    case CHECK_LINEARIZABLE:
        return read == NB_OK ? NULL : api_error_of(read).text;
    case CHECK_CORRUPTION:
        return machine_alarm_on(replica_machine(r), MACHINE_ALARM_CORRUPT)
                   ? "alarm activated: CORRUPT"
                   : NULL;
    case CHECK_NON_LEARNER:
        return replica_is_learner(r) ? "the member is a learner" : NULL;
    case CHECK_COUNT:
        break;
    }
    nb_unreachable("no such check");
}

static void answer_probe(struct api *a, struct rpc_http *http, unsigned checks, bool verbose,
                         enum nb_status read)
{
    struct nb_buf body = {0};
    bool good = true;
    enum api_probe type = (checks & probe_is_readyz) != 0 ? API_PROBE_READYZ : API_PROBE_LIVEZ;
    for (unsigned c = 0; c < CHECK_COUNT; c++) {
        if ((checks & 1u << c) == 0) {
            continue;
        }
        const char *failure = check_failure(a, (enum check)c, read);
        good = good && failure == NULL;
        api_metrics_check(&a->metrics, type, c, failure == NULL);
        if (failure == NULL) {
            nb_buf_printf(&body, "[+]%s ok\n", check_names[c]);
        } else {
            nb_buf_printf(&body, "[-]%s failed: %s\n", check_names[c], failure);
        }
    }
    if (a->unready != NULL && (checks & 1u << CHECK_NON_LEARNER) != 0) {
        good = false; /* a row of its own that etcd does not have, so only when it fails */
        nb_buf_printf(&body, "[-]member failed: %s\n", a->unready);
    }
    if (good && !verbose) {
        nb_buf_clear(&body);
    }
    nb_buf_append_str(&body, good ? "ok\n" : "");
    rpc_http_reply(http, good ? 200 : 503, TEXT, NOSNIFF, nb_buf_bytes(&body));
    nb_buf_deinit(&body);
}

static void answer_health(struct api *a, struct rpc_http *http, const char *reason)
{
    struct nb_buf body = {0};
    if (reason == NULL) {
        a->metrics.health_success++;
        nb_buf_append_str(&body, "{\"health\":\"true\",\"reason\":\"\"}");
        rpc_http_reply(http, 200, JSON, NULL, nb_buf_bytes(&body));
    } else {
        a->metrics.health_failure++;
        nb_buf_append_str(&body, "{\"health\":\"false\",\"reason\":\"");
        nb_json_escape(&body, nb_bytes_str(reason));
        nb_buf_append_str(&body, "\"}\n");
        rpc_http_reply(http, 503, TEXT, NOSNIFF, nb_buf_bytes(&body));
    }
    nb_buf_deinit(&body);
}

/* The record's message holds what the probe still needs: checks, verbose, is_health. */
static void probe_done(struct replica_request *request, enum nb_status status,
                       const struct machine_result *result)
{
    (void)result;
    struct api_pending *p = (struct api_pending *)request;
    struct api *a = p->api;
    if (p->http != NULL) {
        rpc_http_set_user(p->http, NULL);
        bool is_health = p->message.data[2] != 0;
        if (!is_health) {
            answer_probe(a, p->http, p->message.data[0], p->message.data[1] != 0, status);
        } else if (status == NB_OK) {
            answer_health(a, p->http, NULL);
        } else {
            struct nb_buf reason = {0};
            nb_buf_printf(&reason, "RANGE ERROR:%s", api_error_of(status).text);
            nb_buf_append(&reason, "", 1);
            answer_health(a, p->http, (const char *)reason.data);
            nb_buf_deinit(&reason);
        }
    }
    api_pending_give(p);
}

static void probe_read(struct api *a, struct rpc_http *http, unsigned checks, bool verbose,
                       bool is_health)
{
    struct api_pending *p = api_pending_take(a, NULL);
    p->request.done = probe_done;
    p->http = http;
    nb_buf_append(&p->message,
                  (const uint8_t[]){(uint8_t)checks, (uint8_t)verbose, (uint8_t)is_health}, 3);
    rpc_http_set_user(http, p);
    enum nb_status status = replica_read(a->config.replica, &p->request);
    if (status != NB_OK) {
        probe_done(&p->request, status, NULL);
    }
}

void api_on_http_cancel(struct rpc_http *http)
{
    struct api_pending *p = rpc_http_user(http);
    if (p != NULL) {
        p->http = NULL;
    }
}

static void probe(struct api *a, struct rpc_http *http, unsigned checks, struct nb_bytes name,
                  struct nb_bytes query)
{
    if (!is(rpc_http_request(http)->method, "GET")) {
        reply_text(http, 405, TEXT, "Method Not Allowed\n");
        return;
    }
    if (name.data != NULL) { /* with a slash, at least */
        unsigned one = 0;
        for (unsigned c = 0; c < CHECK_COUNT; c++) {
            if ((checks & 1u << c) != 0 && is(name, check_names[c])) {
                one = 1u << c;
            }
        }
        if (one == 0) {
            reply_text(http, 404, TEXT, "404 page not found\n");
            return;
        }
        checks = one | (checks & probe_is_readyz);
    }
    for (unsigned c = 0; c < CHECK_COUNT; c++) {
        if (excluded(query, check_names[c])) {
            checks &= ~(1u << c);
        }
    }
    bool verbose = wants_verbose(query);
    if (a->unready != NULL && (checks & 1u << CHECK_NON_LEARNER) != 0) {
        checks &= ~(1u << CHECK_LINEARIZABLE); /* the answer is no, whatever a read would say */
    }
    if ((checks & 1u << CHECK_LINEARIZABLE) != 0 && replica_leader(a->config.replica) == 0) {
        answer_probe(a, http, checks, verbose, NB_NO_LEADER); /* a probe does not wait [K14] */
    } else if ((checks & 1u << CHECK_LINEARIZABLE) != 0) {
        probe_read(a, http, checks, verbose, false);
    } else {
        answer_probe(a, http, checks, verbose, NB_OK);
    }
}

static void health(struct api *a, struct rpc_http *http, struct nb_bytes query)
{
    struct machine *m = replica_machine(a->config.replica);
    struct nb_buf value = {0};
    bool serializable =
        rpc_query_get(query, "serializable", 0, &value) && is(nb_buf_bytes(&value), "true");
    nb_buf_deinit(&value);
    if (machine_alarm_on(m, MACHINE_ALARM_NOSPACE) && !excluded(query, "NOSPACE")) {
        answer_health(a, http, "ALARM NOSPACE");
    } else if (machine_alarm_on(m, MACHINE_ALARM_CORRUPT) && !excluded(query, "CORRUPT")) {
        answer_health(a, http, "ALARM CORRUPT");
    } else if (serializable) {
        answer_health(a, http, NULL);
    } else if (replica_leader(a->config.replica) == 0) {
        answer_health(a, http, "RAFT NO LEADER");
    } else {
        probe_read(a, http, 0, false, true);
    }
}

/* ---- without a replica ---- */

static bool below(struct nb_bytes path, const char *prefix, struct nb_bytes *out_name);

/* A process that is no member of anything yet: alive, not ready, and it says why. */
static void answer_waiting(struct api *a, struct rpc_http *http)
{
    const struct rpc_http_request *q = rpc_http_request(http);
    const char *why = a->unready == NULL ? "in no cluster yet" : a->unready;
    struct nb_bytes name;
    if (!is(q->method, "GET")) {
        reply_text(http, 405, TEXT, "Method Not Allowed\n");
    } else if (is(q->path, "/health")) {
        answer_health(a, http, why);
    } else if (is(q->path, "/metrics")) {
        reply_text(http, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                   "# HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, "
                   "0 is not.\n# TYPE etcd_server_has_leader gauge\netcd_server_has_leader 0\n");
    } else if (below(q->path, "/livez", &name)) {
        reply_text(http, 200, TEXT, "ok\n");
    } else if (below(q->path, "/readyz", &name)) {
        struct nb_buf body = {0};
        nb_buf_printf(&body, "[-]member failed: %s\n", why);
        rpc_http_reply(http, 503, TEXT, NOSNIFF, nb_buf_bytes(&body));
        nb_buf_deinit(&body);
    } else {
        reply_text(http, 404, TEXT, "404 page not found\n");
    }
}

/* ---- the pages ---- */

static void page_version(struct api *a, struct rpc_http *http)
{
    const char *cluster = machine_cluster_version(replica_machine(a->config.replica));
    bool known = cluster[0] != '\0';
    struct nb_buf body = {0};
    nb_buf_printf(&body,
                  "{\"etcdserver\":\"" API_ETCD_VERSION
                  "\",\"etcdcluster\":\"%s\",\"storage\":\"%s\"}",
                  known ? cluster : "not_decided", known ? API_STORAGE_VERSION : "unknown");
    rpc_http_reply(http, 200, JSON, NULL, nb_buf_bytes(&body));
    nb_buf_deinit(&body);
}

static void page_metrics(struct api *a, struct rpc_http *http)
{
    struct nb_buf body = {0};
    a->metrics.page_count++;
    api_metrics_write(a, &body);
    rpc_http_reply(http, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
                   NULL, nb_buf_bytes(&body));
    nb_buf_deinit(&body);
}

static void page_debug(struct api *a, struct rpc_http *http)
{
    struct nb_buf body = {0};
    api_debug_write(a, &body);
    rpc_http_reply(http, 200, JSON "; charset=utf-8", NULL, nb_buf_bytes(&body));
    nb_buf_deinit(&body);
}

/* What etcd has under these paths, or once had, and why it is not here. */
static const struct {
    const char *prefix, *answer;
} absent[] = {
    {"/debug/pprof", "there is no Go runtime to profile; use perf\n"},
    {"/debug/requests", "gRPC calls are not traced; see /metrics\n"},
    {"/debug/events", "gRPC calls are not traced; see /metrics\n"},
    {"/config/local/log", "the log level is that of --log-level until the next start\n"},
    {"/v2", "the v2 API is gone; use gRPC\n"},
};

static void page_absent(struct rpc_http *http)
{
    const struct rpc_http_request *q = rpc_http_request(http);
    const char *answer = "404 page not found\n";
    struct nb_bytes rest;
    for (size_t i = 0; i < NB_ARRAY_LEN(absent); i++) {
        answer = below(q->path, absent[i].prefix, &rest) ? absent[i].answer : answer;
    }
    reply_text(http, 404, TEXT, answer);
}

/* Host header against --host-whitelist; "*" lets all in. */
static bool host_is_allowed(struct api *a, struct rpc_http *http)
{
    const char *const *list = a->config.host_whitelist;
    struct nb_bytes host;
    if (list == NULL || list[0] == NULL || strcmp(list[0], "*") == 0) {
        return true;
    }
    if (!rpc_http_header(http, "host", &host)) {
        return false;
    }
    const uint8_t *colon = memrchr(host.data, ':', host.len);
    size_t name_len = colon == NULL ? host.len : (size_t)(colon - host.data);
    for (size_t i = 0; list[i] != NULL; i++) {
        if (strlen(list[i]) == name_len &&
            strncasecmp(list[i], (const char *)host.data, name_len) == 0) {
            return true;
        }
    }
    return false;
}

/* Browsers of allowed origins may read the answers. [etcd-v3-surface 4.2] */
static void allow_origin(struct api *a, struct rpc_http *http)
{
    const char *const *list = a->config.cors;
    struct nb_bytes origin;
    if (!rpc_http_header(http, "origin", &origin)) {
        return;
    }
    bool allowed = list == NULL || list[0] == NULL;
    for (size_t i = 0; !allowed && list[i] != NULL; i++) {
        allowed = strcmp(list[i], "*") == 0 || is(origin, list[i]);
    }
    if (allowed) {
        rpc_http_add_header(http, "Access-Control-Allow-Methods",
                            nb_bytes_str("POST, GET, OPTIONS, PUT, DELETE"));
        rpc_http_add_header(http, "Access-Control-Allow-Origin", origin);
        rpc_http_add_header(http, "Access-Control-Allow-Headers",
                            nb_bytes_str("accept, content-type, authorization"));
    }
}

/* The part of `path` behind `prefix` and a slash, NULL when there is no slash; false when path is
 * something else. */
static bool below(struct nb_bytes path, const char *prefix, struct nb_bytes *out_name)
{
    size_t len = strlen(prefix);
    if (!begins(path, prefix) || (path.len > len && path.data[len] != '/')) {
        return false;
    }
    *out_name = path.len > len ? nb_bytes_of(path.data + len + 1, path.len - len - 1)
                               : (struct nb_bytes){0};
    return true;
}

void api_on_http(struct rpc_http *http, void *server_user)
{
    struct api *a = server_user;
    const struct rpc_http_request *q = rpc_http_request(http);
    struct nb_bytes name;
    bool get = is(q->method, "GET"); /* not HEAD: etcd's answer to that is 405 */
    if (!host_is_allowed(a, http)) {
        reply_text(
            http, 421, TEXT,
            "etcd received your request, but the Host header was unrecognized.\n\n"
            "To fix this, add the host name to --host-whitelist, or use one that is on it.\n");
        return;
    }
    allow_origin(a, http);
    if (is(q->method, "OPTIONS")) {
        rpc_http_reply(http, 200, NULL, NULL, (struct nb_bytes){0});
    } else if (a->config.replica == NULL) {
        answer_waiting(a, http);
    } else if (is(q->path, "/metrics")) {
        page_metrics(a, http);
    } else if (is(q->path, "/version") || is(q->path, "/health")) {
        if (!get) {
            reply_text(http, 405, TEXT, "Method Not Allowed\n");
        } else if (is(q->path, "/version")) {
            page_version(a, http);
        } else {
            health(a, http, q->query);
        }
    } else if (below(q->path, "/livez", &name)) {
        probe(a, http, livez_checks, name, q->query);
    } else if (below(q->path, "/readyz", &name)) {
        probe(a, http, readyz_checks, name, q->query);
    } else if (is(q->path, "/debug/vars") && api_conn_is_client(rpc_http_conn(http))) {
        if (get) {
            page_debug(a, http);
        } else {
            reply_text(http, 405, TEXT, "Method Not Allowed\n");
        }
    } else {
        page_absent(http);
    }
}
