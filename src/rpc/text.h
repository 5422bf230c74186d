/*
 * rpc/text: the little encodings of gRPC's and HTTP's headers.
 *
 * All readers here are total: any bytes give a value or a refusal. [grpc PROTOCOL-HTTP2.md]
 */
#ifndef NABATA_RPC_TEXT_H
#define NABATA_RPC_TEXT_H

#include "base/bytes.h"

/* grpc-message: printable ASCII but '%' stays, other bytes become %XX. Appends to `out`. */
void rpc_percent_encode(struct nb_bytes text, struct nb_buf *out);
/* The reverse; what is no valid escape stays as it is. Appends to `out`. */
void rpc_percent_decode(struct nb_bytes text, struct nb_buf *out);

/* grpc-timeout: 1 to 8 digits and a unit of HMSmun. False if it is not that. */
NB_MUST_USE bool rpc_timeout_parse(struct nb_bytes text, uint64_t *out_ns);
enum { RPC_TIMEOUT_TEXT_MAX = 16 };
/* Rounds up to what 8 digits can say; returns the length without the closing 0. */
size_t rpc_timeout_format(uint64_t ns, char to[static RPC_TIMEOUT_TEXT_MAX]);

/* "application/grpc", alone or followed by '+' or ';'. */
bool rpc_content_type_is_grpc(struct nb_bytes text);

/* All digits and at most `max`. */
NB_MUST_USE bool rpc_decimal_parse(struct nb_bytes text, uint64_t max, uint64_t *out);

/* Bytes in quotes as Go's %q has them, near enough: quotes, backslashes and other than printable
 * ASCII are escaped. */
void rpc_quote(struct nb_bytes text, struct nb_buf *out);

static inline bool rpc_bytes_are(struct nb_bytes b, const char *text, size_t len)
{
    return b.len == len && __builtin_memcmp(b.data, text, len) == 0;
}
/* `literal` is a string literal. */
#define RPC_IS(bytes, literal) rpc_bytes_are((bytes), "" literal, sizeof(literal) - 1)

#endif
