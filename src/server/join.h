/*
 * server/join: a member that was added to a running cluster finds out who it is.
 *
 * Every member tells those who probe it who the members are, in a card of protobuf fields (numbers
 * stay; others are skipped):
 *
 *   7  id of the one that says so
 *   13 members (machine_members_encode, client URLs left out)
 *   14 applied index that they are as of
 *
 * What was found is kept beside the identity until the first snapshot has brought the members: a
 * restart before that finds them there, whoever answers then.
 */
#ifndef NABATA_SERVER_JOIN_H
#define NABATA_SERVER_JOIN_H

#include "machine/members.h"
#include "server/config.h"

/* Appends the card. */
void server_card_encode(uint64_t member_id, uint64_t applied_index,
                        const struct machine_members *members, struct nb_buf *out);
/* Takes members and index of a card; `out_members` is empty before. NB_MALFORMED and the like. */
NB_MUST_USE enum nb_status server_card_decode(struct nb_bytes card, uint64_t *out_applied_index,
                                              struct machine_members *out_members);

struct server_joined {
    uint64_t cluster_id, member_id;
    struct machine_members members; /* owned */
};

/*
 * Asks the other members of --initial-cluster (filled by server_config_bootstrap) for the cluster
 * and finds this member in it by its peer URLs. Tries for some seconds; then `message` gets a line
 * that says what to do, and the exit code is returned.
 */
NB_MUST_USE int server_join_find(const struct server_config *config, const struct nb_logger *log,
                                 struct server_joined *out, struct nb_buf *message);

/* Whether `listed` (of --initial-cluster) is the cluster that `members` says; finds ourselves in
 * it. 0 and words when not. */
NB_MUST_USE uint64_t server_join_match(const struct server_members *listed, const char *name,
                                       const struct machine_members *members,
                                       struct nb_buf *message);

#endif
