#include "base/checksum.h"

#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* Castagnoli, reflected */

/* Four bits a step: 16 entries, made by the compiler from the polynomial. */
#define S(c) ((c)&1 ? ((c) >> 1) ^ POLYNOMIAL : (c) >> 1)
#define ROW(n) S(S(S(S((uint32_t)(n)))))

static const uint32_t table[16] = {
    ROW(0), ROW(1), ROW(2),  ROW(3),  ROW(4),  ROW(5),  ROW(6),  ROW(7),
    ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15),
};

uint32_t nb_crc32c_portable(uint32_t seed, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t crc = ~seed;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t seed, const uint8_t *p,
                                                            size_t len)
{
    uint64_t crc = ~seed;
    for (; len >= 8; p += 8, len -= 8) {
        crc = __builtin_ia32_crc32di(crc, nb_get_u64(p));
    }
    uint32_t crc32 = (uint32_t)crc;
    for (; len != 0; p++, len--) {
        crc32 = __builtin_ia32_crc32qi(crc32, *p);
    }
    return ~crc32;
}

uint32_t nb_crc32c(uint32_t seed, const void *data, size_t len)
{
    if (__builtin_cpu_supports("sse4.2")) {
        return crc_sse42(seed, data, len);
    }
    return nb_crc32c_portable(seed, data, len);
}
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
uint32_t nb_crc32c(uint32_t seed, const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t crc = ~seed;
    for (; len >= 8; p += 8, len -= 8) {
        crc = __builtin_aarch64_crc32cx(crc, nb_get_u64(p));
    }
    for (; len != 0; p++, len--) {
        crc = __builtin_aarch64_crc32cb(crc, *p);
    }
    return ~crc;
}
#else
uint32_t nb_crc32c(uint32_t seed, const void *data, size_t len)
{
    return nb_crc32c_portable(seed, data, len);
}
#endif
