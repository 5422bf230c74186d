/*
 * storage/wal: the write-ahead log of one member: hard states and entries, durable in order.
 *
 * Files `<sequence>-<first index>.wal` (16 hex digits each) in one folder, zero-filled once and
 * recycled by rename. Appends collect in a batch; a batch is one aligned write that begins in a
 * block of its own, so a block that holds acknowledged records is never written again. At most two
 * batches are not durable at any time.
 *
 *   segment   header block, then batches. Each carries its batch sequence number, which rises by
 * one. batch     header (sequence, what was durable when it was written, length, checksum of the
 * batch before), records, zero padding to a block; one CRC32C over all of it, seeded by cluster,
 *             member and segment. The last 8 bytes of each 512-byte sector are a stamp made from
 *             segment and sequence.
 *   record    u32 length, u8 type (0 is invalid), u8 kind, u16 zero, payload. All little-endian.
 * The checksum is the batch's, not the record's: the batch is what is written and promised as one.
 * wal_format.h has the byte tables.
 *
 * Invariants:
 *   L1  batch n is submitted only when all up to n-2 are durable, and says so in its header: so
 *       every batch but the last two of a log is known to have been durable.
 *   L2  wal_durable() never passes a batch that is not complete, nor one before which one is not,
 *       nor one in a segment whose name is not durable.
 *   L3  segment sequences grow for ever.                                            [W10]
 *   L4  all bytes written are defined; equal appends give equal files.              [W18]
 *
 * Recovery reads batches in sequence. Where number s is not found whole, it is *damage*
 * (NB_CORRUPT, with file and offset) when any of these holds: [W01-W03]
 *   - a valid batch or segment header after it says that s was durable;
 *   - a valid batch after it has a number above s+1 (by L1 that says the same);
 *   - every sector of it carries its stamp, yet its checksum is wrong; or a stamp is wrong by a few
 *     bits: torn writes leave whole old sectors, not new ones with flipped bits;
 *   - `index_expected` (what the backend has applied) is beyond what would remain.
 * Otherwise it is a torn write, which nobody was promised: it is cut and told in `out_recovered`.
 * Limit: when whole sectors of the very last two batches are lost *after* they were acknowledged,
 * and nothing was written since, this looks like a torn write. wal_mark_durable(), called when the
 * log has been idle for a moment, and `index_expected` close that window. What survives of the last
 * two batches is rewritten into a new segment and synced before use, as the cached pages it was
 * read from may never have reached the device.              [W06]
 *
 * Owned by the loop thread. Payloads are copied by wal_append, not kept.
 */
#ifndef NABATA_STORAGE_WAL_H
#define NABATA_STORAGE_WAL_H

#include "base/bytes.h"
#include "base/payload.h"
#include "base/status.h"
#include "storage/disk.h"

struct wal;

struct wal_ident {
    uint64_t cluster_id, member_id; /* neither is 0 */
};

struct wal_entry {
    uint64_t index, term;
    uint8_t kind;               /* the caller's */
    struct nb_payload *payload; /* may be NULL: empty */
};

struct wal_hard_state {
    uint64_t term, voted_for, commit_index;
};

struct wal_mark {
    uint64_t index, term; /* last entry a snapshot covers, or {0, 0} */
};

struct wal_options {
    uint32_t segment_size;      /* bytes; 0: 16 MiB. The first after a start is smaller. */
    uint32_t batch_size_target; /* bytes after which a waiting batch takes no more; 0: 1 MiB */
    uint64_t index_expected;    /* the log must reach this index, else NB_CORRUPT; 0: no demand */
};

/* What a log held. Entries have consecutive indexes. The first is mark.index+1, or, when segments
 * were released since, the lowest that is left. */
struct wal_recovered {
    struct wal_hard_state hard_state;
    struct wal_mark mark;
    struct wal_entry *entries; /* owned, with one reference on each payload */
    size_t entry_count, entry_capacity;
    uint64_t next_index;  /* index that the next entry has (last index + 1) */
    uint64_t batch_count; /* read and whole */
    uint64_t bytes_cut;   /* of torn writes: whole blocks with something of them; 0: none */
    uint64_t batches_cut; /* whole batches behind a torn one, given up with it (at most 1) */
    char cut_file[64];    /* where it was cut, when bytes_cut is not 0 */
    uint64_t cut_offset;
    bool created; /* there was no log before */
};

