#include "base/wire.h"

enum { VARINT_SIZE_MAX = 10 };

static bool read_varint(struct nb_wire_reader *r, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_SIZE_MAX; i++) {
        if (r->at == r->end) {
            return false;
        }
        uint8_t byte = *r->at++;
        if (i == VARINT_SIZE_MAX - 1 && byte > 1) {
            return false; /* more than 64 bits */
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_fixed(struct nb_wire_reader *r, size_t size, uint64_t *out)
{
    if ((size_t)(r->end - r->at) < size) {
        return false;
    }
    *out = size == 8 ? nb_get_u64(r->at) : nb_get_u32(r->at);
    r->at += size;
    return true;
}

enum nb_status nb_wire_next(struct nb_wire_reader *r, struct nb_wire_field *out)
{
    uint64_t key;
    if (!read_varint(r, &key) || key > UINT32_MAX || key >> 3 == 0) {
        return NB_MALFORMED;
    }
    struct nb_wire_field field = {.number = (uint32_t)(key >> 3)};
    switch (key & 7) {
    case NB_WIRE_VARINT:
        field.type = NB_WIRE_VARINT;
        if (!read_varint(r, &field.value)) {
            return NB_MALFORMED;
        }
        break;
    case NB_WIRE_FIXED64:
        field.type = NB_WIRE_FIXED64;
        if (!read_fixed(r, 8, &field.value)) {
            return NB_MALFORMED;
        }
        break;
    case NB_WIRE_FIXED32:
        field.type = NB_WIRE_FIXED32;
        if (!read_fixed(r, 4, &field.value)) {
            return NB_MALFORMED;
        }
        break;
    case NB_WIRE_BYTES: {
        uint64_t len;
        field.type = NB_WIRE_BYTES;
        if (!read_varint(r, &len) || len > (uint64_t)(r->end - r->at)) {
            return NB_MALFORMED;
        }
        field.bytes = nb_bytes_of(r->at, (size_t)len);
        r->at += len;
        break;
    }
    default:
        return NB_MALFORMED;
    }
    *out = field;
    return NB_OK;
}

size_t nb_varint_size(uint64_t value)
{
    unsigned bits = 64u - (unsigned)__builtin_clzll(value | 1);
    return (bits + 6) / 7;
}

size_t nb_varint_put(uint8_t *to, uint64_t value)
{
    size_t len = 0;
    while (value >= 0x80) {
        to[len++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[len++] = (uint8_t)value;
    return len;
}

static void put_key(struct nb_buf *b, uint32_t number, enum nb_wire_type type, uint64_t value)
{
    nb_buf_reserve(b, 2 * (size_t)VARINT_SIZE_MAX);
    b->len += nb_varint_put(b->data + b->len, (uint64_t)number << 3 | (uint64_t)type);
    b->len += nb_varint_put(b->data + b->len, value);
}

void nb_wire_varint(struct nb_buf *b, uint32_t number, uint64_t value)
{
    put_key(b, number, NB_WIRE_VARINT, value);
}

void nb_wire_varint_field(struct nb_buf *b, uint32_t number, uint64_t value)
{
    if (value != 0) {
        put_key(b, number, NB_WIRE_VARINT, value);
    }
}

void nb_wire_bytes_header(struct nb_buf *b, uint32_t number, size_t len)
{
    put_key(b, number, NB_WIRE_BYTES, len);
}

void nb_wire_bytes(struct nb_buf *b, uint32_t number, struct nb_bytes bytes)
{
    put_key(b, number, NB_WIRE_BYTES, bytes.len);
    nb_buf_append_bytes(b, bytes);
}

void nb_wire_bytes_field(struct nb_buf *b, uint32_t number, struct nb_bytes bytes)
{
    if (bytes.len != 0) {
        nb_wire_bytes(b, number, bytes);
    }
}

size_t nb_wire_varint_field_size(uint32_t number, uint64_t value)
{
    return value == 0 ? 0 : nb_varint_size((uint64_t)number << 3) + nb_varint_size(value);
}

size_t nb_wire_bytes_field_size(uint32_t number, size_t len)
{
    return len == 0 ? 0 : nb_varint_size((uint64_t)number << 3) + nb_varint_size(len) + len;
}
