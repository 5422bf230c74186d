/*
 * steward/founding: a pod that is in no cluster decides what to do: wait, found one, or join one.
 *
 * Pure: what the pods answered in one round of probes and what the API says go in, a decision comes
 * out.
 *
 * Invariants:
 *   F1  only ordinal 0 founds, only when every other expected pod answered, in this round, that it
 *       is in no cluster, and no annotation names a cluster, nor did when it was last read
 *       [K07]: a majority is not enough, since two lost volumes and one slow pod of three would
 *       start an empty cluster over a living one
 *   F2  a pod takes on a cluster only when a member of it said that this very id is a member [K04]
 *   F3  an id that was removed is never used again [M08]
 */
#ifndef NABATA_STEWARD_FOUNDING_H
#define NABATA_STEWARD_FOUNDING_H

#include "steward/card.h"

/* What the Kubernetes API says of the StatefulSet. All zero: nothing known. */
struct steward_scale {
    bool known;          /* read lately; else the rest is old, and can only keep from founding */
    bool denied;         /* there is an API, and it refuses us */
    bool deleting;       /* deletionTimestamp is set */
    uint32_t replicas;   /* spec.replicas */
    uint64_t cluster_id; /* of the annotation; 0: none */
};

enum steward_heard {
    STEWARD_HEARD_NOTHING, /* no name yet, nobody there, or another pod at its address */
    STEWARD_HEARD_CARD,
};

/* What one pod name gave in this round of probes. */
struct steward_probe {
    uint32_t ordinal; /* that was asked */
    enum steward_heard heard;
    struct steward_card card; /* of HEARD_CARD */
};

struct steward_search {
    const char *slot; /* own */
    uint32_t ordinal; /* own */
    uint64_t member_id;
    uint32_t replicas_expected; /* when the API cannot say */
    bool api_awaited; /* an API is configured and has not answered or refused yet: wait for it */
    struct steward_scale scale;
    const struct steward_probe *probes; /* of other pods */
    size_t probe_count;
};

enum steward_move {
    STEWARD_WAIT,
    STEWARD_FOUND,
    STEWARD_JOIN,     /* `cluster_id`: we are a member of it */
    STEWARD_RENEW_ID, /* the cluster has removed this id: draw another one, then ask again */
};

struct steward_decision {
    enum steward_move move;
    uint64_t cluster_id;                    /* of JOIN */
    struct nb_bytes members;                /* of JOIN, whom to dial; borrowed from the probe */
    char words[STEWARD_WORDS_SIZE_MAX + 1]; /* why, for logs and /readyz */
};

/* How many pods to expect: spec.replicas; when that is not known now, what was configured or read
 * before, whichever is more; at least 1. */
uint32_t steward_pods_expected(const struct steward_scale *scale, uint32_t configured);

void steward_decide(const struct steward_search *search, struct steward_decision *out);

#endif
