/*
 * cli/pace: when the requests of an open loop are due.
 *
 * Users do not wait for each other. So with a rate each request has its time, whether or not
 * anybody is free to send it then, and its latency counts from that time: a server that stands
 * still for a second delays all requests due in that second, and all of them are seen ("coordinated
 * omission" is the mistake of seeing only the one that was under way).
 *
 *     rate 4, start 10 s, end 11 s: due at 10.00, 10.25, 10.50 and 10.75, four in all
 *
 * Invariants:
 *   P1  request i is due at start + i / rate, without drift
 *   P2  with an end, the requests due before it are all begun, however late, or counted as missed
 */
#ifndef NABATA_CLI_PACE_H
#define NABATA_CLI_PACE_H

#include "base/bytes.h"

struct pace {
    uint64_t rate;             /* a second; above 0 */
    uint64_t start_ns, end_ns; /* end_ns 0: none */
    uint64_t total;            /* 0: no bound */
    uint64_t begun;            /* so far; the next request has this number */
};

/* When the next request is due. */
uint64_t pace_due_ns(const struct pace *p);
/* Is there a next request, and is it due? */
bool pace_is_due(const struct pace *p, uint64_t now_ns);
/* No further request will ever be due. */
bool pace_is_over(const struct pace *p);
/* Requests that are due and have not been begun. */
uint64_t pace_missed(const struct pace *p, uint64_t now_ns);
/* How often to look: at every request, but not so often that looking is the load. */
uint64_t pace_tick_ns(const struct pace *p);

#endif
