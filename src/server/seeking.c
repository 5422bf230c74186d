#include "server/seeking.h"

#include "base/random.h"
#include "server/scale.h"
#include "server/service.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    PROBE_COUNT_MAX = 64,
    PROBES_BEYOND = 4, /* pods that may be there when it is not known how many there are to be */
};

static const uint64_t ms = 1000000;
static const uint64_t probe_timeout_ns = 1000 * 1000000ull;

struct seeker;

struct question {
    struct seeker *seeker;
    size_t place; /* in seeker->probes */
    char url[STEWARD_URL_SIZE_MAX + 1];
    struct nb_buf members; /* of the answer's card, which only borrows them */
};

/* Where a pod was when it probed us. A name server that was asked for a name too early goes on
 * saying that there is none [K01]; who dials us can be asked back. */
struct heard_from {
    uint32_t ordinal;
    bool ask; /* its name gave nothing in the last round */
    char url[STEWARD_URL_SIZE_MAX + 1];
};

struct seeker {
    struct server *server;
    struct net_loop *loop;
    struct peer_transport *peers;
    struct api *api;
    struct server_scale *scale;
    struct server_service *service;
    struct net_timer *timer;
    struct net_signal *signals[2];
    struct nb_random random;
    struct question questions[PROBE_COUNT_MAX];
    struct steward_probe probes[PROBE_COUNT_MAX];
    size_t probe_count, open_count;
    struct heard_from heard[PROBE_COUNT_MAX];
    size_t heard_count;
    uint64_t round_began_ns;
    struct steward_decision decision;
    bool decided;
    char logged[STEWARD_WORDS_SIZE_MAX + 1];
};

static void on_message(void *user, uint64_t from, const struct raft_msg *msg)
{
    (void)user; /* nobody gets past the handshake of who is in no cluster */
    (void)from;
    (void)msg;
}

static struct heard_from *heard_find(struct seeker *k, uint32_t ordinal)
{
    for (size_t i = 0; i < k->heard_count; i++) {
        if (k->heard[i].ordinal == ordinal) {
            return &k->heard[i];
        }
    }
    return NULL;
}

/* What it says of itself is not believed here: it is asked. */
static void heard(void *user, const struct peer_hello *hello, const char *ip, uint16_t port)
{
    struct seeker *k = user;
    struct steward_card card;
    if (steward_card_decode(hello->card, &card) != NB_OK ||
        card.ordinal == k->server->config.statefulset.ordinal) {
        return;
    }
    struct heard_from *h = heard_find(k, card.ordinal);
    if (h == NULL && k->heard_count < PROBE_COUNT_MAX) {
        h = &k->heard[k->heard_count++];
        *h = (struct heard_from){.ordinal = card.ordinal};
    }
    if (h != NULL) {
        bool v6 = strchr(ip, ':') != NULL;
        (void)snprintf(h->url, sizeof h->url, v6 ? "http://[%s]:%u" : "http://%s:%u", ip,
                       (unsigned)port);
    }
}

/* Somebody probes us. */
static void on_hello(void *user, const struct peer_hello *hello, struct peer_refusal *out)
{
    (void)out;
    if (hello->channel == PEER_CHANNEL_PROBE && hello->listen_port != 0 &&
        hello->remote[0] != '\0') {
        heard(user, hello, hello->remote, hello->listen_port);
    }
}

static const struct peer_events events = {.on_message = on_message, .on_hello = on_hello};

/* ---- deciding ---- */

static void decide(struct seeker *k)
{
    const struct server *s = k->server;
    struct steward_search search = {
        .slot = s->config.name,
        .ordinal = s->config.statefulset.ordinal,
        .member_id = s->store.member_id,
        .replicas_expected = s->config.statefulset.replicas,
        .api_awaited = server_scale_is_awaited(k->scale),
        .probes = k->probes,
        .probe_count = k->probe_count,
    };
    server_scale_get(k->scale, &search.scale);
    steward_decide(&search, &k->decision);
    api_set_unready(k->api, k->decision.words);
    if (strcmp(k->logged, k->decision.words) != 0) {
        memcpy(k->logged, k->decision.words, sizeof k->logged);
        nb_log(&s->log, NB_LOG_INFO, "steward.seeking", k->decision.words,
               NB_KV_STR("name", s->config.name), NB_KV_ID("member", s->store.member_id),
               NB_KV_END);
    }
    if (k->decision.move != STEWARD_WAIT) {
        k->decided = true;
        net_loop_stop(k->loop);
    }
}

