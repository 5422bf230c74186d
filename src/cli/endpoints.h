/*
 * cli/endpoints: whom a command talks to, when it is not --endpoints that says so: SRV records of a
 * domain as etcdctl asks for them, or the members behind a (headless) service.
 *
 * Of a service: the SRV records `_client._tcp.SERVICE`, whose names are then shown; without any,
 * all addresses of SERVICE with the client port.
 */
#ifndef NABATA_CLI_ENDPOINTS_H
#define NABATA_CLI_ENDPOINTS_H

#include "base/arena.h"
#include "net/net.h"

struct endpoints_source {
    const char *discovery_srv;      /* a domain, or ""; else */
    const char *discovery_srv_name; /* "" is none */
    const char *service;            /* a name */
    uint16_t client_port;
};

struct endpoints_found {
    const char **items; /* in the arena */
    size_t count;
};

/* Turns `loop` until it is known. Else a status and words; NB_NOT_FOUND: there is none. */
NB_MUST_USE enum nb_status endpoints_find(struct net_loop *loop, const struct endpoints_source *s,
                                          struct nb_arena *arena, struct endpoints_found *out,
                                          struct net_error *error);

#endif