void wal_recovered_deinit(struct wal_recovered *r); /* releases payloads */

/* Opens the log in folder `dir`, which exists; makes it when there is none. On failure
 * `out_message` (appended to) tells file, offset and reason: NB_CORRUPT, NB_FOREIGN, NB_VERSION,
 * NB_IO, ... . Blocks while it reads. `disk` is borrowed until wal_close. */
NB_MUST_USE enum nb_status wal_open(struct disk *disk, const char *dir,
                                    const struct wal_ident *ident,
                                    const struct wal_options *options,
                                    struct wal_recovered *out_recovered, struct wal **out_wal,
                                    struct nb_buf *out_message);

/* Flushes and waits for what is on its way, then frees. */
void wal_close(struct wal *wal);
/* Frees without another write: for a member that must make no further promise. Waits for writes
 * that the kernel has, as they use our memory. */
void wal_abandon(struct wal *wal);

/* Called from disk_reap/disk_wait whenever wal_durable() rose or the log failed. */
void wal_on_progress(struct wal *wal, void (*on_progress)(void *context), void *context);

/* Adds to the batch that waits; everything of one call lies in one batch. `hard_state` may be NULL.
 * Entries are consecutive; the first may be at or below the last index: then it replaces the tail.
 * Returns the number of the batch: it is durable when wal_durable() reaches that number.
 * Nothing is written before wal_flush. */
uint64_t wal_append(struct wal *wal, const struct wal_hard_state *hard_state,
                    const struct wal_entry *entries, size_t entry_count);

/* A snapshot that covers up to `mark` is durable elsewhere and replaces the log up to there: a
 * restart begins after it. Entries behind mark.index stay only if the log has entry mark.index with
 * mark.term [Raft fig. 13, 6-7]. Returns the batch number, as wal_append does. */
uint64_t wal_mark_snapshot(struct wal *wal, struct wal_mark mark);

/* Submits waiting batches as far as L1 allows. Call it once a turn; completions call it themselves.
 */
void wal_flush(struct wal *wal);

/* The batches up to this number are durable. */
uint64_t wal_durable(const struct wal *wal);
/* NB_OK, or why the log failed. After that nothing becomes durable: end the process. [W05] */
NB_MUST_USE enum nb_status wal_status(const struct wal *wal);
/* Bytes appended that are not durable yet. The caller stops proposing beyond a bound of its own. */
size_t wal_pending_bytes(const struct wal *wal);
/* The disk had no room for the next segment when it was last asked: batches wait, nothing is lost.
 * wal_mark_durable, called on a slow tick, and wal_release ask again.  [W13] */
bool wal_is_full(const struct wal *wal);
/* Bytes and number of the segment files, without spares. */
uint64_t wal_size(const struct wal *wal, size_t *out_segment_count);
uint64_t wal_next_index(const struct wal *wal);

/* When all is durable but no later batch says so yet: appends an empty batch that does, and
 * flushes. Cheap to call on a slow tick; does nothing when there is nothing to say. */
void wal_mark_durable(struct wal *wal);

/* Entries up to and including `index` are not needed any more: segments that hold nothing else are
 * recycled or removed, oldest first, in the background. `index` must be covered by a durable
 * backend or snapshot.  [W16] */
void wal_release(struct wal *wal, uint64_t index);

/* Reads a log without changing it (nabata log, nabata check): visits every live record in order of
 * writing. An ident of zeros takes that of the first segment. Same failures as wal_open. */
struct wal_visitor {
    void (*on_segment)(void *context, const char *name, uint64_t sequence, uint64_t first_index);
    void (*on_batch)(void *context, uint64_t sequence, uint64_t durable, uint64_t offset,
                     size_t len);
    void (*on_hard_state)(void *context, const struct wal_hard_state *hard_state);
    void (*on_mark)(void *context, struct wal_mark mark);
    /* The payload is borrowed for the call. */
    void (*on_entry)(void *context, uint64_t index, uint64_t term, uint8_t kind,
                     struct nb_bytes payload);
    void *context;
}; /* each may be NULL */

NB_MUST_USE enum nb_status wal_read_all(struct disk *disk, const char *dir,
                                        const struct wal_ident *ident,
                                        const struct wal_visitor *visitor,
                                        struct wal_recovered *out_recovered,
                                        struct nb_buf *out_message);

#endif
