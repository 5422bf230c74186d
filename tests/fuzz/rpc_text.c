/* The encodings of headers and of queries: total, and reversible where they should be. */
#include "rpc/rpc.h"
#include "rpc/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nb_bytes text = nb_bytes_of(data, size);
    struct nb_buf a = {0}, b = {0};
    rpc_percent_encode(text, &a);
    rpc_percent_decode(nb_buf_bytes(&a), &b);
    nb_assert(nb_bytes_equal(nb_buf_bytes(&b), text));
    nb_buf_clear(&a);
    rpc_percent_decode(text, &a);
    nb_assert(a.len <= size);
    rpc_quote(text, &a);
    uint64_t value;
    if (rpc_timeout_parse(text, &value)) {
        char again[RPC_TIMEOUT_TEXT_MAX];
        uint64_t back = 0;
        bool parsed =
            rpc_timeout_parse(nb_bytes_of(again, rpc_timeout_format(value, again)), &back);
        nb_assert(parsed && (back >= value || value > UINT64_MAX / 2));
    }
    (void)rpc_content_type_is_grpc(text);
    (void)!rpc_decimal_parse(text, UINT64_MAX, &value);
    (void)!rpc_query_get(text, "a", 1, &a);
    nb_buf_deinit(&a);
    nb_buf_deinit(&b);
    return 0;
}
