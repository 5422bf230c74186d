#include "raft/log.h"

#include <string.h>

void raft_log_deinit(struct raft_log *l)
{
    raft_log_reset(l, l->compacted);
    nb_free(l->entries);
    nb_free(l->bytes_end);
    *l = (struct raft_log){0};
}

void raft_log_reset(struct raft_log *l, struct raft_entry_id id)
{
    for (size_t i = 0; i < l->count; i++) {
        nb_payload_release(l->entries[l->head + i].payload);
    }
    l->head = l->count = 0;
    l->bytes_base = 0;
    l->compacted = id;
}

void raft_log_reserve(struct raft_log *l, size_t extra)
{
    if (l->head + l->count + extra <= l->capacity) {
        return;
    }
    if (l->head > l->count) { /* more than half of what is used is gone: cheaper than growing */
        memmove(l->entries, l->entries + l->head, l->count * sizeof *l->entries);
        memmove(l->bytes_end, l->bytes_end + l->head, l->count * sizeof *l->bytes_end);
        l->head = 0;
        if (l->count + extra <= l->capacity) {
            return;
        }
    }
    size_t need = l->head + l->count + extra;
    size_t bytes_capacity = l->capacity;
    l->bytes_end = nb_grow(l->bytes_end, &bytes_capacity, need, sizeof *l->bytes_end);
    l->entries = nb_grow(l->entries, &l->capacity, need, sizeof *l->entries);
    nb_assert(bytes_capacity == l->capacity);
}

void raft_log_append(struct raft_log *l, const struct raft_entry *e)
{
    nb_assert(e->id.index == raft_log_last_index(l) + 1);
    nb_assert(e->id.term >= raft_log_last(l).term);
    raft_log_reserve(l, 1);
    size_t slot = l->head + l->count;
    uint64_t before = l->count == 0 ? l->bytes_base : l->bytes_end[slot - 1];
    uint64_t len = e->payload == NULL ? 0 : e->payload->len;
    l->entries[slot] = *e;
    (void)nb_payload_acquire(e->payload);
    l->bytes_end[slot] = before + len + RAFT_ENTRY_OVERHEAD_BYTES;
    l->count++;
}

void raft_log_cut(struct raft_log *l, uint64_t first)
{
    nb_assert(first > l->compacted.index);
    while (raft_log_last_index(l) >= first) {
        l->count--;
        nb_payload_release(l->entries[l->head + l->count].payload);
    }
}

void raft_log_compact(struct raft_log *l, uint64_t index)
{
    struct raft_entry_id id = raft_log_at(l, index)->id;
    size_t drop = (size_t)(index - l->compacted.index);
    for (size_t i = 0; i < drop; i++) {
        nb_payload_release(l->entries[l->head + i].payload);
    }
    l->bytes_base = l->bytes_end[l->head + drop - 1];
    l->head += drop;
    l->count -= drop;
    l->compacted = id;
    if (l->count == 0) {
        l->head = 0;
    }
}

struct raft_entry_id raft_log_last(const struct raft_log *l)
{
    return l->count == 0 ? l->compacted : l->entries[l->head + l->count - 1].id;
}

enum raft_term_at raft_log_term(const struct raft_log *l, uint64_t index, uint64_t *out_term)
{
    if (index < l->compacted.index) {
        return RAFT_TERM_COMPACTED;
    }
    if (index > raft_log_last_index(l)) {
        return RAFT_TERM_MISSING;
    }
    *out_term = index == l->compacted.index ? l->compacted.term : raft_log_at(l, index)->id.term;
    return RAFT_TERM_KNOWN;
}

/* Bytes of everything up to `index`, which may be the compacted one. */
static uint64_t bytes_up_to(const struct raft_log *l, uint64_t index)
{
    nb_assert(index >= l->compacted.index && index <= raft_log_last_index(l));
    return index == l->compacted.index
               ? l->bytes_base
               : l->bytes_end[l->head + (size_t)(index - l->compacted.index - 1)];
}

uint64_t raft_log_bytes(const struct raft_log *l, uint64_t first, uint64_t end)
{
    return first >= end ? 0 : bytes_up_to(l, end - 1) - bytes_up_to(l, first - 1);
}

uint64_t raft_log_meet(const struct raft_log *l, uint64_t index, uint64_t term)
{
    uint64_t low = l->compacted.index; /* the answer is at or above it */
    uint64_t high = raft_log_last_index(l);
    if (index < high) {
        high = index;
    }
    while (low < high) { /* terms never fall along the log */
        uint64_t middle = low + (high - low + 1) / 2;
        if (raft_log_at(l, middle)->id.term <= term) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return low;
}

size_t raft_log_fitting(const struct raft_log *l, uint64_t first, uint64_t bytes_max,
                        size_t count_max)
{
    uint64_t last = raft_log_last_index(l);
    if (first > last || count_max == 0) {
        return 0;
    }
    uint64_t before = bytes_up_to(l, first - 1);
    uint64_t low = first; /* one entry always goes */
    uint64_t high = last - first + 1 > count_max ? first + count_max - 1 : last;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        if (bytes_up_to(l, middle) - before <= bytes_max) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return (size_t)(low - first + 1);
}
