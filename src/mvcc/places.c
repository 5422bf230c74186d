#include "mvcc/places.h"

#include <string.h>

enum {
    COUNT_MIN = 1024,
    WAYS = 4,
    LINE_SIZE_BYTES = 64,
    PAGE_SIZE_BYTES = 4096,
    FETCH_SIZE_BYTES_MAX = 512, /* of a value; the rest follows by itself */
    UPPER_SHIFT = 48,           /* an address and a main revision have 48 bits */
};

#define LOWER ((UINT64_C(1) << UPPER_SHIFT) - 1)

void mvcc_places_deinit(struct mvcc_places *p)
{
    nb_free(p->slots);
    *p = (struct mvcc_places){0};
}

void mvcc_places_size(struct mvcc_places *p, uint64_t rows)
{
    size_t count = COUNT_MIN;
    while (count / 2 < rows && count < MVCC_PLACES_COUNT_MAX) {
        count *= 2;
    }
    if (count > p->count) {
        nb_free(p->slots);
        p->slots = nb_alloc_zero(count, sizeof *p->slots);
        p->count = count;
    }
}

/* Rows that have a slot: the others of a txn would take the first one's. */
static bool has_slot(const struct mvcc_places *p, struct mvcc_version v)
{
    return p->slots != NULL && v.sub == 0 && v.main > 0 && (uint64_t)v.main <= LOWER;
}

/* The set of slots that the revision may be in. */
static struct mvcc_place *set_of(const struct mvcc_places *p, struct mvcc_version v)
{
    return &p->slots[((uint64_t)v.main * WAYS) & (p->count - 1)];
}

/* The slot with this revision, of whichever view; NULL when there is none. */
static struct mvcc_place *slot_of(const struct mvcc_places *p, struct mvcc_version v)
{
    struct mvcc_place *set = set_of(p, v);
    for (unsigned i = 0; i < WAYS; i++) {
        if ((set[i].revision & LOWER) == (uint64_t)v.main) {
            return &set[i];
        }
    }
    return NULL;
}

static uint64_t in_view(const struct mvcc_places *p, struct mvcc_version v)
{
    return p->view << UPPER_SHIFT | (uint64_t)v.main;
}

static const uint8_t *address_of(const struct mvcc_place *place)
{
    return (const uint8_t *)(uintptr_t)(place->address & LOWER);
}

bool mvcc_places_get(const struct mvcc_places *p, struct mvcc_version v, struct nb_bytes *out)
{
    const struct mvcc_place *place = has_slot(p, v) ? slot_of(p, v) : NULL;
    if (place == NULL || place->revision != in_view(p, v)) {
        return false;
    }
    *out = nb_bytes_of(address_of(place), (size_t)(place->address >> UPPER_SHIFT));
    return true;
}

/* The slot that the revision gets: its own, or the one of its set that was taken first. */
static struct mvcc_place *slot_for(const struct mvcc_places *p, struct mvcc_version v)
{
    struct mvcc_place *place = slot_of(p, v);
    if (place == NULL) {
        struct mvcc_place *set = set_of(p, v);
        memmove(set + 1, set, (WAYS - 1) * sizeof *set);
        place = set;
    }
    return place;
}

void mvcc_places_put(struct mvcc_places *p, struct mvcc_version v, struct nb_bytes value)
{
    uint64_t address = (uint64_t)(uintptr_t)value.data;
    if (has_slot(p, v) && value.len <= UINT16_MAX && address <= LOWER) {
        *slot_for(p, v) = (struct mvcc_place){
            .revision = in_view(p, v), .address = (uint64_t)value.len << UPPER_SHIFT | address};
    }
}

void mvcc_places_forget(struct mvcc_places *p)
{
    p->view++;
    if ((p->view & UINT16_MAX) == 0 && p->slots != NULL) { /* the views' numbers come again [L1] */
        memset(p->slots, 0, p->count * sizeof *p->slots);
    }
}

void mvcc_places_fetch_slot(const struct mvcc_places *p, struct mvcc_version v)
{
    if (has_slot(p, v)) {
        __builtin_prefetch(set_of(p, v));
        __builtin_prefetch(set_of(p, v) + WAYS - 1); /* a set may lie across two lines */
    }
}

void mvcc_places_fetch_value(const struct mvcc_places *p, struct mvcc_version v)
{
    const struct mvcc_place *place = has_slot(p, v) ? slot_of(p, v) : NULL;
    if (place == NULL) {
        return;
    }
    uintptr_t at = (uintptr_t)address_of(place);
    size_t len = (size_t)(place->address >> UPPER_SHIFT);
    len = len < FETCH_SIZE_BYTES_MAX ? len : FETCH_SIZE_BYTES_MAX;
    for (size_t i = 0; i < len; i += LINE_SIZE_BYTES) {
        __builtin_prefetch((const void *)(at + i));
    }
    if (place->revision != in_view(p, v)) { /* it will be looked for: its page begins there */
        __builtin_prefetch((const void *)(at & ~(uintptr_t)(PAGE_SIZE_BYTES - 1)));
    }
}
