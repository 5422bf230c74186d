/*
 * client/slot: the connections of a client: a row of slots (lanes) an endpoint, each with a
 * connection, one being dialed, or none. What is called over them is client.c's.
 */
#ifndef NABATA_CLIENT_SLOT_H
#define NABATA_CLIENT_SLOT_H

#include "net/net.h"
#include "rpc/rpc.h"

struct client_slots;

struct client_slots_config {
    const char *const *endpoints; /* copied */
    size_t endpoint_count;
    unsigned lanes;
    uint64_t dial_timeout_ns;
    /* A connection has become ready or a dial has failed. */
    void (*on_change)(void *user);
    void *user;
};

NB_MUST_USE enum nb_status client_slots_create(struct net_loop *loop,
                                               const struct client_slots_config *config,
                                               struct client_slots **out, struct net_error *error);
/* Turns the loop until all connections are closed; the running calls must be canceled before. */
void client_slots_destroy(struct client_slots *slots);

size_t client_slots_endpoint_count(const struct client_slots *slots);
const char *client_slots_name(const struct client_slots *slots, size_t endpoint);

/* The connection of that lane when it can take a call, else NULL. */
struct rpc_client *client_slots_ready(struct client_slots *slots, size_t endpoint, unsigned lane);
/* Dials, unless it is connected, on its way, or has failed too short ago. */
void client_slots_dial(struct client_slots *slots, size_t endpoint, unsigned lane);
/* Why the last dial failed; NULL when none has since the last success. */
const char *client_slots_error(const struct client_slots *slots, size_t endpoint, unsigned lane);
/* Deadlines and pings of every connection. */
void client_slots_tick(struct client_slots *slots);

#endif
