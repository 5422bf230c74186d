/*
 * server/incoming: snapshots that peers stream to us, made durable before raft hears of them. [S09,
 * S10]
 *
 * Chunks come checked and in order from peer/, so they are written one behind the other into
 * `<snap>/<transfer>.part`; at the end the file is synced and renamed off the loop, and only then
 * the announcement is stepped and the sender answered.
 */
#ifndef NABATA_SERVER_INCOMING_H
#define NABATA_SERVER_INCOMING_H

#include "peer/peer.h"
#include "replica/replica.h"
#include "server/metrics.h"
#include "storage/disk.h"

struct server_incoming;

struct server_incoming_config {
    struct disk *disk; /* borrowed; its completions are reaped by the caller */
    const char *dir;   /* borrowed */
    struct replica *replica;
    struct peer_transport *peers;
    struct server_metrics *metrics;
    const struct nb_logger *log;
};

NB_MUST_USE struct server_incoming *
server_incoming_create(const struct server_incoming_config *config);
void server_incoming_destroy(struct server_incoming *in); /* NULL is fine */

/* The snapshot callbacks of struct peer_events. */
bool server_incoming_begin(struct server_incoming *in, uint64_t from, uint64_t transfer,
                           uint64_t total);
enum peer_take server_incoming_chunk(struct server_incoming *in, uint64_t transfer, uint64_t offset,
                                     struct nb_bytes bytes);
void server_incoming_end(struct server_incoming *in, uint64_t transfer,
                         const struct raft_msg *announce);
void server_incoming_abort(struct server_incoming *in, uint64_t transfer, const char *why);

#endif
