/*
 * A log of one segment whose records are the input: once as the records of a batch with a right
 * checksum, so that the record decoder and the replay see them, once as raw bytes of the file.
 */
#include "storage/disk_memory.h"
#include "storage/wal_format.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct wal_ident ident = {.cluster_id = 1, .member_id = 2};
static const char path[] = "wal/0000000000000001-0000000000000001.wal";

static void run(struct nb_bytes content)
{
    struct disk *d = disk_memory_create(1);
    struct nb_buf message = {0};
    struct wal_recovered r;
    struct wal *w;
    nb_assert(disk_mkdir(d, "wal") == NB_OK);
    nb_assert(disk_write_file(d, "wal", path, content) == NB_OK);
    const struct wal_options options = {.segment_size = 16384};
    if (wal_open(d, "wal", &ident, &options, &r, &w, &message) == NB_OK) {
        uint64_t next = r.next_index;
        wal_recovered_deinit(&r);
        wal_abandon(w);
        /* What was recovered once is recovered again. */
        nb_assert(wal_open(d, "wal", &ident, &options, &r, &w, &message) == NB_OK);
        nb_assert(r.next_index == next);
        wal_recovered_deinit(&r);
        wal_abandon(w);
    }
    nb_buf_deinit(&message);
    disk_destroy(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 60000) {
        return 0;
    }
    run(nb_bytes_of(data, size));
    struct nb_buf file = {0};
    const struct wal_segment_header header = {
        .ident = ident, .sequence = 1, .first_index = 1, .first_batch = 1};
    wal_segment_header_encode(&header, nb_buf_extend(&file, DISK_BLOCK_SIZE));
    size_t blocks = wal_blocks_for(WAL_BATCH_HEADER_SIZE + size);
    uint8_t *sectors = nb_buf_extend(&file, blocks * DISK_BLOCK_SIZE);
    wal_content_put(sectors, WAL_BATCH_HEADER_SIZE, data, size);
    /* The record count is in the header: a walk with the decoder itself gives it. */
    struct nb_bytes rest = nb_bytes_of(data, size);
    struct wal_record record;
    uint32_t count = 0;
    while (wal_record_next(&rest, &record) == NB_OK) {
        count++;
    }
    struct wal_batch_header h = {.sequence = 1,
                                 .segment = 1,
                                 .offset = DISK_BLOCK_SIZE,
                                 .record_bytes = (uint32_t)size,
                                 .record_count = count};
    wal_batch_finish(sectors, &h, &ident);
    run(nb_buf_bytes(&file));
    nb_buf_deinit(&file);
    return 0;
}
