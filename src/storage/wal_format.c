#include "storage/wal_format.h"

#include "base/checksum.h"

#include <string.h>

static const char segment_magic[8] = {'N', 'A', 'B', 'A', 'T', 'A', 'W', 'L'};
static const uint32_t batch_magic = 0x5441424eu; /* "NBAT" */

enum {
    STAMP_BITS_DAMAGED = 12
}; /* unrelated stamps agree this well once in 10^6 reads of damage */

void wal_content_put(uint8_t *sectors, size_t at, const void *from, size_t len)
{
    const uint8_t *p = from;
    while (len != 0) {
        size_t in = at % WAL_SECTOR_CONTENT;
        size_t piece = WAL_SECTOR_CONTENT - in < len ? WAL_SECTOR_CONTENT - in : len;
        memcpy(sectors + at / WAL_SECTOR_CONTENT * DISK_SECTOR_SIZE + in, p, piece);
        at += piece;
        p += piece;
        len -= piece;
    }
}

void wal_content_get(const uint8_t *sectors, size_t at, void *to, size_t len)
{
    uint8_t *p = to;
    while (len != 0) {
        size_t in = at % WAL_SECTOR_CONTENT;
        size_t piece = WAL_SECTOR_CONTENT - in < len ? WAL_SECTOR_CONTENT - in : len;
        memcpy(p, sectors + at / WAL_SECTOR_CONTENT * DISK_SECTOR_SIZE + in, piece);
        at += piece;
        p += piece;
        len -= piece;
    }
}

size_t wal_blocks_for(size_t content_len)
{
    return content_len / WAL_BLOCK_CONTENT + (content_len % WAL_BLOCK_CONTENT != 0);
}

static uint64_t mix(uint64_t x) /* splitmix64's finisher: every input bit turns half the output */
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t wal_stamp(const struct wal_place *place, uint64_t batch)
{
    uint64_t h = mix(place->ident.cluster_id + 0x9e3779b97f4a7c15u);
    h = mix(h ^ place->ident.member_id);
    h = mix(h ^ place->segment);
    return mix(h ^ batch);
}

void wal_stamp_put(uint8_t *sectors, size_t blocks, const struct wal_place *place, uint64_t batch)
{
    uint64_t stamp = wal_stamp(place, batch);
    for (size_t i = 0; i < blocks * WAL_SECTORS_PER_BLOCK; i++) {
        nb_put_u64(sectors + i * DISK_SECTOR_SIZE + WAL_SECTOR_CONTENT, stamp);
    }
}

enum wal_sector_state wal_sector_state(const uint8_t *sector, uint64_t stamp)
{
    uint64_t found = nb_get_u64(sector + WAL_SECTOR_CONTENT);
    if (found == stamp) {
        return WAL_SECTOR_NEW;
    }
    return __builtin_popcountll(found ^ stamp) <= STAMP_BITS_DAMAGED ? WAL_SECTOR_DAMAGED
                                                                     : WAL_SECTOR_OTHER;
}

/* --- segment header ------------------------------------------------------------------------- */

static uint32_t segment_crc(const uint8_t *block)
{
    /* The stamps count as well: a header is one whole, or it is none. */
    uint32_t crc = nb_crc32c(0, block, 12);
    return nb_crc32c(crc, block + 16, DISK_BLOCK_SIZE - 16);
}

void wal_segment_header_encode(const struct wal_segment_header *h, uint8_t *block)
{
    memset(block, 0, DISK_BLOCK_SIZE);
    memcpy(block, segment_magic, sizeof segment_magic);
    nb_put_u32(block + 8, WAL_FORMAT_VERSION);
    const uint64_t fields[] = {h->ident.cluster_id,
                               h->ident.member_id,
                               h->sequence,
                               h->first_index,
                               h->first_batch,
                               h->durable,
                               h->hard_state.term,
                               h->hard_state.voted_for,
                               h->hard_state.commit_index,
                               h->mark.index,
                               h->mark.term};
    static_assert(16 + sizeof fields == WAL_SEGMENT_HEADER_SIZE, "the table in the header");
    for (size_t i = 0; i < NB_ARRAY_LEN(fields); i++) {
        nb_put_u64(block + 16 + 8 * i, fields[i]);
    }
    const struct wal_place place = {.ident = h->ident, .segment = h->sequence};
    wal_stamp_put(block, 1, &place, h->first_batch);
    nb_put_u32(block + 12, segment_crc(block));
}

