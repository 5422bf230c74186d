#include "kube/kube.h"

#include "kube/answer.h"
#include "net/tls.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ACCOUNT_FILE_SIZE_MAX = 256 << 10,
};

static const uint64_t timeout_ns_default = 5000000000ull;

/* A connection; lives until its on_close, also when its request has given it up. */
struct link {
    struct kube *kube; /* NULL: given up */
    struct net_conn *conn;
    struct net_tls *tls; /* owned */
};

struct kube {
    struct kube_config config;
    struct net_timer *timer; /* of the request under way */
    struct net_connect *connect;
    struct link *link;
    struct net_tls *tls; /* owned, until there is a connection */
    struct kube_answer answer;
    struct nb_buf request; /* what is to be sent, in plain */
    kube_done *done;       /* NULL: nothing is under way */
    void *user;
    const char *verb;         /* for words: "get", "patch" */
    enum nb_status failed;    /* before it began: told by the timer, ... */
    struct net_error failure; /* ... in these words */
};

/* ---- an answer ---- */

static void take_cluster_id(const json_t *metadata, struct kube_statefulset *out)
{
    const json_t *annotations = json_object_get(metadata, "annotations");
    const char *id = json_string_value(json_object_get(annotations, KUBE_CLUSTER_ANNOTATION));
    if (id != NULL) {
        (void)snprintf(out->cluster_id, sizeof out->cluster_id, "%s", id);
    }
}

/* Cut off it would be another one. */
static void take_version(const json_t *metadata, struct kube_statefulset *out)
{
    const char *version = json_string_value(json_object_get(metadata, "resourceVersion"));
    if (version != NULL && strlen(version) < sizeof out->version) {
        (void)snprintf(out->version, sizeof out->version, "%s", version);
    }
}

/* A number that pods are told to leave by: what is not one is no answer. `absent` when it is not
 * there; -1: refused. */
static json_int_t count_of(const json_t *object, const char *name, json_int_t absent)
{
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        return absent;
    }
    json_int_t count = json_is_integer(value) ? json_integer_value(value) : -1;
    return count >= 0 && count <= UINT16_MAX ? count : -1;
}

enum nb_status kube_statefulset_decode(struct nb_bytes json, struct kube_statefulset *out)
{
    *out = (struct kube_statefulset){.replicas = 1};
    json_t *root = json_loadb((const char *)json.data, json.len, 0, NULL);
    const json_t *kind = json_object_get(root, "kind");
    const json_t *metadata = json_object_get(root, "metadata");
    const json_t *spec = json_object_get(root, "spec");
    enum nb_status status = NB_MALFORMED;
    if (json_is_string(kind) && strcmp(json_string_value(kind), "StatefulSet") == 0 &&
        json_is_object(metadata) && json_is_object(spec)) {
        const json_t *policy = json_object_get(spec, "podManagementPolicy");
        json_int_t count = count_of(spec, "replicas", 1);
        json_int_t first = count_of(json_object_get(spec, "ordinals"), "start", 0);
        status = count >= 0 && first >= 0 ? NB_OK : NB_MALFORMED;
        out->replicas = status == NB_OK ? (uint32_t)count : 0;
        out->first_ordinal = status == NB_OK ? (uint32_t)first : 0;
        const json_t *deletion = json_object_get(metadata, "deletionTimestamp");
        out->deleting = deletion != NULL && !json_is_null(deletion);
        out->parallel =
            json_is_string(policy) && strcmp(json_string_value(policy), "Parallel") == 0;
        take_cluster_id(metadata, out);
        take_version(metadata, out);
    }
    json_decref(root);
    return status;
}

/* ---- the end of a request ---- */

static void drop_connection(struct kube *k)
{
    if (k->connect != NULL) {
        net_connect_cancel(k->connect);
        k->connect = NULL;
    }
    if (k->link != NULL) {
        k->link->kube = NULL;
        net_conn_close(k->link->conn);
        k->link = NULL;
    }
    net_tls_destroy(k->tls);
    k->tls = NULL;
    net_timer_stop(k->timer);
    nb_buf_deinit(&k->request);
}

