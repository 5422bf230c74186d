/*
 * machine/state: what the machine knows besides the data: where it is in the log, who the members
 * are, which alarms are on, which requests it has seen.
 *
 * Small, kept whole in memory, and written whole into every batch: one row of the META table, so
 * that it and the data of the batch are one atomic unit [D01, M10].
 */
#ifndef NABATA_MACHINE_STATE_H
#define NABATA_MACHINE_STATE_H

#include "machine/machine.h"
#include "machine/seen.h"

enum { MACHINE_VERSION_SIZE_BYTES = 32, MACHINE_ALARM_COUNT_MAX = 2 * MACHINE_MEMBER_COUNT_MAX };

/* All zero is the state of a new cluster. */
struct machine_state {
    uint64_t applied_index, applied_term;
    uint64_t log_hash;  /* over all entries up to applied_index */
    struct nb_buf conf; /* raft's encoding */
    uint64_t conf_index;
    struct machine_members members;
    struct machine_alarm_member alarms[MACHINE_ALARM_COUNT_MAX]; /* ordered by (alarm, member) */
    size_t alarm_count;
    char cluster_version[MACHINE_VERSION_SIZE_BYTES];
    struct machine_seen seen; /* requests that were applied [R22] */
};

void machine_state_deinit(struct machine_state *s);

/* Adding what is on, and more than fits, changes nothing. */
void machine_state_alarm_add(struct machine_state *s, const struct machine_alarm_member *a);
/* False when it was not on. */
bool machine_state_alarm_remove(struct machine_state *s, const struct machine_alarm_member *a);

void machine_state_encode(const struct machine_state *s, struct nb_buf *out);
/* NB_MALFORMED, NB_TOO_LARGE; `out` must be all zero and is to be deinited either way. */
NB_MUST_USE enum nb_status machine_state_decode(struct nb_bytes bytes, struct machine_state *out);

/* The row in the backend. A backend without one gives the state of a new cluster. NB_CORRUPT with
 * words when the row does not decode or contradicts the backend's own label. */
NB_MUST_USE enum nb_status machine_state_load(struct backend *b, struct machine_state *out,
                                              struct nb_buf *error);
void machine_state_store(const struct machine_state *s, struct backend *b);

#endif
