/* gRPC's framing: whole input and input byte by byte give the same messages and the same verdict.
 */
#include "rpc/framing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGE_MAX = 5000 };

static enum rpc_read run(const uint8_t *data, size_t size, size_t split, struct nb_buf *all)
{
    struct rpc_reader r = {0};
    enum rpc_read read = RPC_READ_MORE;
    for (size_t at = 0; at < size;) {
        size_t piece = size - at < split ? size - at : split;
        struct nb_bytes in = nb_bytes_of(data + at, piece), message;
        at += piece;
        do {
            read = rpc_reader_next(&r, &in, MESSAGE_MAX, &message);
            nb_assert(rpc_reader_held_bytes(&r) <= MESSAGE_MAX);
            if (read == RPC_READ_MESSAGE) {
                nb_buf_printf(all, "%zu:", message.len);
                nb_buf_append_bytes(all, message);
            }
        } while (read == RPC_READ_MESSAGE && in.len != 0);
        if (read > RPC_READ_MESSAGE) {
            break;
        }
    }
    rpc_reader_reset(&r, false);
    return read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nb_buf whole = {0}, pieces = {0};
    enum rpc_read a = run(data, size, SIZE_MAX, &whole);
    enum rpc_read b = run(data, size, 1, &pieces);
    nb_assert(a == b);
    nb_assert(nb_bytes_equal(nb_buf_bytes(&whole), nb_buf_bytes(&pieces)));
    nb_buf_deinit(&whole);
    nb_buf_deinit(&pieces);
    return 0;
}
