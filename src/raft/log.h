/*
 * raft/log: the entries after the compacted prefix, in one contiguous array.
 *
 * Slices are handed out as they lie. Forgetting a prefix only moves `head`; the array is moved to
 * the front when more than half of it is empty, so both ends cost amortised O(1). Beside the
 * entries runs an array of cumulative sizes: the bytes between any two indexes are one subtraction,
 * which is why there is no counter of uncommitted or in-flight bytes that could leak [R20].
 *
 * Example: compacted {4, t2}, entries 5 6 7: head 0, count 3, last index 7, first index 5.
 */
#ifndef NABATA_RAFT_LOG_H
#define NABATA_RAFT_LOG_H

#include "raft/raft.h"

enum { RAFT_ENTRY_OVERHEAD_BYTES = 16 }; /* what an entry costs beside its payload, in budgets */

struct raft_log {
    struct raft_entry_id compacted; /* last entry no longer held */
    struct raft_entry *entries;     /* owned; payloads are counted */
    uint64_t *bytes_end;            /* owned; bytes of all entries ever, up to and with this one */
    uint64_t bytes_base;            /* bytes_end of the compacted entry */
    size_t head, count, capacity;   /* live: entries[head, head + count) */
};

void raft_log_deinit(struct raft_log *l);
/* Empties the log; it goes on after `id`. */
void raft_log_reset(struct raft_log *l, struct raft_entry_id id);
/* Appends one entry; its payload is acquired. Its index must be the next one. */
void raft_log_append(struct raft_log *l, const struct raft_entry *e);
/* Makes room for `extra` appends. */
void raft_log_reserve(struct raft_log *l, size_t extra);
/* Drops every entry from `first` on. */
void raft_log_cut(struct raft_log *l, uint64_t first);
/* Forgets every entry up to `index`, which must be in the log. */
void raft_log_compact(struct raft_log *l, uint64_t index);

static inline uint64_t raft_log_last_index(const struct raft_log *l)
{
    return l->compacted.index + l->count;
}

/* The entry at `index`, which must be in the log. */
static inline const struct raft_entry *raft_log_at(const struct raft_log *l, uint64_t index)
{
    nb_assert(index > l->compacted.index && index <= raft_log_last_index(l));
    return &l->entries[l->head + (size_t)(index - l->compacted.index - 1)];
}

struct raft_entry_id raft_log_last(const struct raft_log *l);
enum raft_term_at raft_log_term(const struct raft_log *l, uint64_t index, uint64_t *out_term);
/* Payload and overhead bytes of the entries in [first, end); first may be compacted + 1. */
uint64_t raft_log_bytes(const struct raft_log *l, uint64_t first, uint64_t end);
/* The last index at most `index` whose term is at most `term`; never below the compacted one. */
uint64_t raft_log_meet(const struct raft_log *l, uint64_t index, uint64_t term);
/* How many entries from `first` on fit both bounds; at least one when there is one. */
size_t raft_log_fitting(const struct raft_log *l, uint64_t first, uint64_t bytes_max,
                        size_t count_max);

#endif
