/*
 * base/checksum: CRC32C (Castagnoli), by the processor's instruction where it has one.
 *
 * nb_crc32c(0, "123456789") is 0xe3069283. Chaining: the result of one call is the seed of the
 * next, and equals the checksum of both pieces in a row. Same definition as Go's crc32.Update with
 * the Castagnoli table, on which HashKV rests.
 */
#ifndef NABATA_BASE_CHECKSUM_H
#define NABATA_BASE_CHECKSUM_H

#include "base/bytes.h"

uint32_t nb_crc32c(uint32_t seed, const void *data, size_t len);

/* The same by table, for tests and for machines without the instruction. */
uint32_t nb_crc32c_portable(uint32_t seed, const void *data, size_t len);

#endif
