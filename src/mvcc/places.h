/*
 * mvcc/places: where values of the backend lie, remembered while its view stands.
 *
 * Finding a row costs a descent through pages that lie anywhere in memory; who reads pages of keys
 * again and again finds the same rows. This table remembers, by revision, what backend_get has
 * returned, which is good until the next backend_reap. What it remembers from before that is no
 * answer any more, but still a hint worth asking memory for: the row is mostly still there.
 *
 * A revision may be in any of four slots, and a new one takes the place of the oldest there. Made
 * when a large page is first read, with twice the slots that there are keys, up to a bound.
 *
 * Invariants:
 *   L1  mvcc_places_get gives only what mvcc_places_put was told since the last mvcc_places_forget
 */
#ifndef NABATA_MVCC_PLACES_H
#define NABATA_MVCC_PLACES_H

#include "mvcc/record.h"

enum { MVCC_PLACES_COUNT_MAX = 1 << 18 };

struct mvcc_place {
    uint64_t revision; /* main, with 16 bits of the view above it; 0: empty */
    uint64_t address;  /* of the value, with its length above it */
};

struct mvcc_places {
    struct mvcc_place *slots; /* owned; NULL until mvcc_places_size */
    size_t count;             /* a power of two */
    uint64_t view;            /* counts mvcc_places_forget */
};

void mvcc_places_deinit(struct mvcc_places *p);
/* Makes the table for about so many rows, unless it is large enough already. */
void mvcc_places_size(struct mvcc_places *p, uint64_t rows);

/* False when it is not known. */
bool mvcc_places_get(const struct mvcc_places *p, struct mvcc_version v, struct nb_bytes *out);
void mvcc_places_put(struct mvcc_places *p, struct mvcc_version v, struct nb_bytes value);
/* The view of the backend has changed. */
void mvcc_places_forget(struct mvcc_places *p);

/* Ask memory early: first for the slot, then for what it points to. */
void mvcc_places_fetch_slot(const struct mvcc_places *p, struct mvcc_version v);
void mvcc_places_fetch_value(const struct mvcc_places *p, struct mvcc_version v);

#endif
