#include "machine/seen.h"

#include "base/wire.h"

#include <string.h>

/* Ids so near to each other are of one boot: boots begin at random places of 2^64. */
static const uint64_t neighbourhood = UINT64_C(1) << 32;

enum { FIELD_ORIGIN = 1, FIELD_TOP = 2, FIELD_LAST_INDEX = 3, FIELD_RUN = 4 /* repeated */ };

void machine_seen_deinit(struct machine_seen *s)
{
    nb_free(s->boots);
    *s = (struct machine_seen){0};
}

static uint64_t *word_of(struct machine_seen_boot *b, uint64_t id)
{
    return &b->bits[id % MACHINE_SEEN_WINDOW / 64];
}

static uint64_t mask_of(uint64_t id)
{
    return UINT64_C(1) << (id % 64);
}

static bool bit_at(const struct machine_seen_boot *b, uint64_t id)
{
    return (b->bits[id % MACHINE_SEEN_WINDOW / 64] & mask_of(id)) != 0;
}

static bool is_near(const struct machine_seen_boot *b, uint64_t origin, uint64_t id)
{
    return b->origin == origin && (id - b->top < neighbourhood || b->top - id < neighbourhood);
}

static struct machine_seen_boot *find(struct machine_seen *s, uint64_t origin, uint64_t id)
{
    if (s->last < s->count && is_near(&s->boots[s->last], origin, id)) {
        return &s->boots[s->last];
    }
    for (size_t i = 0; i < s->count; i++) {
        if (is_near(&s->boots[i], origin, id)) {
            s->last = i;
            return &s->boots[i];
        }
    }
    return NULL;
}

/* The place of a new boot: behind the others, or that of the one used longest ago, of the same
 * origin when that has its share already. [N1, N2] */
static struct machine_seen_boot *place_for(struct machine_seen *s, uint64_t origin)
{
    struct machine_seen_boot *oldest = NULL, *oldest_own = NULL;
    size_t own_count = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct machine_seen_boot *b = &s->boots[i];
        if (oldest == NULL || b->last_index < oldest->last_index) {
            oldest = b;
        }
        if (b->origin == origin) {
            own_count++;
            if (oldest_own == NULL || b->last_index < oldest_own->last_index) {
                oldest_own = b;
            }
        }
    }
    if (own_count >= MACHINE_SEEN_BOOTS_OF_ORIGIN) {
        return oldest_own;
    }
    if (s->count == MACHINE_SEEN_BOOT_COUNT_MAX) {
        return oldest;
    }
    s->boots = nb_grow(s->boots, &s->capacity, s->count + 1, sizeof *s->boots);
    return &s->boots[s->count++];
}

/* Moves the window up to `id`: what is new in it was not seen. */
static void advance(struct machine_seen_boot *b, uint64_t id)
{
    if (id - b->top >= MACHINE_SEEN_WINDOW) {
        memset(b->bits, 0, sizeof b->bits);
    } else {
        for (uint64_t i = b->top + 1; i != id; i++) {
            *word_of(b, i) &= ~mask_of(i);
        }
        *word_of(b, id) &= ~mask_of(id);
    }
    b->top = id;
}

bool machine_seen_add(struct machine_seen *s, uint64_t origin, uint64_t id, uint64_t index)
{
    if (id == 0) {
        return true;
    }
    struct machine_seen_boot *b = find(s, origin, id);
    if (b == NULL) {
        b = place_for(s, origin);
        *b = (struct machine_seen_boot){.origin = origin, .top = id};
    } else if (id - b->top - 1 < neighbourhood) {
        advance(b, id);
    } else if (b->top - id >= MACHINE_SEEN_WINDOW || bit_at(b, id)) {
        return false;
    }
    *word_of(b, id) |= mask_of(id);
    b->last_index = index;
    return true;
}

/* ---- as bytes ---- */

void machine_seen_boot_encode(const struct machine_seen_boot *b, struct nb_buf *out)
{
    nb_wire_varint_field(out, FIELD_ORIGIN, b->origin);
    nb_wire_varint_field(out, FIELD_TOP, b->top);
    nb_wire_varint_field(out, FIELD_LAST_INDEX, b->last_index);
    /* From the top down: how many were seen, how many were not, how many were ... */
    bool seen = true;
    uint64_t run = 0;
    uint64_t back = 0;
    while (back < MACHINE_SEEN_WINDOW) {
        uint64_t id = b->top - back;
        uint64_t alike = seen ? UINT64_MAX : 0;
        if (bit_at(b, id) != seen) {
            nb_wire_varint(out, FIELD_RUN, run);
            seen = !seen;
            run = 0;
        } else if (id % 64 == 63 && back + 64 <= MACHINE_SEEN_WINDOW &&
                   b->bits[id % MACHINE_SEEN_WINDOW / 64] == alike) {
            run += 64;
            back += 64;
        } else {
            run++;
            back++;
        }
    }
    if (seen) {
        nb_wire_varint(out, FIELD_RUN, run);
    }
}

/* What a message of a boot says, while it is read. */
struct decoding {
    struct machine_seen_boot boot;
    uint64_t back; /* ids the runs have covered so far */
    bool unseen;   /* what the next run is of */
};

static enum nb_status take_run(struct decoding *d, uint64_t run)
{
    if (run > MACHINE_SEEN_WINDOW - d->back) {
        return NB_MALFORMED;
    }
    for (uint64_t i = 0; i < run && !d->unseen; i++) {
        uint64_t id = d->boot.top - d->back - i;
        *word_of(&d->boot, id) |= mask_of(id);
    }
    d->back += run;
    d->unseen = !d->unseen;
    return NB_OK;
}

enum nb_status machine_seen_boot_decode(struct machine_seen *s, struct nb_bytes bytes)
{
    struct decoding d = {0};
    struct nb_wire_reader r = nb_wire_reader_of(bytes);
    enum nb_status status = NB_OK;
    while (status == NB_OK && nb_wire_more(&r)) {
        struct nb_wire_field f;
        status = nb_wire_next(&r, &f);
        if (status != NB_OK || f.type != NB_WIRE_VARINT) {
            continue;
        }
        if (f.number == FIELD_ORIGIN) {
            d.boot.origin = f.value;
        } else if (f.number == FIELD_TOP) {
            d.boot.top = f.value;
        } else if (f.number == FIELD_LAST_INDEX) {
            d.boot.last_index = f.value;
        } else if (f.number == FIELD_RUN) {
            status = take_run(&d, f.value);
        }
    }
    if (status == NB_OK && s->count == MACHINE_SEEN_BOOT_COUNT_MAX) {
        status = NB_TOO_LARGE;
    }
    if (status == NB_OK) {
        s->boots = nb_grow(s->boots, &s->capacity, s->count + 1, sizeof *s->boots);
        s->boots[s->count++] = d.boot;
    }
    return status;
}
