#include "cli/pace.h"

static const uint64_t second_ns = 1000000000;
static const uint64_t tick_min_ns = 200000;
static const uint64_t tick_max_ns = 10000000;

static uint64_t due_ns(const struct pace *p, uint64_t number)
{
    return p->start_ns + number / p->rate * second_ns + number % p->rate * second_ns / p->rate;
}

uint64_t pace_due_ns(const struct pace *p)
{
    nb_assert(p->rate > 0);
    return due_ns(p, p->begun);
}

bool pace_is_over(const struct pace *p)
{
    return (p->total > 0 && p->begun >= p->total) || (p->end_ns > 0 && pace_due_ns(p) >= p->end_ns);
}

bool pace_is_due(const struct pace *p, uint64_t now_ns)
{
    return !pace_is_over(p) && pace_due_ns(p) <= now_ns;
}

uint64_t pace_missed(const struct pace *p, uint64_t now_ns)
{
    if (now_ns < p->start_ns) {
        return 0;
    }
    /* The first number that is due after now; that of the end if this is sooner. */
    uint64_t until_ns = now_ns + 1;
    until_ns = p->end_ns > 0 && p->end_ns < until_ns ? p->end_ns : until_ns;
    uint64_t passed_ns = until_ns - p->start_ns;
    uint64_t end = passed_ns / second_ns * p->rate;
    end += (passed_ns % second_ns * p->rate + second_ns - 1) / second_ns;
    while (end > 0 && due_ns(p, end - 1) >= until_ns) {
        end--; /* rounding, once at most */
    }
    while (due_ns(p, end) < until_ns) {
        end++;
    }
    end = p->total > 0 && p->total < end ? p->total : end;
    return end > p->begun ? end - p->begun : 0;
}

uint64_t pace_tick_ns(const struct pace *p)
{
    uint64_t gap_ns = second_ns / p->rate;
    gap_ns = gap_ns < tick_min_ns ? tick_min_ns : gap_ns;
    return gap_ns > tick_max_ns ? tick_max_ns : gap_ns;
}
