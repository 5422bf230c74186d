/* Any bytes give a chunk or a refusal; a chunk encodes to the same bytes again. The checksum is
 * made right first, so that mutations reach what lies behind it. */
#include "base/checksum.h"
#include "storage/snapshot.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot_chunk chunk;
    if (snapshot_chunk_decode(nb_bytes_of(data, size), &chunk) == NB_OK) {
        nb_assert(chunk.data.len + SNAPSHOT_CHUNK_HEADER_SIZE == size);
    }
    if (size < SNAPSHOT_CHUNK_HEADER_SIZE) {
        return 0;
    }
    struct nb_buf copy = {0};
    nb_buf_append(&copy, data, size);
    nb_put_u32(copy.data + 24, (uint32_t)(size - SNAPSHOT_CHUNK_HEADER_SIZE));
    uint32_t crc = nb_crc32c(0, copy.data, 40);
    crc = nb_crc32c(crc, copy.data + SNAPSHOT_CHUNK_HEADER_SIZE, size - SNAPSHOT_CHUNK_HEADER_SIZE);
    nb_put_u32(copy.data + 40, crc);
    if (snapshot_chunk_decode(nb_buf_bytes(&copy), &chunk) == NB_OK) {
        struct nb_buf again = {0};
        snapshot_chunk_encode(&chunk, &again);
        nb_assert(nb_bytes_equal(nb_buf_bytes(&again), nb_buf_bytes(&copy)));
        nb_buf_deinit(&again);
    }
    nb_buf_deinit(&copy);
    return 0;
}
