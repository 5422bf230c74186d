/*
 * storage/snapshot: snapshot files on their way from one member to another, as chunks.
 *
 * The network is someone else's. A sender reads a file in chunks; a receiver writes chunks into
 * `<dir>/<transfer id>.part`, and when all are there and the hash of the whole agrees, syncs it and
 * renames it to `<dir>/<transfer id>.snap`. Only whole files ever bear that name; what a crash
 * leaves is removed by snapshot_clean_up at start.  [S09, S10]
 *
 * Chunks come in order: one that was taken already is answered NB_EXISTS and ignored, one from
 * beyond is NB_INVALID, so a transfer resumes at snapshot_receiver_offset(). A chunk is at most
 * SNAPSHOT_CHUNK_SIZE_MAX bytes, so a call takes a bounded time; the syncs run off the loop.
 *
 * Wire form of a chunk (encode/decode; little-endian):
 *   0  u64 transfer id      8  u64 offset     16  u64 total length of the file
 *  24  u32 data length     28  u32 flags (1: last, then hash is set)
 *  32  u64 XXH3-64 of the whole file (last chunk only, else 0)
 *  40  u32 CRC32C of bytes 0..40 and the data    44  u32 zero      48  data
 *
 * Owned by the loop thread.
 */
#ifndef NABATA_STORAGE_SNAPSHOT_H
#define NABATA_STORAGE_SNAPSHOT_H

#include "base/bytes.h"
#include "base/status.h"
#include "storage/disk.h"

enum {
    SNAPSHOT_CHUNK_HEADER_SIZE = 48,
    SNAPSHOT_CHUNK_SIZE_MAX = 1 << 20,
};

struct snapshot_chunk {
    uint64_t transfer_id; /* not 0 */
    uint64_t offset, total_len;
    bool last;
    uint64_t hash;        /* of the whole file; only when last */
    struct nb_bytes data; /* borrowed */
};

/* Appends the wire form. */
void snapshot_chunk_encode(const struct snapshot_chunk *chunk, struct nb_buf *out);
/* NB_TRUNCATED, NB_MALFORMED, NB_TOO_LARGE, or NB_CORRUPT when the checksum disagrees. `in` must be
 * exactly one chunk. */
NB_MUST_USE enum nb_status snapshot_chunk_decode(struct nb_bytes in, struct snapshot_chunk *out);

struct snapshot_sender;

/* Opens a file (as backend_copy made it) for sending. `remove_after`: unlinked when closed. */
NB_MUST_USE enum nb_status snapshot_sender_open(struct disk *disk, const char *path,
                                                uint64_t transfer_id, bool remove_after,
                                                struct snapshot_sender **out_sender);
uint64_t snapshot_sender_len(const struct snapshot_sender *s);
/* Reads the next chunk of at most `len_max` bytes; its data are valid until the next call. After
 * the last one NB_CLOSED. */
NB_MUST_USE enum nb_status snapshot_sender_next(struct snapshot_sender *s, size_t len_max,
                                                struct snapshot_chunk *out);
/* Goes back to `offset` (a receiver that resumes), which was sent before. */
NB_MUST_USE enum nb_status snapshot_sender_seek(struct snapshot_sender *s, uint64_t offset);
void snapshot_sender_close(struct snapshot_sender *s);

struct snapshot_receiver;

/* Starts a file for a transfer. NB_INVALID for id 0, NB_TOO_LARGE beyond len_max. */
NB_MUST_USE enum nb_status snapshot_receiver_open(struct disk *disk, const char *dir,
                                                  uint64_t transfer_id, uint64_t total_len,
                                                  uint64_t len_max,
                                                  struct snapshot_receiver **out_receiver);
/* NB_FOREIGN when of another transfer or length, NB_EXISTS, NB_INVALID (see above), NB_CORRUPT when
 * it is the last and the hash disagrees (then the receiver is of no more use), NB_NO_SPACE_DISK,
 * NB_IO. NB_OK on the last chunk starts the install. */
NB_MUST_USE enum nb_status snapshot_receiver_take(struct snapshot_receiver *r,
                                                  const struct snapshot_chunk *chunk);
uint64_t snapshot_receiver_offset(const struct snapshot_receiver *r);
/* After the last chunk: called from disk_reap when the file is durable under its name, or could not
 * be made so. `path` is the file for backend_replace, valid until the receiver is closed. */
void snapshot_receiver_on_done(struct snapshot_receiver *r,
                               void (*on_done)(void *context, enum nb_status status,
                                               const char *path),
                               void *context);
/* Removes the file unless it was taken away; waits for an install under way. */
void snapshot_receiver_close(struct snapshot_receiver *r);

/* Removes everything in `dir` that looks like ours (*.part, *.snap, *.tmp). Returns how many
 * through out_count (may be NULL). */
NB_MUST_USE enum nb_status snapshot_clean_up(struct disk *disk, const char *dir, size_t *out_count);

#endif
