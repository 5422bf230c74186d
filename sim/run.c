#include "sim/cluster.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { LEADER_TIMEOUTS_MAX = 10, WRITE_TIMEOUTS_MAX = 12, TRACE_LINE_SIZE_MAX = 512 };

/* ---- trace and verdict ---- */

void sim_trace(struct sim *s, int member, const char *format, ...)
{
    char line[TRACE_LINE_SIZE_MAX];
    char who[16] = "";
    if (member >= 0) {
        (void)snprintf(who, sizeof who, "m%d", member);
    }
    int at = snprintf(line, sizeof line, "%6" PRIu64 ".%06" PRIu64 "  %-3s ",
                      s->now_ns / SIM_SECOND, s->now_ns % SIM_SECOND / SIM_US, who);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line + at, sizeof line - (size_t)at, format, arguments);
    va_end(arguments);
    s->report.trace_hash = XXH3_64bits_withSeed(line, strlen(line), s->report.trace_hash);
    if (s->options.trace != NULL) {
        (void)fprintf(s->options.trace, "%s\n", line);
    }
}

void sim_broken(struct sim *s, const char *rule, const char *format, ...)
{
    if (s->report.rule != NULL) {
        return; /* the first is the one that counts */
    }
    s->report.rule = rule;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(s->report.text, sizeof s->report.text, format, arguments);
    va_end(arguments);
    sim_trace(s, -1, "BROKEN %s: %s", rule, s->report.text);
}

/* ---- chance and time ---- */

uint64_t sim_below(struct sim *s, uint64_t bound)
{
    return nb_random_below(&s->random, bound);
}

bool sim_chance(struct sim *s, uint64_t per_mille)
{
    return nb_random_chance(&s->random, per_mille, 1000);
}

void sim_plan(struct sim *s, enum sim_event_kind kind, unsigned member, uint64_t in_ns)
{
    bool of_member = kind != SIM_EVENT_CLIENT && kind != SIM_EVENT_NEMESIS;
    sim_events_push(&s->events,
                    (struct sim_event){.at_ns = s->now_ns + in_ns,
                                       .kind = kind,
                                       .member = member,
                                       .boot = of_member ? s->members[member].boot : 0});
}

bool sim_step(struct sim *s)
{
    struct sim_event event;
    if (s->report.rule != NULL || !sim_events_pop(&s->events, &event)) {
        return false;
    }
    nb_assert(event.at_ns >= s->now_ns);
    s->now_ns = event.at_ns;
    s->report.step_count++;
    switch ((int)event.kind) {
    case SIM_EVENT_CLIENT:
        sim_client_event(s, event.member);
        break;
    case SIM_EVENT_NEMESIS:
        sim_nemesis_event(s);
        break;
    default:
        sim_member_event(&s->members[event.member], &event);
        break;
    }
    sim_event_deinit(&event);
    return s->report.rule == NULL;
}

bool sim_run_for(struct sim *s, uint64_t ns)
{
    uint64_t end_ns = s->now_ns + ns;
    while (s->events.count != 0 && s->events.heap[0].at_ns <= end_ns) {
        if (!sim_step(s)) {
            return false;
        }
    }
    s->now_ns = end_ns;
    return true;
}

/* ---- life ---- */

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *s = nb_alloc_zero(1, sizeof *s);
    s->options = *options;
    s->member_count = s->founder_count = options->member_count;
    s->client_count = options->client_count;
    nb_assert(s->member_count >= 1 && s->member_count <= SIM_FOUNDER_COUNT_MAX);
    nb_assert(s->client_count <= SIM_CLIENT_COUNT_MAX);
    nb_random_init(&s->random, options->seed);
    s->events.random = &s->random;
    s->catchup_entry_count = 1 + sim_below(s, 40);
    sim_network_heal(s);
    sim_check_init(&s->check);
    for (unsigned i = 0; i < s->member_count; i++) {
        sim_member_init(s, i);
    }
    return s;
}

void sim_destroy(struct sim *s)
{
    s->options.trace = NULL;
    for (unsigned i = 0; i < s->member_count; i++) {
        sim_member_deinit(&s->members[i]);
    }
    sim_members_deinit(s);
    sim_check_deinit(&s->check);
    sim_events_deinit(&s->events);
    nb_free(s);
}