/* The request's `done` may destroy the kube: nothing here touches it afterwards, nor may the
 * callers. */
static void finish(struct kube *k, enum nb_status status, const struct kube_statefulset *set,
                   const char *error)
{
    drop_connection(k);
    kube_done *done = k->done;
    k->done = NULL;
    done(k->user, status, set, error);
}

static void finish_status(struct kube *k, unsigned code)
{
    char text[512];
    const struct kube_config *c = &k->config;
    enum nb_status status = NB_MALFORMED;
    const char *said = "";
    json_t *root = json_loadb((const char *)k->answer.body.data, k->answer.body.len, 0, NULL);
    const char *message = json_string_value(json_object_get(root, "message"));
    said = message == NULL ? "" : message;
    if (code == 401) {
        status = NB_ACCESS;
        (void)snprintf(text, sizeof text,
                       "the API does not accept the service account's token (401): %s", said);
    } else if (code == 403) {
        status = NB_ACCESS;
        (void)snprintf(text, sizeof text,
                       "the API denies `%s` of statefulsets/%s in namespace %s (403): give the "
                       "service account a Role with that right",
                       k->verb, c->statefulset, c->namespace_name);
    } else if (code == 404) {
        status = NB_NOT_FOUND;
        (void)snprintf(text, sizeof text, "there is no StatefulSet %s in namespace %s",
                       c->statefulset, c->namespace_name);
    } else if (code == 409) {
        status = NB_EXISTS;
        (void)snprintf(text, sizeof text, "the StatefulSet was changed meanwhile (409): %s", said);
    } else {
        bool later = code >= 500 || code == 408 || code == 429;
        status = later ? NB_BUSY : NB_MALFORMED;
        (void)snprintf(text, sizeof text, "the API answered %u: %s", code, said);
    }
    json_decref(root);
    finish(k, status, NULL, text);
}

static void finish_answer(struct kube *k)
{
    struct kube_statefulset set;
    if (kube_answer_code(&k->answer) != 200) {
        finish_status(k, kube_answer_code(&k->answer));
    } else if (kube_statefulset_decode(nb_buf_bytes(&k->answer.body), &set) != NB_OK) {
        finish(k, NB_MALFORMED, NULL, "the API's answer is no StatefulSet");
    } else {
        finish(k, NB_OK, &set, "");
    }
}

/* ---- the connection ---- */

static void take_plain(struct kube *k, struct nb_bytes plain)
{
    enum nb_status status = kube_answer_feed(&k->answer, plain);
    if (k->answer.whole) {
        finish_answer(k);
    } else if (status == NB_TOO_LARGE) {
        finish(k, status, NULL, "the API's answer is larger than 1 MiB");
    } else if (status != NB_OK) {
        finish(k, status, NULL, "the API's answer is not HTTP");
    }
}

/* The other side is at its end. */
static void take_end(struct kube *k)
{
    if (kube_answer_end(&k->answer) == NB_OK) {
        finish_answer(k);
    } else {
        finish(k, NB_CLOSED, NULL, "the API closed the connection before its answer was whole");
    }
}

static void on_data(struct net_conn *conn, void *user, struct nb_bytes bytes)
{
    struct link *link = user;
    if (link->kube == NULL) {
        return;
    }
    struct nb_buf plain = {0};
    struct net_error error = {{0}};
    enum nb_status status = net_tls_feed(link->tls, bytes, &plain, net_conn_output(conn), &error);
    if (plain.len != 0) {
        take_plain(link->kube, nb_buf_bytes(&plain));
    }
    nb_buf_deinit(&plain);
    if (link->kube == NULL || status == NB_OK) {
        return; /* answered, or to be gone on with */
    }
    if (status == NB_CLOSED) {
        take_end(link->kube);
    } else {
        finish(link->kube, status, NULL, error.text);
    }
}

static void on_close(struct net_conn *conn, void *user, enum nb_status reason)
{
    (void)conn;
    (void)reason;
    struct link *link = user;
    if (link->kube != NULL) {
        struct kube *k = link->kube;
        k->link = NULL;
        link->kube = NULL;
        take_end(k);
    }
    net_tls_destroy(link->tls);
    nb_free(link);
}

