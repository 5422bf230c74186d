/*
 * simulate: one run, or many, with a trace that can be read.
 *
 *     simulate --seed 7 --trace            one seed, every event on stdout
 *     simulate --seed 1 --runs 500         many seeds, one line for each that breaks a rule
 */
#include "sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const bug_names[SIM_BUG_COUNT] = {"none",
#define X(name, text) #name,
                                                     SIM_BUG_TABLE(X)
#undef X
};

static int usage(void)
{
    (void)fprintf(stderr, "usage: simulate [--seed N] [--runs N] [--members 1|3|5] [--clients N] "
                          "[--steps N] [--no-faults] [--bug NAME] [--trace]\nbugs to plant:\n");
    for (unsigned i = 1; i < SIM_BUG_COUNT; i++) {
        (void)fprintf(stderr, "  %s\n", bug_names[i]);
    }
    return 2;
}

static enum sim_bug bug_of(const char *name)
{
    for (unsigned i = 0; i < SIM_BUG_COUNT; i++) {
        if (strcmp(bug_names[i], name) == 0) {
            return (enum sim_bug)i;
        }
    }
    return SIM_BUG_COUNT;
}

static void print(uint64_t seed, unsigned members, const struct sim_report *r)
{
    (void)printf(
        "seed %" PRIu64 ": %u members, %" PRIu64 " events, %" PRIu64 " s; %" PRIu64
        " calls: %" PRIu64 " writes, %" PRIu64 " reads, %" PRIu64 " unknown, %" PRIu64
        " refused; %" PRIu64 " entries, %" PRIu64 " compactions; %" PRIu64 " messages, %" PRIu64
        " lost; %" PRIu64 " elections, %" PRIu64 " power losses, %" PRIu64 " kills, %" PRIu64
        " disks failed, %" PRIu64 " snapshots sent, %" PRIu64 " received; trace %016" PRIx64 "\n",
        seed, members, r->step_count, r->end_ns / UINT64_C(1000000000), r->call_count,
        r->write_count, r->read_count, r->unknown_count, r->refused_count, r->entry_count,
        r->compaction_count, r->message_count, r->lost_count, r->election_count, r->crash_count,
        r->kill_count, r->fatal_count, r->snapshot_count, r->install_count, r->trace_hash);
    if (r->rule != NULL) {
        (void)printf("BROKEN %s: %s\n  replay: simulate --seed %" PRIu64 " --trace\n", r->rule,
                     r->text, seed);
    }
    (void)fflush(stdout);
}

struct wishes {
    uint64_t seed, runs, steps;
    unsigned members, clients;
    bool no_faults, trace;
    enum sim_bug bug;
};

static bool parse(int argc, char **argv, struct wishes *w)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        bool flag = true;
        if (strcmp(argv[i], "--trace") == 0) {
            w->trace = true;
        } else if (strcmp(argv[i], "--no-faults") == 0) {
            w->no_faults = true;
        } else {
            flag = false;
        }
        if (flag) {
            continue;
        }
        uint64_t number = strtoull(value, NULL, 0);
        if (strcmp(argv[i], "--seed") == 0) {
            w->seed = number;
        } else if (strcmp(argv[i], "--runs") == 0) {
            w->runs = number;
        } else if (strcmp(argv[i], "--steps") == 0) {
            w->steps = number;
        } else if (strcmp(argv[i], "--members") == 0 && number >= 1 && number <= 5) {
            w->members = (unsigned)number;
        } else if (strcmp(argv[i], "--clients") == 0 && number <= 15) {
            w->clients = (unsigned)number;
        } else if (strcmp(argv[i], "--bug") == 0 && bug_of(value) != SIM_BUG_COUNT) {
            w->bug = bug_of(value);
        } else {
            return false;
        }
        i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct wishes w = {.seed = 1, .runs = 1};
    if (!parse(argc, argv, &w)) {
        return usage();
    }
    uint64_t broken = 0;
    for (uint64_t i = 0; i < w.runs; i++) {
        struct sim_options options;
        struct sim_report report;
        sim_options_of_seed(w.seed + i, &options);
        options.member_count = w.members != 0 ? w.members : options.member_count;
        options.client_count = w.clients != 0 ? w.clients : options.client_count;
        options.step_count = w.steps != 0 ? w.steps : options.step_count;
        options.faults = options.faults && !w.no_faults;
        options.bug = w.bug;
        options.trace = w.trace ? stdout : NULL;
        bool ok = sim_run(&options, &report);
        broken += !ok;
        if (w.runs == 1 || !ok) {
            print(options.seed, options.member_count, &report);
        }
    }
    if (w.runs > 1) {
        (void)printf("%" PRIu64 " runs, %" PRIu64 " broke a rule\n", w.runs, broken);
    }
    return broken == 0 ? 0 : 1;
}