enum nb_status wal_segment_header_decode(const uint8_t *block, struct wal_segment_header *out)
{
    if (memcmp(block, segment_magic, sizeof segment_magic) != 0) {
        return NB_CORRUPT;
    }
    if (nb_get_u32(block + 12) != segment_crc(block)) {
        return NB_CORRUPT;
    }
    if (nb_get_u32(block + 8) != WAL_FORMAT_VERSION) {
        return NB_VERSION;
    }
    uint64_t f[11];
    for (size_t i = 0; i < NB_ARRAY_LEN(f); i++) {
        f[i] = nb_get_u64(block + 16 + 8 * i);
    }
    *out = (struct wal_segment_header){
        .ident = {.cluster_id = f[0], .member_id = f[1]},
        .sequence = f[2],
        .first_index = f[3],
        .first_batch = f[4],
        .durable = f[5],
        .hard_state = {.term = f[6], .voted_for = f[7], .commit_index = f[8]},
        .mark = {.index = f[9], .term = f[10]},
    };
    return NB_OK;
}

/* --- batch ---------------------------------------------------------------------------------- */

static uint32_t seed_of(const struct wal_place *place)
{
    uint8_t seed[24];
    nb_put_u64(seed, place->ident.cluster_id);
    nb_put_u64(seed + 8, place->ident.member_id);
    nb_put_u64(seed + 16, place->segment);
    return nb_crc32c(0, seed, sizeof seed);
}

/* Over the sectors as they lie, stamps included, but for the two checksum fields. */
static uint32_t batch_crc(const uint8_t *sectors, size_t blocks, const struct wal_place *place)
{
    uint32_t crc = nb_crc32c(seed_of(place), sectors, 4);
    return nb_crc32c(crc, sectors + 8, blocks * DISK_BLOCK_SIZE - 8);
}

static uint32_t batch_header_crc(const uint8_t *sectors, const struct wal_place *place)
{
    uint32_t crc = nb_crc32c(seed_of(place), sectors, 4);
    return nb_crc32c(crc, sectors + 8, 48);
}

void wal_batch_finish(uint8_t *sectors, struct wal_batch_header *h, const struct wal_ident *ident)
{
    const struct wal_place place = {.ident = *ident, .segment = h->segment};
    size_t used = WAL_BATCH_HEADER_SIZE + (size_t)h->record_bytes;
    size_t blocks = wal_blocks_for(used);
    h->blocks = (uint32_t)blocks;
    static const uint8_t zeros[WAL_BLOCK_CONTENT];
    wal_content_put(sectors, used, zeros, blocks * WAL_BLOCK_CONTENT - used);
    memset(sectors, 0, WAL_BATCH_HEADER_SIZE);
    nb_put_u32(sectors, batch_magic);
    nb_put_u64(sectors + 8, h->sequence);
    nb_put_u64(sectors + 16, h->durable);
    nb_put_u64(sectors + 24, h->segment);
    nb_put_u64(sectors + 32, h->offset);
    nb_put_u32(sectors + 40, h->record_bytes);
    nb_put_u32(sectors + 44, h->record_count);
    nb_put_u32(sectors + 48, h->previous_crc);
    nb_put_u32(sectors + 52, h->blocks);
    nb_put_u32(sectors + 56, batch_header_crc(sectors, &place));
    wal_stamp_put(sectors, blocks, &place, h->sequence);
    h->crc = batch_crc(sectors, blocks, &place);
    nb_put_u32(sectors + 4, h->crc);
}

