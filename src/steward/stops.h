/*
 * steward/stops: who may stop: the arbiter of restarts, at the leader.
 *
 * A restart is allowed when the connected voters that have not been given leave would still be a
 * majority without the asker. Two at once: the second waits until the first is back. [E04, K10]
 *
 * Invariants:
 *   G1  connected voters without leave are a majority after every grant, unless the cluster is too
 *       small for any of its voters to be missed (one or two voters): then waiting cannot help, and
 *       leave is given at once
 *   G2  a grant ends when its pod is back (another boot, connected, caught up), when it is no
 *       voter any more, or, when it neither goes nor comes back, after `grant_ns`
 *
 * Grants are noted by all members (a pod that goes says so to all), so that a new leader knows
 * them.
 */
#ifndef NABATA_STEWARD_STOPS_H
#define NABATA_STEWARD_STOPS_H

#include "steward/keeper.h"

struct steward_grant {
    uint64_t id, boot_id;
    uint64_t at_ns;
};

struct steward_stops {
    uint64_t grant_ns; /* how long a grant lasts when its pod neither goes nor comes back */
    uint64_t lag_entries_max;
    struct steward_grant grants[MACHINE_MEMBER_COUNT_MAX];
    size_t grant_count;
};

void steward_stops_init(struct steward_stops *s);

/* `id` of boot `boot_id` goes now, as it told all: noted without asking. */
void steward_stops_note(struct steward_stops *s, uint64_t id, uint64_t boot_id, uint64_t now_ns);

/* May `id` stop? Notes the grant when it may; `words` gets why not. Asking again renews. */
bool steward_stops_ask(struct steward_stops *s, const struct steward_facts *facts, uint64_t id,
                       uint64_t boot_id, char words[STEWARD_WORDS_SIZE_MAX + 1]);

/* Drops grants that have ended. */
void steward_stops_turn(struct steward_stops *s, const struct steward_facts *facts);

#endif