static const struct net_conn_events conn_events = {.on_data = on_data, .on_close = on_close};

static void on_connected(void *user, struct net_conn *conn, enum nb_status status,
                         const char *error)
{
    struct kube *k = user;
    k->connect = NULL;
    if (conn == NULL) {
        char text[384];
        (void)snprintf(text, sizeof text, "the API at %s port %u is not reached: %s",
                       k->config.host, k->config.port, error);
        /* NB_NOT_FOUND is for the StatefulSet alone, and a name may come back. */
        finish(k, status == NB_NOT_FOUND ? NB_CLOSED : status, NULL, text);
        return;
    }
    struct link *link = nb_alloc_zero(1, sizeof *link);
    *link = (struct link){.kube = k, .conn = conn, .tls = k->tls};
    k->link = link;
    k->tls = NULL;
    net_conn_start(conn, &conn_events, link, NULL);
    struct net_error failed = {{0}};
    struct nb_buf plain = {0};
    status = net_tls_send(link->tls, nb_buf_bytes(&k->request), net_conn_output(conn), &failed);
    if (status == NB_OK) {
        status =
            net_tls_feed(link->tls, (struct nb_bytes){0}, &plain, net_conn_output(conn), &failed);
    }
    nb_buf_deinit(&plain);
    if (status != NB_OK) {
        finish(k, status, NULL, failed.text);
    }
}

static void on_timeout(void *user)
{
    struct kube *k = user;
    if (k->failed != NB_OK) {
        struct net_error failure = k->failure; /* `done` may ask again */
        finish(k, k->failed, NULL, failure.text);
    } else {
        finish(k, NB_BUSY, NULL, "the API did not answer in time");
    }
}

/* ---- asking ---- */

/* One of the account's files, whole. */
static bool read_account_file(const struct kube *k, const char *name, struct nb_buf *out,
                              char *error, size_t error_size)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", k->config.account_dir, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        if (errno == ENOENT) {
            (void)snprintf(error, error_size,
                           "%s is not there: the pod has no service account mounted", path);
        } else {
            (void)snprintf(error, error_size, "%s cannot be opened: %s", path, strerror(errno));
        }
        return false;
    }
    uint8_t piece[4096];
    size_t len;
    while (out->len <= ACCOUNT_FILE_SIZE_MAX && (len = fread(piece, 1, sizeof piece, file)) != 0) {
        nb_buf_append(out, piece, len);
    }
    (void)fclose(file);
    while (out->len != 0 && strchr("\r\n\t ", out->data[out->len - 1]) != NULL) {
        out->len--;
    }
    if (out->len == 0 || out->len > ACCOUNT_FILE_SIZE_MAX) {
        (void)snprintf(error, error_size, "%s is empty or too long", path);
        return false;
    }
    return true;
}

/* A token goes into a header as it is. */
static bool is_clean(struct nb_bytes token)
{
    for (size_t i = 0; i < token.len; i++) {
        if (token.data[i] <= ' ' || token.data[i] >= 0x7f) {
            return false;
        }
    }
    return true;
}

/* So do the names, into a path: what Kubernetes allows in them, and no more. */
static bool is_object_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-.");
    return len != 0 && len <= 253 && name[len] == '\0';
}

static void write_request(struct kube *k, const char *method, struct nb_bytes token,
                          struct nb_bytes body)
{
    const struct kube_config *c = &k->config;
    bool bracketed = strchr(c->host, ':') != NULL;
    nb_buf_printf(&k->request,
                  "%s /apis/apps/v1/namespaces/%s/statefulsets/%s HTTP/1.1\r\n"
                  "Host: %s%s%s:%u\r\nAuthorization: Bearer %.*s\r\n"
                  "Accept: application/json\r\nUser-Agent: nabata\r\nConnection: close\r\n",
                  method, c->namespace_name, c->statefulset, bracketed ? "[" : "", c->host,
                  bracketed ? "]" : "", c->port, (int)token.len, (const char *)token.data);
    if (body.len != 0) {
        nb_buf_printf(&k->request,
                      "Content-Type: application/merge-patch+json\r\nContent-Length: %zu\r\n",
                      body.len);
    }
    nb_buf_append_str(&k->request, "\r\n");
    nb_buf_append_bytes(&k->request, body);
}

