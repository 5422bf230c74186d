/*
 * sim/events: what happens next.
 *
 * A heap ordered by time; events of equal time come in an order drawn from the seed. Events of a
 * member belong to one of its boots: those of an earlier boot are dropped when their time comes.
 */
#ifndef NABATA_SIM_EVENTS_H
#define NABATA_SIM_EVENTS_H

#include "base/bytes.h"
#include "base/random.h"

enum sim_event_kind {
    SIM_EVENT_MESSAGE,
    SIM_EVENT_TICK,
    SIM_EVENT_TURN,
    SIM_EVENT_DISK,
    SIM_EVENT_BACKEND,
    SIM_EVENT_START,
    SIM_EVENT_RESUME,
    SIM_EVENT_SNAPSHOT,
    SIM_EVENT_SNAPSHOT_SENT,
    SIM_EVENT_PEER_LOST,
    SIM_EVENT_CLIENT,
    SIM_EVENT_NEMESIS,
    SIM_EVENT_KIND_COUNT
};

struct sim_event {
    uint64_t at_ns, order; /* order: drawn; then `number` */
    uint64_t number;
    enum sim_event_kind kind;
    unsigned member; /* place of the one it happens to; of a client event the client's */
    uint64_t boot;   /* of that member */
    unsigned from;   /* sender, of messages and snapshots */
    uint64_t from_boot;
    bool ok;
    struct nb_buf bytes; /* owned: an encoded message */
    struct nb_buf file;  /* owned: content of a snapshot */
};

/* All zero but for the random generator (borrowed) is a valid empty heap. */
struct sim_events {
    struct nb_random *random;
    struct sim_event *heap; /* owned */
    size_t count, capacity;
    uint64_t next_number;
};

/* Takes over the buffers of `event`. */
void sim_events_push(struct sim_events *q, struct sim_event event);
/* False when empty. The caller owns the buffers. */
bool sim_events_pop(struct sim_events *q, struct sim_event *out);
void sim_event_deinit(struct sim_event *event);
void sim_events_deinit(struct sim_events *q);

#endif
