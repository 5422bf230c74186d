/*
 * server/discovery: the members of a new cluster out of SRV records, as etcd's --discovery-srv has
 * them: `_etcd-server-ssl._tcp.DOMAIN` (https) and `_etcd-server._tcp.DOMAIN` (http), with
 * `-NAME` behind the service's name when --discovery-srv-name is given.
 *
 * Our own record is the one that is an advertised peer URL of ours: the same host and port as text,
 * or else (an address on one side, a name on the other) the same address when both are resolved.
 * It gets our name; the others get "0", "1", ... until they tell theirs.
 */
#ifndef NABATA_SERVER_DISCOVERY_H
#define NABATA_SERVER_DISCOVERY_H

#include "net/net.h"
#include "server/config.h"

/* How long to go on while name servers do not answer, or we are not among the records yet. */
extern const uint64_t server_discovery_patience_ns;

/* Fills config->initial_cluster_text; turns `loop` until that is done. SERVER_CONFIG_BAD with a
 * line in `message`: no records, or ours is not among them. */
NB_MUST_USE enum server_config_outcome server_discover(struct net_loop *loop,
                                                       struct server_config *config,
                                                       uint64_t patience_ns,
                                                       struct nb_buf *message);

#endif
