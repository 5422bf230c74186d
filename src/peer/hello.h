/*
 * peer/hello: the handshake as bytes. HELLO and WELCOME are the same record:
 *
 *   offset  size
 *        0     6  "NABATA"
 *        6     2  protocol version
 *        8     1  channel
 *        9     1  flags: 1 = fresh
 *       10     2  port its sender listens on, 0 is unknown
 *       12  6x8   cluster id, from, to, boot id, boot count, seen boot count
 *       60        name and version (a length byte before each), card (two length bytes before it)
 *
 * What follows is for later versions and ignored. REFUSE: code (1), seen boot count (8), text (a
 * length byte before it).
 */
#ifndef NABATA_PEER_HELLO_H
#define NABATA_PEER_HELLO_H

#include "peer/peer.h"

/* Of any frame before the handshake is done; what has not come is not allocated. */
enum { PEER_HELLO_SIZE_MAX = 64 << 10 };

void peer_hello_encode(const struct peer_hello *h, struct nb_buf *to);
/* NB_MALFORMED, or NB_VERSION (of which only protocol_version is filled in). The card points into
 * `from`. Names come out without bytes of 0 inside. */
NB_MUST_USE enum nb_status peer_hello_decode(struct nb_bytes from, struct peer_hello *out);

void peer_refusal_encode(const struct peer_refusal *r, struct nb_buf *to);
/* A code that is not known gives PEER_REFUSAL_OTHER; the code is never PEER_REFUSAL_NONE. */
NB_MUST_USE enum nb_status peer_refusal_decode(struct nb_bytes from, struct peer_refusal *out);

#endif
