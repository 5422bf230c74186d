/*
 * server/service: finds members behind the name of their headless service.
 *
 * A name server that was asked for a pod's name too early goes on saying that there is none, for 30
 * s in Kubernetes. The service's own name holds the addresses of all pods, ready or not, and exists
 * as long as one of them does, so it is not remembered as missing [K01]:
 *
 *   ss-1.ss-service.default.svc  ->  ss-service.default.svc  ->  10.0.0.7, 10.0.0.9
 *
 * Each address is asked who lives there by a peer probe: the answer's cluster and member id decide,
 * so a wrong address does no harm [M09]. Names that are not those of a pod are left alone: what
 * stands above them may be anybody's.
 */
#ifndef NABATA_SERVER_SERVICE_H
#define NABATA_SERVER_SERVICE_H

#include "net/net.h"
#include "peer/peer.h"

struct server_service;

/* `on_found` is told of everybody who answers: its hello, and where it is. Loop and transport are
 * borrowed; it goes before the transport. Asks nobody within the first second. */
struct server_service *server_service_create(struct net_loop *loop, struct peer_transport *peers,
                                             void (*on_found)(void *user,
                                                              const struct peer_hello *answer,
                                                              const char *ip, uint16_t port),
                                             void *user);
void server_service_destroy(struct server_service *w); /* NULL is fine */

/* `url` of a pod gave nothing. Asks, unless it did so a moment ago or the host is no pod's name. */
void server_service_ask(struct server_service *w, const char *url);

/* "pod.service.namespace.svc", with or without a zone behind it: the part behind the pod. NULL:
 * another name. */
const char *server_service_of_host(const char *host);

#endif
