#include "base/random.h"

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

void nb_random_init(struct nb_random *r, uint64_t seed)
{
    for (size_t i = 0; i < NB_ARRAY_LEN(r->state); i++) {
        r->state[i] = splitmix(&seed);
    }
}

uint64_t nb_random_u64(struct nb_random *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t nb_random_below(struct nb_random *r, uint64_t bound)
{
    nb_assert(bound != 0);
    /* Values past the last whole multiple of bound would favour the small results. */
    uint64_t limit = UINT64_MAX - UINT64_MAX % bound;
    uint64_t value;
    do {
        value = nb_random_u64(r);
    } while (value >= limit);
    return value % bound;
}

bool nb_random_chance(struct nb_random *r, uint64_t numerator, uint64_t denominator)
{
    return nb_random_below(r, denominator) < numerator;
}
