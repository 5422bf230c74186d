#include "server/service.h"

#include <stdio.h>
#include <string.h>

static const uint64_t pause_ns = 2000 * 1000000ull;
static const uint64_t grace_ns = 1000 * 1000000ull; /* in which the pods' own names do */
static const uint64_t probe_timeout_ns = 1000 * 1000000ull;

struct place {
    struct server_service *service; /* NULL: free */
    struct net_address at;
};

struct server_service {
    struct net_loop *loop;
    struct peer_transport *peers;
    void (*on_found)(void *user, const struct peer_hello *answer, const char *ip, uint16_t port);
    void *user;
    struct net_resolve *resolve; /* NULL: none under way */
    uint16_t port;
    uint64_t due_ns;
    /* Being asked; here, since a transport that ends answers none. */
    struct place places[NET_RESOLVED_MAX];
};

const char *server_service_of_host(const char *host)
{
    const char *service = strchr(host, '.');
    const char *name_space = service == NULL ? NULL : strchr(service + 1, '.');
    const char *svc = name_space == NULL ? NULL : strchr(name_space + 1, '.');
    bool pod = svc != NULL && strncmp(svc, ".svc", 4) == 0 && (svc[4] == '.' || svc[4] == '\0');
    bool empty = pod && (service == host || name_space == service + 1 || svc == name_space + 1);
    return pod && !empty ? service + 1 : NULL;
}

static void on_answer(void *user, enum nb_status status, const struct peer_hello *answer,
                      const char *error)
{
    struct place *p = user;
    struct server_service *w = p->service;
    (void)error;
    p->service = NULL;
    if (status == NB_OK) {
        w->on_found(w->user, answer, p->at.host, p->at.port);
    }
}

static void on_addresses(void *user, enum nb_status status, const struct net_address *addresses,
                         size_t count, const char *error)
{
    struct server_service *w = user;
    (void)error; /* the next time */
    w->resolve = NULL;
    for (size_t i = 0; status == NB_OK && i < count && i < NB_ARRAY_LEN(w->places); i++) {
        struct place *p = &w->places[i];
        if (p->service != NULL) {
            continue; /* still being asked */
        }
        char text[300];
        *p = (struct place){.service = w, .at = addresses[i]};
        p->at.port = w->port;
        net_address_format(&p->at, text, sizeof text);
        peer_probe(w->peers, text, probe_timeout_ns, on_answer, p);
    }
}

void server_service_ask(struct server_service *w, const char *url)
{
    struct net_address pod;
    struct net_error error;
    uint64_t now_ns = net_now_ns();
    if (w->resolve != NULL || now_ns < w->due_ns || !net_address_parse(url, 0, &pod, &error)) {
        return;
    }
    const char *service = server_service_of_host(pod.host);
    if (service != NULL) {
        w->due_ns = now_ns + pause_ns;
        w->port = pod.port;
        w->resolve = net_resolve_start(w->loop, service, on_addresses, w);
    }
}

struct server_service *server_service_create(struct net_loop *loop, struct peer_transport *peers,
                                             void (*on_found)(void *user,
                                                              const struct peer_hello *answer,
                                                              const char *ip, uint16_t port),
                                             void *user)
{
    struct server_service *w = nb_alloc_zero(1, sizeof *w);
    *w = (struct server_service){.loop = loop,
                                 .peers = peers,
                                 .on_found = on_found,
                                 .user = user,
                                 .due_ns = net_now_ns() + grace_ns};
    return w;
}

void server_service_destroy(struct server_service *w)
{
    if (w != NULL && w->resolve != NULL) {
        net_resolve_cancel(w->resolve);
    }
    nb_free(w);
}
