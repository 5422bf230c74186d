/* Apart from random.c, so that the pure rooms link the generator without a system call. */
#include "base/random.h"

#include <sys/random.h>

uint64_t nb_random_entropy(void)
{
    uint64_t value = 0;
    while (value == 0) {
        if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value) {
            value = 0; /* only a signal can cut a read of 8 bytes short: ask again */
        }
    }
    return value;
}
