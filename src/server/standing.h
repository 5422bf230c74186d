/*
 * server/standing: how far a member's log goes, told at the end of its card to whoever asks its
 * peer port: also without a leader, when the client port serves nobody. For the choice of a
 * survivor.
 */
#ifndef NABATA_SERVER_STANDING_H
#define NABATA_SERVER_STANDING_H

#include "replica/replica.h"

struct server_standing {
    bool answered;
    uint64_t term;                  /* that it is in */
    uint64_t leader_id;             /* 0: it knows none */
    uint64_t last_index, last_term; /* of its last entry */
};

enum { SERVER_STANDING_SIZE_MAX = 48 }; /* bytes that are appended at most */

/* Appends it to a card, as protobuf fields 40 to 43. */
void server_standing_append(const struct replica *r, struct nb_buf *card);
/* Takes it from a card; unknown fields are skipped. False when it is not there or malformed. */
NB_MUST_USE bool server_standing_decode(struct nb_bytes card, struct server_standing *out);

/* Asks each member of `members` but `self` at its peer URLs, all at once, for at most `timeout_ns`;
 * `out` has one a member. Runs a loop of its own. */
void server_standing_ask(const struct machine_members *members, uint64_t self, uint64_t timeout_ns,
                         struct server_standing *out);

#endif