static bool batch_header_read(const uint8_t *sectors, const struct wal_place *place,
                              uint64_t offset, struct wal_batch_header *out)
{
    if (nb_get_u32(sectors) != batch_magic ||
        nb_get_u32(sectors + 56) != batch_header_crc(sectors, place)) {
        return false;
    }
    *out = (struct wal_batch_header){
        .crc = nb_get_u32(sectors + 4),
        .sequence = nb_get_u64(sectors + 8),
        .durable = nb_get_u64(sectors + 16),
        .segment = nb_get_u64(sectors + 24),
        .offset = nb_get_u64(sectors + 32),
        .record_bytes = nb_get_u32(sectors + 40),
        .record_count = nb_get_u32(sectors + 44),
        .previous_crc = nb_get_u32(sectors + 48),
        .blocks = nb_get_u32(sectors + 52),
    };
    return out->segment == place->segment && out->offset == offset && out->blocks != 0 &&
           out->sequence > out->durable &&
           out->blocks == wal_blocks_for(WAL_BATCH_HEADER_SIZE + (size_t)out->record_bytes);
}

enum nb_status wal_batch_decode(const uint8_t *sectors, size_t available,
                                const struct wal_place *place, uint64_t offset,
                                struct wal_batch_header *out, bool *out_header_ok)
{
    *out_header_ok = false;
    if (available < DISK_BLOCK_SIZE || !batch_header_read(sectors, place, offset, out)) {
        return NB_CORRUPT;
    }
    *out_header_ok = true;
    if (out->blocks > available / DISK_BLOCK_SIZE) {
        return NB_CORRUPT;
    }
    return batch_crc(sectors, out->blocks, place) == out->crc ? NB_OK : NB_CORRUPT;
}

/* --- records -------------------------------------------------------------------------------- */

void wal_record_header_put(uint8_t *to, size_t payload_len, enum wal_record_type type, uint8_t kind)
{
    nb_put_u32(to, (uint32_t)payload_len);
    to[4] = (uint8_t)type;
    to[5] = kind;
    to[6] = 0;
    to[7] = 0;
}

enum nb_status wal_record_next(struct nb_bytes *rest, struct wal_record *out)
{
    if (rest->len == 0) {
        return NB_CLOSED;
    }
    if (rest->len < WAL_RECORD_HEADER_SIZE) {
        return NB_CORRUPT;
    }
    const uint8_t *p = rest->data;
    size_t len = nb_get_u32(p);
    if (len > rest->len - WAL_RECORD_HEADER_SIZE || p[6] != 0 || p[7] != 0) {
        return NB_CORRUPT;
    }
    struct wal_record r = {.kind = p[5]};
    const uint8_t *body = p + WAL_RECORD_HEADER_SIZE;
    switch (p[4]) {
    case WAL_RECORD_ENTRY:
        if (len < 16) {
            return NB_CORRUPT;
        }
        r.index = nb_get_u64(body);
        r.term = nb_get_u64(body + 8);
        r.payload = nb_bytes_of(body + 16, len - 16);
        break;
    case WAL_RECORD_HARD_STATE:
        if (len != 24) {
            return NB_CORRUPT;
        }
        r.hard_state = (struct wal_hard_state){
            .term = nb_get_u64(body),
            .voted_for = nb_get_u64(body + 8),
            .commit_index = nb_get_u64(body + 16),
        };
        break;
    case WAL_RECORD_MARK:
        if (len != 16) {
            return NB_CORRUPT;
        }
        r.mark = (struct wal_mark){.index = nb_get_u64(body), .term = nb_get_u64(body + 8)};
        break;
    default:
        return NB_CORRUPT; /* 0, or of a format that has another version number */
    }
    r.type = (enum wal_record_type)p[4];
    *rest = nb_bytes_from(*rest, WAL_RECORD_HEADER_SIZE + len);
    *out = r;
    return NB_OK;
}
