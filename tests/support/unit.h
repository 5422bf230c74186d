/*
 * tests/support/unit: what every unit test includes: cmocka, and the seed.
 */
#ifndef NABATA_TESTS_SUPPORT_UNIT_H
#define NABATA_TESTS_SUPPORT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The seed of this run: NABATA_SEED from the environment, else from the clock; printed once, so
 * that a failure can be replayed with NABATA_SEED=<seed>. */
static inline uint64_t unit_seed(void)
{
    static uint64_t seed;
    if (seed == 0) {
        const char *given = getenv("NABATA_SEED");
        seed = given != NULL ? strtoull(given, NULL, 0) : 0;
        if (seed == 0) {
            FILE *entropy = fopen("/dev/urandom", "rb");
            if (entropy == NULL || fread(&seed, sizeof seed, 1, entropy) != 1) {
                seed = 1;
            }
            if (entropy != NULL) {
                (void)fclose(entropy);
            }
            seed = (seed >> 16) | 1; /* short enough to type */
        }
        (void)fprintf(stderr, "NABATA_SEED=%llu\n", (unsigned long long)seed);
    }
    return seed;
}

/* How much of a long test to run: NABATA_TEST_SCALE in percent, 100 when unset. At least 1. */
static inline uint64_t unit_scaled(uint64_t count)
{
    const char *given = getenv("NABATA_TEST_SCALE");
    uint64_t percent = given != NULL ? strtoull(given, NULL, 10) : 100;
    uint64_t scaled = count * percent / 100;
    return scaled == 0 ? 1 : scaled;
}

#endif
