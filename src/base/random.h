/*
 * base/random: a small deterministic generator (xoshiro256++, seeded through splitmix64), for what
 * a seed must replay; and the kernel's entropy, for identities.
 */
#ifndef NABATA_BASE_RANDOM_H
#define NABATA_BASE_RANDOM_H

#include "base/check.h"

#include <stdbool.h>
#include <stdint.h>

struct nb_random {
    uint64_t state[4];
};

void nb_random_init(struct nb_random *r, uint64_t seed);
uint64_t nb_random_u64(struct nb_random *r);
/* Even over [0, bound); bound must not be 0. */
uint64_t nb_random_below(struct nb_random *r, uint64_t bound);
/* True in `numerator` of `denominator` cases. */
bool nb_random_chance(struct nb_random *r, uint64_t numerator, uint64_t denominator);

/* 64 bits of the kernel's entropy; never 0. Not for the pure rooms. */
uint64_t nb_random_entropy(void);

#endif
