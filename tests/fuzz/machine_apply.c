/*
 * D04: applying any bytes is total. The input is cut into entries (a length byte each, two for long
 * ones); each becomes the payload of a command, with a valid header when its first byte is odd.
 */
#include "machine/machine.h"
#include "storage/backend.h"
#include "storage/backend_memory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply(struct machine *m, uint64_t index, struct nb_bytes piece)
{
    struct nb_buf payload = {0};
    if (piece.len != 0 && (piece.data[0] & 1) != 0) {
        uint8_t header[MACHINE_HEADER_SIZE_BYTES];
        machine_header_put(header, &(struct machine_header){.kind = (uint8_t)(piece.data[0] >> 1),
                                                            .request_id = index,
                                                            .origin = 1});
        nb_buf_append(&payload, header, sizeof header);
        piece = nb_bytes_from(piece, 1);
    }
    nb_buf_append_bytes(&payload, piece);
    struct machine_result result;
    struct machine_entry entry = {.index = index,
                                  .term = 1,
                                  .kind = MACHINE_ENTRY_COMMAND,
                                  .payload = nb_buf_bytes(&payload)};
    machine_apply(m, &entry, &result);
    nb_assert(machine_applied_index(m) == index);
    nb_assert(result.status == NB_OK || result.body.len == 0);
    nb_buf_deinit(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct backend_memory_store *store = backend_memory_store_create();
    struct backend_ident ident = {.cluster_id = 1, .member_id = 1};
    struct backend *backend;
    struct nb_buf error = {0};
    enum nb_status status = backend_memory_open(store, NULL, &ident, &backend, &error);
    nb_assert(status == NB_OK);
    struct machine *m;
    struct machine_options options = {.hash_seed = 1, .log_hash_count = 16};
    status = machine_create(backend, &options, &m, &error);
    nb_assert(status == NB_OK);
    uint64_t index = 0;
    for (size_t at = 0; at < size;) {
        size_t len = data[at++];
        if (len == 255 && at < size) {
            len += (size_t)data[at++] * 16;
        }
        len = len > size - at ? size - at : len;
        apply(m, ++index, nb_bytes_of(data + at, len));
        at += len;
    }
    machine_destroy(m);
    backend_close(backend);
    backend_memory_store_destroy(store);
    nb_buf_deinit(&error);
    return 0;
}
