/*
 * rpc/framing: gRPC's messages within a stream of bytes.
 *
 *     offset  bytes
 *     0       1      flag: 0 plain, 1 compressed
 *     1       4      length of the message, big-endian
 *     5       ...    the message
 *
 * A message that lies whole in the bytes given is borrowed from them; only one that comes in pieces
 * is gathered in memory of the reader's own.
 *
 * Invariants:
 *   F1  a length is checked against the maximum before a byte is stored for it             [N10]
 *   F2  the reader holds at most the bytes that came, never what a length only promises    [N10]
 */
#ifndef NABATA_RPC_FRAMING_H
#define NABATA_RPC_FRAMING_H

#include "base/bytes.h"

enum { RPC_PREFIX_SIZE = 5 };

/* All zero is a valid reader at the beginning of a stream. */
struct rpc_reader {
    struct nb_buf partial; /* owned; a message that comes in pieces, or one that is held */
    uint8_t prefix[RPC_PREFIX_SIZE];
    uint8_t prefix_len;
    bool taken;    /* `partial` was given out; it is dropped by the next call */
    uint32_t need; /* length of the message at hand, when the prefix is complete */
};

enum rpc_read {
    RPC_READ_MORE,       /* all input is used, no message yet */
    RPC_READ_MESSAGE,    /* one message; call again for the next */
    RPC_READ_TOO_LARGE,  /* longer than the maximum: `reader->need` says how long */
    RPC_READ_COMPRESSED, /* flag 1 */
    RPC_READ_BAD_FLAG,   /* any other flag: reader->prefix[0] */
};

/* Takes bytes off the front of `in`. `out_message` is borrowed from `in` or from the reader, until
 * the next call. After a refusal the reader must not be used but for rpc_reader_deinit. */
NB_MUST_USE enum rpc_read rpc_reader_next(struct rpc_reader *r, struct nb_bytes *in,
                                          size_t bytes_max, struct nb_bytes *out_message);
/* True in the middle of a message. */
bool rpc_reader_is_partial(const struct rpc_reader *r);
/* Bytes of memory that input has caused. */
size_t rpc_reader_held_bytes(const struct rpc_reader *r);
/* Keeps a message that rpc_reader_next gave, as reader->partial, until deinit or the next call. */
void rpc_reader_hold(struct rpc_reader *r, struct nb_bytes message);
/* Ready for another stream; keeps a little memory if `keep`. */
void rpc_reader_reset(struct rpc_reader *r, bool keep);

/* Writes the prefix of a plain message of `len` bytes. */
void rpc_prefix_put(uint8_t to[static RPC_PREFIX_SIZE], size_t len);

#endif
