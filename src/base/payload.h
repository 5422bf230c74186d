/*
 * base/payload: the bytes of one log entry, counted.
 *
 * A client's request is received once and from then on referenced by the log, the WAL batch, the
 * messages to peers and apply. The count is not atomic: payloads are touched by the loop thread
 * alone; what another thread needs is held for it by the loop until that thread reports back.
 */
#ifndef NABATA_BASE_PAYLOAD_H
#define NABATA_BASE_PAYLOAD_H

#include "base/bytes.h"

struct nb_payload {
    uint32_t reference_count;
    uint32_t len;   /* bytes */
    uint8_t data[]; /* never changed once shared */
};

/* A payload of `len` bytes of undefined content, with one reference, the caller's. */
NB_MUST_USE struct nb_payload *nb_payload_create(size_t len);
NB_MUST_USE struct nb_payload *nb_payload_copy(struct nb_bytes bytes);

static inline struct nb_payload *nb_payload_acquire(struct nb_payload *p)
{
    if (p != NULL) {
        nb_assert(p->reference_count != 0 && p->reference_count != UINT32_MAX);
        p->reference_count++;
    }
    return p;
}

void nb_payload_release(struct nb_payload *p); /* NULL is fine */

static inline struct nb_bytes nb_payload_bytes(const struct nb_payload *p)
{
    return p == NULL ? (struct nb_bytes){0} : nb_bytes_of(p->data, p->len);
}

#endif
