/*
 * net/tls: TLS as bytes in, bytes out, over whatever carries them. OpenSSL 3, TLS 1.2 and later.
 *
 * A context holds what is trusted; a session is one connection's. Certificates are checked against
 * the name (or address) that was dialled, never by reverse DNS [K03].
 *
 * Invariants:
 *   T1  nothing is given out as plain text, and nothing of the caller's is sent, before the other
 *       side's certificate was verified
 *   T2  nothing is read from disk: no engine, no openssl.cnf; files are the caller's matter
 */
#ifndef NABATA_NET_TLS_H
#define NABATA_NET_TLS_H

#include "net/net.h"

struct net_tls_context;
struct net_tls;

/* For clients that trust the authorities in `ca_pem` (one or more certificates, PEM) and nobody
 * else. NB_MALFORMED with words. */
NB_MUST_USE enum nb_status net_tls_context_client(struct nb_bytes ca_pem,
                                                  struct net_tls_context **out,
                                                  struct net_error *error);
void net_tls_context_destroy(struct net_tls_context *context); /* NULL is fine */

/* A client's session with `host`, a name or an address: the certificate must have it among its
 * subject alternative names, whatever its common name is. The context may be destroyed before the
 * session. NB_INVALID, with words: empty, too long, or no name a certificate could have. */
NB_MUST_USE enum nb_status net_tls_client(struct net_tls_context *context, const char *host,
                                          struct net_tls **out, struct net_error *error);
void net_tls_destroy(struct net_tls *tls); /* NULL is fine */

/*
 * Takes bytes from the other side (none at the start); appends what is to be sent to `out` and
 * plain text to `plain`. NB_OK; NB_CLOSED when the other side has ended the session in order;
 * NB_ACCESS when its certificate is not good (`error` says why: expired, unknown authority, another
 * name); NB_MALFORMED for what is no TLS. After anything but NB_OK only what is in `out` may still
 * be sent.
 */
NB_MUST_USE enum nb_status net_tls_feed(struct net_tls *tls, struct nb_bytes bytes,
                                        struct nb_buf *plain, struct nb_buf *out,
                                        struct net_error *error);
/* Encrypts, or keeps until the handshake is over. */
NB_MUST_USE enum nb_status net_tls_send(struct net_tls *tls, struct nb_bytes plain,
                                        struct nb_buf *out, struct net_error *error);

#endif
