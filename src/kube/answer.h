/*
 * kube/answer: one HTTP/1.1 answer of the API out of plain bytes, however they are cut.
 *
 * Invariants:
 *   W1  `body` never holds more than KUBE_ANSWER_SIZE_MAX bytes
 *   W2  nothing is taken of what follows the first answer
 */
#ifndef NABATA_KUBE_ANSWER_H
#define NABATA_KUBE_ANSWER_H

#include "base/bytes.h"
#include "base/status.h"

#include <http_parser.h>

enum { KUBE_ANSWER_SIZE_MAX = 1 << 20 };

/* Stays where it is once begun. All zero may be deinited. */
struct kube_answer {
    http_parser parser;
    struct nb_buf body; /* owned; without the framing of chunks */
    bool whole;
    bool too_large;
};

/* Begins anew; what was held before is dropped. */
void kube_answer_begin(struct kube_answer *a);
void kube_answer_deinit(struct kube_answer *a);

/* Takes bytes; none after the answer is whole or was refused. NB_OK, also when it goes on (see
 * `whole`); NB_TOO_LARGE; NB_MALFORMED: no HTTP. */
NB_MUST_USE enum nb_status kube_answer_feed(struct kube_answer *a, struct nb_bytes plain);
/* There is no more. NB_OK: the answer is whole, one without a length is by this; NB_CLOSED. */
NB_MUST_USE enum nb_status kube_answer_end(struct kube_answer *a);
unsigned kube_answer_code(const struct kube_answer *a);

#endif
