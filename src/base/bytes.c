#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static NB_NORETURN void out_of_memory(size_t size)
{
    (void)fprintf(stderr, "nabata: out of memory (%zu bytes wanted)\n", size);
    abort();
}

void *nb_alloc(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL && size != 0) {
        out_of_memory(size);
    }
    return memory;
}

void *nb_alloc_zero(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL && count != 0 && size != 0) {
        out_of_memory(size);
    }
    return memory;
}

void *nb_realloc(void *old, size_t size)
{
    nb_assert(size != 0);
    void *memory = realloc(old, size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

char *nb_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = nb_alloc(size);
    memcpy(copy, text, size);
    return copy;
}

char *nb_sprintf(const char *format, ...)
{
    struct nb_buf b = {0};
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    nb_assert(len >= 0);
    nb_buf_reserve(&b, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf((char *)b.data, (size_t)len + 1, format, args);
    va_end(args);
    return (char *)b.data;
}

void nb_free(void *memory)
{
    free(memory);
}

void *nb_grow(void *array, size_t *capacity, size_t need, size_t item_size)
{
    if (need <= *capacity) {
        return array;
    }
    size_t bigger = *capacity < 8 ? 8 : *capacity * 2;
    if (bigger < need) {
        bigger = need;
    }
    nb_assert(bigger <= SIZE_MAX / item_size);
    array = nb_realloc(array, bigger * item_size);
    *capacity = bigger;
    return array;
}

struct nb_bytes nb_bytes_str(const char *text)
{
    return nb_bytes_of(text, strlen(text));
}

int nb_bytes_compare(struct nb_bytes a, struct nb_bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool nb_bytes_equal(struct nb_bytes a, struct nb_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct nb_bytes nb_bytes_from(struct nb_bytes b, size_t from)
{
    nb_assert(from <= b.len);
    return from == 0 ? b : nb_bytes_of(b.data + from, b.len - from);
}

void nb_buf_deinit(struct nb_buf *b)
{
    free(b->data);
    *b = (struct nb_buf){0};
}

void nb_buf_clear(struct nb_buf *b)
{
    b->len = 0;
}

void nb_buf_reserve(struct nb_buf *b, size_t extra)
{
    nb_assert(extra <= SIZE_MAX / 4 - b->len);
    size_t need = b->len + extra;
    if (need <= b->capacity) {
        return;
    }
    size_t bigger = b->capacity < 64 ? 64 : b->capacity * 2;
    if (bigger < need) {
        bigger = need;
    }
    b->data = nb_realloc(b->data, bigger);
    b->capacity = bigger;
}

void nb_buf_append(struct nb_buf *b, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }
    nb_buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

void nb_buf_append_bytes(struct nb_buf *b, struct nb_bytes bytes)
{
    nb_buf_append(b, bytes.data, bytes.len);
}

void nb_buf_append_str(struct nb_buf *b, const char *text)
{
    nb_buf_append(b, text, strlen(text));
}

void nb_buf_printf(struct nb_buf *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    nb_assert(len >= 0);
    nb_buf_reserve(b, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf((char *)b->data + b->len, (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

uint8_t *nb_buf_extend(struct nb_buf *b, size_t len)
{
    if (len == 0 && b->data == NULL) {
        return NULL; /* nothing has no place yet, and NULL + 0 is undefined */
    }
    nb_buf_reserve(b, len);
    uint8_t *room = b->data + b->len;
    b->len += len;
    return room;
}

void nb_buf_consume(struct nb_buf *b, size_t len)
{
    nb_assert(len <= b->len);
    if (len == 0) {
        return;
    }
    b->len -= len;
    if (b->len != 0) {
        memmove(b->data, b->data + len, b->len);
    }
}

/* memcpy and a swap: the compiler makes one load or store of it. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "nabata is built for little-endian machines"
#endif

void nb_put_u16(uint8_t *to, uint16_t value)
{
    memcpy(to, &value, sizeof value);
}

void nb_put_u32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof value);
}

void nb_put_u64(uint8_t *to, uint64_t value)
{
    memcpy(to, &value, sizeof value);
}

uint16_t nb_get_u16(const uint8_t *from)
{
    uint16_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

uint32_t nb_get_u32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

uint64_t nb_get_u64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return value;
}

void nb_put_u64_be(uint8_t *to, uint64_t value)
{
    nb_put_u64(to, __builtin_bswap64(value));
}

uint64_t nb_get_u64_be(const uint8_t *from)
{
    return __builtin_bswap64(nb_get_u64(from));
}
