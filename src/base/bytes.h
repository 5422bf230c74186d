/*
 * base/bytes: a borrow of bytes, and bytes that are owned and grow.
 *
 * struct nb_bytes never owns; struct nb_buf always does. Allocation does not fail, it aborts, so
 * every caller puts a bound on what it appends before it appends.
 */
#ifndef NABATA_BASE_BYTES_H
#define NABATA_BASE_BYTES_H

#include "base/check.h"

#include <stdbool.h>
#include <stdint.h>

struct nb_bytes {
    const uint8_t *data; /* may be NULL when len is 0 */
    size_t len;
};

/* All zero is a valid empty buffer. */
struct nb_buf {
    uint8_t *data; /* owned */
    size_t len, capacity;
};

/* Heap, or death: these never return NULL (but for a size of 0). */
NB_MUST_USE void *nb_alloc(size_t size);
NB_MUST_USE void *nb_alloc_zero(size_t count, size_t size);
NB_MUST_USE void *nb_realloc(void *old, size_t size);
NB_MUST_USE char *nb_strdup(const char *text);
NB_MUST_USE char *nb_sprintf(const char *format, ...) NB_PRINTF(1, 2);
void nb_free(void *memory);

/* Grows an array of `item_size` bytes an item so that it holds at least `need` items. */
NB_MUST_USE void *nb_grow(void *array, size_t *capacity, size_t need, size_t item_size);

static inline struct nb_bytes nb_bytes_of(const void *data, size_t len)
{
    return (struct nb_bytes){.data = (const uint8_t *)data, .len = len};
}

/* The bytes of a C string, without its end. */
struct nb_bytes nb_bytes_str(const char *text);

/* Order of memcmp, a shorter one before a longer one that it begins. <0, 0, >0. */
int nb_bytes_compare(struct nb_bytes a, struct nb_bytes b);
bool nb_bytes_equal(struct nb_bytes a, struct nb_bytes b);

/* `b` from `from` on; `from` must be within. */
struct nb_bytes nb_bytes_from(struct nb_bytes b, size_t from);

void nb_buf_deinit(struct nb_buf *b); /* frees; the buffer is empty and usable after it */
void nb_buf_clear(struct nb_buf *b);  /* keeps the memory */
void nb_buf_reserve(struct nb_buf *b, size_t extra); /* room for `extra` more bytes */
void nb_buf_append(struct nb_buf *b, const void *data, size_t len);
void nb_buf_append_bytes(struct nb_buf *b, struct nb_bytes bytes);
void nb_buf_append_str(struct nb_buf *b, const char *text);
void nb_buf_printf(struct nb_buf *b, const char *format, ...) NB_PRINTF(2, 3);
/* `len` bytes of undefined content at the end; valid until the next call on `b`. */
NB_MUST_USE uint8_t *nb_buf_extend(struct nb_buf *b, size_t len);
/* Drops the first `len` bytes; costs a move, so do it once a turn and not once a frame. */
void nb_buf_consume(struct nb_buf *b, size_t len);

static inline struct nb_bytes nb_buf_bytes(const struct nb_buf *b)
{
    return nb_bytes_of(b->data, b->len);
}

/* Fixed-width integers, little-endian unless said, at any alignment. */
void nb_put_u16(uint8_t *to, uint16_t value);
void nb_put_u32(uint8_t *to, uint32_t value);
void nb_put_u64(uint8_t *to, uint64_t value);
uint16_t nb_get_u16(const uint8_t *from);
uint32_t nb_get_u32(const uint8_t *from);
uint64_t nb_get_u64(const uint8_t *from);
void nb_put_u64_be(uint8_t *to, uint64_t value);
uint64_t nb_get_u64_be(const uint8_t *from);

#endif
