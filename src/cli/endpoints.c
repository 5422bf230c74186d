#include "cli/endpoints.h"

#include <stdio.h>
#include <string.h>

/* One search; what is found is added as it comes. */
struct search {
    struct net_loop *loop;
    struct nb_arena *arena;
    struct endpoints_found found;
    size_t capacity;
    const char *scheme; /* "", "http://", "https://": before what is found */
    uint16_t port;      /* of addresses */
    bool done;
    enum nb_status status;
    struct net_error error;
};

static void add(struct search *s, const char *host, uint16_t port)
{
    struct net_address a = {.port = port};
    (void)snprintf(a.host, sizeof a.host, "%s", host);
    char text[280], whole[300];
    net_address_format(&a, text, sizeof text);
    (void)snprintf(whole, sizeof whole, "%s%s", s->scheme, text);
    if (s->found.count < s->capacity) {
        s->found.items[s->found.count++] = nb_arena_str(s->arena, nb_bytes_str(whole));
    }
}

static void note(struct search *s, enum nb_status status, const char *error)
{
    s->done = true;
    s->status = status;
    if (error != NULL) {
        (void)snprintf(s->error.text, sizeof s->error.text, "%s", error);
    }
}

static void on_records(void *user, enum nb_status status, const struct net_srv *records,
                       size_t count, const char *error)
{
    struct search *s = user;
    note(s, status, error);
    for (size_t i = 0; i < count; i++) {
        add(s, records[i].target, records[i].port);
    }
}

static void on_addresses(void *user, enum nb_status status, const struct net_address *addresses,
                         size_t count, const char *error)
{
    struct search *s = user;
    note(s, status, error);
    for (size_t i = 0; i < count; i++) {
        add(s, addresses[i].host, s->port);
    }
}

static void wait_for(struct search *s)
{
    while (!s->done) {
        (void)net_loop_run_once(s->loop, true);
    }
    s->done = false;
}

static void find_srv(struct search *s, const char *name)
{
    (void)!net_resolve_srv_start(s->loop, name, on_records, s);
    wait_for(s);
}

/* As etcdctl: https first. */
static void find_discovery(struct search *s, const struct endpoints_source *from)
{
    for (int plain = 0; plain < 2; plain++) {
        char name[512];
        const char *suffix = from->discovery_srv_name;
        (void)snprintf(name, sizeof name, "_etcd-client%s%s%s._tcp.%s", plain == 0 ? "-ssl" : "",
                       *suffix != '\0' ? "-" : "", suffix, from->discovery_srv);
        s->scheme = plain == 0 ? "https://" : "http://";
        find_srv(s, name);
    }
}

static void find_service(struct search *s, const struct endpoints_source *from)
{
    char name[300];
    (void)snprintf(name, sizeof name, "_client._tcp.%s", from->service);
    find_srv(s, name);
    if (s->found.count == 0) {
        s->port = from->client_port;
        (void)!net_resolve_start(s->loop, from->service, on_addresses, s);
        wait_for(s);
    }
}

enum nb_status endpoints_find(struct net_loop *loop, const struct endpoints_source *from,
                              struct nb_arena *arena, struct endpoints_found *out,
                              struct net_error *error)
{
    struct search s = {.loop = loop, .arena = arena, .scheme = "", .capacity = 2 * NET_SRV_MAX};
    s.found.items = nb_arena_alloc_zero(arena, s.capacity, sizeof *s.found.items);
    if (*from->discovery_srv != '\0') {
        find_discovery(&s, from);
    } else {
        find_service(&s, from);
    }
    if (s.found.count == 0) {
        *error = s.error;
        nb_assert(s.status != NB_OK);
        return s.status;
    }
    *out = s.found;
    return NB_OK;
}
