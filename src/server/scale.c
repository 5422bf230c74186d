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
    bool again;                                   /* asked while busy: once more */
    bool getting;                                 /* what is under way is a question, no writing */
    bool gone;                                    /* no such StatefulSet, it says */
    char version[KUBE_VERSION_SIZE_MAX];          /* of the last good answer */
    char annotate_version[KUBE_VERSION_SIZE_MAX]; /* that the wish to write is based on */
    uint64_t annotate_id;                         /* to be written; 0: nothing */
    uint64_t annotate_next_ns;
    bool annotate_logged; /* that it does not work */
    uint64_t created_ns;
    uint64_t answers, reads;
    uint64_t asked_ns;
    uint64_t read_ns; /* of the last good answer */
    struct steward_scale last;
    enum trouble {
        TROUBLE_NONE,
        TROUBLE_DENIED,
        TROUBLE_GONE,
        TROUBLE_ORDINALS,
        TROUBLE_OTHER,
    } logged; /* last */
};

static const uint64_t second = 1000000000;
static const uint64_t poll_ns = 5 * 1000000000ull;
static const uint64_t first_poll_ns = 1000000000;
static const uint64_t known_ns = 30 * 1000000000ull;
static const uint64_t annotate_again_ns = 60 * 1000000000ull;
static const uint64_t annotate_conflict_ns = 1000000000;
static const uint64_t awaited_ns = 10 * 1000000000ull;

static void go_on(struct server_scale *s);

/* Once for each kind of trouble: how exactly a server fails changes from one poll to the next. */
static void log_trouble(struct server_scale *s, enum trouble trouble, const char *error)
{
    static const char *const texts[] = {
        [TROUBLE_NONE] = "the Kubernetes API answers",
        [TROUBLE_DENIED] = "the Kubernetes API denies access: pods that are scaled down stay "
                           "members until removed by hand",
        [TROUBLE_GONE] = "the Kubernetes API knows no such StatefulSet",
        [TROUBLE_ORDINALS] = "spec.ordinals.start of the StatefulSet must be 0: its size is not "
                             "used, and nobody founds a cluster but pod 0",
        [TROUBLE_OTHER] = "the Kubernetes API cannot be used for now",
    };
    if (trouble != s->logged) {
        s->logged = trouble;
        nb_log(s->log, trouble == TROUBLE_NONE ? NB_LOG_INFO : NB_LOG_WARN, "kubernetes.api",
               texts[trouble], NB_KV_STR("error", error), NB_KV_END);
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

static void take_set(struct server_scale *s, const struct kube_statefulset *set)
{
    s->reads++;
    s->read_ns = net_now_ns();
    s->last.replicas = set->replicas;
    s->last.deleting = set->deleting;
    s->last.cluster_id = annotated_cluster(set->cluster_id);
    memcpy(s->version, set->version, sizeof s->version);
}

static void on_got(void *user, enum nb_status status, const struct kube_statefulset *set,
                   const char *error)
{
    struct server_scale *s = user;
    enum trouble trouble = status == NB_OK          ? TROUBLE_NONE
                           : status == NB_ACCESS    ? TROUBLE_DENIED
                           : status == NB_NOT_FOUND ? TROUBLE_GONE
                                                    : TROUBLE_OTHER;
    s->answers++;
    s->getting = false;
    s->last.denied = status == NB_ACCESS;
    s->gone = status == NB_NOT_FOUND;
    if (status == NB_OK && set->first_ordinal != 0) {
        trouble = TROUBLE_ORDINALS; /* its replicas would be taken for others than they are */
    } else if (status == NB_OK) {
        take_set(s, set);
    }
    log_trouble(s, trouble, error);
    go_on(s);
}

static void on_annotated(void *user, enum nb_status status, const struct kube_statefulset *set,
                         const char *error)
{
    struct server_scale *s = user;
    if (status == NB_OK) {
        nb_log(s->log, NB_LOG_INFO, "kubernetes.annotated",
               "wrote the cluster's id beside the StatefulSet", NB_KV_ID("cluster", s->annotate_id),
               NB_KV_END);
        take_set(s, set);
    } else if (status == NB_EXISTS) {
        s->again = true; /* somebody else may have written an id */
        s->annotate_next_ns = net_now_ns() + annotate_conflict_ns;
    } else if (!s->annotate_logged) {
        s->annotate_logged = true;
        nb_log(s->log, NB_LOG_WARN, "kubernetes.not_annotated",
               "the cluster's id cannot be written beside the StatefulSet; the right \"patch\" on "
               "it makes founding a second cluster impossible",
               NB_KV_STR("error", error), NB_KV_END);
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
        s->getting = kube_get(s->kube, on_got, s) == NB_OK;
        s->again = !s->getting;
    } else if (s->annotate_id != 0 &&
               kube_annotate(s->kube, id, s->annotate_version, on_annotated, s) != NB_OK) {
        s->annotate_id = 0;
    }
}

static void on_timer(void *user)
{
    struct server_scale *s = user;
    net_timer_start(s->timer, s->answers == 0 ? first_poll_ns : poll_ns, 0);
    if (s->polling) {
        (void)server_scale_ask(s);
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
        (void)server_scale_ask(s);
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
        (void)server_scale_ask(s);
    }
    s->polling = on;
}

uint64_t server_scale_ask(struct server_scale *s)
{
    uint64_t under_way = s->getting ? 1 : 0;
    s->again = true;
    go_on(s);
    return s->answers + under_way + 1;
}

void server_scale_hint(struct server_scale *s)
{
    if (net_now_ns() - s->asked_ns > second) {
        (void)server_scale_ask(s);
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
        memcpy(s->annotate_version, s->version, sizeof s->annotate_version);
        s->annotate_next_ns = now_ns + annotate_again_ns;
        go_on(s);
    }
}
