#include "mvcc/table.h"

#include <string.h>

enum { SLOT_COUNT_MIN = 64, MOVE_SLOT_COUNT = 16 };

/* A slot: 0 is empty, 1 marks a place that a probe must go past, else tag and address. */
#define EMPTY UINT64_C(0)
#define GONE UINT64_C(1)
#define ADDRESS_MASK ((UINT64_C(1) << 48) - 1)

static uint64_t rotate_left(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

/* Always inline, so that the four words stay in registers: every look-up hashes. */
__attribute__((always_inline)) static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[3];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[2] = rotate_left(v[2], 32);
}

/* SipHash with one round a word and three at the end. [Aumasson, Bernstein: SipHash] */
uint64_t mvcc_table_hash(const struct mvcc_table *t, struct nb_bytes key)
{
    uint64_t v[4] = {t->key[0] ^ 0x736f6d6570736575u, t->key[1] ^ 0x646f72616e646f6du,
                     t->key[0] ^ 0x6c7967656e657261u, t->key[1] ^ 0x7465646279746573u};
    size_t whole = key.len & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = nb_get_u64(key.data + i);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)key.len << 56;
    for (size_t i = whole; i < key.len; i++) {
        last |= (uint64_t)key.data[i] << (8 * (i - whole));
    }
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t slot_of(uint64_t hash, const struct mvcc_record *r)
{
    uint64_t address = (uint64_t)(uintptr_t)r;
    nb_assert((address & ~ADDRESS_MASK) == 0);
    return (hash & ~ADDRESS_MASK) | address;
}

static struct mvcc_record *record_of(uint64_t slot)
{
    return (struct mvcc_record *)(uintptr_t)(slot & ADDRESS_MASK);
}

static bool is_record(uint64_t slot)
{
    return slot != EMPTY && slot != GONE;
}

static void slots_init(struct mvcc_slots *s, uint64_t count)
{
    *s = (struct mvcc_slots){.slots = nb_alloc_zero(count, sizeof *s->slots), .mask = count - 1};
}

void mvcc_table_init(struct mvcc_table *t, uint64_t seed)
{
    *t = (struct mvcc_table){.key = {seed, ~seed * 0x9e3779b97f4a7c15u}};
    slots_init(&t->now, SLOT_COUNT_MIN);
}

void mvcc_table_deinit(struct mvcc_table *t)
{
    nb_free(t->now.slots);
    nb_free(t->old.slots);
    *t = (struct mvcc_table){0};
}

static struct mvcc_record *slots_find(const struct mvcc_slots *s, uint64_t hash,
                                      struct nb_bytes key)
{
    for (uint64_t i = hash & s->mask;; i = (i + 1) & s->mask) {
        uint64_t slot = s->slots[i];
        if (slot == EMPTY) {
            return NULL;
        }
        if (slot != GONE && ((slot ^ hash) & ~ADDRESS_MASK) == 0) {
            struct mvcc_record *r = record_of(slot);
            if (nb_bytes_equal(mvcc_record_key(r), key)) {
                return r;
            }
        }
    }
}

struct mvcc_record *mvcc_table_find(const struct mvcc_table *t, uint64_t hash, struct nb_bytes key)
{
    struct mvcc_record *r = slots_find(&t->now, hash, key);
    if (r == NULL && t->old.slots != NULL) {
        r = slots_find(&t->old, hash, key);
    }
    return r;
}

void mvcc_table_fetch_slot(const struct mvcc_table *t, uint64_t hash)
{
    __builtin_prefetch(&t->now.slots[hash & t->now.mask]);
    if (t->old.slots != NULL) {
        __builtin_prefetch(&t->old.slots[hash & t->old.mask]);
    }
}

static struct mvcc_record *slots_fetch(const struct mvcc_slots *s, uint64_t hash)
{
    for (uint64_t i = hash & s->mask; s->slots[i] != EMPTY; i = (i + 1) & s->mask) {
        uint64_t slot = s->slots[i];
        if (slot != GONE && ((slot ^ hash) & ~ADDRESS_MASK) == 0) {
            struct mvcc_record *r = record_of(slot);
            __builtin_prefetch(r);
            return r;
        }
    }
    return NULL;
}

struct mvcc_record *mvcc_table_fetch_record(const struct mvcc_table *t, uint64_t hash)
{
    struct mvcc_record *r = slots_fetch(&t->now, hash);
    return r != NULL || t->old.slots == NULL ? r : slots_fetch(&t->old, hash);
}

static void slots_put(struct mvcc_slots *s, uint64_t hash, struct mvcc_record *r)
{
    uint64_t i = hash & s->mask;
    while (is_record(s->slots[i])) {
        i = (i + 1) & s->mask;
    }
    s->used += s->slots[i] == EMPTY;
    s->slots[i] = slot_of(hash, r);
}