/* ---- asking ---- */

static void end_round(struct seeker *k)
{
    decide(k);
    uint64_t pause_ns = 400 * ms + nb_random_below(&k->random, 200) * ms; /* all start together */
    uint64_t spent_ns = net_now_ns() - k->round_began_ns;
    net_timer_start(k->timer, spent_ns < pause_ns ? pause_ns - spent_ns : ms, 0);
}

static void on_answer(void *user, enum nb_status status, const struct peer_hello *answer,
                      const char *error)
{
    struct question *q = user;
    struct seeker *k = q->seeker;
    struct steward_probe *p = &k->probes[q->place];
    (void)error;
    k->open_count--;
    struct steward_card card;
    if (status == NB_OK && steward_card_decode(answer->card, &card) == NB_OK &&
        card.ordinal == p->ordinal &&
        steward_ordinal_of(k->server->config.statefulset.set, card.slot) == p->ordinal &&
        card.member_id != k->server->store.member_id) {
        nb_buf_clear(&q->members);
        nb_buf_append_bytes(&q->members, card.members);
        card.members = nb_buf_bytes(&q->members);
        p->card = card;
        p->heard = STEWARD_HEARD_CARD;
    }
    struct heard_from *h = heard_find(k, p->ordinal);
    if (h != NULL && p->heard != STEWARD_HEARD_CARD) {
        h->ask = !h->ask; /* in turn: it may be gone from there as well */
    }
    if (p->heard != STEWARD_HEARD_CARD) {
        struct nb_buf url = {0};
        server_statefulset_peer_url(&k->server->config.statefulset, p->ordinal, &url);
        nb_buf_append(&url, "", 1);
        server_service_ask(k->service, (const char *)url.data);
        nb_buf_deinit(&url);
    }
    bool let_in = p->heard == STEWARD_HEARD_CARD && p->card.you_are_member;
    if (k->decided) {
        return;
    }
    if (k->open_count == 0) {
        end_round(k);
    } else if (let_in) {
        decide(k); /* no reason to wait for pods that are not there */
    }
}

static void begin_round(void *user)
{
    struct seeker *k = user;
    const struct server_statefulset *f = &k->server->config.statefulset;
    struct steward_scale scale;
    server_scale_get(k->scale, &scale);
    uint32_t expected = steward_pods_expected(&scale, f->replicas);
    uint32_t end = expected > f->ordinal ? expected : f->ordinal;
    /* Scaled up since, and the API is silent: those beyond need not answer before a cluster is
     * founded, but if they know one, it is not. [K07] */
    end += scale.known ? 0 : PROBES_BEYOND;
    k->round_began_ns = net_now_ns();
    k->probe_count = 0;
    for (uint32_t i = 0; i < end && k->probe_count < PROBE_COUNT_MAX; i++) {
        if (i != f->ordinal) {
            k->probes[k->probe_count++] = (struct steward_probe){.ordinal = i};
        }
    }
    k->open_count = k->probe_count;
    for (size_t i = 0; i < k->probe_count; i++) {
        struct question *q = &k->questions[i];
        struct nb_buf url = {0};
        const struct heard_from *h = heard_find(k, k->probes[i].ordinal);
        server_statefulset_peer_url(f, k->probes[i].ordinal, &url);
        nb_buf_append(&url, "", 1);
        q->seeker = k;
        q->place = i;
        (void)snprintf(q->url, sizeof q->url, "%s",
                       h != NULL && h->ask ? h->url : (const char *)url.data);
        nb_buf_deinit(&url);
        peer_probe(k->peers, q->url, probe_timeout_ns, on_answer, q);
    }
    if (k->probe_count == 0) {
        end_round(k);
    }
}

/* ---- begin and end ---- */

static void on_signal(void *user, int signal_number)
{
    struct seeker *k = user;
    k->server->signal_number = signal_number;
    nb_log(&k->server->log, NB_LOG_INFO, "server.stopping", "told to stop",
           NB_KV_STR("signal", strsignal(signal_number)), NB_KV_END);
    net_loop_stop(k->loop);
}

