/*
 * base/wire: the protobuf wire format, as a reader of fields and a few writers. [protobuf.dev,
 * encoding]
 *
 * For the messages on the hot path, which are decoded by hand; everything else goes through
 * protobuf-c. The reader is total: any bytes give fields or NB_MALFORMED, and it never allocates.
 */
#ifndef NABATA_BASE_WIRE_H
#define NABATA_BASE_WIRE_H

#include "base/bytes.h"
#include "base/status.h"

enum nb_wire_type {
    NB_WIRE_VARINT = 0,
    NB_WIRE_FIXED64 = 1,
    NB_WIRE_BYTES = 2,
    NB_WIRE_FIXED32 = 5,
};

struct nb_wire_field {
    uint32_t number; /* 1 .. 2^29-1 */
    enum nb_wire_type type;
    uint64_t value;        /* of VARINT, FIXED64, FIXED32 */
    struct nb_bytes bytes; /* of BYTES; borrowed from the input */
};

struct nb_wire_reader {
    const uint8_t *at, *end; /* borrowed */
};

static inline struct nb_wire_reader nb_wire_reader_of(struct nb_bytes b)
{
    return (struct nb_wire_reader){.at = b.data, .end = b.len == 0 ? b.data : b.data + b.len};
}

static inline bool nb_wire_more(const struct nb_wire_reader *r)
{
    return r->at != r->end;
}

/* Takes the next field. Groups (types 3 and 4), field number 0, varints over 10 bytes and lengths
 * beyond the end are NB_MALFORMED. */
NB_MUST_USE enum nb_status nb_wire_next(struct nb_wire_reader *r, struct nb_wire_field *out);

size_t nb_varint_size(uint64_t value);
/* Writes at most 10 bytes at `to`, returns how many. */
size_t nb_varint_put(uint8_t *to, uint64_t value);

/* Field writers. The _field ones write nothing for the default value, as proto3 does. */
void nb_wire_varint(struct nb_buf *b, uint32_t number, uint64_t value); /* written even if 0 */
void nb_wire_varint_field(struct nb_buf *b, uint32_t number, uint64_t value);
void nb_wire_bytes(struct nb_buf *b, uint32_t number, struct nb_bytes bytes); /* even if empty */
void nb_wire_bytes_field(struct nb_buf *b, uint32_t number, struct nb_bytes bytes);
/* Key and length of a BYTES field whose `len` bytes the caller appends next. */
void nb_wire_bytes_header(struct nb_buf *b, uint32_t number, size_t len);
/* Sizes of the same. */
size_t nb_wire_varint_field_size(uint32_t number, uint64_t value);
size_t nb_wire_bytes_field_size(uint32_t number, size_t len);

#endif