/* Moving hashes the key again, which lies anywhere in memory: ask early for a few. */
static void fetch_early(const struct mvcc_table *t)
{
    uint64_t end = t->moved + MOVE_SLOT_COUNT;
    for (uint64_t i = t->moved; t->old.slots != NULL && i < end && i <= t->old.mask; i++) {
        if (is_record(t->old.slots[i])) {
            __builtin_prefetch(record_of(t->old.slots[i])->key);
        }
    }
}

/* Moves what is in the next `count` slots of the old table. */
static void move_some(struct mvcc_table *t, uint64_t count)
{
    fetch_early(t);
    while (t->old.slots != NULL && count-- != 0) {
        uint64_t slot = t->old.slots[t->moved];
        if (is_record(slot)) {
            struct mvcc_record *r = record_of(slot);
            slots_put(&t->now, mvcc_table_hash(t, mvcc_record_key(r)), r);
            t->old.slots[t->moved] = GONE;
        }
        if (t->moved++ == t->old.mask) {
            nb_free(t->old.slots);
            t->old = (struct mvcc_slots){0};
        }
    }
}

/* A table for twice the records there are. It may be smaller than the present one, but not below a
 * quarter: the move is over after (old slots / MOVE_SLOT_COUNT) <= (new slots / 4) changes, so
 * records and changes together never fill more than three quarters (T2). */
static void begin_move(struct mvcc_table *t)
{
    static_assert(MOVE_SLOT_COUNT >= 16, "the move ends before the new table is full");
    move_some(t, UINT64_MAX);
    uint64_t quarter = (t->now.mask + 1) / 4;
    uint64_t count = quarter < SLOT_COUNT_MIN ? SLOT_COUNT_MIN : quarter;
    while (count < (t->count + 1) * 2) {
        count *= 2;
    }
    t->old = t->now;
    t->moved = 0;
    slots_init(&t->now, count);
}

void mvcc_table_tidy(struct mvcc_table *t)
{
    if (t->old.slots != NULL) {
        move_some(t, MOVE_SLOT_COUNT);
    }
}

bool mvcc_table_full(const struct mvcc_table *t)
{
    return (t->now.used + 1) * 4 > (t->now.mask + 1) * 3;
}

void mvcc_table_widen(struct mvcc_table *t, const struct mvcc_hashed *all, size_t count)
{
    nb_assert(t->count == count && t->old.slots == NULL);
    uint64_t slot_count = (t->now.mask + 1) * 2;
    nb_free(t->now.slots);
    slots_init(&t->now, slot_count);
    for (size_t i = 0; i < count; i++) {
        slots_put(&t->now, all[i].hash, all[i].record);
    }
}

void mvcc_table_insert(struct mvcc_table *t, uint64_t hash, struct mvcc_record *r)
{
    if (mvcc_table_full(t)) {
        begin_move(t);
    }
    slots_put(&t->now, hash, r);
    t->count++;
    move_some(t, MOVE_SLOT_COUNT);
}

static bool slots_remove(struct mvcc_slots *s, uint64_t hash, const struct mvcc_record *r)
{
    for (uint64_t i = hash & s->mask; s->slots[i] != EMPTY; i = (i + 1) & s->mask) {
        if (is_record(s->slots[i]) && record_of(s->slots[i]) == r) {
            bool last = s->slots[(i + 1) & s->mask] == EMPTY; /* no probe goes past it */
            s->slots[i] = last ? EMPTY : GONE;
            s->used -= last;
            return true;
        }
    }
    return false;
}

void mvcc_table_remove(struct mvcc_table *t, uint64_t hash, const struct mvcc_record *r)
{
    bool found = slots_remove(&t->now, hash, r);
    if (!found) {
        nb_assert(t->old.slots != NULL);
        found = slots_remove(&t->old, hash, r);
    }
    nb_assert(found);
    t->count--;
    move_some(t, MOVE_SLOT_COUNT);
}

uint64_t mvcc_table_bytes(const struct mvcc_table *t)
{
    uint64_t slots = t->now.mask + 1 + (t->old.slots == NULL ? 0 : t->old.mask + 1);
    return slots * sizeof *t->now.slots;
}

void mvcc_table_check(const struct mvcc_table *t)
{
    uint64_t records = 0;
    uint64_t used = 0;
    for (uint64_t i = 0; i <= t->now.mask; i++) {
        used += t->now.slots[i] != EMPTY;
        records += is_record(t->now.slots[i]);
    }
    nb_assert(used == t->now.used);
    nb_assert(used * 4 <= (t->now.mask + 1) * 3);
    for (uint64_t i = 0; t->old.slots != NULL && i <= t->old.mask; i++) {
        nb_assert(i >= t->moved || !is_record(t->old.slots[i]));
        records += is_record(t->old.slots[i]);
    }
    nb_assert(records == t->count);
}
