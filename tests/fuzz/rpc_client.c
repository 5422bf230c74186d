/* Any bytes from a server to a client with a few calls running. */
#include "tests/support/rpc_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rpc_client_config config = {
        .authority = "a:1", .on_output = pair_client_output, .message_bytes_max = 10000};
    struct rpc_client *client = rpc_client_create(&config, 1);
    struct outcome outcomes[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        struct rpc_client_request r = {
            .path = "/t.S/Echo", .events = &outcome_events, .user = &outcomes[i]};
        (void)!rpc_client_unary(client, &r, nb_bytes_str("x"));
    }
    struct nb_buf out = {0};
    (void)rpc_client_output(client, &out, SIZE_MAX);
    size_t split = size == 0 || data[0] % 8 == 0 ? SIZE_MAX : data[0] % 8;
    enum nb_status status = rpc_client_feed(client, nb_bytes_of("\0\0\0\4\0\0\0\0\0", 9), 2);
    for (size_t at = 1; at < size && status == NB_OK;) {
        size_t piece = size - at < split ? size - at : split;
        status = rpc_client_feed(client, nb_bytes_of(data + at, piece), 3);
        at += piece;
        nb_buf_clear(&out);
        (void)rpc_client_output(client, &out, 1000);
    }
    rpc_client_destroy(client);
    for (size_t i = 0; i < 3; i++) {
        nb_assert(outcomes[i].done == 1); /* each call ends once, whatever came */
        outcome_deinit(&outcomes[i]);
    }
    nb_buf_deinit(&out);
    return 0;
}
