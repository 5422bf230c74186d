/*
 * storage/wal_format: the bytes of the log: segment headers, batches, records. No I/O.
 *
 * Every 512-byte sector ends in an 8-byte stamp, so content runs in pieces of 504 bytes. "Content
 * offset" below counts without the stamps. All integers little-endian.
 *
 *   segment header, one block (4096 bytes, 4032 of content):
 *     0  8  "NABATAWL"           8  u32 format version      12  u32 CRC32C of the other content
 *    16  u64 cluster id         24  u64 member id           32  u64 segment sequence
 *    40  u64 first index        48  u64 first batch sequence
 *    56  u64 durable batch when written
 *    64  u64 x3 hard state (term, voted for, commit)        88  u64 x2 snapshot mark (index, term)
 *   104  zero to the end
 *
 *   batch, blocks:
 *     0  u32 "NBAT"              4  u32 CRC32C of all content but this field, seeded
 *     8  u64 batch sequence     16  u64 durable batch       24  u64 segment sequence
 *    32  u64 offset in the file 40  u32 record bytes        44  u32 record count
 *    48  u32 CRC of the batch before it in the segment (0: first)
 *    52  u32 blocks             56  u32 CRC32C of 0..4 and 8..56, seeded     60  u32 zero
 *    64  records, then zero to the end
 *
 *   record: 0 u32 payload length  4 u8 type  5 u8 kind  6 u16 zero  8 payload
 *     1 entry: u64 index, u64 term, bytes    2 hard state: u64 x3    3 snapshot mark: u64 x2
 */
#ifndef NABATA_STORAGE_WAL_FORMAT_H
#define NABATA_STORAGE_WAL_FORMAT_H

#include "storage/wal.h"

enum {
    WAL_FORMAT_VERSION = 1,
    WAL_STAMP_SIZE = 8,
    WAL_SECTOR_CONTENT = DISK_SECTOR_SIZE - WAL_STAMP_SIZE,
    WAL_SECTORS_PER_BLOCK = DISK_BLOCK_SIZE / DISK_SECTOR_SIZE,
    WAL_BLOCK_CONTENT = WAL_SECTOR_CONTENT * WAL_SECTORS_PER_BLOCK,
    WAL_SEGMENT_HEADER_SIZE = 104,
    WAL_BATCH_HEADER_SIZE = 64,
    WAL_RECORD_HEADER_SIZE = 8,
};

enum wal_record_type { WAL_RECORD_ENTRY = 1, WAL_RECORD_HARD_STATE = 2, WAL_RECORD_MARK = 3 };

struct wal_segment_header {
    struct wal_ident ident;
    uint64_t sequence, first_index, first_batch, durable;
    struct wal_hard_state hard_state;
    struct wal_mark mark;
};

struct wal_batch_header {
    uint64_t sequence, durable, segment, offset;
    uint32_t record_bytes, record_count, previous_crc, blocks;
    uint32_t crc;
};

/* What a batch and its sectors are checked against. */
struct wal_place {
    struct wal_ident ident;
    uint64_t segment;
};

struct wal_record {
    enum wal_record_type type;
    uint8_t kind;
    struct nb_bytes payload; /* without index and term, for an entry */
    uint64_t index, term;    /* of an entry */
    struct wal_hard_state hard_state;
    struct wal_mark mark;
};

/* Content <-> sectors. `at` is a content offset. */
void wal_content_put(uint8_t *sectors, size_t at, const void *from, size_t len);
void wal_content_get(const uint8_t *sectors, size_t at, void *to, size_t len);
size_t wal_blocks_for(size_t content_len);

uint64_t wal_stamp(const struct wal_place *place, uint64_t batch);
/* Writes the stamp into every sector. */
void wal_stamp_put(uint8_t *sectors, size_t blocks, const struct wal_place *place, uint64_t batch);

enum wal_sector_state {
    WAL_SECTOR_NEW,     /* bears the stamp */
    WAL_SECTOR_OTHER,   /* bears something unlike it: it was not written */
    WAL_SECTOR_DAMAGED, /* bears the stamp but for a few bits */
};
enum wal_sector_state wal_sector_state(const uint8_t *sector, uint64_t stamp);

/* `block` is DISK_BLOCK_SIZE bytes, all of them set. */
void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t *block);
/* NB_CORRUPT, NB_VERSION. */
NB_MUST_USE enum nb_status wal_segment_header_decode(const uint8_t *block,
                                                     struct wal_segment_header *out);

/* Header, zero padding, stamps and checksum around the records that lie at content offset
 * WAL_BATCH_HEADER_SIZE. Fills h->blocks and h->crc. */
void wal_batch_finish(uint8_t *sectors, struct wal_batch_header *h, const struct wal_ident *ident);
/* Reads and verifies the batch of segment `place` at file offset `offset`; `available` bytes lie at
 * `sectors`. NB_CORRUPT when it is none or not whole. `out_header_ok` tells if the header alone was
 * right, then out->blocks is set. */
NB_MUST_USE enum nb_status wal_batch_decode(const uint8_t *sectors, size_t available,
                                            const struct wal_place *place, uint64_t offset,
                                            struct wal_batch_header *out, bool *out_header_ok);

/* Walks the records of a batch's destrided record bytes. NB_CLOSED after the last. */
NB_MUST_USE enum nb_status wal_record_next(struct nb_bytes *rest, struct wal_record *out);
void wal_record_header_put(uint8_t *to, size_t payload_len, enum wal_record_type type,
                           uint8_t kind);

#endif
