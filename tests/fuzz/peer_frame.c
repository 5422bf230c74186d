/*
 * The stream between members: whole and cut in two it must give the same frames and the same end;
 * what is inside goes through the decoders of the handshake, and what they accept must survive
 * being encoded again.
 */
#include "peer/frame.h"
#include "peer/hello.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAYLOAD_SIZE_MAX = 16384 };

struct trace {
    size_t frame_count;
    uint64_t sum; /* of types, lengths and bytes, in order */
    enum nb_status end;
};

static void try_hello(struct nb_bytes payload)
{
    struct peer_hello h, again;
    if (peer_hello_decode(payload, &h) != NB_OK) {
        return;
    }
    struct nb_buf b = {0};
    peer_hello_encode(&h, &b);
    nb_assert(b.len <= PEER_HELLO_SIZE_MAX);
    enum nb_status status = peer_hello_decode(nb_buf_bytes(&b), &again);
    nb_assert(status == NB_OK);
    nb_assert(again.from == h.from && again.boot_id == h.boot_id);
    nb_assert(again.cluster_id == h.cluster_id && again.channel == h.channel);
    nb_assert(strcmp(again.name, h.name) == 0 && nb_bytes_equal(again.card, h.card));
    nb_buf_deinit(&b);
}

static void try_payload(struct nb_bytes payload)
{
    try_hello(payload);
    struct peer_refusal refusal;
    if (peer_refusal_decode(payload, &refusal) == NB_OK) {
        nb_assert(refusal.code != PEER_REFUSAL_NONE && refusal.code < PEER_REFUSAL_COUNT);
        nb_assert(strlen(refusal.text) < sizeof refusal.text);
    }
    enum nb_status status;
    if (peer_status_take(&payload, &status)) {
        nb_assert((unsigned)status < NB_STATUS_COUNT);
    }
}

static void feed(struct peer_frame_reader *r, struct nb_bytes input, struct trace *t)
{
    while (t->end == NB_TRUNCATED) {
        struct peer_frame f;
        enum nb_status status = peer_frame_next(r, &input, &f);
        if (status != NB_OK) {
            nb_assert(status != NB_TRUNCATED || input.len == 0);
            t->end = status;
            if (status == NB_TRUNCATED) {
                return;
            }
            continue;
        }
        t->frame_count++;
        t->sum = t->sum * 31 + (uint64_t)f.type;
        t->sum = t->sum * 31 + f.payload.len;
        for (size_t i = 0; i < f.payload.len; i++) {
            t->sum = t->sum * 31 + f.payload.data[i];
        }
        try_payload(f.payload);
    }
}

static struct trace read_in_two(struct nb_bytes whole, size_t cut)
{
    struct peer_frame_reader r = {.payload_size_max = PAYLOAD_SIZE_MAX};
    struct trace t = {.end = NB_TRUNCATED};
    feed(&r, nb_bytes_of(whole.data, cut), &t);
    feed(&r, nb_bytes_from(whole, cut), &t);
    nb_assert(r.partial.len <= PEER_FRAME_HEADER_SIZE + PAYLOAD_SIZE_MAX);
    peer_frame_reader_deinit(&r);
    return t;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_payload(nb_bytes_of(data, size));
    struct nb_bytes whole = nb_bytes_of(data, size);
    struct trace all = read_in_two(whole, size);
    /* Sealed again, so that mutations reach what is behind the checksum. */
    if (size >= PEER_FRAME_HEADER_SIZE && size <= PAYLOAD_SIZE_MAX) {
        uint8_t *copy = nb_alloc(size);
        memcpy(copy, data, size);
        enum peer_frame_type type =
            (enum peer_frame_type)(1 + data[4] % (PEER_FRAME_TYPE_COUNT - 1));
        peer_frame_seal(copy, type, size - PEER_FRAME_HEADER_SIZE);
        struct trace sealed = read_in_two(nb_bytes_of(copy, size), size / 2);
        nb_assert(sealed.frame_count == 1 && sealed.end == NB_TRUNCATED);
        nb_free(copy);
    }
    for (size_t i = 1; i <= 3; i++) {
        struct trace two = read_in_two(whole, size * i / 4);
        nb_assert(two.frame_count == all.frame_count && two.sum == all.sum && two.end == all.end);
    }
    return 0;
}
