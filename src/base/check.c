#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void nb_assert_failed(const char *fact, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, fact);
    abort();
}
