#include "mvcc/sort.h"

#include <stdlib.h>
#include <string.h>

enum { RADIX_COUNT_MIN = 512 }; /* smaller groups are sorted by comparison */

struct item {
    uint64_t digest; /* eight bytes of the key, as a big-endian number; 0 behind its end */
    struct mvcc_record *record;
};

struct group {
    size_t first, end;
    size_t common; /* bytes that all keys of the group share */
};

struct sorting {
    struct item *items, *spare;
    struct group *groups; /* a stack */
    size_t group_count, group_capacity;
};

static int by_key(const void *a, const void *b)
{
    const struct item *x = (const struct item *)a;
    const struct item *y = (const struct item *)b;
    return nb_bytes_compare(mvcc_record_key(x->record), mvcc_record_key(y->record));
}

static uint64_t digest_of(const struct mvcc_record *r, size_t from)
{
    if (r->key_len >= from + 8) {
        return nb_get_u64_be(r->key + from);
    }
    uint64_t digest = 0;
    for (size_t i = from; i < r->key_len; i++) {
        digest |= (uint64_t)r->key[i] << (56 - 8 * (i - from));
    }
    return digest;
}

static size_t common_with(const struct mvcc_record *a, const struct mvcc_record *b, size_t from,
                          size_t most)
{
    size_t i = from;
    while (i < most && i < a->key_len && i < b->key_len && a->key[i] == b->key[i]) {
        i++;
    }
    return i;
}

/* Looks further for what the whole group shares. */
static size_t common_of(const struct item *items, const struct group *g)
{
    const struct mvcc_record *first = items[g->first].record;
    size_t common = first->key_len;
    for (size_t i = g->first + 1; i < g->end && common > g->common; i++) {
        common = common_with(first, items[i].record, g->common, common);
    }
    return common;
}

/* By digest; stable; a pass for each byte in which the digests differ. */
static void radix(struct sorting *s, const struct group *g)
{
    struct item *from = s->items + g->first;
    struct item *to = s->spare + g->first;
    size_t count = g->end - g->first;
    static const unsigned bytes = 8;
    for (unsigned byte = 0; byte < bytes; byte++) {
        size_t places[257] = {0};
        for (size_t i = 0; i < count; i++) {
            places[(from[i].digest >> (8 * byte) & 0xff) + 1]++;
        }
        if (places[(from[0].digest >> (8 * byte) & 0xff) + 1] == count) {
            continue;
        }
        for (unsigned v = 1; v < 257; v++) {
            places[v] += places[v - 1];
        }
        for (size_t i = 0; i < count; i++) {
            to[places[from[i].digest >> (8 * byte) & 0xff]++] = from[i];
        }
        struct item *swap = from;
        from = to;
        to = swap;
    }
    if (from != s->items + g->first) {
        memcpy(s->items + g->first, from, count * sizeof *from);
    }
}

static void push(struct sorting *s, struct group g)
{
    s->groups = nb_grow(s->groups, &s->group_capacity, s->group_count + 1, sizeof *s->groups);
    s->groups[s->group_count++] = g;
}

/* A group of one digest. A key that ends within the digest's eight bytes is followed by zeros
 * there, as other keys may be by bytes of 0: such keys, at most eight, go before the rest by their
 * length. The rest share all eight bytes. */
static void split_equal(struct sorting *s, struct group g)
{
    size_t rest = g.first;
    for (size_t i = g.first; i < g.end; i++) {
        if (s->items[i].record->key_len < g.common + 8) {
            struct item ends = s->items[i];
            s->items[i] = s->items[rest];
            s->items[rest++] = ends;
        }
    }
    qsort(s->items + g.first, rest - g.first, sizeof *s->items, by_key);
    if (g.end - rest > 1) {
        push(s, (struct group){.first = rest, .end = g.end, .common = g.common + 8});
    }
}

static void sort_group(struct sorting *s, struct group g)
{
    if (g.end - g.first < RADIX_COUNT_MIN) {
        qsort(s->items + g.first, g.end - g.first, sizeof *s->items, by_key);
        return;
    }
    g.common = common_of(s->items, &g);
    for (size_t i = g.first; i < g.end; i++) {
        s->items[i].digest = digest_of(s->items[i].record, g.common);
    }
    radix(s, &g);
    for (size_t i = g.first; i < g.end;) {
        size_t end = i + 1;
        while (end < g.end && s->items[end].digest == s->items[i].digest) {
            end++;
        }
        if (end - i > 1) {
            split_equal(s, (struct group){.first = i, .end = end, .common = g.common});
        }
        i = end;
    }
}

void mvcc_sort_records(struct mvcc_record **records, size_t count)
{
    if (count < 2) {
        return;
    }
    struct sorting s = {.items = nb_alloc(count * sizeof *s.items),
                        .spare = nb_alloc(count * sizeof *s.spare)};
    for (size_t i = 0; i < count; i++) {
        s.items[i] = (struct item){.record = records[i]};
    }
    push(&s, (struct group){.first = 0, .end = count});
    while (s.group_count != 0) {
        sort_group(&s, s.groups[--s.group_count]);
    }
    for (size_t i = 0; i < count; i++) {
        records[i] = s.items[i].record;
    }
    nb_free(s.items);
    nb_free(s.spare);
    nb_free(s.groups);
}
