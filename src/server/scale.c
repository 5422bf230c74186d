#include "server/scale.h"

#include "kube/kube.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct server_scale {
    struct net_loop *loop;
    const struct nb_logger *log;
    struct kube *kube; /* NULL: there is no API */
    struct net_timer *timer;
    bool polling;
    bool again;           /* asked while busy: once more */
    bool gone;            /* no such StatefulSet, it says */
    uint64_t annotate_id; /* to be written; 0: nothing */
    uint64_t annotate_next_ns;
    bool annotate_logged; /* that it does not work */
    uint64_t created_ns;
    uint64_t answers, reads;
    uint64_t asked_ns;
    uint64_t read_ns; /* of the last good answer */
    struct steward_scale last;
    enum nb_status logged; /* of the trouble logged last */
};

static const uint64_t second = 1000000000;
static const uint64_t poll_ns = 5 * 1000000000ull;
static const uint64_t first_poll_ns = 1000000000;
static const uint64_t known_ns = 30 * 1000000000ull;
static const uint64_t annotate_again_ns = 60 * 1000000000ull;
static const uint64_t awaited_ns = 10 * 1000000000ull;

static void go_on(struct server_scale *s);

static void log_trouble(struct server_scale *s, enum nb_status status, const char *error)
{
    if (status != s->logged) {
        nb_log(s->log, status == NB_OK ? NB_LOG_INFO : NB_LOG_WARN, "kubernetes.api",
               status == NB_OK       ? "the Kubernetes API answers"
               : status == NB_ACCESS ? "the Kubernetes API denies access: pods that are scaled "
                                       "down stay members until removed by hand"
                                     : "the Kubernetes API cannot be used for now",
               NB_KV_STR("status", nb_status_text(status)),
               NB_KV_STR("error", error == NULL ? "" : error), NB_KV_END);
        s->logged = status;
    }
}

/* The annotation as an id; 0 when it is not there. What is no id of ours is still a sign that there
 * is a cluster: it becomes one that nobody has, so that none is founded over it. [K07] */
static uint64_t annotated_cluster(const char *text)
{
    char *end;
    if (text[0] == '\0') {
        return 0;
    }
    uint64_t id = strtoull(text, &end, 16);
    bool whole = *end == '\0' && strlen(text) == 16 && text[0] != '-' && id != 0;
    return whole ? id : UINT64_MAX;
}

static void on_got(void *user, enum nb_status status, const struct kube_statefulset *set,
                   const char *error)
{
    struct server_scale *s = user;
    s->answers++;
    s->last.denied = status == NB_ACCESS;
    s->gone = status == NB_NOT_FOUND;
    if (status == NB_OK) {
        s->reads++;
        s->read_ns = net_now_ns();
        s->last.replicas = set->replicas;
        s->last.deleting = set->deleting;
        s->last.cluster_id = annotated_cluster(set->cluster_id);
    }
    log_trouble(s, status, error);
    go_on(s);
}

static void on_annotated(void *user, enum nb_status status, const struct kube_statefulset *set,
                         const char *error)
{
    struct server_scale *s = user;
    (void)set;
    if (status == NB_OK) {
        nb_log(s->log, NB_LOG_INFO, "kubernetes.annotated",
               "wrote the cluster's id beside the StatefulSet", NB_KV_ID("cluster", s->annotate_id),
               NB_KV_END);
        s->last.cluster_id = s->annotate_id;
    } else if (!s->annotate_logged) {
        s->annotate_logged = true;
        nb_log(s->log, NB_LOG_WARN, "kubernetes.not_annotated",
               "the cluster's id cannot be written beside the StatefulSet; the right \"patch\" on "
               "it makes founding a second cluster impossible",
               NB_KV_STR("status", nb_status_text(status)),
               NB_KV_STR("error", error == NULL ? "" : error), NB_KV_END);
    }
    s->annotate_id = 0;
    go_on(s);
}

/* What waits, one after the other. */
static void go_on(struct server_scale *s)
{
    if (s->kube == NULL || kube_is_busy(s->kube)) {
        return;
    }
    char id[17];
    (void)snprintf(id, sizeof id, "%016" PRIx64, s->annotate_id);
    if (s->again) {
        s->again = false;
        s->asked_ns = net_now_ns();
        if (kube_get(s->kube, on_got, s) != NB_OK) {
            s->again = true;
        }
    } else if (s->annotate_id != 0 && kube_annotate(s->kube, id, on_annotated, s) != NB_OK) {
        s->annotate_id = 0;
    }
}

static void on_timer(void *user)
{
    struct server_scale *s = user;
    net_timer_start(s->timer, s->answers == 0 ? first_poll_ns : poll_ns, 0);
    if (s->polling) {
        server_scale_ask(s);
    }
}

struct server_scale *server_scale_create(struct net_loop *loop,
                                         const struct server_statefulset *config,
                                         const struct nb_logger *log)
{
    struct server_scale *s = nb_alloc_zero(1, sizeof *s);
    *s = (struct server_scale){
        .loop = loop, .log = log, .polling = true, .created_ns = net_now_ns()};
    if (config->api_host != NULL && config->name_space[0] != '\0') {
        struct kube_config kube = {.loop = loop,
                                   .host = config->api_host,
                                   .port = (uint16_t)strtoul(config->api_port, NULL, 10),
                                   .account_dir = config->service_account_dir,
                                   .namespace_name = config->name_space,
                                   .statefulset = config->set,
                                   .timeout_ns = 2 * second};
        s->kube = kube_create(&kube);
        s->timer = net_timer_create(loop, on_timer, s);
        net_timer_start(s->timer, first_poll_ns, 0);
        server_scale_ask(s);
    }
    return s;
}

void server_scale_destroy(struct server_scale *s)
{
    if (s != NULL) {
        kube_destroy(s->kube);
        net_timer_destroy(s->timer);
        nb_free(s);
    }
}

void server_scale_set_polling(struct server_scale *s, bool on)
{
    if (on && !s->polling) {
        server_scale_ask(s);
    }
    s->polling = on;
}

void server_scale_ask(struct server_scale *s)
{
    s->again = true;
    go_on(s);
}

void server_scale_hint(struct server_scale *s)
{
    if (net_now_ns() - s->asked_ns > second) {
        server_scale_ask(s);
    }
}

uint64_t server_scale_answers(const struct server_scale *s)
{
    return s->answers;
}

void server_scale_get(const struct server_scale *s, struct steward_scale *out)
{
    *out = s->last;
    out->known = s->reads != 0 && net_now_ns() - s->read_ns < known_ns;
}

uint64_t server_scale_reads(const struct server_scale *s)
{
    return s->reads;
}

bool server_scale_is_awaited(const struct server_scale *s)
{
    return s->kube != NULL && s->reads == 0 && !s->last.denied &&
           net_now_ns() - s->created_ns < awaited_ns;
}

bool server_scale_is_gone(const struct server_scale *s)
{
    return s->gone;
}

bool server_scale_has_api(const struct server_scale *s)
{
    return s->kube != NULL;
}

void server_scale_annotate(struct server_scale *s, uint64_t cluster_id)
{
    uint64_t now_ns = net_now_ns();
    if (s->annotate_id == 0 && now_ns >= s->annotate_next_ns) {
        s->annotate_id = cluster_id;
        s->annotate_next_ns = now_ns + annotate_again_ns;
        go_on(s);
    }
}
