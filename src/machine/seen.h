/*
 * machine/seen: which requests the log has brought already, so that one offered twice counts once.
 *
 * The ids of one boot of an origin rise by one from a random start, so a boot is a neighbourhood of
 * ids and needs a bitmap, not a set: `top` is the highest id seen, the ring of bits says which of
 * the MACHINE_SEEN_WINDOW ids up to it were. An id that lies below the window may have been seen or
 * not; it counts as seen, for what is applied twice cannot be taken back [R22]. So a request loses
 * its chance when the log brings that many newer ones of its boot first: replica/ offers them in
 * order.
 *
 * Invariants:
 *   N1  all of it follows from the entries applied: evicted is what was used longest ago, by index
 *   N2  at most MACHINE_SEEN_BOOTS_OF_ORIGIN boots of an origin, MACHINE_SEEN_BOOT_COUNT_MAX in all
 */
#ifndef NABATA_MACHINE_SEEN_H
#define NABATA_MACHINE_SEEN_H

#include "base/bytes.h"
#include "base/status.h"

enum {
    MACHINE_SEEN_WINDOW = 16384, /* a power of two */
    MACHINE_SEEN_BOOTS_OF_ORIGIN = 2,
    MACHINE_SEEN_BOOT_COUNT_MAX = 64,
};

struct machine_seen_boot {
    uint64_t origin;
    uint64_t top;
    uint64_t last_index;                     /* applied index of the last id; never 0 */
    uint64_t bits[MACHINE_SEEN_WINDOW / 64]; /* of id i at i % MACHINE_SEEN_WINDOW */
};

/* All zero is a valid empty set. */
struct machine_seen {
    struct machine_seen_boot *boots; /* owned */
    size_t count, capacity;
    size_t last; /* where the last one was found: it is likely the next one's place too */
};

void machine_seen_deinit(struct machine_seen *s);

/* Notes the request; false when it was there before, or is too old to tell. `index` is that of its
 * entry. An id of 0 is no id and always new. */
bool machine_seen_add(struct machine_seen *s, uint64_t origin, uint64_t id, uint64_t index);

/* One boot, as a protobuf message: runs of ids seen and not seen, so a few bytes when they came in
 * order. */
void machine_seen_boot_encode(const struct machine_seen_boot *b, struct nb_buf *out);
/* Adds one boot. NB_MALFORMED, NB_TOO_LARGE when there are too many. */
NB_MUST_USE enum nb_status machine_seen_boot_decode(struct machine_seen *s, struct nb_bytes bytes);

#endif