int sim_leader(const struct sim *s)
{
    int leader = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < s->member_count; i++) {
        if (s->members[i].alive) {
            struct raft_status r;
            raft_status(replica_raft(s->members[i].replica), &r);
            if (r.role == RAFT_LEADER && r.term > term) {
                leader = (int)i;
                term = r.term;
            }
        }
    }
    return leader;
}

/* ---- the second phase ---- */

static bool core_has_leader(const struct sim *s)
{
    int leader = sim_leader(s);
    return leader >= 0 && s->core[leader];
}

static bool wait_for_leader(struct sim *s)
{
    uint64_t end_ns = s->now_ns + LEADER_TIMEOUTS_MAX * SIM_ELECTION_NS;
    while (!core_has_leader(s)) {
        if (!sim_run_for(s, 50 * SIM_MS)) {
            return false;
        }
        if (s->now_ns > end_ns) {
            sim_broken(s, "leader_in_time", "a healed majority has no leader after %d timeouts",
                       LEADER_TIMEOUTS_MAX);
            return false;
        }
    }
    return true;
}

/* One that succeeds: single calls may meet the end of a leader that does not know it yet. */
static bool fresh_write(struct sim *s)
{
    uint64_t end_ns = s->now_ns + WRITE_TIMEOUTS_MAX * SIM_ELECTION_NS;
    unsigned client = SIM_CLIENT_COUNT_MAX - 1; /* not one of the others */
    struct sim_op *op = NULL;
    while (op == NULL || !op->done || op->status != NB_OK) {
        unsigned member = (unsigned)sim_below(s, s->member_count);
        if ((op == NULL || op->done) && s->core[member] && s->members[member].alive) {
            struct sim_request put = {.kind = SIM_OP_PUT, .value = ++s->value_last};
            op = sim_client_call(s, client, member, &put);
        }
        if (!sim_run_for(s, 20 * SIM_MS)) {
            return false;
        }
        if (s->now_ns > end_ns) {
            sim_broken(s, "write_in_time", "a healed majority takes no write in %d timeouts",
                       WRITE_TIMEOUTS_MAX);
            return false;
        }
    }
    return true;
}

static bool second_phase(struct sim *s)
{
    s->healed = true;
    sim_nemesis_heal_core(s, s->core);
    if (!wait_for_leader(s)) {
        return false;
    }
    sim_members_core(s, s->core);
    if (!fresh_write(s)) {
        return false;
    }
    uint64_t elections = s->report.election_count;
    if (!sim_run_for(s, 3 * SIM_SECOND)) { /* under load */
        return false;
    }
    s->quiet = true;
    if (!sim_run_for(s, 8 * SIM_SECOND)) { /* longer than any call may take */
        return false;
    }
    if (s->report.election_count > elections + 1) {
        sim_broken(s, "stable_leader", "%" PRIu64 " elections after healing",
                   s->report.election_count - elections);
        return false;
    }
    sim_members_core(s, s->core);
    sim_check_end(s, s->core);
    return s->report.rule == NULL;
}

/* ---- the run ---- */

void sim_options_of_seed(uint64_t seed, struct sim_options *out)
{
    static const unsigned counts[] = {3, 3, 5, 3, 5, 1};
    *out = (struct sim_options){.seed = seed,
                                .member_count = counts[seed % NB_ARRAY_LEN(counts)],
                                .client_count = 3 + (unsigned)(seed / 7 % 10),
                                .step_count = 20000,
                                .faults = seed % 17 != 0,
                                .membership = seed % 5 == 2 || seed % 5 == 4};
}

bool sim_run(const struct sim_options *options, struct sim_report *out)
{
    struct sim *s = sim_create(options);
    for (unsigned i = 0; i < s->member_count; i++) {
        sim_plan(s, SIM_EVENT_START, i, sim_below(s, SIM_SECOND));
    }
    for (unsigned i = 0; i < s->client_count; i++) {
        sim_plan(s, SIM_EVENT_CLIENT, i, SIM_SECOND);
    }
    sim_plan(s, SIM_EVENT_NEMESIS, 0, 3 * SIM_SECOND);
    while (s->report.step_count < options->step_count && sim_step(s)) {
    }
    if (s->report.rule == NULL) {
        (void)second_phase(s);
    }
    s->report.end_ns = s->now_ns;
    *out = s->report;
    sim_destroy(s);
    return out->rule == NULL;
}