static int open_peers(struct seeker *k, struct nb_buf *message)
{
    struct server *s = k->server;
    int code = server_peers_create(s, k->loop, &events, k, &k->peers, message);
    if (code == SERVER_EXIT_OK) {
        struct steward_card card;
        server_card(s, &card);
        struct nb_buf bytes = {0};
        steward_card_encode(&card, NULL, &bytes);
        peer_transport_set_card(k->peers, nb_buf_bytes(&bytes));
        nb_buf_deinit(&bytes);
    }
    return code;
}

static int open_api(struct seeker *k, struct nb_buf *message)
{
    const struct server_config *f = &k->server->config;
    struct api_config config = {
        .loop = k->loop,
        .member_id = k->server->store.member_id,
        .name = f->name,
        .request_bytes_max = f->max_request_bytes,
        .streams_max = f->max_concurrent_streams,
        .keepalive_min_ns = (uint64_t)f->grpc_keepalive_min_time_ns,
        .keepalive_interval_ns = (uint64_t)f->grpc_keepalive_interval_ns,
        .keepalive_timeout_ns = (uint64_t)f->grpc_keepalive_timeout_ns,
        .host_whitelist = (const char *const *)f->host_whitelist,
        .log = &k->server->log,
    };
    k->api = api_create(&config);
    return server_listen_for(k->api, &f->listen_metrics, API_PORT_METRICS, "metrics", message);
}

static int take(struct seeker *k, struct nb_buf *message)
{
    struct server *s = k->server;
    int code = SERVER_EXIT_OK;
    switch (k->decision.move) {
    case STEWARD_WAIT:
        break; /* a signal came */
    case STEWARD_RENEW_ID:
        code = server_store_renew(&s->store, message);
        break;
    case STEWARD_FOUND: {
        uint64_t id = nb_random_entropy();
        code = server_store_found(&s->store, id == 0 ? 1 : id, message);
        if (code == SERVER_EXIT_OK) {
            nb_log(&s->log, NB_LOG_INFO, "steward.founded", "founded the cluster",
                   NB_KV_ID("cluster", s->store.cluster_id), NB_KV_ID("member", s->store.member_id),
                   NB_KV_END);
        }
        break;
    }
    case STEWARD_JOIN:
        code = server_store_join(&s->store, k->decision.cluster_id, message);
        if (code == SERVER_EXIT_OK) {
            nb_log(&s->log, NB_LOG_INFO, "steward.joined", "joined the cluster",
                   NB_KV_ID("cluster", s->store.cluster_id), NB_KV_ID("member", s->store.member_id),
                   NB_KV_END);
        }
        break;
    }
    return code;
}

/* Until a decision, or a signal. */
static int seek_once(struct server *s, struct nb_buf *message)
{
    struct seeker *k = nb_alloc_zero(1, sizeof *k);
    k->server = s;
    k->loop = net_loop_create();
    server_set_names(s, k->loop);
    nb_random_init(&k->random, nb_random_entropy());
    k->signals[0] = net_signal_create(k->loop, SIGTERM, on_signal, k);
    k->signals[1] = net_signal_create(k->loop, SIGINT, on_signal, k);
    server_hold_signals(s, false);
    k->timer = net_timer_create(k->loop, begin_round, k);
    k->scale = server_scale_create(k->loop, &s->config.statefulset, &s->log);
    int code = open_peers(k, message);
    if (code == SERVER_EXIT_OK) {
        k->service = server_service_create(k->loop, k->peers, heard, k);
        code = open_api(k, message);
    }
    if (code == SERVER_EXIT_OK) {
        net_timer_start(k->timer, ms, 0);
        net_loop_run(k->loop);
        code = take(k, message);
    }
    server_hold_signals(s, true);
    for (size_t i = 0; i < NB_ARRAY_LEN(k->signals); i++) {
        net_signal_destroy(k->signals[i]);
    }
    server_scale_destroy(k->scale);
    net_timer_destroy(k->timer);
    server_service_destroy(k->service);
    peer_transport_destroy(k->peers);
    api_destroy(k->api);
    net_loop_destroy(k->loop);
    for (size_t i = 0; i < PROBE_COUNT_MAX; i++) {
        nb_buf_deinit(&k->questions[i].members);
    }
    nb_free(k);
    return code;
}

int server_seek(struct server *s, struct nb_buf *message)
{
    int code = SERVER_EXIT_OK;
    while (code == SERVER_EXIT_OK && s->store.cluster_id == 0 && s->signal_number == 0) {
        code = seek_once(s, message);
    }
    return code;
}