/* NB_OK, or why the request cannot even begin, in words. */
static enum nb_status prepare(struct kube *k, const char *method, struct nb_bytes body,
                              struct net_error *error)
{
    if (!is_object_name(k->config.namespace_name) || !is_object_name(k->config.statefulset)) {
        (void)snprintf(error->text, sizeof error->text, "\"%.100s\" in namespace \"%.100s\" %s",
                       k->config.statefulset, k->config.namespace_name,
                       "is no name of a StatefulSet");
        return NB_INVALID;
    }
    struct nb_buf token = {0}, ca = {0};
    struct net_tls_context *context = NULL;
    enum nb_status status = NB_ACCESS;
    if (read_account_file(k, "token", &token, error->text, sizeof error->text) &&
        read_account_file(k, "ca.crt", &ca, error->text, sizeof error->text)) {
        if (!is_clean(nb_buf_bytes(&token))) {
            status = NB_MALFORMED;
            (void)snprintf(error->text, sizeof error->text, "%s/token is no token",
                           k->config.account_dir);
        } else {
            status = net_tls_context_client(nb_buf_bytes(&ca), &context, error);
        }
    }
    if (status == NB_OK) {
        status = net_tls_client(context, k->config.host, &k->tls, error);
    }
    if (status == NB_OK) {
        write_request(k, method, nb_buf_bytes(&token), body);
    }
    net_tls_context_destroy(context);
    nb_buf_deinit(&token);
    nb_buf_deinit(&ca);
    return status;
}

static enum nb_status ask(struct kube *k, const char *method, const char *verb,
                          struct nb_bytes body, kube_done *done, void *user)
{
    if (k->done != NULL) {
        return NB_BUSY;
    }
    k->done = done;
    k->user = user;
    k->verb = verb;
    kube_answer_begin(&k->answer);
    k->failed = prepare(k, method, body, &k->failure);
    if (k->failed != NB_OK) { /* told later, as all is */
        net_timer_start(k->timer, 0, 0);
        return NB_OK;
    }
    struct net_address to = {.scheme = NET_SCHEME_HTTPS, .port = k->config.port};
    (void)snprintf(to.host, sizeof to.host, "%s", k->config.host);
    net_timer_start(k->timer, k->config.timeout_ns, 0);
    k->connect = net_connect_start(k->config.loop, &to, k->config.timeout_ns, on_connected, k);
    return NB_OK;
}

enum nb_status kube_get(struct kube *k, kube_done *done, void *user)
{
    return ask(k, "GET", "get", (struct nb_bytes){0}, done, user);
}

enum nb_status kube_annotate(struct kube *k, const char *cluster_id, const char *version,
                             kube_done *done, void *user)
{
    json_t *patch = json_pack("{s:{s:s,s:{s:s}}}", "metadata", "resourceVersion", version,
                              "annotations", KUBE_CLUSTER_ANNOTATION, cluster_id);
    nb_assert(patch != NULL);
    char *text = json_dumps(patch, JSON_COMPACT);
    nb_assert(text != NULL);
    enum nb_status status = ask(k, "PATCH", "patch", nb_bytes_str(text), done, user);
    free(text);
    json_decref(patch);
    return status;
}

bool kube_is_busy(const struct kube *k)
{
    return k->done != NULL;
}

struct kube *kube_create(const struct kube_config *config)
{
    struct kube *k = nb_alloc_zero(1, sizeof *k);
    k->config = *config;
    if (k->config.timeout_ns == 0) {
        k->config.timeout_ns = timeout_ns_default;
    }
    k->timer = net_timer_create(config->loop, on_timeout, k);
    return k;
}

void kube_destroy(struct kube *k)
{
    if (k != NULL) {
        drop_connection(k);
        net_timer_destroy(k->timer);
        kube_answer_deinit(&k->answer);
        nb_free(k);
    }
}
